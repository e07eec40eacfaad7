"""A terminal's queue that came on foot: the same inbox, the same verdicts, and a sealed receipt to carry back."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Connection

from terminal_agent.contract import MAX_BATCH_EVENTS, Verdict, canonical_json
from terminal_agent.crm import audit, enrolment, inbox
from terminal_agent.crm.bodies import parse_json
from terminal_agent.crm.enrolment import Terminal
from terminal_agent.crm.problems import ProblemError
from terminal_agent.crm.store import Store
from terminal_agent.crm.wire import EventResult
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.sealed import Format, SealedFile, header_line, open_sealed, seal


@dataclass(frozen=True)
class TakenIn:
    """What was done with an export, and the receipt of it."""

    terminal_id: str
    export_id: str
    created_at: str
    results: list[EventResult] = field(repr=False)
    receipt: bytes = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        counted = {verdict.value: 0 for verdict in Verdict}
        for result in self.results:
            counted[result.status.value] += 1
        facts = {"terminal_id": self.terminal_id, "export_id": self.export_id, "created_at": self.created_at}
        return {**facts, "events": len(self.results), **counted}


def take_in(store: Store, content: bytes, now: str) -> TakenIn:
    """Book an export; the same again is known already. Each batch is on disk before the next, and all before the
    receipt. Raises AgentError ``file_invalid``, ``not_found`` for a terminal this CRM does not know."""
    export = open_sealed(content, Format.EXPORT)
    with store.reading() as connection:
        terminal = _sender(connection, export)
    documents = [_document(line) for line in export.lines(terminal.secret)]
    results: list[EventResult] = []
    for start in range(0, len(documents), MAX_BATCH_EVENTS):
        batch = documents[start : start + MAX_BATCH_EVENTS]
        booked, _acked = store.write(partial(_receive, terminal_id=terminal.terminal_id, documents=batch, now=now))
        results += booked
    counts = TakenIn(terminal.terminal_id, export.export_id, str(export.header["created_at"]), results, b"").to_json()
    acked = store.write(partial(_finish, terminal_id=terminal.terminal_id, counts=counts, now=now))
    header = header_line(Format.RECEIPT, terminal.terminal_id, export.export_id, now, acked_through=acked)
    lines = (canonical_json(result.model_dump(mode="json", exclude_none=True)) for result in results)
    receipt = seal(terminal.secret, Format.RECEIPT, header, lines)
    return TakenIn(terminal.terminal_id, export.export_id, str(export.header["created_at"]), results, receipt)


def _sender(connection: Connection, export: SealedFile) -> Terminal:
    terminal = enrolment.find(connection, export.terminal_id)
    if terminal is None:
        hint = "Let the terminal join, then have the file made again: terminal-agent crm code"
        raise AgentError(ErrorCode.NOT_FOUND, f"This CRM knows no terminal {export.terminal_id}.", hint=hint)
    if terminal.revoked:
        hint = "Let it join again, then have the file made again: terminal-agent crm code"
        raise AgentError(ErrorCode.FILE_INVALID, f"Terminal {export.terminal_id} was revoked.", hint=hint)
    return terminal


def _document(line: bytes) -> Any:
    """An event, or nothing where a line is none: its neighbours count all the same."""
    try:
        return parse_json(line)
    except ProblemError:
        return None


def _receive(connection: Connection, terminal_id: str, documents: list[Any], now: str) -> tuple[list[EventResult], int]:
    return inbox.receive(connection, terminal_id, documents, now)


def _finish(connection: Connection, terminal_id: str, counts: dict[str, Any], now: str) -> dict[str, int]:
    audit.note(connection, audit.ADMIN, "events.imported", terminal_id, now, **counts)
    return inbox.acked_through(connection, terminal_id)
