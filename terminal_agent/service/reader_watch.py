"""The daemon's watch on its reader: sees it come and go, and settles a card that was left in doubt."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from drivers import Reader, ReaderState, open_reader
from drivers.errors import DriverError, ReaderError
from terminal_agent import taps
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.ports import rfc3339
from terminal_agent.service.agent import Agent
from terminal_agent.service.logs import line_of
from terminal_agent.service.readers import reader_lost, reader_seen
from terminal_agent.till_api.hub import EventName

log = logging.getLogger(__name__)

Tell = Callable[[EventName, dict[str, Any]], None]
WATCH_S = 1.0
RETRY_S = 1.0
_NOT_NOW = {ErrorCode.BUSY, ErrorCode.CARD_REMOVED_EARLY}


class ReaderWatch:
    """Our own loop on reader and card events: one log line when the reader goes, one when it comes.

    ``seen`` is the reader as ``status`` tells it; while it is lost, with the reason, the remedy and since when.
    ``tell`` hears of every change, as the till's events name them.
    """

    def __init__(self, agent: Agent, stop: threading.Event, tell: Tell = lambda _name, _data: None) -> None:
        self._agent = agent
        self._stop = stop
        self._tell = tell
        self._card_there = False
        self._reader: Reader | None = None
        self._came_round = agent.clock.monotonic()
        self.seen: dict[str, Any] = {"url": agent.settings.reader, "name": None, "state": "none", "card_present": False}

    @property
    def silent_s(self) -> float:
        """For how many seconds the watch has not come round: it does so each second, unless a driver hangs."""
        return self._agent.clock.monotonic() - self._came_round if self._agent.settings.reader else 0.0

    def run(self) -> None:
        """Until stopped; a reader that is away is looked for every second."""
        url = self._agent.settings.reader
        if url is None:
            self._stop.wait()
        while url is not None and not self._stop.is_set():
            self._came_round = self._agent.clock.monotonic()
            try:
                with open_reader(url) as reader:
                    self._reader = reader
                    self._watch(reader)
            except DriverError as error:
                self._note(reader_lost(url, None, error))
            except Exception as error:  # one of the three loops' tops
                if self.seen["state"] != "lost":
                    log.exception("the reader watch failed in an unforeseen way")
                self._note(reader_lost(url, None, ReaderError(f"unforeseen: {type(error).__name__}")))
            self._stop.wait(RETRY_S)

    def interrupt(self) -> None:
        if self._reader is not None:
            self._reader.interrupt()

    def _watch(self, reader: Reader) -> None:
        known, state, had = None, reader.wait_for_change(ReaderState.EMPTY, 0), False
        while not self._stop.is_set():
            self._came_round = self._agent.clock.monotonic()
            self._note(reader_seen(reader.url, reader.name, state))
            self._note_card(state in (ReaderState.CARD, ReaderState.IN_USE))
            if state is ReaderState.LOST:
                return
            had = had and known is state
            if state is ReaderState.CARD and not had:
                had = self._settle(reader.url)
            known, state = state, reader.wait_for_change(state, WATCH_S)

    def _settle(self, url: str) -> bool:
        """A card nobody waits for settles what it left in doubt. Whether it had its chance: where the lane was busy, or
        the card not there yet, as pcscd may not see one that leaves and comes back, the next round tries again."""
        try:
            if not self._agent.journal.intents.count_open():
                return False
            terminal = self._agent.terminal
        except AgentError as error:  # of the journal or the keys: the reader is not to blame
            log.error("card=not_settled %s", error)
            return True
        try:
            self._agent.lane.try_with_card(url, lambda card: taps.settle(terminal, taps.present(terminal, card)))
        except AgentError as error:
            return error.code not in _NOT_NOW
        log.info("card=settled")
        self._agent.sync.wake()
        return True

    def _note_card(self, is_there: bool) -> None:
        if is_there != self._card_there:
            self._card_there = is_there
            self.seen = {**self.seen, "card_present": is_there}
            self._tell(EventName.CARD_PRESENTED if is_there else EventName.CARD_REMOVED, {"reader": self.seen["url"]})

    def _note(self, now: dict[str, Any]) -> None:
        before = self.seen
        if now["state"] == "lost":
            since = before.get("since") or rfc3339(self._agent.clock.now())
            now = {**now, "name": now["name"] or before["name"], "since": since}
        now = {**now, "card_present": self._card_there}
        self.seen = now  # first: whoever hears of it may ask at once
        if now["state"] != before["state"]:
            told = {"url": now["url"], "name": now["name"], "problem": now.get("problem")}
            log.warning("%s", line_of(reader=now["state"], **{name: str(each) for name, each in told.items() if each}))
            self._tell(EventName.READER_CHANGED, now)
            if now["state"] == "lost":
                self._note_card(False)
