"""One job at a time with the card it waited for, and again when the same card comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from drivers import ReaderState
from drivers.base import ClassicConnection, Reader
from drivers.errors import AuthenticationFailed, CardRemoved, MultipleCards, NoReader, ServiceUnavailable
from drivers.simulator import MemoryImage, SimulatedChip, SimulatedConnection
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service import card_lane as module
from terminal_agent.service.card_lane import AGAIN, FIRST, CardLane
from tests.journal.support import ManualClock

EMPTY, CARD, LOST = ReaderState.EMPTY, ReaderState.CARD, ReaderState.LOST


class ScriptedReader(Reader):
    """Shows the states of a script one after the other; waiting for the next one takes virtual time."""

    url = "script:"
    name = "Script"

    def __init__(self, clock: ManualClock, *states: ReaderState | Exception) -> None:
        self._clock = clock
        self._states = list(states)
        self.connect_error: Exception | None = None
        self.closed = False
        self.opened: list[str] = []

    def wait_for_change(self, known: ReaderState, timeout_s: float) -> ReaderState:
        assert timeout_s >= 0
        self._clock.advance(timeout_s)
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        if isinstance(state, Exception):
            raise state
        return state

    def connect(self) -> ClassicConnection:
        if self.connect_error is not None:
            raise self.connect_error
        return SimulatedConnection(SimulatedChip(MemoryImage(), None), lambda: None)

    def interrupt(self) -> None:
        return

    def close(self) -> None:
        self.closed = True

    def __call__(self, url: str) -> Reader:
        """Stands in for ``open_reader``."""
        self.opened.append(url)
        return self


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def lane(clock: ManualClock) -> CardLane:
    return CardLane(clock)


@pytest.fixture
def put(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ScriptedReader]:
    """Connects a reader that shows these states."""

    def connect(*states: ReaderState | Exception) -> ScriptedReader:
        reader = ScriptedReader(clock, *states)
        monkeypatch.setattr(module, "open_reader", reader)
        return reader

    return connect


def code_of(lane: CardLane, wait_s: float = 10, job: Callable[[ClassicConnection], object] = lambda _card: 1) -> str:
    with pytest.raises(AgentError) as told:
        lane.with_card("script:", wait_s, job)
    return told.value.code.value


def refusal(lane: CardLane, job: Callable[[ClassicConnection], object]) -> str:
    """Of who does not wait for a card."""
    with pytest.raises(AgentError) as told:
        lane.try_with_card("script:", job)
    return told.value.code.value


def test_a_card_that_lies_on_the_reader_is_used_at_once(
    lane: CardLane, put: Callable[..., ScriptedReader], clock: ManualClock
) -> None:
    reader = put(CARD)
    said: list[str] = []
    assert lane.with_card("script:", 0, lambda card: len(card.uid), said.append) == 4
    assert (said, clock.ticks, reader.opened) == ([], 0, ["script:"])


def test_a_card_is_asked_for_once_and_waited_for(lane: CardLane, put: Callable[..., ScriptedReader]) -> None:
    put(EMPTY, EMPTY, EMPTY, CARD)
    said: list[str] = []
    assert lane.with_card("script:", 10, lambda _card: "done", said.append) == "done"
    assert said == [FIRST]


@pytest.mark.parametrize("wait_s", [0.0, 0.5, 10.0])
def test_without_a_card_the_wait_ends_in_time(
    lane: CardLane, put: Callable[..., ScriptedReader], clock: ManualClock, wait_s: float
) -> None:
    reader = put(EMPTY)
    assert code_of(lane, wait_s) == "no_card_timeout"
    assert clock.ticks == pytest.approx(wait_s)
    lane.close()
    assert reader.closed


def test_a_job_is_repeated_when_the_card_comes_back(lane: CardLane, put: Callable[..., ScriptedReader]) -> None:
    put(CARD, EMPTY, EMPTY, CARD)
    said: list[str] = []
    tries: list[int] = []

    def job(_card: ClassicConnection) -> str:
        tries.append(1)
        if len(tries) == 1:
            raise CardRemoved("gone")
        return "done"

    assert lane.with_card("script:", 10, job, said.append) == "done"
    assert (len(tries), said) == (2, [AGAIN])


def test_a_job_that_tells_the_card_left_is_repeated_too_and_its_words_are_kept(
    lane: CardLane, put: Callable[..., ScriptedReader]
) -> None:
    put(CARD, EMPTY)
    in_doubt = AgentError(ErrorCode.CARD_REMOVED_EARLY, "left", hint="", details={"state": "in_doubt"})

    def job(_card: ClassicConnection) -> None:
        raise in_doubt

    with pytest.raises(AgentError) as told:
        lane.with_card("script:", 3, job)
    assert told.value is in_doubt


@pytest.mark.parametrize("code", [ErrorCode.CARD_BLOCKED, ErrorCode.JOURNAL_FAILED, ErrorCode.RECEIPT_CONFLICT])
def test_any_other_problem_ends_the_wait_at_once(
    lane: CardLane, put: Callable[..., ScriptedReader], clock: ManualClock, code: ErrorCode
) -> None:
    put(CARD)

    def job(_card: ClassicConnection) -> None:
        raise AgentError(code, "no", hint="")

    assert code_of(lane, job=job) == code.value
    assert clock.ticks == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MultipleCards("two"), "multiple_cards"),
        (ServiceUnavailable("no pcscd"), "service_unavailable"),
        (AuthenticationFailed(4, "A"), "key_rejected"),
    ],
)
def test_what_a_driver_says_is_told_to_people(
    lane: CardLane, put: Callable[..., ScriptedReader], error: Exception, code: str
) -> None:
    put(CARD).connect_error = error
    assert code_of(lane) == code


def test_a_reader_that_goes_away_is_told_and_the_lane_is_free_again(
    lane: CardLane, put: Callable[..., ScriptedReader]
) -> None:
    put(EMPTY, LOST)
    assert code_of(lane) == "reader_lost"
    put(ServiceUnavailable("no pcscd"))
    assert code_of(lane) == "service_unavailable"
    put(CARD)
    assert lane.with_card("script:", 0, lambda _card: 1) == 1


def test_a_reader_that_is_not_there_is_told(lane: CardLane, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_url: str) -> Reader:
        raise NoReader("none")

    monkeypatch.setattr(module, "open_reader", missing)
    assert code_of(lane) == "reader_missing"
    assert refusal(lane, lambda _card: 1) == "reader_missing"


def test_a_lane_in_use_is_busy_for_others(lane: CardLane, put: Callable[..., ScriptedReader]) -> None:
    put(CARD)
    busy: list[object] = []

    def job(_card: ClassicConnection) -> int:
        busy.append(refusal(lane, lambda _other: 1))
        other = threading.Thread(target=lambda: busy.append(code_of(lane, wait_s=0.0)))
        other.start()
        other.join()
        return 1

    assert lane.with_card("script:", 10, job) == 1
    assert busy == ["busy", "busy"]
    assert lane.try_with_card("script:", lambda _card: 2) == 2


def test_a_card_nobody_waits_for_tells_why_it_will_not_have_it(
    lane: CardLane, put: Callable[..., ScriptedReader]
) -> None:
    def job(_card: ClassicConnection) -> None:
        raise CardRemoved("gone")

    put(CARD)
    assert refusal(lane, job) == "card_removed_early"


def test_a_daemon_that_stops_keeps_nobody_waiting(
    lane: CardLane, put: Callable[..., ScriptedReader], clock: ManualClock
) -> None:
    put(EMPTY)
    lane.stop()
    assert code_of(lane, 3600) == "busy", "nobody waited an hour, and nobody is told so"
    assert clock.ticks < 2


def test_a_reader_is_kept_open_for_the_next_job(lane: CardLane, put: Callable[..., ScriptedReader]) -> None:
    reader = put(CARD)
    for _ in range(3):
        lane.with_card("script:", 0, lambda _card: "done")
    assert (reader.opened, reader.closed) == (["script:"], False)
    lane.close()
    assert reader.closed


@pytest.mark.parametrize("gone", [ReaderState.LOST, ServiceUnavailable("pcscd was restarted")])
def test_a_kept_reader_that_answers_no_more_is_opened_anew(
    lane: CardLane, put: Callable[..., ScriptedReader], gone: ReaderState | Exception
) -> None:
    first = put(CARD, gone)
    lane.with_card("script:", 0, lambda _card: "done")
    second = put(CARD)
    assert lane.with_card("script:", 0, lambda _card: "done") == "done"
    assert (first.closed, second.opened) == (True, ["script:"])


def test_another_reader_takes_the_place_of_the_kept_one(lane: CardLane, put: Callable[..., ScriptedReader]) -> None:
    first = put(CARD)
    lane.with_card("script:", 0, lambda _card: "done")
    second = put(CARD)
    lane.with_card("other:", 0, lambda _card: "done")
    assert (first.closed, second.opened) == (True, ["other:"])
