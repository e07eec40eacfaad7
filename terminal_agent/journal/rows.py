"""Rows with JSON in them: SQLite keeps no checksum of its pages, so a disk may change one and nothing else tells."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable
from typing import TypeVar

from terminal_agent.club.policy import PolicyInvalid
from terminal_agent.errors import AgentError, ErrorCode

log = logging.getLogger(__name__)
Made = TypeVar("Made")


class RowUnreadable(AgentError):
    """A row of which nothing can be made any more."""

    def __init__(self, what: str) -> None:
        super().__init__(
            ErrorCode.JOURNAL_FAILED,
            f"{what} cannot be read any more: the disk has changed it",
            hint="Have the disk checked; a copy of before is in the backups folder of the data directory",
        )


def row_as(what: str, make: Callable[[sqlite3.Row], Made], row: sqlite3.Row) -> Made:
    """Raises :class:`RowUnreadable`."""
    try:
        return make(row)
    except (ValueError, KeyError, TypeError, AttributeError, PolicyInvalid) as error:
        raise RowUnreadable(what) from error


def rows_as(what: str, make: Callable[[sqlite3.Row], Made], rows: Iterable[sqlite3.Row]) -> list[Made]:
    """One that cannot be read is left out, and stops no other."""
    made: list[Made] = []
    for row in rows:
        try:
            made.append(row_as(what, make, row))
        except RowUnreadable as error:
            log.error("journal=row_left_out %s", error)
    return made
