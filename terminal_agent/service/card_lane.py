"""The one lane to the reader: a job waits here for its card, and for the same card to come back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from drivers import ReaderState, open_reader
from drivers.base import ClassicConnection, Reader
from drivers.errors import CardRemoved, DriverError, ReaderBusy
from drivers.traffic import watched
from terminal_agent.card.problems import from_driver, no_card
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.ports import Clock

Answer = TypeVar("Answer")
Afterwards = Callable[[ClassicConnection, Answer], None]
"""What is done with the card when its job is over; no part of the job's time. Lets no error out that is the card's."""
Talk = Callable[[str], None]
POLL_S = 1.0
# A reader that is polled (pcscd: each 0.4 s) may name a card that has left. Opening it meanwhile can make pcscd miss
# the card that comes back, until it is lifted once more; so the next try waits for a change, or for one poll.
SETTLE_S = 0.5
GLANCE_S = 3.0
DONE = "done"
BUSY = "Another program is using the card; waiting for it."
FIRST = "Put the card on the reader."
BUSY_READER = "the reader is busy with another card"
AGAIN = "The card was taken away too soon: put the SAME card back and hold it still."


class HeldReader:
    """The reader while one checkout has the lane to itself. Raises DriverError, AgentError."""

    def __init__(self, look: Callable[[], tuple[Reader, ReaderState]], lane: CardLane) -> None:
        self._look = look
        self._lane = lane

    def wait_for_card(self, timeout_s: float) -> bool:
        """Whether a card is there, now or within ``timeout_s`` seconds."""
        reader, state = self._look()
        if state in (ReaderState.EMPTY, ReaderState.LOST):
            state = reader.wait_for_change(state, timeout_s)
        _require_reader(state)
        return state is not ReaderState.EMPTY

    def wait_until_removed(self, timeout_s: float) -> bool:
        """Whether no card is there, now or within ``timeout_s`` seconds."""
        reader, state = self._look()
        if state is not ReaderState.EMPTY:
            state = reader.wait_for_change(state, timeout_s)
        _require_reader(state)
        return state is ReaderState.EMPTY

    def with_card(
        self, job: Callable[[ClassicConnection], Answer], afterwards: Afterwards[Answer] = lambda _card, _answer: None
    ) -> Answer:
        """Run ``job`` once with the card in the field, then ``afterwards`` with the same card and the answer."""
        try:
            with self._look()[0].connect() as connection:
                answer = self._lane.observed(job, connection)
                afterwards(connection, answer)
                return answer
        except DriverError as error:
            raise from_driver(error) from error


class CardLane:
    """Runs one job at a time with a card in the field."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._stopping = False
        self._kept: Reader | None = None
        self.tapped: Callable[[str, float], None] = lambda _result, _seconds: None
        """Called with what came of each job, ``done`` or an error's code, and how many seconds it took."""

    def observed(self, job: Callable[[ClassicConnection], Answer], connection: ClassicConnection) -> Answer:
        """``job``'s answer or error, told to :attr:`tapped` on the way."""
        begun, result = self._clock.monotonic(), DONE
        try:
            return job(watched(connection))
        except AgentError as error:
            result = error.code.value
            raise
        except DriverError as error:
            result = from_driver(error).code.value
            raise
        finally:
            self.tapped(result, self._clock.monotonic() - begun)

    def stop(self) -> None:
        """Nobody waits for a card any more; a card in hand is finished."""
        self._stopping = True

    def close(self) -> None:
        """Let go of the reader."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    def with_card(
        self,
        url: str,
        wait_s: float,
        job: Callable[[ClassicConnection], Answer],
        talk: Talk = lambda _text: None,
        afterwards: Afterwards[Answer] = lambda _card, _answer: None,
    ) -> Answer:
        """Run ``job``, then ``afterwards``, with the card on the reader ``url``; wait for one up to ``wait_s`` seconds.

        ``job`` is run again when the card was taken away too soon and comes back in time, so it must be safe to
        repeat. Raises AgentError.
        """
        deadline = self._clock.monotonic() + wait_s
        with self._turn(wait_s):
            reader, state = self._reader(url)
            return self._attempts(reader, state, deadline, wait_s, (job, afterwards), talk)

    def watch(self, url: str, wanted: ReaderState, wait_s: float) -> bool:
        """Whether the reader is, or comes to be, ``EMPTY`` or ``CARD`` within ``wait_s`` seconds; opens no card.

        Raises AgentError.
        """
        deadline = self._clock.monotonic() + wait_s
        with self._turn(wait_s):
            reader, state = self._reader(url)
            while (ReaderState.CARD if state is ReaderState.IN_USE else state) is not wanted:
                remaining = deadline - self._clock.monotonic()
                if remaining <= 0 or self._stopping:
                    return False
                _require_reader(state)
                state = reader.wait_for_change(state, min(remaining, POLL_S))
            return True

    @contextmanager
    def _turn(self, wait_s: float) -> Iterator[None]:
        """The reader to ourselves. Raises AgentError ``busy``, or whatever the driver raised inside as one."""
        if not self._lock.acquire(timeout=max(wait_s, SETTLE_S)):
            raise _busy_lane()
        try:
            yield
        except DriverError as error:
            raise from_driver(error) from error
        finally:
            self._lock.release()

    @contextmanager
    def hold(self, url: str) -> Iterator[HeldReader]:
        """The lane for one checkout, however long its card takes; who just looks at a card is waited for. Raises
        AgentError."""
        with self._turn(GLANCE_S):
            yield HeldReader(lambda: self._reader(url), self)

    def _reader(self, url: str) -> tuple[Reader, ReaderState]:
        """The reader and its state. One is kept open between jobs, as long as it answers: opening it anew for each
        tap costs a tenth of the tap's software time."""
        if self._kept is not None and self._kept.url == url:
            with suppress(DriverError):
                state = self._kept.wait_for_change(ReaderState.EMPTY, 0)
                if state is not ReaderState.LOST:
                    return self._kept, state
        self.close()
        self._kept = open_reader(url)
        return self._kept, self._kept.wait_for_change(ReaderState.EMPTY, 0)

    def _attempts(
        self,
        reader: Reader,
        state: ReaderState,
        deadline: float,
        wait_s: float,
        work: tuple[Callable[[ClassicConnection], Answer], Afterwards[Answer]],
        talk: Talk,
    ) -> Answer:
        job, afterwards = work
        problem: AgentError | None = None
        asked = None
        while True:
            if state in (ReaderState.CARD, ReaderState.IN_USE):
                try:
                    with reader.connect() as connection:
                        answer = self.observed(job, connection)
                        afterwards(connection, answer)
                        return answer
                except (CardRemoved, ReaderBusy) as error:
                    problem = problem or from_driver(error)  # a sale in doubt stays the thing to tell
                except AgentError as error:
                    if error.code is not ErrorCode.CARD_REMOVED_EARLY:
                        raise
                    problem = error
            remaining = deadline - self._clock.monotonic()
            if remaining <= 0 or self._stopping:
                raise problem or (_stopped() if self._stopping else no_card(wait_s))
            request = FIRST if problem is None else BUSY if problem.code is ErrorCode.BUSY else AGAIN
            if request != asked:
                talk(request)
                asked = request
            state = self._next_state(reader, state, remaining)

    def _next_state(self, reader: Reader, state: ReaderState, remaining: float) -> ReaderState:
        """Wait for a card; after one that was just lost, only as long as the reader needs to notice."""
        _require_reader(state)
        return reader.wait_for_change(state, min(remaining, POLL_S) if state is ReaderState.EMPTY else SETTLE_S)

    def try_with_card(self, url: str, job: Callable[[ClassicConnection], Answer]) -> Answer:
        """Run ``job`` at once with the card that lies there. Raises AgentError; ``busy`` where another has the lane."""
        if not self._lock.acquire(blocking=False):
            raise _busy_lane()
        try:
            reader, _ = self._reader(url)
            with reader.connect() as connection:
                return job(watched(connection))
        except DriverError as error:
            raise from_driver(error) from error
        finally:
            self._lock.release()


def _busy_lane() -> AgentError:
    return AgentError(ErrorCode.BUSY, BUSY_READER, hint="Wait for it, then run the command again")


def _stopped() -> AgentError:
    return AgentError(
        ErrorCode.BUSY,
        "the terminal is being stopped, and nothing was done",
        hint="Run the command again once it is up: terminal-agent status",
    )


def _require_reader(state: ReaderState) -> None:
    if state is ReaderState.LOST:
        raise AgentError(
            ErrorCode.READER_LOST, "the reader is gone", hint="Check its cable, then: terminal-agent reader list"
        )
