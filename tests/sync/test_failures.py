"""An event on which the CRM fails (500) holds up its own card, and nothing else."""

from __future__ import annotations

import pytest

from terminal_agent.journal import Journal
from terminal_agent.journal.events import OutboxState
from terminal_agent.sync.adapters.base import CrmFailed
from terminal_agent.sync.failures import CRM_FAILS, LOOKED_FOR_EACH
from tests.journal.support import CARD, OTHER_CARD, event, event_id
from tests.sync.support import Answer, Exchange, ScriptedCrm, accept, events_of, problem, signed


def record(journal: Journal, *numbers: int, card_no: str = OTHER_CARD) -> None:
    with journal.transaction():
        for number in numbers:
            journal.events.append(event(number, card_no))


def failing_on(*bad: int) -> Answer:
    """A CRM that fails on each batch with one of these events in it."""
    return lambda request: (
        problem(500, "internal")(request)
        if {each["id"] for each in events_of(request)} & {event_id(number) for number in bad}
        else accept(request)
    )


def fail(run: Exchange, times: int) -> None:
    for _ in range(times):
        with pytest.raises(CrmFailed):
            run()


def waiting(journal: Journal) -> list[tuple[str, str | None]]:
    return [(entry.event_id, entry.reason) for entry in journal.events.entries(OutboxState.PENDING, 100)]


@pytest.mark.parametrize("bad", [(1,), (150,), (301,), (1, 2), (1, 150, 301)])
def test_an_event_on_which_the_crm_fails_holds_up_no_other_card(
    journal: Journal, crm: ScriptedCrm, run: Exchange, bad: tuple[int, ...]
) -> None:
    crm.usual_events = failing_on(*bad)
    for number in range(1, 302):
        record(journal, number, card_no=str(number) if number in bad else OTHER_CARD)
    fail(run, LOOKED_FOR_EACH - 1)
    for _ in range(2):
        report = run()
        assert (report.pending, report.retry) == (len(bad), len(bad))
    assert waiting(journal) == [(event_id(number), CRM_FAILS) for number in bad]


def test_what_was_found_goes_alone_and_the_rest_together(journal: Journal, crm: ScriptedCrm, run: Exchange) -> None:
    crm.usual_events = failing_on(1)
    record(journal, 1, card_no=CARD)
    record(journal, *range(2, 40))
    fail(run, LOOKED_FOR_EACH - 1)
    run()
    record(journal, *range(40, 60))
    before = len(crm.posts)
    assert run().accepted == 20
    assert len(crm.posts) - before == 2


def test_it_is_booked_when_the_crm_takes_it(journal: Journal, crm: ScriptedCrm, run: Exchange) -> None:
    crm.usual_events = failing_on(1)
    record(journal, 1, card_no=CARD)
    record(journal, 2, 3)
    fail(run, LOOKED_FOR_EACH - 1)
    assert run().accepted == 2
    crm.usual_events = accept
    assert (run().accepted, waiting(journal)) == (1, [])


def test_later_events_of_its_card_wait_behind_it(journal: Journal, crm: ScriptedCrm, run: Exchange) -> None:
    crm.usual_events = failing_on(1)
    record(journal, 1, card_no=CARD)
    record(journal, 2)
    record(journal, 3, card_no=CARD)
    fail(run, LOOKED_FOR_EACH - 1)
    run()
    run()
    assert [event for event, _reason in waiting(journal)] == [event_id(1), event_id(3)]


def test_a_crm_that_fails_on_everything_is_asked_little_and_nothing_is_held_against_an_event(
    journal: Journal, crm: ScriptedCrm, run: Exchange
) -> None:
    record(journal, *range(1, 201))
    crm.usual_events = problem(500, "internal")
    fail(run, 60)
    assert len(crm.posts) < 60 * 4
    assert {reason for _event, reason in waiting(journal)} == {None}
    crm.usual_events = accept
    assert run().accepted == 200


@pytest.mark.parametrize("status", [500, 502, 504])
def test_what_the_crm_decided_comes_down_while_it_fails_on_what_goes_up(
    journal: Journal, crm: ScriptedCrm, run: Exchange, status: int
) -> None:
    record(journal, 1)
    crm.usual_events = problem(status, "internal")
    item = {"kind": "hotlist", "card_no": OTHER_CARD, "blocked": True, "reason": "stolen"}
    crm.usual_feed = lambda request: signed(request, {"items": [item], "next_cursor": "1", "has_more": False})
    fail(run, 1)
    assert journal.knowledge.block_reason(OTHER_CARD) == "stolen"
