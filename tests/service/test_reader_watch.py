"""The daemon's watch on its reader: what it tells, how often, and what it does not stumble over."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from drivers import ReaderState
from drivers.base import ClassicConnection, Reader
from drivers.errors import NoReader, ServiceUnavailable
from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.desk.issue import IssueRequest, issue
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service import card_lane
from terminal_agent.service import reader_watch as module
from terminal_agent.service.agent import Agent
from terminal_agent.service.initialise import initialise
from terminal_agent.service.reader_watch import ReaderWatch
from terminal_agent.service.settings import load_settings
from terminal_agent.till.checkout import PurchaseRequest, purchase
from tests.service.tills import WRITE
from tests.workbench import blank, lay, offline

Step = ReaderState | Exception | Callable[[], ReaderState]
EMPTY, CARD, LOST = ReaderState.EMPTY, ReaderState.CARD, ReaderState.LOST


class ScriptedReader(Reader):
    """Opening it, and each look at it, is the next step of a script; at its end the watch is stopped."""

    name = "Script"

    def __init__(self, stop: threading.Event, *steps: Step) -> None:
        self._stop = stop
        self._steps = list(steps)
        self._last = steps[0]
        self.url = "pcsc:"
        self.closed = 0

    def __call__(self, url: str) -> Reader:
        """Stands in for ``open_reader``."""
        if self._steps and isinstance(self._steps[0], Exception):
            self._next()
        return self

    def wait_for_change(self, known: ReaderState, timeout_s: float) -> ReaderState:
        return self._next()

    def _next(self) -> ReaderState:
        if self._steps:
            self._last = self._steps.pop(0)
        else:
            self._stop.set()
        if isinstance(self._last, Exception):
            raise self._last
        return self._last if isinstance(self._last, ReaderState) else self._last()

    def connect(self) -> ClassicConnection:
        raise AssertionError("nothing is in doubt: the watch only looks")

    def interrupt(self) -> None:
        return

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    config = tmp_path / "config.toml"
    options = {"data_dir": str(tmp_path / "data"), "terminal_id": "till-1", "reader": "pcsc:"}
    initialise(config, options, force=False)
    agent = Agent(load_settings(config), config)
    yield agent
    agent.close()


@pytest.fixture
def watch(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[ReaderWatch, ScriptedReader]]:
    """A watch that has seen these steps, as fast as they come."""
    monkeypatch.setattr(module, "RETRY_S", 0)

    def run(*steps: Step) -> tuple[ReaderWatch, ScriptedReader]:
        stop = threading.Event()
        reader = ScriptedReader(stop, *steps)
        monkeypatch.setattr(module, "open_reader", reader)
        watch = ReaderWatch(agent, stop)
        watch.run()
        return watch, reader

    return run


Watch = Callable[..., tuple[ReaderWatch, ScriptedReader]]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The first word of each line."""
    return [record.getMessage().split()[0] for record in caplog.records if record.name == module.__name__]


