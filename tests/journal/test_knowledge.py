"""What the feed brought is used in the right order and no further than it is complete."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from terminal_agent.club.policy import PolicyInvalid, default_policy
from terminal_agent.journal import Journal
from terminal_agent.journal.knowledge import Adjustment, Member
from terminal_agent.ports import rfc3339
from tests.journal.support import CARD, OTHER_CARD, START, ManualClock


def remember_policy(journal: Journal, version: str, in_hours: float, **more: Any) -> None:
    document = {**default_policy(), "version": version, "valid_from": rfc3339(START + timedelta(hours=in_hours))}
    with journal.transaction():
        journal.knowledge.remember_policy(version, {**document, **more})


def adjust(journal: Journal, *numbers: int, points: int = 10, card_no: str = CARD) -> None:
    with journal.transaction():
        for number in numbers:
            journal.knowledge.remember_adjustment(Adjustment(card_no, number, points, None))


def test_adjustments_are_given_up_to_the_first_gap(journal: Journal) -> None:
    adjust(journal, 1, 2, 4, 5)
    adjust(journal, 3, card_no=OTHER_CARD)
    assert [a.number for a in journal.knowledge.adjustments_after(CARD, 0)] == [1, 2]
    assert [a.number for a in journal.knowledge.adjustments_after(CARD, 2)] == []
    adjust(journal, 3)
    assert [a.number for a in journal.knowledge.adjustments_after(CARD, 1)] == [2, 3, 4, 5]
    assert journal.knowledge.adjustments_after(CARD, 5) == []


def test_an_adjustment_that_comes_again_changes_nothing(journal: Journal) -> None:
    adjust(journal, 1, points=10)
    adjust(journal, 1, points=99)
    assert [a.points for a in journal.knowledge.adjustments_after(CARD, 0)] == [10]


def test_a_policy_holds_from_its_own_moment_on(journal: Journal, clock: ManualClock) -> None:
    assert journal.knowledge.policy().version == "default"
    remember_policy(journal, "tomorrow", in_hours=24)
    remember_policy(journal, "now", in_hours=0)
    remember_policy(journal, "yesterday", in_hours=-24)
    assert journal.knowledge.policy().version == "now"
    clock.advance(24 * 3600 - 1)
    assert journal.knowledge.policy().version == "now"
    clock.advance(1)
    assert journal.knowledge.policy().version == "tomorrow"


def test_of_two_policies_with_one_moment_the_later_published_holds(journal: Journal) -> None:
    remember_policy(journal, "with the mistake", in_hours=0)
    remember_policy(journal, "corrected", in_hours=0)
    assert journal.knowledge.policy().version == "corrected"


def test_a_policy_without_a_time_zone_is_refused_and_stops_no_tap(journal: Journal) -> None:
    for moment in ("2026-11-22T00:00:00", "2026-11-22"):
        with pytest.raises(PolicyInvalid, match="valid_from"), journal.transaction():
            journal.knowledge.remember_policy("v", {**default_policy(), "valid_from": moment})
    assert journal.knowledge.policy().version == "default"


def test_a_telephone_number_moves_to_the_member_who_had_it_last(journal: Journal) -> None:
    with journal.transaction():
        journal.knowledge.remember_member(Member("m1", "09125554433", "Ali", None))
        journal.knowledge.remember_member(Member("m2", "09125554433", "Sara", "gold"))
    found = journal.knowledge.member_by_phone("09125554433")
    assert found == Member("m2", "09125554433", "Sara", "gold")
    assert journal.knowledge.member("m1") == Member("m1", None, "Ali", None)


def test_a_card_leaves_the_hotlist_when_it_is_freed(journal: Journal) -> None:
    for blocked, reason, expected in (
        (True, "lost", "lost"),
        (True, None, "blocked by head office"),
        (False, "", None),
    ):
        with journal.transaction():
            journal.knowledge.set_hotlist(CARD, blocked, reason)
        assert journal.knowledge.block_reason(CARD) == expected
