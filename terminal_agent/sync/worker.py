"""When to talk to the CRM: at once after a sale, each minute for the feed, after a failure by a persisted schedule.

The wait after the n-th failure in a row is full jitter, uniform in 0..min(cap, base * 2^n), and never shorter than the
CRM's ``Retry-After``; it survives a restart, so that a fleet does not come back all at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from enum import StrEnum

from terminal_agent.errors import AgentError
from terminal_agent.journal import Journal
from terminal_agent.ports import Clock, Ids, rfc3339
from terminal_agent.sync.adapters.base import CrmAdapter, CrmBlocked, CrmError, CrmUnauthorized, CrmUnreachable
from terminal_agent.sync.exchange import FEED_CURSOR, exchange
from terminal_agent.sync.upload import ACKED_THROUGH, EXPORTED, SyncReport, send_card

log = logging.getLogger(__name__)

BACKOFF_BASE_S = 2.0
BACKOFF_CAP_S = 60.0
FEED_INTERVAL_S = 60.0
UNAUTHORIZED_PAUSE_S = 300.0
MAX_RETRY_AFTER_S = 3600.0
TOLD_EACH_S = 1.0
"""Who listens counts what waits: after each batch, that would be most of the work of a long queue."""
CLOCK_STEP_S = 1.0
"""What a clock that is kept right may go back at once."""
DARK_S = 600.0
"""How long after the last exchange was due a start counts as coming back from an outage."""
FIRST_CONTACT_SPREAD_S = 60.0

CRM_STATE = "crm_state"
FAILURES = "sync_failures"
NEXT_TRY = "sync_next_try"
PLANNED_WAIT = "sync_wait_s"
"""How far ahead ``NEXT_TRY`` was when it was set: a clock that is set back cannot make it farther."""


class CrmState(StrEnum):
    """What the last exchange found."""

    UNKNOWN = "unknown"
    NOT_ENROLLED = "not_enrolled"
    UP = "up"
    DOWN = "down"
    UNAUTHORIZED = "unauthorized"
    BLOCKED = "blocked"
    """It answers, and something on the way, or it itself, refuses every event."""


def _state_after(error: CrmError) -> CrmState:
    if isinstance(error, CrmUnauthorized):
        return CrmState.UNAUTHORIZED
    return CrmState.BLOCKED if isinstance(error, CrmBlocked) else CrmState.DOWN


def backoff_s(failures: int, retry_after_s: float | None, uniform: Callable[[float, float], float]) -> float:
    """Seconds to wait after ``failures`` (>= 1) failures in a row."""
    ceiling = min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** min(failures - 1, 16))
    asked = min(retry_after_s or 0.0, MAX_RETRY_AFTER_S)
    return max(uniform(0, ceiling), asked + uniform(0, 0.1 * asked))


class SyncWorker:
    """One exchange at a time, from whichever thread asks for it."""

    def __init__(self, journal: Journal, client: Callable[[], CrmAdapter | None], clock: Clock, ids: Ids) -> None:
        self._journal = journal
        self._client = client
        self._clock = clock
        self._ids = ids
        self._one_at_a_time = threading.Lock()
        self._woken = threading.Event()
        self._stop = threading.Event()
        self.told: Callable[[], None] = lambda: None
        """Called when an exchange has got on, or has ended."""

    @property
    def state(self) -> CrmState:
        """What is known of the CRM now."""
        if self._client() is None:
            return CrmState.NOT_ENROLLED
        return CrmState(self._journal.meta(CRM_STATE) or CrmState.UNKNOWN)

    @contextmanager
    def start_over(self, *, another_crm: bool) -> Iterator[None]:
        """Forget what another CRM, or the same one before it took us back, had said of when to ask and from where.

        ``another_crm``: and of what it has; what the CRM before had acknowledged is none of the new one's business.
        Inside, with no exchange under way, the caller changes over. First forgotten, then changed: after a crash
        between the two the CRM before is only read again, but the new one would be told what the one before was told.
        """
        with self._one_at_a_time:
            keys = [CRM_STATE, FAILURES, NEXT_TRY, PLANNED_WAIT, FEED_CURSOR]
            if another_crm:
                keys += self._journal.meta_keys(ACKED_THROUGH) + self._journal.meta_keys(EXPORTED)
            with self._journal.transaction():
                for key in keys:
                    self._journal.forget_meta(key)
            yield

    def wake(self) -> None:
        """There is something to send."""
        self._woken.set()

    def exchange_now(self, progress: Callable[[SyncReport], None] = lambda _report: None) -> SyncReport | None:
        """One full exchange, whatever the schedule says; None before enrolment. Raises :class:`CrmError`."""
        with self._one_at_a_time:
            client = self._client()
            if client is None:
                return None

            told_at = -TOLD_EACH_S

            def get_on(report: SyncReport) -> None:
                nonlocal told_at
                progress(report)
                if self._clock.monotonic() - told_at >= TOLD_EACH_S:
                    told_at = self._clock.monotonic()
                    self.told()

            try:
                report = exchange(self._journal, client, self._clock, get_on, self._stop.is_set)
            except CrmError as error:
                if not self._stop.is_set():  # else it was cut short here
                    self._note_failure(error)
                raise
            self._note(CrmState.UP, 0, 0.0)
            return report

    @property
    def keeps_away(self) -> bool:
        """Whether the CRM was not there at the last exchange, and the time to try again has not come."""
        return self.state in (CrmState.DOWN, CrmState.UNAUTHORIZED) and self.due_in_s() > 0

    def tell_of(self, card_no: str, client: CrmAdapter, timeout_s: float) -> None:
        """Tell the CRM what waits here of one card, because a customer waits for its word on it. An exchange under way
        is not waited for: after days off the line it takes minutes. Raises :class:`CrmError`."""
        if not self._one_at_a_time.acquire(blocking=False):
            return
        try:
            send_card(self._journal, client, self._clock, card_no, timeout_s)
        finally:
            self._one_at_a_time.release()

    def _note_failure(self, error: CrmError) -> None:
        failures = int(self._journal.meta(FAILURES) or 0) + 1
        state = _state_after(error)
        retry_after = error.retry_after_s if isinstance(error, CrmUnreachable) else None
        wait_s = backoff_s(failures, retry_after, self._ids.uniform)
        if isinstance(error, CrmUnauthorized) and error.certain:
            wait_s = UNAUTHORIZED_PAUSE_S
        self._note(state, failures, wait_s)

    def _note(self, state: CrmState, failures: int, wait_s: float) -> None:
        previous = self._journal.meta(CRM_STATE)
        with self._journal.transaction():
            self._journal.set_meta(CRM_STATE, state.value)
            self._journal.set_meta(FAILURES, str(failures))
            self._plan(wait_s)
        if previous != state.value:
            needs_a_person = state in (CrmState.UNAUTHORIZED, CrmState.BLOCKED)
            log.log(logging.WARNING if needs_a_person else logging.INFO, "crm=%s", state.value)
        self.told()

    def run(self, stop: threading.Event) -> None:
        """The daemon's loop: ends soon after ``stop`` is set and :meth:`wake` was called.

        An exchange under way, whoever asked for it, ends after the batch or the page in flight; :meth:`hang_up` does
        not wait for that.
        """
        self._stop = stop
        with suppress(AgentError):  # a disk that is full now: then it begins at once
            self.spread_first_contact()
        while not stop.is_set():
            self._woken.wait(self.turn())
            self._woken.clear()

    def hang_up(self) -> None:
        """End a call under way: the CRM may not answer for minutes. What it took and did not say so is sent again."""
        client = self._client()
        if client is not None:
            client.close()

    def spread_first_contact(self) -> None:
        """Where this shop was dark for long, so were its neighbours, and all of them are back in the same second: the
        first exchange waits for a part of a minute. A sale meanwhile does not hurry it; ``sync`` by hand does."""
        last = self._journal.meta(NEXT_TRY)
        if last is None or (self._clock.now() - datetime.fromisoformat(last)).total_seconds() < DARK_S:
            return
        wait_s = self._ids.uniform(0, FIRST_CONTACT_SPREAD_S)
        with self._journal.transaction():
            self._plan(wait_s)

    def _plan(self, wait_s: float) -> None:
        self._journal.set_meta(NEXT_TRY, rfc3339(self._clock.now() + timedelta(seconds=wait_s)))
        self._journal.set_meta(PLANNED_WAIT, str(wait_s))

    def turn(self) -> float:
        """An exchange if one is due; gives the seconds until the next turn.

        One of the three loops' tops: whatever goes wrong here, a full disk included, must not end the loop.
        """
        try:
            if self._client() is not None and self.due_in_s() <= 0:
                self._exchange_logged()
            return self._pause_s()
        except Exception:
            log.exception("the schedule of the exchanges cannot be kept")
            return BACKOFF_CAP_S

    def _exchange_logged(self) -> None:
        try:
            self.exchange_now()
        except CrmError:
            return
        except Exception:
            log.exception("the exchange with the CRM failed in an unforeseen way")
            self._note(CrmState.DOWN, int(self._journal.meta(FAILURES) or 0) + 1, BACKOFF_CAP_S)

    def due_in_s(self) -> float:
        """Seconds until the schedule allows a try; at once where the clock was set back since it was made."""
        planned = self._journal.meta(NEXT_TRY)
        if planned is None:
            return 0.0
        wait = (datetime.fromisoformat(planned) - self._clock.now()).total_seconds()
        longest = float(self._journal.meta(PLANNED_WAIT) or 1.1 * MAX_RETRY_AFTER_S)
        return 0.0 if wait > longest + CLOCK_STEP_S else wait

    def _pause_s(self) -> float:
        due = self.due_in_s()
        return due if due > 0 else FEED_INTERVAL_S
