"""A clock that stands still, ids that count, and events to record."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from terminal_agent.contract import EventType, subject_of
from terminal_agent.journal.events import NewEvent
from terminal_agent.ports import rfc3339, uuid7

START = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
CARD = "1000000000000009"
OTHER_CARD = "2000000000000008"


class ManualClock:
    """Moves when told to."""

    def __init__(self) -> None:
        self.wall = START
        self.ticks = 0.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.ticks

    def advance(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.ticks += seconds


class CountedIds:
    """UUIDs 1, 2, 3 …; chance is always the highest value, so that waits are at their longest."""

    def __init__(self, first: int = 1) -> None:
        self._next = first

    def uuid(self) -> str:
        self._next += 1
        return str(uuid7(0, self._next))

    def card_digits(self) -> str:
        return f"{self._next:015d}"

    def uniform(self, low: float, high: float) -> float:
        return high


def event(
    number: int,
    card_no: str | None = CARD,
    *,
    earned: int = 5,
    redeemed: int = 0,
    kind: EventType = EventType.PURCHASE_RECORDED,
    **data: Any,
) -> NewEvent:
    """The event with the id ``event_id(number)``."""
    body = {"points": {"earned": earned, "redeemed": redeemed, "offers": []}, **data}
    return NewEvent(event_id(number), kind, subject_of(card_no or ""), card_no, rfc3339(START), body)


def spoil_index(connection: sqlite3.Connection) -> None:
    """What the index of the queue holds is not what it is said to hold."""
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute(
        "UPDATE sqlite_schema SET sql = replace(sql, '(position)', '(attempts)') WHERE name = 'outbox_waiting'"
    )
    connection.execute("PRAGMA writable_schema=OFF")
    connection.execute("PRAGMA schema_version=99")  # read it again


def flip_index_entry(file: Path, number: int = 3) -> None:
    """What one flipped bit in the index of the queue does: its entry leads to a row that is not there."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'outbox_waiting'").fetchone()[0]
        page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
    content = bytearray(file.read_bytes())
    page = (root - 1) * page_bytes
    pointer = page + 8 + 2 * (number - 1)
    cell = page + int.from_bytes(content[pointer : pointer + 2], "big")
    content[cell + content[cell]] ^= 0x40  # the last byte of a cell is the row's id
    file.write_bytes(content)


def event_id(number: int) -> str:
    return str(UUID(int=number))
