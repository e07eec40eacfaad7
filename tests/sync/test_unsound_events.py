"""What was changed on the disk is never sent, stops nobody else, and a copy of a whole disk is found out."""

from __future__ import annotations

import pytest

from terminal_agent.journal import Journal
from terminal_agent.journal.alarms import AlarmCode
from terminal_agent.journal.events import HASH_CHAIN_BROKEN, OutboxState
from terminal_agent.journal.journal import KNOWLEDGE_LOST
from terminal_agent.sync.adapters.base import CrmError
from terminal_agent.sync.exchange import FEED_CURSOR
from tests.journal.support import CARD, OTHER_CARD, event, event_id
from tests.sync.support import Exchange, ScriptedCrm, page, signed, verdicts


def record(journal: Journal, *numbers: int, card_no: str = CARD) -> None:
    with journal.transaction():
        for number in numbers:
            journal.events.append(event(number, card_no))


def edit(journal: Journal, sql: str) -> None:
    with journal.transaction():
        journal._database.execute(sql)


def sent(crm: ScriptedCrm) -> list[str]:
    return [each for batch in crm.sent_ids for each in batch]


def test_an_event_that_was_changed_is_kept_back_and_the_others_go(
    journal: Journal, crm: ScriptedCrm, run: Exchange
) -> None:
    record(journal, 1, 2, 3)
    record(journal, 4, card_no=OTHER_CARD)
    edit(journal, "UPDATE events SET body = replace(body, '\"earned\":5', '\"earned\":9') WHERE sequence = 2")
    report = run()
    assert sent(crm) == [event_id(1), event_id(3), event_id(4)]
    assert (report.accepted, report.quarantined, report.pending) == (3, 1, 0)
    (kept,) = journal.events.entries(OutboxState.QUARANTINED, 10)
    assert (kept.sequence, kept.reason) == (2, HASH_CHAIN_BROKEN)
    assert [alarm.code for alarm in journal.standing_alarms()] == [AlarmCode.HASH_CHAIN_BROKEN]
    assert journal.health()["state"] == "hash_chain_broken"


def test_a_batch_of_nothing_but_changed_events_ends(journal: Journal, crm: ScriptedCrm, run: Exchange) -> None:
    record(journal, *range(1, 6))
    edit(journal, "UPDATE events SET body = 'x'")
    assert run().quarantined == 5
    assert crm.posts == []


def test_retry_checks_again(journal: Journal, crm: ScriptedCrm, run: Exchange) -> None:
    record(journal, 1, 2)
    (body,) = journal._database.query("SELECT body FROM events WHERE sequence = 1")
    edit(journal, "UPDATE events SET body = 'x' WHERE sequence = 1")
    run()
    with journal.transaction():
        assert journal.events.retry(event_id(1))
    assert run().quarantined == 1
    with journal.transaction():
        journal._database.execute("UPDATE events SET body = ? WHERE sequence = 1", body["body"])
        assert journal.events.retry(event_id(1))
    assert run().quarantined == 0
    assert sent(crm) == [event_id(2), event_id(1)]
    assert journal.standing_alarms() == []


def test_the_feed_read_to_its_end_ends_the_wait_after_a_lost_journal(
    journal: Journal, crm: ScriptedCrm, run: Exchange
) -> None:
    with journal.transaction():
        journal.set_meta(KNOWLEDGE_LOST, "")
    more = {"items": [], "next_cursor": "half", "has_more": True}
    crm.feed_script = [lambda request: signed(request, more), page(503)]
    with pytest.raises(CrmError):
        run()
    assert journal.knowledge_lost, "half a feed may lack the very card that was blocked"
    run()
    assert not journal.knowledge_lost


def test_a_feed_that_stands_still_does_not_end_the_wait(journal: Journal, crm: ScriptedCrm, run: Exchange) -> None:
    with journal.transaction():
        journal.set_meta(KNOWLEDGE_LOST, "")
        journal.set_meta(FEED_CURSOR, "same")
    crm.usual_feed = lambda request: signed(request, {"items": [], "next_cursor": "same", "has_more": True})
    run()
    assert journal.knowledge_lost


def test_a_copy_of_the_whole_disk_is_found_out_by_a_sequence_that_was_used(
    journal: Journal, crm: ScriptedCrm, run: Exchange
) -> None:
    epoch = journal.events.install_epoch
    record(journal, 1)

    answer = {"results": [{"id": event_id(1), "status": "fork", "code": "sequence_reused"}]}
    crm.events_script = [lambda request: signed(request, answer)]
    run()
    assert journal.events.install_epoch != epoch
    assert [alarm.code for alarm in journal.alarms.standing()] == [AlarmCode.RESTORED]
    record(journal, 2)
    run()
    assert journal.events.last_sequence() == 1
    assert len(journal.alarms.standing()) == 1, "once is enough"


def test_a_copy_of_the_whole_disk_is_found_out_by_what_the_crm_has_beyond_it(
    journal: Journal, crm: ScriptedCrm, run: Exchange
) -> None:
    epoch = journal.events.install_epoch
    record(journal, 1)
    answer = {"results": [{"id": event_id(1), "status": "duplicate"}], "acked_through": 2}
    crm.events_script = [lambda request: signed(request, answer)]
    run()
    assert journal.events.install_epoch != epoch


def test_a_clone_of_a_card_is_no_copy_of_the_disk(journal: Journal, crm: ScriptedCrm, run: Exchange) -> None:
    epoch = journal.events.install_epoch
    record(journal, 1)
    crm.events_script = [lambda request: verdicts(request, lambda _event: "fork")]
    run()
    assert journal.events.install_epoch == epoch
    assert journal.standing_alarms() == []
