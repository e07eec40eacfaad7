"""Receipts as lines of text, for a point of sale that prints them with its own receipt."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from terminal_agent.till.locale import FIRST_STRONG, LEFT_TO_RIGHT, POP, Language, isolated, paragraph
from terminal_agent.till.receipt import Heading, Link, Note, Pair, Receipt, Row, Ruler, rows

COLUMNS = (32, 42, 48)
"""Characters in a line of usual printers: paper of 58 mm, of 80 mm, and of 80 mm in a narrow type."""
Measure = Callable[[str], float]
"""How much room a text takes."""
_INVISIBLE = frozenset({"Mn", "Me", "Cf"})


def text(receipt: Receipt, language: Language, columns: int = 42) -> list[str]:
    """The receipt in lines of at most ``columns`` characters, in logical order.

    A Persian line holds isolates and joiners, which take no room on paper, and reads from the right.
    """
    lines = [line for row in rows(receipt, language) for line in _lines(row, language, columns)]
    return [paragraph(line, language) for line in lines]


def cells(line: str) -> int:
    """How many columns of a printer a text takes: none for marks and joiners, two for wide East Asian characters."""
    return sum(
        0 if unicodedata.category(c) in _INVISIBLE else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in line
    )


def _lines(row: Row, language: Language, columns: int) -> list[str]:
    match row:
        case Heading(content):
            return [" " * ((columns - cells(line)) // 2) + line for line in wrap(content, columns, cells)]
        case Ruler():
            return ["-" * columns]
        case Note(content):
            return wrap(content, columns, cells)
        case Link(content, url):
            return [*wrap(content, columns, cells), *wrap(isolated(url, language), columns, cells)]
        case Pair(label, value):
            return _pair(label, value, columns)


def _pair(label: str, value: str, columns: int) -> list[str]:
    parts = paired(label, value, columns, cells)
    return [start + " " * (columns - cells(start) - cells(end)) + end if end else start for start, end in parts]


def paired(label: str, value: str, width: float, measure: Measure) -> list[tuple[str, str]]:
    """What stands at the start and at the end of each line: the value beside the label's end where both fit with a
    space between, else on lines of its own."""
    *above, last = wrap(label, width, measure)
    lines = [(line, "") for line in above]
    if measure(f"{last} ") + measure(value) <= width:
        return [*lines, (last, value)]
    return [*lines, (last, ""), *(("", line) for line in wrap(value, width, measure))]


def wrap(content: str, width: float, measure: Measure) -> list[str]:
    """``content`` in lines that measure at most ``width``, broken at spaces, and inside a word only where it does not
    fit by itself. An isolate that is open at a line's end is closed there and goes on in the next; at least one line.
    """
    lines, line = [], ""
    for word in content.split(" "):
        longer = f"{line} {word}" if line else word
        if measure(longer) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        while measure(word) > width:
            head = _longest_head(word, width, measure)
            lines.append(word[:head])
            word = word[head:]
        line = word
    return _closed([*lines, line])


def _longest_head(word: str, width: float, measure: Measure) -> int:
    """How many characters of a word fit, at least one; what takes no room stays with what is before it."""
    end = 1
    while end < len(word) and measure(word[: end + 1]) <= width:
        end += 1
    return end


def _closed(lines: list[str]) -> list[str]:
    closed, still_open = [], ""
    for line in lines:
        line = still_open + line
        still_open = ""
        for c in line:
            if c in (LEFT_TO_RIGHT, FIRST_STRONG):
                still_open += c
            elif c == POP:
                still_open = still_open[:-1]
        closed.append(line + POP * len(still_open))
    return closed
