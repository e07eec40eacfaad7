"""When the CRM is asked: never a storm, never silence for ever, whatever the clock, the disk and the CRM do."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug import Request, Response

from terminal_agent.journal import Journal
from terminal_agent.journal.events import OutboxState
from terminal_agent.journal.journal import KNOWLEDGE_LOST
from terminal_agent.ports import SystemIds
from terminal_agent.sync import worker as module
from terminal_agent.sync.adapters.base import CrmUnauthorized, CrmUnreachable
from terminal_agent.sync.adapters.native import NativeCrm
from terminal_agent.sync.exchange import FEED_CURSOR
from terminal_agent.sync.upload import BATCH_EVENTS
from terminal_agent.sync.worker import (
    BACKOFF_BASE_S,
    BACKOFF_CAP_S,
    DARK_S,
    MAX_RETRY_AFTER_S,
    NEXT_TRY,
    TOLD_EACH_S,
    UNAUTHORIZED_PAUSE_S,
    CrmState,
    SyncWorker,
    backoff_s,
)
from tests.journal.support import CARD, CountedIds, ManualClock, event
from tests.sync.support import ScriptedCrm, accept, no_feed, page, problem, signed

MakeWorker = Callable[[], SyncWorker]


@pytest.fixture
def make_worker(journal: Journal, client: NativeCrm, clock: ManualClock, ids: CountedIds) -> MakeWorker:
    """A worker as each start of the daemon makes one."""
    return lambda: SyncWorker(journal, lambda: client, clock, ids)


def due_in_s(worker: SyncWorker) -> float:
    return round(worker.due_in_s(), 1)


@given(st.integers(1, 10_000), st.one_of(st.none(), st.floats(0, 1e9)), st.floats(0, 1))
def test_a_wait_is_within_its_bounds(failures: int, retry_after_s: float | None, chance: float) -> None:
    wait = backoff_s(failures, retry_after_s, lambda low, high: low + (high - low) * chance)
    assert wait >= min(retry_after_s or 0.0, MAX_RETRY_AFTER_S), "the CRM's pause is kept"
    assert wait <= max(BACKOFF_CAP_S, 1.1 * min(retry_after_s or 0.0, MAX_RETRY_AFTER_S))
    if not retry_after_s:
        assert wait == pytest.approx(chance * min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** min(failures - 1, 16)))


@given(st.integers(1, 100), st.one_of(st.none(), st.floats(0, 1e5)))
def test_the_longest_wait_never_shrinks_with_more_failures(failures: int, retry_after_s: float | None) -> None:
    longest = [backoff_s(number, retry_after_s, lambda _low, high: high) for number in (failures, failures + 1)]
    assert longest == sorted(longest)


def test_waits_of_a_fleet_are_spread_over_the_whole_span() -> None:
    ids = SystemIds()
    waits = [backoff_s(9, None, ids.uniform) for _ in range(300)]
    assert min(waits) < 10
    assert max(waits) > 50


def test_each_failure_lengthens_the_wait_and_a_success_ends_it(
    crm: ScriptedCrm, make_worker: MakeWorker, clock: ManualClock
) -> None:
    worker = make_worker()
    assert worker.state is CrmState.UNKNOWN
    crm.usual_feed = problem(503)
    waits = []
    for _ in range(7):
        with pytest.raises(CrmUnreachable):
            worker.exchange_now()
        waits.append(due_in_s(worker))
    assert waits == [2, 4, 8, 16, 32, 60, 60]
    assert make_worker().state is CrmState.DOWN
    crm.usual_feed = no_feed
    worker.exchange_now()
    assert (worker.state, due_in_s(worker)) == (CrmState.UP, 0)
    crm.usual_feed = problem(503)
    with pytest.raises(CrmUnreachable):
        worker.exchange_now()
    assert due_in_s(worker) == 2


def test_the_schedule_survives_a_restart(crm: ScriptedCrm, make_worker: MakeWorker, clock: ManualClock) -> None:
    crm.usual_feed = problem(503)
    for _ in range(4):
        with pytest.raises(CrmUnreachable):
            make_worker().exchange_now()
    clock.advance(6)
    assert due_in_s(make_worker()) == 10
    assert make_worker().state is CrmState.DOWN


def test_the_crms_own_pause_is_kept_but_not_for_more_than_an_hour(crm: ScriptedCrm, make_worker: MakeWorker) -> None:
    for asked, kept in (("300", 330), ("99999999", 3960)):
        crm.usual_feed = problem(429, **{"Retry-After": asked})
        with pytest.raises(CrmUnreachable):
            make_worker().exchange_now()
        assert due_in_s(make_worker()) == kept


def test_a_token_that_is_not_accepted_pauses_for_long_and_tells(
    crm: ScriptedCrm, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    crm.usual_feed = problem(401)
    worker = make_worker()
    for _ in range(2):
        with pytest.raises(CrmUnauthorized):
            worker.exchange_now()
    assert (worker.state, due_in_s(worker)) == (CrmState.UNAUTHORIZED, UNAUTHORIZED_PAUSE_S)
    assert [record.getMessage() for record in caplog.records if record.name == module.__name__] == ["crm=unauthorized"]


def test_a_terminal_that_was_taken_back_begins_at_once_and_reads_the_feed_anew(
    crm: ScriptedCrm, make_worker: MakeWorker, journal: Journal
) -> None:
    worker = make_worker()
    worker.exchange_now()
    assert journal.meta(FEED_CURSOR) == "end"
    crm.usual_feed = problem(401)
    with pytest.raises(CrmUnauthorized):
        worker.exchange_now()
    with worker.start_over(another_crm=True):
        pass
    assert (worker.state, due_in_s(worker), journal.meta(FEED_CURSOR)) == (CrmState.UNKNOWN, 0, None)


def test_no_exchange_with_the_crm_before_ends_after_the_change_to_another(
    make_worker: MakeWorker, journal: Journal
) -> None:
    """What it notes of the CRM before would be taken for the new one's word."""
    worker = make_worker()
    exchange = threading.Thread(target=worker.exchange_now)
    with worker.start_over(another_crm=True):
        exchange.start()
        exchange.join(0.05)
        assert exchange.is_alive()
        assert journal.meta(FEED_CURSOR) is None
    exchange.join()
    assert journal.meta(FEED_CURSOR) == "end"


