"""Points as lots, each with the day it was earned: what is spent is taken from the oldest, what is old enough expires.

A pure function of everything that ever moved the account, so that it can be counted again at any time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Movement:
    """Points that came (> 0) or went (< 0). ``of`` names an earlier movement: what goes is first taken from its lot,
    and what comes is first put back into the lots that it had taken from, with their own dates."""

    reference: str
    at: datetime
    points: int
    of: str | None = None


@dataclass(frozen=True)
class Lot:
    """Points that are left of one movement."""

    reference: str
    earned_at: datetime
    points: int


@dataclass
class _Book:
    """``left`` by place in ``lots``; ``taken`` by reference: from which places it took how much."""

    lots: list[Movement] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    taken: dict[str, list[list[int]]] = field(default_factory=dict)
    debt: int = 0


def lots_of(movements: Iterable[Movement]) -> tuple[list[Lot], int]:
    """What is left of each lot, oldest first, and what is owed beyond all of them: left - owed = sum of all points.

    Movements count in order of their time, those of one moment in the order given.
    """
    book = _Book()
    for movement in sorted(movements, key=lambda each: each.at):
        if movement.points < 0:
            _take(book, movement)
        else:
            _put(book, movement)
    lots = [Lot(lot.reference, lot.at, left) for lot, left in zip(book.lots, book.left, strict=True) if left]
    return lots, book.debt


def expiring(movements: Iterable[Movement], after_days: int | None, moment: datetime) -> list[Lot]:
    """The lots that have lived ``after_days`` by ``moment``; book each as a movement ``of`` its reference, dated
    ``moment``, and it does not come again. None expire without ``after_days``."""
    if after_days is None:
        return []
    lots, _debt = lots_of(each for each in movements if each.at <= moment)
    return [lot for lot in lots if lot.earned_at + timedelta(days=after_days) <= moment]


def _take(book: _Book, movement: Movement) -> None:
    wanted = -movement.points
    places = range(len(book.lots))
    own = [place for place in places if movement.of is not None and book.lots[place].reference == movement.of]
    taken = book.taken.setdefault(movement.reference, [])
    for place in (*own, *places):
        part = min(wanted, book.left[place])
        if part:
            book.left[place] -= part
            taken.append([place, part])
            wanted -= part
    book.debt += wanted


def _put(book: _Book, movement: Movement) -> None:
    coming = movement.points
    paid = min(coming, book.debt)
    book.debt -= paid
    coming -= paid
    for entry in reversed(book.taken.get(movement.of or "", [])):
        part = min(coming, entry[1])
        book.left[entry[0]] += part
        entry[1] -= part
        coming -= part
    if coming:
        book.lots.append(movement)
        book.left.append(coming)
