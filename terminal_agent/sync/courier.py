"""The queue on foot: what waits is written to a file, and the CRM's sealed receipt of it is read back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from terminal_agent.contract import ACKNOWLEDGED, Verdict
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal import Journal
from terminal_agent.journal.events import OutboxEntry, OutboxState
from terminal_agent.ports import Clock, Ids, rfc3339
from terminal_agent.sealed import MAX_FILE_BYTES, SEAL_BYTES, Format, SealedFile, header_line, open_sealed, seal
from terminal_agent.sync.client import Credentials
from terminal_agent.sync.upload import ACKED_THROUGH, EXPORTED

PAGE = 200
AT_ONCE = 500
"""Verdicts of a receipt in one commit: a tap waits for one of them at most."""


@dataclass(frozen=True)
class Export:
    """A file to carry to the CRM. ``through``: the queue's position of its last event, from which another export goes
    on; ``left``: how many events wait behind that."""

    content: bytes = field(repr=False)
    export_id: str
    events: int
    through: int
    left: int


def export_queue(journal: Journal, credentials: Credentials, clock: Clock, ids: Ids, after: int = 0) -> Export:
    """Everything the CRM has not acknowledged, of every install epoch, oldest first, as much as one file takes.

    Nothing changes in the queue. What is not as it was minted stays out, as it does from the line.
    """
    export_id, now = ids.uuid(), rfc3339(clock.now())
    header = header_line(Format.EXPORT, credentials.terminal_id, export_id, now)
    lines: list[bytes] = []
    size, through = len(header) + 1 + SEAL_BYTES, after
    for entry in _sound(journal, after):
        line = entry.body.encode()
        size += len(line) + 1
        if size > MAX_FILE_BYTES:
            break
        lines.append(line)
        through = entry.position
    with journal.transaction():
        journal.set_meta(EXPORTED + export_id, now)
        journal.audit("queue.exported", export_id=export_id, events=len(lines))
    content = seal(credentials.secret, Format.EXPORT, header, lines)
    return Export(content, export_id, len(lines), through, journal.events.count_waiting(through))


def _sound(journal: Journal, after: int) -> Iterator[OutboxEntry]:
    while page := journal.events.entries(None, PAGE, after):
        unsound = {entry.event_id for entry in journal.events.unsound(page)}
        yield from (entry for entry in page if entry.event_id not in unsound)
        after = page[-1].position


def acknowledge(journal: Journal, credentials: Credentials, content: bytes) -> dict[str, int]:
    """Take the CRM's receipt of an export as its answer: ``{acknowledged, quarantined, unchanged}``, counting events.

    The same receipt again changes nothing. Raises AgentError ``file_invalid``.
    """
    receipt = open_sealed(content, Format.RECEIPT)
    if receipt.terminal_id != credentials.terminal_id:
        raise _not_ours(f"it is for terminal {receipt.terminal_id}, and this is {credentials.terminal_id}")
    lines = receipt.lines(credentials.secret)
    if journal.meta(EXPORTED + receipt.export_id) is None:
        raise _not_ours("it answers an export of another journal, or one made before the CRM was put back")
    counted = {"acknowledged": 0, "quarantined": 0, "unchanged": 0}
    _remember_how_far(journal, receipt)
    for start in range(0, len(lines), AT_ONCE):
        with journal.transaction():
            for line in lines[start : start + AT_ONCE]:
                counted[_settle(journal, json.loads(line))] += 1
    with journal.transaction():
        journal.audit("queue.receipt_taken", export_id=receipt.export_id, **counted)
    return counted


def _remember_how_far(journal: Journal, receipt: SealedFile) -> None:
    """What the CRM says it has, kept before anything is settled: if it ever says less, it was put back."""
    with journal.transaction():
        for epoch, acked in receipt.header["acked_through"].items():
            if acked > int(journal.meta(ACKED_THROUGH + epoch) or 0):
                journal.set_meta(ACKED_THROUGH + epoch, str(acked))


def _settle(journal: Journal, result: dict[str, Any]) -> str:
    """Book one verdict; what became of the event."""
    reason = ": ".join(str(result[key]) for key in ("code", "detail") if result.get(key)) or None
    state = {
        **dict.fromkeys(ACKNOWLEDGED, OutboxState.ACKNOWLEDGED),
        Verdict.REJECTED: OutboxState.QUARANTINED,
    }.get(result["status"])
    if state is None or not journal.events.settle(str(result.get("id")), state, reason):
        return "unchanged"
    return state.value


def _not_ours(why: str) -> AgentError:
    hint = "Export the queue again, and take that file's receipt: terminal-agent queue export FILE"
    return AgentError(ErrorCode.FILE_INVALID, f"the receipt cannot be used: {why}", hint=hint)
