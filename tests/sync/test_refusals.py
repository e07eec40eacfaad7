"""A gateway that refuses everything in the CRM's place cannot empty the queue into quarantine."""

from __future__ import annotations

import json

import pytest
from werkzeug import Request, Response

from terminal_agent.contract import sign
from terminal_agent.journal import Journal
from terminal_agent.journal.events import OutboxState
from terminal_agent.sync.adapters.base import CrmBlocked, CrmRefused
from terminal_agent.sync.adapters.native import NativeCrm
from terminal_agent.sync.upload import MAX_UNSIGNED_REFUSALS
from terminal_agent.sync.worker import CrmState, SyncWorker
from tests.journal.support import CountedIds, ManualClock, event, event_id
from tests.sync.support import SECRET, Answer, Exchange, ScriptedCrm, accept, events_of, problem, signed


def record(journal: Journal, *numbers: int) -> None:
    with journal.transaction():
        for number in numbers:
            journal.events.append(event(number, card_no=str(number)))


def quarantined(journal: Journal) -> int:
    return journal.events.count(OutboxState.QUARANTINED)


def signed_refusal(request: Request) -> Response:
    answer = problem(422, "event_bad")(request)
    answer.headers["Terminal-Signature"] = sign(SECRET, request.headers["Request-Id"], answer.get_data())
    return answer


def unless_fine(*bad: int) -> Answer:
    """A CRM that refuses each batch with one of these events in it."""
    return lambda request: (
        problem(422, "event_bad")(request)
        if {each["id"] for each in events_of(request)} & {event_id(number) for number in bad}
        else accept(request)
    )


def test_a_gateway_before_a_till_that_never_sent_sets_a_few_events_aside_and_then_nothing(
    journal: Journal, crm: ScriptedCrm, run: Exchange
) -> None:
    record(journal, *range(1, 21))
    crm.usual_events = problem(400)
    for _ in range(5):
        with pytest.raises(CrmBlocked, match="did not sign"):
            run()
    assert quarantined(journal) == MAX_UNSIGNED_REFUSALS
    assert journal.events.count(OutboxState.PENDING) == 20 - MAX_UNSIGNED_REFUSALS
    assert len(crm.feeds) == 5, "what the CRM decides comes down all the same"


def test_a_gateway_that_begins_to_refuse_after_good_years_sets_nothing_aside(
    journal: Journal, crm: ScriptedCrm, run: Exchange
) -> None:
    record(journal, 1, 2)
    run()
    crm.usual_events = problem(400)
    for number in range(3, 10):  # one sale after the other
        record(journal, number)
        with pytest.raises(CrmBlocked):
            run()
    assert quarantined(journal) == 0
    crm.usual_events = accept
    assert run().accepted == 7


def test_the_rest_goes_up_when_the_gateway_has_gone(journal: Journal, crm: ScriptedCrm, run: Exchange) -> None:
    record(journal, *range(1, 11))
    crm.usual_events = problem(400)
    with pytest.raises(CrmBlocked):
        run()
    crm.usual_events = accept
    report = run()
    assert (report.accepted, report.quarantined) == (10 - MAX_UNSIGNED_REFUSALS, MAX_UNSIGNED_REFUSALS)


def test_many_bad_events_side_by_side_are_all_found_by_a_crm_that_takes_others(
    journal: Journal, crm: ScriptedCrm, run: Exchange
) -> None:
    record(journal, *range(1, 31))
    crm.usual_events = unless_fine(*range(10, 20))
    report = run()
    assert (report.accepted, report.rejected) == (20, 10)


def test_what_the_crm_signed_is_believed_at_once(journal: Journal, crm: ScriptedCrm, run: Exchange) -> None:
    record(journal, *range(1, 11))
    crm.usual_events = problem(400)
    with pytest.raises(CrmBlocked):
        run()
    crm.usual_events = signed_refusal
    assert run().rejected == 10 - MAX_UNSIGNED_REFUSALS


def test_a_refusal_tells_whether_it_was_signed(crm: ScriptedCrm, client: NativeCrm) -> None:
    crm.events_script = [signed_refusal, problem(422)]
    told = []
    for _ in range(2):
        with pytest.raises(CrmRefused) as refused:
            client.post_events(["{}"])
        told.append(refused.value.signed)
    assert told == [True, False]


def test_an_event_that_proves_the_line_is_not_counted_or_changed(
    journal: Journal, crm: ScriptedCrm, run: Exchange
) -> None:
    record(journal, 1)
    run()
    record(journal, *range(2, 9))

    def known(request: Request) -> Response:
        if [each["id"] for each in events_of(request)] != [event_id(1)]:
            return problem(400)(request)
        return signed(request, {"results": [{"id": event_id(1), "status": "duplicate"}], "acked_through": 1})

    crm.usual_events = known
    report = run()
    assert (report.rejected, report.duplicate, report.quarantined) == (7, 0, 7)


def test_a_blocked_line_is_told_until_events_pass_again(
    journal: Journal, crm: ScriptedCrm, client: NativeCrm, clock: ManualClock, ids: CountedIds
) -> None:
    worker = SyncWorker(journal, lambda: client, clock, ids)
    record(journal, *range(1, 11))
    crm.usual_events = problem(400)
    with pytest.raises(CrmBlocked):
        worker.exchange_now()
    assert worker.state is CrmState.BLOCKED
    crm.usual_events = accept
    worker.exchange_now()
    assert worker.state is CrmState.UP


def test_a_refusal_while_a_customer_waits_sets_nothing_aside(
    journal: Journal, crm: ScriptedCrm, client: NativeCrm, clock: ManualClock, ids: CountedIds
) -> None:
    worker = SyncWorker(journal, lambda: client, clock, ids)
    record(journal, 1, 2)
    crm.usual_events = problem(400)
    worker.tell_of("1", client, 1.0)
    assert (quarantined(journal), len(crm.posts)) == (0, 1)


def test_only_the_card_in_hand_is_told_of_while_a_customer_waits(
    journal: Journal, crm: ScriptedCrm, client: NativeCrm, clock: ManualClock, ids: CountedIds
) -> None:
    worker = SyncWorker(journal, lambda: client, clock, ids)
    record(journal, *range(1, 301))
    worker.tell_of("250", client, 1.0)
    assert [[each["id"] for each in events_of(post)] for post in crm.posts] == [[event_id(250)]]
    assert json.loads(journal.events.entries(OutboxState.ACKNOWLEDGED, 1)[0].body)["id"] == event_id(250)


def test_an_exchange_under_way_is_not_waited_for_without_end(
    journal: Journal, crm: ScriptedCrm, client: NativeCrm, clock: ManualClock, ids: CountedIds
) -> None:
    worker = SyncWorker(journal, lambda: client, clock, ids)
    record(journal, 1)
    with worker.start_over(another_crm=False):
        worker.tell_of("1", client, 0.05)
    assert crm.posts == []
