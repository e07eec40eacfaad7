"""The file a batch of cards is made from: one person a row, read and checked whole before the first card.

What makes the file unreadable as a whole raises; what is wrong with one row is that row's problem, and stops no other.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

from terminal_agent.desk.issue import IssueRequest
from terminal_agent.errors import AgentError, ErrorCode

COLUMNS = ("phone", "name", "tier", "card_no")
MOST_ROWS = 100_000
MAX_FILE_BYTES = 32 * 1024 * 1024
_SEPARATORS = ",;\t؛"
"""What spreadsheets write between cells: the last is the list separator of a Persian Windows."""
_MARKS = dict.fromkeys(map(ord, "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"))
"""Invisible marks that come along when a number is copied out of a text that runs right to left."""
_SAVE_AS = "Save it as CSV UTF-8 with the columns phone,name,tier,card_no; all but phone may be left out"


@dataclass(frozen=True)
class Row:
    """One person. ``number`` counts from 1 below the header, empty lines aside; a row has a request or a problem."""

    number: int
    request: IssueRequest | None
    problem: AgentError | None


def read_rows(content: bytes) -> list[Row]:
    """Every row of a CSV file. Raises AgentError ``invalid_input`` where the file cannot be read as one."""
    if len(content) > MAX_FILE_BYTES:
        raise _unreadable(f"it is larger than {MAX_FILE_BYTES // 1024**2} MiB")
    text, separator = _separator_named(_decoded(content))
    separator = separator or _separator_of(text)
    cells = _cells(text, separator)
    _, header = next(cells, (0, []))
    places = _places(header)
    rows: list[Row] = []
    first: dict[str, int] = {}
    for line, row in cells:
        if len(rows) == MOST_ROWS:
            raise _unreadable(f"it has more than {MOST_ROWS:,} rows")
        rows.append(_row(len(rows) + 1, line, row, places, first))
    return rows


def _decoded(content: bytes) -> str:
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unreadable("it is not in UTF-8") from error
    if "\0" in text:
        raise _unreadable("it is no text")
    return text


def _separator_named(text: str) -> tuple[str, str]:
    """A first line ``sep=;``, which spreadsheets write and hide, taken off."""
    line, _, rest = text.partition("\n")
    line = line.rstrip("\r")
    return (rest, line[4]) if len(line) == 5 and line.startswith("sep=") else (text, "")


def _separator_of(text: str) -> str:
    """The separator that makes most of the header's cells names of columns."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    return max(_SEPARATORS, key=lambda separator: sum(_name(cell) in COLUMNS for cell in header.split(separator)))


def _cells(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Lines that hold anything, each with its place in the file."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise _unreadable(f"line {reader.line_num}: {error}") from error


def _name(cell: str) -> str:
    return cell.strip().strip('"').casefold()


def _places(header: list[str]) -> list[str]:
    """The column of each cell; cells without a heading have the name ``""``. Raises AgentError."""
    names = [_name(cell) for cell in header]
    unknown = [name for name in names if name and name not in COLUMNS]
    twice = {name for name in names if name and names.count(name) > 1}
    if unknown:
        raise _unreadable("it has columns that are not known: " + ", ".join(repr(name[:40]) for name in unknown[:5]))
    if twice:
        raise _unreadable(f"it has a column twice: {', '.join(sorted(twice))}")
    if "phone" not in names:
        raise _unreadable("it has no column phone")
    return names


def _row(number: int, line: int, row: list[str], places: list[str], first: dict[str, int]) -> Row:
    """``first`` holds the row in which each phone and card number stood first."""
    try:
        request = _request(row, places)
        for key, value in (("phone", request.phone), ("card_no", request.card_no)):
            before = first.setdefault(f"{key} {value}", number) if value else number
            if before != number:
                raise _refused(f"the same {key} stands in row {before}", "Take one of the two rows out")
    except AgentError as problem:
        return Row(number, None, AgentError(problem.code, f"line {line}: {problem.message}", hint=problem.hint))
    return Row(number, request, None)


def _request(row: list[str], places: list[str]) -> IssueRequest:
    surplus = [cell for place, cell in enumerate(row) if place >= len(places) or not places[place]]
    if any(cell.strip() for cell in surplus):
        raise _refused("it has more cells than the header", "Put cells that hold a separator between quotation marks")
    found = {name: cell.strip() or None for name, cell in zip(places, row, strict=False) if name}
    phone, card_no = (_unmarked(found.get(key)) for key in ("phone", "card_no"))
    if phone is None:
        raise _refused("it has no phone", "Give a phone: it tells one row from another")
    return IssueRequest(phone, found.get("name"), found.get("tier"), card_no=card_no, only_card=True)


def _unmarked(cell: str | None) -> str | None:
    return (cell.translate(_MARKS).strip() or None) if cell else None


def _refused(message: str, hint: str) -> AgentError:
    return AgentError(ErrorCode.INVALID_INPUT, message, hint=hint)


def _unreadable(why: str) -> AgentError:
    return AgentError(ErrorCode.INVALID_INPUT, f"the file of rows cannot be used: {why}", hint=_SAVE_AS)
