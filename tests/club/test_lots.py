"""Expiry per lot: the oldest points go first, and what is put back keeps its age."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from terminal_agent.club.lots import Lot, Movement, expiring, lots_of

START = datetime(2026, 1, 1, tzinfo=UTC)


def day(number: int) -> datetime:
    return START + timedelta(days=number)


def move(reference: str, on: int, points: int, of: str | None = None) -> Movement:
    return Movement(reference, day(on), points, of)


def left(*movements: Movement) -> tuple[list[tuple[str, int]], int]:
    lots, debt = lots_of(movements)
    return [(lot.reference, lot.points) for lot in lots], debt


def test_the_oldest_points_are_spent_first() -> None:
    earned = [move("a", 1, 10), move("b", 2, 10)]
    assert left(*earned, move("r", 3, -12)) == ([("b", 8)], 0)
    assert left(*reversed(earned), move("r", 3, -4)) == ([("a", 6), ("b", 10)], 0)


def test_what_a_return_takes_back_comes_from_its_own_purchase_first() -> None:
    assert left(move("a", 1, 10), move("b", 2, 10), move("t", 3, -7, of="b")) == ([("a", 10), ("b", 3)], 0)
    assert left(move("a", 1, 10), move("b", 2, 3), move("t", 3, -7, of="b")) == ([("a", 6)], 0)


def test_points_given_back_keep_the_age_they_had() -> None:
    spent = [move("a", 1, 10), move("b", 2, 10), move("r", 3, -15)]
    assert left(*spent, move("back", 9, 7, of="r")) == ([("a", 2), ("b", 10)], 0)
    assert left(*spent, move("back", 9, 20, of="r")) == ([("a", 10), ("b", 10), ("back", 5)], 0)


def test_a_debt_is_paid_before_a_lot_grows() -> None:
    assert left(move("a", 1, 10), move("r", 2, -16)) == ([], 6)
    assert left(move("a", 1, 10), move("r", 2, -16), move("b", 3, 10)) == ([("b", 4)], 0)


def test_a_lot_expires_on_its_last_day_and_only_once() -> None:
    moves = [move("a", 0, 10), move("b", 5, 10), move("r", 6, -4)]
    assert expiring(moves, 30, day(30) - timedelta(seconds=1)) == []
    assert expiring(moves, 30, day(30)) == [Lot("a", day(0), 6)]
    assert expiring(moves, None, day(9_999)) == []
    booked = [*moves, Movement("expired-a", day(30), -6, of="a")]
    assert expiring(booked, 30, day(31)) == []
    assert expiring(booked, 30, day(35)) == [Lot("b", day(5), 10)]


def test_what_is_booked_later_than_the_day_asked_for_does_not_count_yet() -> None:
    assert expiring([move("a", 0, 10), move("r", 40, -10)], 30, day(35)) == [Lot("a", day(0), 10)]


movements = st.lists(
    st.tuples(st.integers(0, 400), st.integers(-50, 50).filter(bool), st.integers(0, 30)), max_size=25
).map(
    lambda rows: [move(str(i), on, points, of=str(of) if of < i else None) for i, (on, points, of) in enumerate(rows)]
)


@given(movements)
def test_what_is_left_less_what_is_owed_is_what_moved(moves: list[Movement]) -> None:
    lots, debt = lots_of(moves)
    assert sum(lot.points for lot in lots) - debt == sum(each.points for each in moves)
    assert debt >= 0
    assert all(lot.points > 0 for lot in lots)


@given(movements, st.integers(1, 200), st.integers(0, 500))
def test_an_expiry_that_is_booked_never_comes_again(moves: list[Movement], after_days: int, on: int) -> None:
    gone = expiring(moves, after_days, day(on))
    booked = [Movement(f"x{i}", day(on), -lot.points, of=lot.reference) for i, lot in enumerate(gone)]
    assert expiring([*moves, *booked], after_days, day(on)) == []
    assert all(lot.earned_at + timedelta(days=after_days) <= day(on) for lot in gone)
