"""A customer waits for the CRM for a few seconds in all, however slowly it answers each call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from terminal_agent.card.layout import CardState
from terminal_agent.journal import Journal, holds
from terminal_agent.service.redemption import PATIENCE_S, OnlineRedemptions
from terminal_agent.sync.adapters.base import Capabilities, CrmRefused, CrmUnreachable
from terminal_agent.taps import ACTIVE, CardAtCrm
from tests.journal.support import CARD, CountedIds, ManualClock, event

STATE = CardState(sequence=7, balance=100)


class SlowCrm:
    """Answers each call ``delay_s`` after it was asked, or not at all where it may not take that long."""

    def __init__(self, clock: ManualClock, delay_s: float, *, holds: bool = True) -> None:
        self._clock = clock
        self._delay_s = delay_s
        self.capabilities = Capabilities(True, True, holds, True, 500, 1_000_000)
        self.asked: list[tuple[str, float]] = []
        self.deaf_to_release = False

    def _answer(self, what: str, timeout_s: float) -> None:
        self.asked.append((what, round(timeout_s, 3)))
        self._clock.advance(min(self._delay_s, timeout_s))
        if self._delay_s > timeout_s:
            raise CrmUnreachable("no answer")

    def get_card(self, card_no: str, timeout_s: float) -> dict[str, Any]:
        self._answer("card", timeout_s)
        return {"balance": 100, "sequence": STATE.sequence, "status": ACTIVE}

    def post_hold(self, card_no: str, points: int, card_sequence: int, reference: str, timeout_s: float) -> Any:
        self._answer("hold", timeout_s)
        return {"hold_id": "h1"}

    def end_hold(self, hold_id: str, how: Literal["confirm", "release"], timeout_s: float) -> Any:
        self._answer(how, timeout_s)
        if how == "release" and self.deaf_to_release:
            raise CrmRefused(409, "busy", "later")
        return {}

    def post_events(self, bodies: list[str], timeout_s: float | None = None) -> dict[str, Any]:
        raise AssertionError

    def known(self, bodies: list[str]) -> set[str]:
        raise AssertionError

    def get_feed(self, cursor: str | None, limit: int) -> dict[str, Any]:
        raise AssertionError

    def get_member(self, phone: str, timeout_s: float | None = None) -> dict[str, Any]:
        raise AssertionError

    def export_member(self, member_id: str) -> dict[str, Any]:
        raise AssertionError

    def erase_member(self, member_id: str) -> dict[str, Any]:
        raise AssertionError

    def probe(self, timeout_s: float) -> None:
        raise AssertionError

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def journal(tmp_path: Path, clock: ManualClock) -> Iterator[Journal]:
    opened = Journal(tmp_path, "till-1", "IRR", clock, CountedIds())
    yield opened
    opened.close()


def ask(journal: Journal, crm: SlowCrm, clock: ManualClock) -> CardAtCrm | None:
    def tell(_card_no: str, client: Any, timeout_s: float) -> None:
        client._answer("tell", timeout_s)

    redemptions = OnlineRedemptions(journal, lambda: crm, tell, clock, CountedIds())
    with redemptions.for_a_tap() as reserve:
        return reserve(CARD, STATE, 50, "r")


def test_a_crm_that_is_slow_each_time_is_given_up_when_the_patience_is_over(
    journal: Journal, clock: ManualClock
) -> None:
    crm = SlowCrm(clock, 0.75)
    assert ask(journal, crm, clock) is None
    assert crm.asked == [("card", PATIENCE_S), ("hold", 1.25), ("confirm", 0.5)]
    assert clock.monotonic() == pytest.approx(PATIENCE_S)


def test_nothing_more_is_asked_when_the_patience_is_over(journal: Journal, clock: ManualClock) -> None:
    crm = SlowCrm(clock, PATIENCE_S / 2)
    assert ask(journal, crm, clock) is None
    assert [what for what, _timeout_s in crm.asked] == ["card", "hold"]


def test_telling_what_waits_is_part_of_the_same_patience(journal: Journal, clock: ManualClock) -> None:
    crm = SlowCrm(clock, 60.0)
    with journal.transaction():
        journal.events.append(event(1))
    assert ask(journal, crm, clock) is None
    assert crm.asked == [("tell", PATIENCE_S)]
    assert clock.monotonic() == PATIENCE_S


def test_a_crm_that_answers_in_time_grants(journal: Journal, clock: ManualClock) -> None:
    crm = SlowCrm(clock, 0.3)
    granted = ask(journal, crm, clock)
    assert granted is not None
    assert granted.hold_id == "h1"
    assert [what for what, _timeout_s in crm.asked] == ["card", "hold", "confirm"]


def test_nothing_is_set_aside_anew_before_what_was_not_used_is_let_go(journal: Journal, clock: ManualClock) -> None:
    """The same sale may get the same hold again; a release of it that is still on its way must not meet that sale."""
    ask(journal, SlowCrm(clock, 0.1), clock)
    assert holds.unused(journal) == ["h1"]
    crm = SlowCrm(clock, 0.1)
    crm.deaf_to_release = True
    assert ask(journal, crm, clock) is None
    assert [what for what, _timeout_s in crm.asked] == ["card", "release"]
    assert holds.unused(journal) == ["h1"]
    crm.deaf_to_release = False
    assert ask(journal, crm, clock) is not None
    assert [what for what, _timeout_s in crm.asked][2:] == ["card", "release", "hold", "confirm"]


def test_a_crm_without_holds_is_asked_for_the_card_alone(journal: Journal, clock: ManualClock) -> None:
    crm = SlowCrm(clock, 0.1, holds=False)
    granted = ask(journal, crm, clock)
    assert granted is not None
    assert (granted.hold_id, granted.sequence) == (None, STATE.sequence)
    assert [what for what, _timeout_s in crm.asked] == ["card"]