@pytest.mark.parametrize("years", [-30, -2, 2, 30])
def test_a_clock_that_jumps_by_years_stops_no_exchange(
    crm: ScriptedCrm, make_worker: MakeWorker, clock: ManualClock, years: int
) -> None:
    crm.usual_feed = problem(503)
    with pytest.raises(CrmUnreachable):
        make_worker().exchange_now()
    clock.wall += timedelta(days=365 * years)
    assert due_in_s(make_worker()) <= 0


def test_before_enrolment_there_is_nobody_to_ask(journal: Journal, clock: ManualClock, ids: CountedIds) -> None:
    worker = SyncWorker(journal, lambda: None, clock, ids)
    assert worker.state is CrmState.NOT_ENROLLED
    assert worker.exchange_now() is None


@pytest.fixture
def running(make_worker: MakeWorker) -> object:
    """Runs a worker's loop in a thread of its own until the test ends."""
    stop = threading.Event()
    started: list[tuple[SyncWorker, threading.Thread]] = []

    def start() -> SyncWorker:
        worker = make_worker()
        thread = threading.Thread(target=worker.run, args=(stop,))
        thread.start()
        started.append((worker, thread))
        return worker

    yield start
    stop.set()
    for worker, thread in started:
        worker.wake()
        thread.join(30)
        assert not thread.is_alive()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


