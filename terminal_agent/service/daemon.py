"""The daemon: owns the data directory, watches the reader, syncs in the background, answers the control socket."""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import ExitStack, suppress
from typing import Any

from terminal_agent.errors import AgentError
from terminal_agent.journal.database import JournalFailed
from terminal_agent.service import signals
from terminal_agent.service.agent import Agent
from terminal_agent.service.control import ControlServer
from terminal_agent.service.counts import counts
from terminal_agent.service.health import Health
from terminal_agent.service.manager import READY, STOPPING, ServiceManager
from terminal_agent.service.operations import OPERATIONS, Params, Talk, close_overdue
from terminal_agent.service.pairing import TILL_CODE
from terminal_agent.service.reader_watch import ReaderWatch
from terminal_agent.service.till import TillService
from terminal_agent.sync.worker import CrmState
from terminal_agent.till_api.hub import EventName

log = logging.getLogger(__name__)

HOUSEKEEPING_S = 15.0
CALL_ENDS_S = 5.0
"""How long a call to the CRM may go on once the daemon is to end."""


class Daemon:
    """``run``: starts the threads, waits for a signal, ends in order."""

    def __init__(self, agent: Agent) -> None:
        signals.hold()
        self._agent = agent
        self._stop = threading.Event()
        self._till = TillService(agent, self._execute, lambda: self._watch.seen)
        self._watch = ReaderWatch(agent, self._stop, self._seen)
        self._ready = False
        self._damage: JournalFailed | None = None
        agent.journal.when_damaged(self._end)
        self._control = ControlServer(agent.settings.socket_dir, self._execute, agent.settings.socket_mode)
        self._manager = ServiceManager()

    def run(self) -> None:
        """Until SIGTERM or SIGINT; the card in hand is finished first.

        Raises AgentError where the journal is found damaged: whoever keeps the daemon running starts it anew, and the
        start moves the damaged file aside.
        """
        hang_up = threading.Timer(CALL_ENDS_S, self._agent.sync.hang_up)
        with ExitStack() as ends:
            ends.callback(hang_up.cancel)
            self._start(ends)
            signals.wait()
            self._manager.tell(STOPPING, status="stopping: the card in hand is finished first")
            hang_up.start()
        if self._damage is not None:
            raise self._damage
        log.info("stopped")

    def _start(self, ends: ExitStack) -> None:
        """What has begun is ended by ``ends``, whatever goes wrong after it: a thread left alone keeps a process that
        serves nobody."""
        threads = [
            threading.Thread(target=self._watch.run, name="reader"),
            threading.Thread(target=self._agent.sync.run, args=(self._stop,), name="sync"),
            threading.Thread(target=self._housekeeping, name="housekeeping"),
        ]
        ends.callback(self._wait_for, threads)
        for thread in threads:
            thread.start()
        ends.callback(self._till.stop)
        self._till.start()
        self._control.start()
        ends.callback(self._control.stop)
        ends.callback(self._announce_end)
        self._ready = True
        health = self._health([*threads, self._till.counter_thread, self._control.thread])
        self._manager.tell(READY)
        threads.append(threading.Thread(target=health.watch, args=(self._stop,), name="health"))
        threads[-1].start()
        log.info("ready terminal=%s data_dir=%s", self._agent.terminal_id, self._agent.settings.data_dir)

    def _announce_end(self) -> None:
        self._stop.set()
        self._agent.lane.stop()

    def _wait_for(self, threads: list[threading.Thread]) -> None:
        self._announce_end()
        self._watch.interrupt()
        self._agent.sync.wake()
        for thread in threads:
            if thread.ident is not None:  # it was started
                thread.join()

    def _health(self, threads: list[threading.Thread]) -> Health:
        loops = {"till": lambda: self._till.silent_s, "reader": lambda: self._watch.silent_s}
        return Health(self._manager, threads, loops, self._agent.journal.position, self._in_words)

    def _seen(self, name: EventName, data: dict[str, Any]) -> None:
        """What the watch saw, for the till's listeners; a reader that came or went also for systemctl status."""
        self._till.publish(name, data)
        if name is EventName.READER_CHANGED and self._ready:
            with suppress(JournalFailed):  # then health says so
                self._manager.tell(status=self._in_words())

    def _in_words(self) -> str:
        count = counts(self._agent)
        waiting = f"{count['pending']} events wait, {count['in_doubt']} sales in doubt"
        return f"{self._state()}; reader {self._watch.seen['state']}; CRM {self._agent.sync.state.value}; {waiting}"

    def _end(self, damage: JournalFailed) -> None:
        if self._damage is None:
            log.critical("journal=damaged the daemon ends, to begin anew: %s", damage)
            os.kill(os.getpid(), signal.SIGTERM)  # what the main thread waits for
        self._damage = damage

    def _execute(self, operation: str, params: Params, talk: Talk) -> Any:
        if operation == "status":
            problem = str(self._till.problem) if self._till.problem else None
            till = {"till_url": self._till.url, "till_problem": problem}
            params = {"state": self._state(), "reader_seen": self._watch.seen, **till}
        if operation == TILL_CODE:
            return self._till.code(tuple(params["scopes"]))
        return OPERATIONS[operation](self._agent, params, talk)

    def _state(self) -> str:
        if not self._ready:
            return "starting"
        troubles = (
            self._watch.seen["state"] == "lost",
            self._till.problem is not None,
            self._agent.sync.state in (CrmState.UNAUTHORIZED, CrmState.BLOCKED),
            bool(self._agent.journal.standing_alarms()),
        )
        return "degraded" if any(troubles) else "ready"

    def _housekeeping(self) -> None:
        while not self._stop.wait(HOUSEKEEPING_S):
            for chore in (self._close_overdue, self._agent.journal.keep_house):
                try:
                    chore()
                except AgentError as error:
                    log.error("housekeeping: %s", error)
                except Exception:  # one of the three loops' tops
                    log.exception("the housekeeping failed in an unforeseen way")

    def _close_overdue(self) -> None:
        if close_overdue(self._agent):
            self._agent.sync.wake()
