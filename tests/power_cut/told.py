"""What people and the CRM had been told when the power went: read off what left the process."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

from terminal_agent.contract import canonical_json, fingerprint
from tests.power_cut.trace import Heard, Operation, Said

GZIP_MAGIC = b"\x1f\x8b"
STDOUT = "1"
SALES = ("purchase", "reverse", "queue.close")
Request = tuple[str, dict[str, Any]]


@dataclass
class Told:
    """Grows with the recording. A day is sequential, so the last request is the one an answer belongs to."""

    under_way: Request | None = None
    doubted: dict[str, Request] = field(default_factory=dict)
    """What was asked when a checkout was told to be in doubt."""
    checkouts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The last answer about each checkout by its id: done, in_doubt or closed."""
    issued: set[str] = field(default_factory=set)
    """UIDs."""
    set_up: set[str] = field(default_factory=set)
    """Which of ``init`` and ``enroll`` are done."""
    sent: dict[str, str] = field(default_factory=dict)
    """Fingerprints of the events that left for the CRM, by id. They must never be minted anew."""

    @property
    def sales(self) -> int:
        """How many sales and returns somebody saw accepted."""
        return sum(answer["state"] != "in_doubt" for answer in self.checkouts.values())

    @property
    def in_doubt(self) -> list[Request]:
        """What a cashier would try again."""
        return [request for name, request in self.doubted.items() if self.checkouts[name]["state"] == "in_doubt"]

    def hear(self, operation: Operation) -> None:
        """Take in one operation of the recording."""
        if isinstance(operation, Heard):
            request = _json(operation.data)
            if isinstance(request, dict) and "operation" in request:
                self.under_way = (request["operation"], request["params"])
        elif isinstance(operation, Said):
            self._said(operation)

    def _said(self, said: Said) -> None:
        body = gzip.decompress(said.data) if said.data.startswith(GZIP_MAGIC) else said.data
        message = _json(body)
        if isinstance(message, list):
            self.sent |= {event["id"]: fingerprint(canonical_json(event)) for event in message if "id" in event}
        elif isinstance(message, dict) and self.under_way is not None:
            if "answer" in message:
                self._answered(self.under_way, message["answer"])
            elif "error" in message and "error" in message["error"]:
                self._answered(self.under_way, message["error"])
            elif said.to == STDOUT:
                self._answered(self.under_way, message)

    def _answered(self, request: Request, answer: Any) -> None:
        self.under_way = None
        if request[0] in SALES and answer.get("state"):
            self.checkouts[answer["checkout_id"]] = answer
            if answer["state"] == "in_doubt":
                self.doubted[answer["checkout_id"]] = request
        elif "error" not in answer:
            if request[0] == "card.issue":
                self.issued.add(answer["uid"])
            self.set_up |= {request[0]} & {"init", "enroll"}


def _json(data: bytes) -> Any:
    if not data.lstrip().startswith((b"{", b"[")):
        return None
    try:
        return json.loads(data)
    except ValueError:
        return None
