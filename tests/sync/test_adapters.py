"""The engine keeps to what a CRM says it can do, and makes up for what it cannot."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terminal_agent.contract import MAX_BATCH_BYTES, MAX_BATCH_EVENTS
from terminal_agent.journal import Journal
from terminal_agent.journal.events import OutboxState
from terminal_agent.journal.knowledge import Member
from terminal_agent.sync.adapters.base import CrmAdapter, CrmUnreachable
from terminal_agent.sync.adapters.native import NativeCrm
from terminal_agent.sync.exchange import exchange
from tests.journal.support import CARD, OTHER_CARD, CountedIds, ManualClock, event, event_id
from tests.sync.tiny_crm import Loss, TinyCrm


@pytest.fixture
def record(journal: Journal) -> Callable[..., None]:
    def append(*numbers: int, card_no: str = CARD) -> None:
        with journal.transaction():
            for number in numbers:
                journal.events.append(event(number, card_no))

    return append


def sync(journal: Journal, crm: CrmAdapter, clock: ManualClock) -> None:
    """Exchanges until one goes through."""
    for _ in range(50):
        try:
            exchange(journal, crm, clock)
            return
        except CrmUnreachable:
            continue
    raise AssertionError("it never went through")


def test_the_native_contract_declares_what_the_contract_says(client: NativeCrm) -> None:
    can = client.capabilities
    assert (can.atomic_apply, can.idempotent, can.holds, can.tiers) == (True, True, True, True)
    assert (can.max_batch_events, can.max_batch_bytes) == (MAX_BATCH_EVENTS, MAX_BATCH_BYTES)


def test_a_crm_that_takes_one_at_a_time_gets_one_at_a_time(
    journal: Journal, clock: ManualClock, record: Callable[..., None]
) -> None:
    record(*range(1, 6))
    crm = TinyCrm()
    sync(journal, crm, clock)
    assert crm.posts == [[event_id(number)] for number in range(1, 6)]


@pytest.mark.parametrize(("atomic", "most"), [(True, 3), (False, 1)])
def test_only_a_crm_that_books_a_batch_whole_or_not_at_all_gets_batches(
    journal: Journal, clock: ManualClock, record: Callable[..., None], atomic: bool, most: int
) -> None:
    record(*range(1, 8))
    crm = TinyCrm(atomic=atomic, max_batch=3)
    sync(journal, crm, clock)
    assert max(map(len, crm.posts)) == most


def test_a_batch_is_no_larger_than_the_crm_takes(
    journal: Journal, clock: ManualClock, record: Callable[..., None]
) -> None:
    record(*range(1, 40))
    crm = TinyCrm(atomic=True, max_batch=500)
    sync(journal, crm, clock)
    assert len(crm.posts) > 1
    assert sum(crm.points.values()) == 39 * 5


def test_a_crm_that_would_book_twice_is_asked_before_anything_is_sent_again(
    journal: Journal, clock: ManualClock, record: Callable[..., None]
) -> None:
    record(1, 2, 3)
    crm = TinyCrm(lose=["after", "before"])
    sync(journal, crm, clock)
    assert crm.points == {f"cards/{CARD}": 15}
    assert crm.asked == [event_id(1), event_id(2)], "only those whose answer was lost"
    assert journal.events.count(OutboxState.PENDING) == 0


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["before", "after", None]), max_size=20), st.booleans(), st.integers(1, 4))
def test_whatever_is_lost_on_the_way_each_event_counts_once(
    tmp_path_factory: pytest.TempPathFactory, lose: list[Loss | None], atomic: bool, max_batch: int
) -> None:
    clock = ManualClock()
    journal = Journal(tmp_path_factory.mktemp("till"), "till-1", "IRR", clock, CountedIds())
    with journal.transaction():
        for number in range(1, 9):
            journal.events.append(event(number, CARD if number % 2 else OTHER_CARD))
    crm = TinyCrm(atomic=atomic, max_batch=max_batch, lose=list(lose))
    sync(journal, crm, clock)
    journal.close()
    assert set(crm.notes.values()) == {1}
    assert len(crm.notes) == 8


def test_one_event_that_such_a_crm_cannot_take_stops_no_other(
    journal: Journal, clock: ManualClock, record: Callable[..., None]
) -> None:
    record(1, 2, 3)
    crm = TinyCrm(bad={event_id(2)})
    sync(journal, crm, clock)
    assert [entry.event_id for entry in journal.events.entries(OutboxState.QUARANTINED, 9)] == [event_id(2)]
    assert crm.points == {f"cards/{CARD}": 10}


def test_a_member_told_without_tiers_keeps_the_tier_known_here(journal: Journal, clock: ManualClock) -> None:
    with journal.transaction():
        journal.knowledge.remember_member(Member("m1", None, "Ali", "gold"))
    items = [{"kind": "member", "member_id": each, "name": "Ali R.", "phone": None} for each in ("m1", "m2")]
    sync(journal, TinyCrm(pages=[[None, *items]]), clock)
    assert journal.knowledge.member("m1") == Member("m1", None, "Ali R.", "gold")
    assert journal.knowledge.member("m2") == Member("m2", None, "Ali R.", None)
