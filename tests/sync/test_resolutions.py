"""Head office decides on an event in quarantine: it is sent again, or let be; only here, only what is in quarantine."""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug import Request, Response

from terminal_agent.journal import Journal
from terminal_agent.journal.events import OutboxState
from terminal_agent.sync.adapters.native import NativeCrm
from terminal_agent.sync.exchange import SyncReport, exchange
from tests.journal.support import ManualClock, event, event_id
from tests.sync.support import ScriptedCrm, signed, verdicts


def told(*items: dict[str, Any]) -> Any:
    def feed(request: Request) -> Response:
        return signed(request, {"items": list(items), "next_cursor": "1", "has_more": False})

    return feed


def resolution(action: str, terminal_id: str = "till-1", number: int = 1) -> dict[str, Any]:
    ids = {"terminal_id": terminal_id, "event_id": event_id(number)}
    return {"kind": "resolution", **ids, "action": action, "reason": "a test"}


@pytest.fixture
def quarantined(journal: Journal, crm: ScriptedCrm, client: NativeCrm, clock: ManualClock) -> Journal:
    with journal.transaction():
        journal.events.append(event(1))
    crm.events_script.append(lambda request: verdicts(request, lambda _event: "rejected"))
    assert exchange(journal, client, clock).quarantined == 1
    return journal


def hear(journal: Journal, crm: ScriptedCrm, client: NativeCrm, clock: ManualClock, item: dict[str, Any]) -> SyncReport:
    crm.feed_script.append(told(item))
    return exchange(journal, client, clock)


def test_an_event_is_sent_again_when_head_office_says_so(
    quarantined: Journal, crm: ScriptedCrm, client: NativeCrm, clock: ManualClock
) -> None:
    assert hear(quarantined, crm, client, clock, resolution("retry")).pending == 1
    report = exchange(quarantined, client, clock)
    assert (report.accepted, report.quarantined, report.pending) == (1, 0, 0)


def test_an_event_that_is_let_be_waits_no_more_and_stays_in_the_journal(
    quarantined: Journal, crm: ScriptedCrm, client: NativeCrm, clock: ManualClock
) -> None:
    report = hear(quarantined, crm, client, clock, resolution("drop"))
    assert (report.pending, report.quarantined) == (0, 0)
    [entry] = quarantined.events.entries(OutboxState.ACKNOWLEDGED, 10)
    assert (entry.event_id, entry.reason) == (event_id(1), "dropped: a test")
    assert quarantined.events.broken_link() is None
    posts = len(crm.posts)
    exchange(quarantined, client, clock)
    assert len(crm.posts) == posts


@pytest.mark.parametrize(
    "item", [resolution("drop", terminal_id="till-2"), resolution("burn"), resolution("drop", number=9)]
)
def test_what_is_not_for_this_till_changes_nothing(
    quarantined: Journal, crm: ScriptedCrm, client: NativeCrm, clock: ManualClock, item: dict[str, Any]
) -> None:
    assert hear(quarantined, crm, client, clock, item).quarantined == 1


def test_an_event_that_waits_is_not_dropped(
    journal: Journal, crm: ScriptedCrm, client: NativeCrm, clock: ManualClock
) -> None:
    with journal.transaction():
        journal.events.append(event(1))
    crm.events_script.append(lambda request: verdicts(request, lambda _event: "retry"))
    assert hear(journal, crm, client, clock, resolution("drop")).pending == 1