def test_one_line_is_written_when_the_reader_goes_and_one_when_it_comes(
    watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    away = [NoReader("none"), ServiceUnavailable("no pcscd"), NoReader("none")]
    _, reader = watch(EMPTY, CARD, EMPTY, LOST, *away, EMPTY, CARD, ServiceUnavailable("no pcscd"), *away, EMPTY)
    assert told(caplog) == ["reader=ready", "reader=lost", "reader=ready", "reader=lost", "reader=ready"]
    assert reader.closed == 3, "each time it was opened"


def test_a_lost_reader_is_told_with_the_newest_reason_and_the_oldest_date(watch: Watch) -> None:
    first, _ = watch(EMPTY, LOST)
    assert first.seen["problem"] == "the reader is gone"
    assert first.seen["hint"]
    assert first.seen["name"] == "Script"
    second, _ = watch(EMPTY, ServiceUnavailable("no pcscd"), NoReader("no reader at all"))
    assert (second.seen["state"], second.seen["problem"]) == ("lost", "no reader at all")


def test_a_reader_that_is_back_is_told_without_its_old_trouble(watch: Watch) -> None:
    seen = watch(NoReader("none"), EMPTY)[0].seen
    assert seen == {"url": "pcsc:", "name": "Script", "state": "ready", "card_present": False}


def test_what_nobody_foresaw_ends_no_watch_and_fills_no_log(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    bugs = [ZeroDivisionError("bug")] * 5
    seen = watch(EMPTY, *bugs, EMPTY, CARD)[0].seen
    assert seen["state"] == "ready"
    assert told(caplog) == ["reader=ready", "the", "reader=lost", "reader=ready"]
    assert [record.exc_info is not None for record in caplog.records if record.levelno == logging.ERROR] == [True]


def test_trouble_with_the_journal_is_not_held_against_the_reader(
    watch: Watch, agent: Agent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_intents: object) -> int:
        raise AgentError(ErrorCode.JOURNAL_FAILED, "the disk is gone", hint="")

    monkeypatch.setattr(type(agent.journal.intents), "count_open", fails)
    seen = watch(CARD, CARD, EMPTY)[0].seen
    assert seen["state"] == "ready"
    assert told(caplog) == ["reader=ready", "card=not_settled"]


class Lane(Reader):
    """The reader of the lane: each time it is asked, the card lies there as the next connection says."""

    url = "pcsc:"
    name = "Lane"

    def __init__(self, *connections: ClassicConnection) -> None:
        self._connections = list(connections)

    def wait_for_change(self, known: ReaderState, timeout_s: float) -> ReaderState:
        return CARD

    def connect(self) -> ClassicConnection:
        return self._connections.pop(0)

    def interrupt(self) -> None:
        return

    def close(self) -> None:
        return


@pytest.fixture
def torn_card(agent: Agent) -> MemoryImage:
    """A card that left before its sale was written."""
    return torn(agent, Torn.OLD)


def torn(agent: Agent, outcome: Torn) -> MemoryImage:
    card = blank()
    with lay(card) as connection:
        issue(agent.terminal, connection, IssueRequest())
    with pytest.raises(AgentError), lay(card, Fault(WRITE, outcome)) as connection:
        purchase(agent.terminal, connection, PurchaseRequest("R-1", 100_000), offline)
    return card


@pytest.mark.parametrize("outcome", [Torn.OLD, Torn.GARBAGE])
def test_a_card_that_is_lifted_while_nobody_waits_for_it_is_no_trouble_with_the_reader(
    watch: Watch, agent: Agent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, outcome: Torn
) -> None:
    card = torn(agent, outcome)
    lane = Lane(lay(card, Fault(WRITE, outcome)), lay(card))
    monkeypatch.setattr(card_lane, "open_reader", lambda _url: lane)
    watch(EMPTY, CARD, EMPTY)
    assert told(caplog) == ["reader=ready"], "neither lost, nor unforeseen"
    assert agent.journal.intents.count_open() == 1
    watch(EMPTY, CARD, EMPTY)
    assert agent.journal.intents.count_open() == 0
    assert told(caplog) == ["reader=ready", "reader=ready"]


def test_a_card_laid_down_while_the_lane_is_busy_settles_its_sale_when_it_is_free(
    watch: Watch, agent: Agent, monkeypatch: pytest.MonkeyPatch, torn_card: MemoryImage
) -> None:
    """As one that comes back while the till still looks for it after the cashier went on without it."""
    monkeypatch.setattr(card_lane, "open_reader", lambda _url: Lane(lay(torn_card)))
    with ExitStack() as held:
        held.enter_context(agent.lane.hold("pcsc:"))

        def let_go() -> ReaderState:
            assert agent.journal.intents.count_open() == 1
            held.close()
            return CARD

        watch(EMPTY, CARD, CARD, let_go, CARD, EMPTY)
    assert agent.journal.intents.count_open() == 0


def test_a_card_that_came_back_unseen_settles_its_sale(
    watch: Watch, agent: Agent, monkeypatch: pytest.MonkeyPatch, torn_card: MemoryImage
) -> None:
    """pcscd looks each 0.4 s: to it, a card that is away for less lay there all the time."""
    lane = Lane(lay(torn_card, Fault(1, Torn.OLD)), lay(torn_card))
    monkeypatch.setattr(card_lane, "open_reader", lambda _url: lane)
    watch(CARD, CARD, EMPTY)
    assert agent.journal.intents.count_open() == 0


def test_a_card_that_is_none_of_ours_is_asked_once(
    watch: Watch, agent: Agent, monkeypatch: pytest.MonkeyPatch, torn_card: MemoryImage
) -> None:
    lane = Lane(lay(blank()), lay(torn_card))
    monkeypatch.setattr(card_lane, "open_reader", lambda _url: lane)
    watch(CARD, CARD, CARD, EMPTY)
    assert agent.journal.intents.count_open() == 1
    watch(CARD, EMPTY, CARD, EMPTY)
    assert agent.journal.intents.count_open() == 0
