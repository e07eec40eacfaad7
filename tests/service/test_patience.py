"""A customer waits for the CRM for a few seconds in all, however slowly it answers each call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from terminal_agent.card.layout import CardState
from terminal_agent.journal import Journal
from terminal_agent.service.redemption import PATIENCE_S, TIMEOUT_S, OnlineRedemptions
from terminal_agent.sync.adapters.base import Capabilities, CrmRefused, CrmUnreachable
from terminal_agent.taps import ACTIVE
from tests.journal.support import CARD, CountedIds, ManualClock, event

STATE = CardState(sequence=7, balance=100)


class SlowCrm:
    """Answers each call ``delay_s`` after it was asked, or not at all where it may not take that long."""

    def __init__(self, clock: ManualClock, delay_s: float, *, holds: bool = True) -> None:
        self._clock = clock
        self._delay_s = delay_s
        self.capabilities = Capabilities(True, True, holds, True, 500, 1_000_000)
        self.asked: list[tuple[str, float]] = []
        self.held = False

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
        if self.held:
            raise CrmRefused(409, "card_held", "another redemption")
        return {"hold_id": "h1"}

    def end_hold(self, hold_id: str, how: Literal["confirm", "release"], timeout_s: float) -> Any:
        self._answer(how, timeout_s)
        return {}

    def post_events(self, bodies: list[str], timeout_s: float | None = None) -> dict[str, Any]:
        raise AssertionError

    def known(self, bodies: list[str]) -> set[str]:
        raise AssertionError

    def get_feed(self, cursor: str | None, limit: int) -> dict[str, Any]:
        raise AssertionError

    def get_member(self, phone: str) -> dict[str, Any]:
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


def redemptions(journal: Journal, crm: SlowCrm, clock: ManualClock) -> OnlineRedemptions:
    def tell(_card_no: str, client: Any, timeout_s: float) -> None:
        client._answer("tell", timeout_s)

    return OnlineRedemptions(journal, lambda: crm, tell, clock)


def test_a_crm_that_is_slow_each_time_is_given_up_when_the_patience_is_over(
    journal: Journal, clock: ManualClock
) -> None:
    crm = SlowCrm(clock, 1.4)
    crm.held = True
    with journal.transaction():
        journal.set_meta(f"hold:{CARD}", "h0")
    assert redemptions(journal, crm, clock).reserve(CARD, STATE, 50, "r") is None
    assert crm.asked == [("card", TIMEOUT_S), ("hold", TIMEOUT_S), ("release", 0.2)]
    assert clock.monotonic() == pytest.approx(PATIENCE_S)


def test_nothing_more_is_asked_when_the_patience_is_over(journal: Journal, clock: ManualClock) -> None:
    crm = SlowCrm(clock, TIMEOUT_S)
    crm.held = True
    with journal.transaction():
        journal.set_meta(f"hold:{CARD}", "h0")
    assert redemptions(journal, crm, clock).reserve(CARD, STATE, 50, "r") is None
    assert [what for what, _timeout_s in crm.asked] == ["card", "hold"]


def test_one_answer_is_never_waited_for_longer_than_its_own_time(journal: Journal, clock: ManualClock) -> None:
    crm = SlowCrm(clock, 60.0)
    with journal.transaction():
        journal.events.append(event(1))
    assert redemptions(journal, crm, clock).reserve(CARD, STATE, 50, "r") is None
    assert crm.asked == [("tell", TIMEOUT_S)]
    assert clock.monotonic() == TIMEOUT_S


def test_a_crm_that_answers_in_time_grants(journal: Journal, clock: ManualClock) -> None:
    granted = redemptions(journal, SlowCrm(clock, 0.3), clock).reserve(CARD, STATE, 50, "r")
    assert granted is not None
    assert granted.hold_id == "h1"


def test_a_crm_without_holds_is_asked_for_the_card_alone(journal: Journal, clock: ManualClock) -> None:
    crm = SlowCrm(clock, 0.1, holds=False)
    granted = redemptions(journal, crm, clock).reserve(CARD, STATE, 50, "r")
    assert granted is not None
    assert (granted.hold_id, granted.sequence) == (None, STATE.sequence)
    assert [what for what, _timeout_s in crm.asked] == ["card"]
