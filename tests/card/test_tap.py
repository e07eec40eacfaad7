"""The tap transaction: what a card's state tells of a write in doubt, and the order that loses nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import AccessDenied, CardRemoved, DriverError, ReaderLost
from terminal_agent.card import tap
from terminal_agent.card.layout import HISTORY_EPOCH, CardState, HistoryEntry, HistoryKind
from terminal_agent.card.session import WriteNotVerified
from terminal_agent.card.tap import InDoubt, Settlement, judge

BEFORE, AFTER = CardState(7, 100), CardState(8, 105)
ENTRY = HistoryEntry(HistoryKind.PURCHASE, 8, HISTORY_EPOCH, 50_000, 5, 1)


@pytest.mark.parametrize(
    ("current", "verdict"),
    [
        (AFTER, Settlement.LANDED),
        (BEFORE, Settlement.NOT_LANDED),
        (CardState(8, 999), Settlement.MOVED_ON),
        (CardState(9, 110), Settlement.MOVED_ON),
        (CardState(6, 90), Settlement.ROLLED_BACK),
        (CardState(7, 999), Settlement.ROLLED_BACK),
    ],
)
def test_the_card_s_state_tells_how_the_write_ended(current: CardState, verdict: Settlement) -> None:
    assert judge(BEFORE, AFTER, current) is verdict


@given(sequence=st.integers(0, 100), balance=st.integers(-5, 5))
def test_only_the_very_state_that_was_written_counts_as_landed(sequence: int, balance: int) -> None:
    current = CardState(sequence, balance)
    assert (judge(BEFORE, AFTER, current) is Settlement.LANDED) == (current == AFTER)
    assert (judge(BEFORE, AFTER, current) is Settlement.NOT_LANDED) == (current == BEFORE)


class Script:
    """A card and a journal that write down who was called when."""

    def __init__(self, error: Exception | None = None) -> None:
        self.told: list[str] = []
        self._error = error

    def begin(self) -> None:
        self.told.append("intent on disk")

    def done(self) -> None:
        self.told.append("done on disk")

    def write_state(self, state: CardState) -> None:
        self.told.append(f"card holds {state.sequence}")
        if self._error:
            raise self._error

    def write_history(self, entry: HistoryEntry) -> None:
        if self._error:
            raise self._error


def test_the_intent_comes_before_the_card_and_done_after_it() -> None:
    script = Script()
    tap.commit(script, AFTER, script.begin, script.done)
    assert script.told == ["intent on disk", "card holds 8", "done on disk"]


def test_a_repeated_write_begins_no_second_intent() -> None:
    script = Script()
    tap.commit(script, AFTER, None, script.done)
    assert script.told == ["card holds 8", "done on disk"]


def test_without_an_intent_on_disk_the_card_is_not_touched() -> None:
    script = Script()

    def disk_full() -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        tap.commit(script, AFTER, disk_full, script.done)
    assert script.told == []


@pytest.mark.parametrize(
    "error", [CardRemoved("gone"), ReaderLost("gone"), AccessDenied(5, "write"), WriteNotVerified("other bytes")]
)
def test_any_failure_of_the_write_leaves_the_sale_in_doubt(error: Exception) -> None:
    script = Script(error)
    with pytest.raises(InDoubt) as caught:
        tap.commit(script, AFTER, script.begin, script.done)
    assert caught.value.__cause__ is error
    assert script.told == ["intent on disk", "card holds 8"]


@pytest.mark.parametrize("error", [CardRemoved("gone"), AccessDenied(8, "write"), ReaderLost("unplugged")])
def test_history_that_cannot_be_written_spoils_nothing(error: DriverError) -> None:
    assert tap.write_history(Script(error), ENTRY) is False
    assert tap.write_history(Script(), ENTRY) is True
