"""The report of a batch: a CSV file that says how each row stands. The journal is the truth; this can be made again.

It is written whole when a batch begins and when it ends. In between each card adds its line in one write, so that
whatever happens the file holds whole lines.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path

from terminal_agent.desk.batch import RowStatus, Tried
from terminal_agent.desk.rows import Row
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service.files import write_private

COLUMNS = ("row", "phone", "card_no", "uid", "status", "error")
LEFT = "left"


class Report:
    """What is known of each row, and the file that says so. Raises AgentError where it cannot be written."""

    def __init__(self, path: Path, rows: list[Row], found: list[Tried | None]) -> None:
        self._path = path
        self._rows = rows
        self._standing = {row.number: tried for row, tried in zip(rows, found, strict=True) if tried}
        self._write(row for row in rows if row.number in self._standing)
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise _not_written(path, error) from error

    def add(self, row: Row, tried: Tried) -> None:
        """How a row came out; of a row that stands there already, only the end of the batch rewrites the line."""
        if tried.status is RowStatus.CARD_REJECTED:
            return
        was_there = row.number in self._standing
        self._standing[row.number] = tried
        if not was_there:
            try:
                os.write(self._file, _csv([self._line(row)]))
            except OSError as error:
                raise _not_written(self._path, error) from error

    def finish(self) -> None:
        """Every row in its order, those left included."""
        os.close(self._file)
        self._write(self._rows)

    def _write(self, rows: Iterable[Row]) -> None:
        try:
            write_private(self._path, _csv([COLUMNS, *(self._line(row) for row in rows)]))
        except OSError as error:
            raise _not_written(self._path, error) from error

    def _line(self, row: Row) -> tuple[object, ...]:
        tried = self._standing.get(row.number)
        phone = row.request.phone if row.request else None
        if tried is None:
            return row.number, phone, None, None, LEFT, None
        # A card made in an earlier run is as issued as any other.
        status = RowStatus.ISSUED if tried.status is RowStatus.SKIPPED else tried.status
        error = f"{tried.error['code']}: {tried.error['message']}" if tried.error else None
        return row.number, phone, tried.card_no, tried.uid, status.value, error


def _csv(lines: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue().encode()


def _not_written(path: Path, error: OSError) -> AgentError:
    return AgentError(
        ErrorCode.INVALID_INPUT,
        f"cannot write the report {path}: {error.strerror}",
        hint="Name another file with --output; cards that were issued stay issued",
    )
