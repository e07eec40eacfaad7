"""What one check of ``doctor`` found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """What one check found; ``fix`` is None where nothing needs to be done."""

    status: Status
    detail: str
    fix: str | None = None

    def to_json(self, name: str) -> dict[str, Any]:
        return {"id": name, "status": self.status.value, "detail": self.detail, "fix": self.fix}


def ok(detail: str) -> Finding:
    return Finding(Status.OK, detail)


def warn(detail: str, fix: str) -> Finding:
    return Finding(Status.WARN, detail, fix)


def fail(detail: str, fix: str) -> Finding:
    return Finding(Status.FAIL, detail, fix)