@pytest.mark.parametrize(("dark_s", "wait_s"), [(0, 0), (DARK_S - 1, 0), (DARK_S, 60), (10 * 365 * 86_400, 60)])
def test_after_an_outage_the_first_contact_of_a_fleet_is_spread_over_a_minute(
    crm: ScriptedCrm, make_worker: MakeWorker, clock: ManualClock, dark_s: float, wait_s: float
) -> None:
    make_worker().exchange_now()
    clock.advance(dark_s)
    back = make_worker()
    back.spread_first_contact()
    assert max(0, due_in_s(back)) == wait_s
    again = make_worker()
    again.spread_first_contact()
    assert max(0, due_in_s(again)) == wait_s, "another start neither shortens nor lengthens it"


def test_a_terminal_that_never_had_contact_begins_at_once(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.spread_first_contact()
    assert due_in_s(worker) == 0


def test_a_daemon_that_comes_back_waits_and_a_sync_by_hand_does_not(
    crm: ScriptedCrm, make_worker: MakeWorker, running: MakeWorker, clock: ManualClock, journal: Journal
) -> None:
    make_worker().exchange_now()
    clock.advance(DARK_S)
    before = journal.meta(NEXT_TRY)
    worker = running()
    until(lambda: journal.meta(NEXT_TRY) != before)
    worker.wake()
    time.sleep(0.02)
    assert len(crm.feeds) == 1
    worker.exchange_now()
    assert len(crm.feeds) == 2


@pytest.mark.parametrize(("batch_s", "told"), [(0.0, 2), (TOLD_EACH_S, 6)])
def test_listeners_hear_of_a_long_exchange_now_and_then_and_of_its_end(
    crm: ScriptedCrm, make_worker: MakeWorker, clock: ManualClock, journal: Journal, batch_s: float, told: int
) -> None:
    with journal.transaction():
        for number in range(1, 5 * BATCH_EVENTS + 1):
            journal.events.append(event(number))

    def take_time(request: Request) -> Response:
        clock.advance(batch_s)
        return accept(request)

    crm.usual_events = take_time
    worker = make_worker()
    heard: list[CrmState] = []
    worker.told = lambda: heard.append(worker.state)
    worker.exchange_now()
    assert len(crm.posts) == 5
    assert len(heard) == told


def test_a_sale_is_sent_as_soon_as_the_worker_is_woken(journal: Journal, crm: ScriptedCrm, running: MakeWorker) -> None:
    worker = running()
    until(lambda: len(crm.feeds) == 1)
    with journal.transaction():
        journal.events.append(event(1))
    worker.wake()
    until(lambda: journal.events.count(OutboxState.PENDING) == 0)


def test_being_woken_does_not_break_the_schedule(crm: ScriptedCrm, running: MakeWorker, clock: ManualClock) -> None:
    crm.usual_feed = problem(503)
    worker = running()
    until(lambda: worker.state is CrmState.DOWN)
    for _ in range(5):
        worker.wake()
        time.sleep(0.01)
    assert len(crm.feeds) == 1
    clock.advance(3)
    worker.wake()
    until(lambda: len(crm.feeds) == 2)


def test_neither_a_full_disk_nor_the_unforeseen_ends_the_loop(
    journal: Journal, crm: ScriptedCrm, running: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    connection = journal._database._connection
    connection.execute("PRAGMA query_only=ON")
    worker = running()
    until(lambda: "cannot be kept" in caplog.text)
    connection.execute("PRAGMA query_only=OFF")
    worker.wake()
    until(lambda: worker.state is CrmState.UP)


def test_an_unforeseen_failure_waits_like_any_other(
    journal: Journal, crm: ScriptedCrm, running: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(module, "exchange", fail)
    worker = running()
    until(lambda: worker.state is CrmState.DOWN)
    assert due_in_s(worker) == BACKOFF_CAP_S


def test_two_exchanges_never_run_at_once(journal: Journal, crm: ScriptedCrm, make_worker: MakeWorker) -> None:
    worker = make_worker()
    inside, most = [0], [0]

    def slow_feed(request: Request) -> Response:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.02)
        inside[0] -= 1
        return signed(request, {"items": [], "next_cursor": "end", "has_more": False})

    crm.usual_feed = slow_feed
    threads = [threading.Thread(target=worker.exchange_now) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(crm.feeds), most[0]) == (3, 1)


def test_only_the_crm_s_own_word_pauses_for_minutes(crm: ScriptedCrm, make_worker: MakeWorker) -> None:
    worker = make_worker()
    crm.feed_script = [page(403)]  # a portal, not the CRM
    with pytest.raises(CrmUnauthorized):
        worker.exchange_now()
    assert worker.state is CrmState.UNAUTHORIZED
    assert due_in_s(worker) <= BACKOFF_BASE_S
    crm.feed_script = [problem(403, "crm_unauthorized")]
    with pytest.raises(CrmUnauthorized):
        worker.exchange_now()
    assert due_in_s(worker) == UNAUTHORIZED_PAUSE_S


def test_who_waits_for_a_card_s_news_does_not_wait_for_an_exchange_under_way(
    journal: Journal, crm: ScriptedCrm, client: NativeCrm, make_worker: MakeWorker
) -> None:
    """The line is back after days, and everything goes up."""
    worker, begun, go_on = make_worker(), threading.Event(), threading.Event()

    def slow(request: Request) -> Response:
        begun.set()
        go_on.wait(60)
        return no_feed(request)

    crm.usual_feed = slow
    under_way = threading.Thread(target=worker.exchange_now)
    asking = threading.Thread(target=worker.tell_of, args=(CARD, client, 600.0))
    under_way.start()
    assert begun.wait(30)
    with journal.transaction():
        journal.events.append(event(1))
    asking.start()
    asking.join(30)
    waited = asking.is_alive()
    go_on.set()
    under_way.join()
    assert not waited
    assert (crm.posts, journal.events.waiting_of(CARD)) == ([], True)


@pytest.mark.parametrize("back", [timedelta(minutes=1), timedelta(hours=1), timedelta(days=400)])
def test_a_clock_that_is_set_right_stops_no_exchange(
    journal: Journal, crm: ScriptedCrm, make_worker: MakeWorker, clock: ManualClock, back: timedelta
) -> None:
    """The machine was ahead, by its time zone or by years, and its clock is set back while the CRM is up."""
    worker = make_worker()
    worker.exchange_now()
    clock.wall -= back
    with journal.transaction():
        journal.events.append(event(1))
    worker.turn()
    assert len(crm.posts) == 1


def test_a_pause_that_was_asked_for_is_kept_by_a_clock_that_goes_on(
    crm: ScriptedCrm, make_worker: MakeWorker, clock: ManualClock
) -> None:
    worker = make_worker()
    crm.feed_script = [page(503, **{"Retry-After": "900"})]
    with pytest.raises(CrmUnreachable):
        worker.exchange_now()
    clock.advance(890)
    assert 0 < worker.due_in_s() <= 100


def test_an_exchange_under_way_ends_after_the_batch_in_flight_when_the_daemon_stops(
    journal: Journal, crm: ScriptedCrm, make_worker: MakeWorker
) -> None:
    with journal.transaction():
        journal.set_meta(KNOWLEDGE_LOST, "2026-11-22T09:30:00.000Z")
        for number in range(1, 1001):
            journal.events.append(event(number))
    stop, worker = threading.Event(), make_worker()

    def last(request: Request) -> Response:
        stop.set()
        worker.wake()
        return accept(request)

    crm.usual_events = last
    worker.run(stop)
    assert (len(crm.posts), len(crm.feeds)) == (1, 0)
    assert journal.events.count(OutboxState.PENDING) == 1000 - BATCH_EVENTS
    assert journal.knowledge_lost, "the feed was not read"


def test_the_feed_ends_after_the_page_in_flight_when_the_daemon_stops(
    crm: ScriptedCrm, make_worker: MakeWorker
) -> None:
    stop, worker = threading.Event(), make_worker()

    def more(request: Request) -> Response:
        stop.set()
        worker.wake()
        return signed(request, {"items": [], "next_cursor": str(len(crm.feeds)), "has_more": True})

    crm.usual_feed = more
    worker.run(stop)
    assert len(crm.feeds) == 1
