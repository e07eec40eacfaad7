"""The daemon: owns the data directory, watches the reader, syncs in the background, answers the control socket."""

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import Any

from drivers import Reader, ReaderState, open_reader
from drivers.errors import DriverError
from terminal_agent import taps
from terminal_agent.errors import AgentError
from terminal_agent.journal.database import JournalFailed
from terminal_agent.service.agent import Agent
from terminal_agent.service.control import ControlServer
from terminal_agent.service.operations import OPERATIONS, Params, Talk, close_overdue, reader_word
from terminal_agent.sync.worker import CrmState

log = logging.getLogger(__name__)

WATCH_S = 1.0
READER_RETRY_S = 1.0
HOUSEKEEPING_S = 15.0
END = (signal.SIGTERM, signal.SIGINT)


class ReaderWatch:
    """Our own loop on reader and card events: one log line when the reader goes, one when it comes."""

    def __init__(self, agent: Agent, stop: threading.Event) -> None:
        self._agent = agent
        self._stop = stop
        self._reader: Reader | None = None
        self.seen: dict[str, Any] = {"url": agent.settings.reader, "name": None, "state": "none"}

    def run(self) -> None:
        """Until stopped; a reader that is away is looked for every second."""
        url = self._agent.settings.reader
        while url is not None and not self._stop.is_set():
            try:
                with open_reader(url) as reader:
                    self._reader = reader
                    self._watch(reader)
            except DriverError as error:
                self._note(url, None, ReaderState.LOST, str(error))
            except Exception:  # noqa: BLE001 - one of the three loops' tops
                log.exception("the reader watch failed in an unforeseen way")
            self._stop.wait(READER_RETRY_S)

    def interrupt(self) -> None:
        if self._reader is not None:
            self._reader.interrupt()

    def _watch(self, reader: Reader) -> None:
        state = reader.wait_for_change(ReaderState.EMPTY, 0)
        self._presented(state)
        while not self._stop.is_set():
            self._note(reader.url, reader.name, state, "")
            if state is ReaderState.LOST:
                return
            previous, state = state, reader.wait_for_change(state, WATCH_S)
            if state is not previous:
                self._presented(state)

    def _presented(self, state: ReaderState) -> None:
        """A card nobody waits for settles what it left in doubt."""
        url = self._agent.settings.reader
        if state is not ReaderState.CARD or url is None or not self._agent.journal.intents.count_open():
            return
        terminal = self._agent.terminal
        settled = self._agent.lane.try_with_card(url, lambda c: taps.settle(terminal, taps.present(terminal, c)))
        if settled is not None:
            log.info("card=settled")
            self._agent.sync.wake()

    def _note(self, url: str, name: str | None, state: ReaderState, problem: str) -> None:
        word = reader_word(state)
        if word != self.seen["state"]:
            log.warning("reader=%s url=%s %s", word, url, problem)
        self.seen = {"url": url, "name": name or self.seen["name"], "state": word}


class Daemon:
    """``run``: starts the threads, waits for a signal, ends in order."""

    def __init__(self, agent: Agent) -> None:
        # The kernel may hand a signal to any thread that takes it; a main thread that sleeps would never hear of it.
        signal.pthread_sigmask(signal.SIG_BLOCK, END)
        self._agent = agent
        self._stop = threading.Event()
        self._watch = ReaderWatch(agent, self._stop)
        self._ready = False
        self._damage: JournalFailed | None = None
        agent.journal.when_damaged(self._end)
        self._control = ControlServer(agent.settings.data_dir, self._execute)

    def run(self) -> None:
        """Until SIGTERM or SIGINT; the card in hand is finished first.

        Raises AgentError where the journal is found damaged: whoever keeps the daemon running starts it anew, and the
        start moves the damaged file aside.
        """
        threads = [
            threading.Thread(target=self._watch.run, name="reader"),
            threading.Thread(target=self._agent.sync.run, args=(self._stop,), name="sync"),
            threading.Thread(target=self._housekeeping, name="housekeeping"),
        ]
        for thread in threads:
            thread.start()
        self._control.start()
        self._ready = True
        log.info("ready terminal=%s data_dir=%s", self._agent.terminal_id, self._agent.settings.data_dir)
        signal.sigwait(END)
        self._stop.set()
        self._agent.lane.stop()
        self._control.stop()
        self._watch.interrupt()
        self._agent.sync.wake()
        for thread in threads:
            thread.join()
        if self._damage is not None:
            raise self._damage
        log.info("stopped")

    def _end(self, damage: JournalFailed) -> None:
        if self._damage is None:
            log.critical("journal=damaged the daemon ends, to begin anew: %s", damage)
            os.kill(os.getpid(), signal.SIGTERM)  # what the main thread waits for
        self._damage = damage

    def _execute(self, operation: str, params: Params, talk: Talk) -> Any:
        if operation == "status":
            params = {"state": self._state(), "reader_seen": self._watch.seen}
        return OPERATIONS[operation](self._agent, params, talk)

    def _state(self) -> str:
        if not self._ready:
            return "starting"
        troubles = (
            self._watch.seen["state"] == "lost",
            self._agent.sync.state is CrmState.UNAUTHORIZED,
            bool(self._agent.journal.standing_alarms()),
        )
        return "degraded" if any(troubles) else "ready"

    def _housekeeping(self) -> None:
        while not self._stop.wait(HOUSEKEEPING_S):
            try:
                if close_overdue(self._agent):
                    self._agent.sync.wake()
                self._agent.journal.keep_house()
            except AgentError as error:
                log.error("housekeeping: %s", error)
            except Exception:  # one of the three loops' tops
                log.exception("the housekeeping failed in an unforeseen way")
