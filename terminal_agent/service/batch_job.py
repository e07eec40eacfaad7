"""A batch from the side of who runs the command: rows read, the agent asked row by row, the report written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terminal_agent.desk.batch import Batch, Tried
from terminal_agent.desk.rows import MAX_FILE_BYTES, Row, read_rows
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.ports import SystemClock
from terminal_agent.service.batch_report import Report
from terminal_agent.service.files import read_up_to

Call = Callable[..., Any]
Open = Callable[[], AbstractContextManager[Call]]
"""Opens the agent and keeps it open: what it gives carries out operations."""


@dataclass(frozen=True)
class Request:
    """What ``desk batch`` was asked for. ``stopped`` is looked at before each try."""

    source: Path
    target: Path
    reader: str | None
    wait_s: float
    limit: int | None
    stopped: Callable[[], bool]
    say: Callable[[str], None]


class Job:
    """One run. Raises AgentError for a file that cannot be used, before the agent is asked for anything."""

    def __init__(self, request: Request) -> None:
        if request.target.exists() and request.source.exists() and request.target.samefile(request.source):
            message = "the report would be written over the rows"
            raise AgentError(ErrorCode.INVALID_INPUT, message, hint="Name another file with --output")
        self._request = request
        self.rows = read_rows(read_up_to(request.source, MAX_FILE_BYTES))
        self._batch = Batch(self.rows, SystemClock(), wait_s=request.wait_s, stopped=request.stopped, say=request.say)

    def summary(self) -> dict[str, Any]:
        return self._batch.summary()

    def run(self, open_agent: Open) -> Iterator[dict[str, Any]]:
        """A line for each row and each card that could not be used. Raises AgentError.

        The report is begun and ended outside of the open agent: root works on the data directory as its owner, who need
        not be allowed to write where root may.
        """
        report = Report(self._request.target, self.rows, self._found(open_agent))
        with open_agent() as call:
            for row, tried in self._batch.run(lambda *a: self._try(call, *a), self._request.limit):
                report.add(row, tried)
                yield tried.line(row)
        report.finish()

    def _found(self, open_agent: Open) -> list[Tried | None]:
        """What the journal knows of each row."""
        asked = [row for row in self.rows if row.request]
        with open_agent() as call:
            said = call("batch.rows", rows=[_params(row) for row in asked])
        found = {row.number: Tried.from_json(tried) for row, tried in zip(asked, said, strict=True) if tried}
        return [found.get(row.number) for row in self.rows]

    def _try(self, call: Call, row: Row, lies: str | None, wait_s: float) -> Tried:
        said = call("batch.row", row=_params(row), lies=lies, reader=self._request.reader, wait_s=wait_s)
        return Tried.from_json(said)


def _params(row: Row) -> dict[str, Any]:
    request = row.request
    assert request is not None  # noqa: S101 - a row with a problem is never asked about
    return {"phone": request.phone, "name": request.name, "tier": request.tier, "card_no": request.card_no}
