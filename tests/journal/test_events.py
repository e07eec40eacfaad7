"""Events are facts: gapless, chained, never changed, and gone from the queue only by a verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from terminal_agent.contract import EventType, fingerprint
from terminal_agent.errors import AgentError
from terminal_agent.journal import Journal
from terminal_agent.journal.events import FIRST_HASH, NewEvent, OutboxState
from tests.journal.support import CARD, OTHER_CARD, ManualClock, event, event_id

OpenJournal = Callable[..., Journal]
MANY_BYTES = 1 << 20


def record(journal: Journal, *events: NewEvent) -> None:
    with journal.transaction():
        for each in events:
            journal.events.append(each)


def settle(journal: Journal, number: int, state: OutboxState, reason: str | None = None) -> None:
    with journal.transaction():
        journal.events.settle(event_id(number), state, reason)


def waiting(journal: Journal) -> list[int]:
    """The numbers of the events that would be sent now."""
    return [int(entry.event_id[-4:], 16) for entry in journal.events.next_batch(100, MANY_BYTES)]


def broken(journal: Journal) -> int | None:
    """The sequence of the first event that is not what was minted."""
    link = journal.events.broken_link()
    return None if link is None else link.sequence


def edit(journal: Journal, sql: str, *values: Any) -> None:
    """What somebody with a SQLite shell does."""
    with journal.transaction():
        journal._database.execute(sql, *values)


def test_sequences_are_gapless_from_one_also_after_a_transaction_that_failed(journal: Journal) -> None:
    record(journal, event(1), event(2))
    with pytest.raises(ZeroDivisionError), journal.transaction():  # noqa: PT012
        journal.events.append(event(3))
        raise ZeroDivisionError
    record(journal, event(4))
    assert [entry.sequence for entry in journal.events.entries(None, 10)] == [1, 2, 3]


def test_each_event_carries_the_hash_of_the_one_before(journal: Journal) -> None:
    record(journal, event(1), event(2), event(3))
    bodies = [entry.body for entry in journal.events.entries(None, 10)]
    previous = [json.loads(body)["data"]["previous_hash"] for body in bodies]
    assert previous == [FIRST_HASH, *(fingerprint(body.encode()) for body in bodies[:2])]
    assert journal.events.broken_link() is None


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE events SET body = replace(body, '\"earned\":5', '\"earned\":9') WHERE sequence = 2",
        "UPDATE events SET body = 'no json' WHERE sequence = 2",
        "UPDATE events SET body = '[]', fingerprint = 'x' WHERE sequence = 2",
        "UPDATE events SET previous_hash = 'x' WHERE sequence = 2",
    ],
)
def test_an_edited_event_is_found(journal: Journal, sql: str) -> None:
    record(journal, event(1), event(2), event(3))
    edit(journal, sql)
    assert broken(journal) == 2


def test_an_edited_event_whose_hash_was_mended_is_found_at_the_next_one(journal: Journal) -> None:
    record(journal, event(1), event(2), event(3))
    row = journal._database.query("SELECT body FROM events WHERE sequence = 2")[0]
    forged = row["body"].replace('"earned":5', '"earned":9')
    sql = "UPDATE events SET body = ?, fingerprint = ? WHERE sequence = 2"
    edit(journal, sql, forged, fingerprint(forged.encode()))
    assert broken(journal) == 3


def test_a_forged_event_that_is_no_json_is_found_even_with_a_hash_that_fits(journal: Journal) -> None:
    record(journal, event(1), event(2))
    edit(journal, "UPDATE events SET body = 'x', fingerprint = ? WHERE sequence = 2", fingerprint(b"x"))
    assert broken(journal) == 2


def test_a_deleted_event_is_found_at_the_next_one(journal: Journal) -> None:
    record(journal, event(1), event(2), event(3))
    edit(journal, "DELETE FROM outbox WHERE event_id = ?", event_id(2))
    edit(journal, "DELETE FROM events WHERE sequence = 2")
    assert broken(journal) == 3


def test_ids_and_bytes_never_change_once_recorded(open_journal: OpenJournal) -> None:
    journal = open_journal()
    record(journal, event(1, note="کارت"), event(2, redeemed=3))
    first = [(entry.event_id, entry.sequence, entry.body) for entry in journal.events.next_batch(10, MANY_BYTES)]
    with journal.transaction():
        journal.events.attempted([event_id(1), event_id(2)])
    settle(journal, 1, OutboxState.QUARANTINED, "no")
    with journal.transaction():
        assert journal.events.retry(event_id(1))
    journal.close()
    again = open_journal().events.next_batch(10, MANY_BYTES)
    assert [(entry.event_id, entry.sequence, entry.body) for entry in again] == first
    assert [entry.attempts for entry in again] == [1, 1]


def test_an_id_is_recorded_once(journal: Journal) -> None:
    record(journal, event(1))
    with pytest.raises(AgentError), journal.transaction():
        journal.events.append(event(1, OTHER_CARD))
    assert journal.events.count(OutboxState.PENDING) == 1


def test_a_batch_holds_no_more_events_than_asked_for(journal: Journal) -> None:
    record(journal, *(event(number) for number in range(1, 8)))
    assert [len(journal.events.next_batch(limit, MANY_BYTES)) for limit in (1, 5, 100)] == [1, 5, 7]


def test_a_batch_fits_its_bytes_and_a_giant_goes_alone(journal: Journal) -> None:
    record(journal, *(event(number, note="ک" * 500) for number in range(1, 6)))
    record(journal, event(6, note="x" * 20_000))
    bodies = [entry.body.encode() for entry in journal.events.next_batch(10, 4_000)]
    assert 1 < len(bodies) < 5
    assert len(b"[" + b",".join(bodies) + b"]") <= 4_000
    for number in range(1, 6):
        settle(journal, number, OutboxState.ACKNOWLEDGED)
    assert [len(entry.body) > 20_000 for entry in journal.events.next_batch(10, 4_000)] == [True]


def test_later_events_of_a_card_wait_behind_its_refused_redemption_but_earnings_and_other_cards_pass(
    journal: Journal,
) -> None:
    record(
        journal,
        event(1, redeemed=4),
        event(2, redeemed=3),
        event(3, redeemed=0),
        event(4, kind=EventType.CARD_REPLACED, earned=0),
        event(5, OTHER_CARD, redeemed=2),
        event(6, None, kind=EventType.ACTIVITY_RECORDED),
    )
    settle(journal, 1, OutboxState.QUARANTINED, "too_late: no")
    assert waiting(journal) == [3, 5, 6]


def test_nothing_waits_behind_a_refused_earning(journal: Journal) -> None:
    record(journal, event(1), event(2, redeemed=3), event(3))
    settle(journal, 1, OutboxState.QUARANTINED)
    assert waiting(journal) == [2, 3]


def test_events_before_a_refused_redemption_do_not_wait_for_it(journal: Journal) -> None:
    record(journal, event(1, redeemed=1), event(2, redeemed=1), event(3, redeemed=1))
    settle(journal, 2, OutboxState.QUARANTINED)
    assert waiting(journal) == [1]


@pytest.mark.parametrize("freed", ["retried", "acknowledged"])
def test_what_waited_goes_on_in_its_order_once_the_redemption_is_settled(journal: Journal, freed: str) -> None:
    record(journal, event(1, redeemed=4), event(2, redeemed=3))
    settle(journal, 1, OutboxState.QUARANTINED, "no")
    assert waiting(journal) == []
    if freed == "retried":
        with journal.transaction():
            assert journal.events.retry(event_id(1))
        assert waiting(journal) == [1, 2]
        assert journal.events.entries(None, 1)[0].reason is None
    else:
        settle(journal, 1, OutboxState.ACKNOWLEDGED)
        assert waiting(journal) == [2]


def test_only_a_quarantined_event_can_be_taken_back(journal: Journal) -> None:
    record(journal, event(1), event(2))
    settle(journal, 2, OutboxState.ACKNOWLEDGED)
    with journal.transaction():
        assert [journal.events.retry(event_id(number)) for number in (1, 2, 3)] == [False, False, False]


@pytest.mark.parametrize("later", [OutboxState.PENDING, OutboxState.QUARANTINED])
def test_an_acknowledged_event_stays_acknowledged(journal: Journal, later: OutboxState) -> None:
    record(journal, event(1))
    settle(journal, 1, OutboxState.ACKNOWLEDGED)
    settle(journal, 1, later, "a verdict that came late")
    assert journal.events.count(OutboxState.ACKNOWLEDGED) == 1
    assert waiting(journal) == []


def test_the_queue_shows_what_waits_and_for_how_long(journal: Journal, clock: ManualClock) -> None:
    assert journal.events.oldest_pending_age_s() is None
    record(journal, event(1))
    clock.advance(90)
    record(journal, event(2))
    settle(journal, 1, OutboxState.QUARANTINED, "bad: no")
    assert journal.events.oldest_pending_age_s() == 90.0
    assert [entry.to_json() for entry in journal.events.entries(OutboxState.QUARANTINED, 10)] == [
        {
            "id": event_id(1),
            "type": "purchase.recorded",
            "card_no": CARD,
            "sequence": 1,
            "state": "quarantined",
            "attempts": 0,
            "reason": "bad: no",
        }
    ]
    clock.advance(-10_000_000)
    assert journal.events.oldest_pending_age_s() == 0.0, "a clock set back makes no negative age"


def test_a_terminal_under_another_id_begins_a_sequence_of_its_own(open_journal: OpenJournal) -> None:
    journal = open_journal("till-1")
    record(journal, event(1), event(2))
    journal.close()
    journal = open_journal("till-2")
    record(journal, event(3))
    bodies = [json.loads(entry.body) for entry in journal.events.entries(None, 10)]
    assert [body["sequence"] for body in bodies] == ["1", "2", "1"]
    assert bodies[1]["source"].startswith("/terminals/till-1/")
    assert bodies[2]["source"].startswith("/terminals/till-2/")
    assert bodies[1]["source"].split("/")[-1] != bodies[2]["source"].split("/")[-1]
    assert journal.events.broken_link() is None


def test_an_event_survives_its_way_through_an_intent(journal: Journal) -> None:
    made = event(1, redeemed=2)
    assert NewEvent.from_json(json.loads(json.dumps(made.to_json()))) == made
