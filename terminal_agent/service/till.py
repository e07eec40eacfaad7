"""The till's API wired to the agent: its reader, its operations, its journal."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from terminal_agent.errors import AgentError
from terminal_agent.service.agent import Agent
from terminal_agent.service.operations import Params, Talk, reader_url
from terminal_agent.till_api.access import ALL_SCOPES, CODE_LIFE_S, Access
from terminal_agent.till_api.app import create_app
from terminal_agent.till_api.counter import Counter, HeldReader, Shop
from terminal_agent.till_api.hub import EventName, Hub
from terminal_agent.till_api.routes import Till, asked_of
from terminal_agent.till_api.server import TillServer

log = logging.getLogger(__name__)

Ask = Callable[[str, Params, Talk], Any]


class TillService:
    """Everything of the till that the daemon starts and stops."""

    def __init__(self, agent: Agent, ask: Ask, reader: Callable[[], dict[str, Any]]) -> None:
        self._agent = agent
        self._hub = Hub(agent.ids.uuid())
        self._access = Access(agent.journal, agent.clock, agent.ids)
        shop = Shop(
            terminal=lambda: agent.terminal,
            reserve=agent.redemptions.reserve,
            keep_hold=agent.redemptions.keep,
            wake_sync=agent.sync.wake,
            hold_reader=self._hold_reader,
        )
        self._counter = Counter(shop, self._hub)
        till = Till(
            terminal_id=lambda: agent.terminal_id,
            currency=agent.settings.currency,
            access=self._access,
            counter=self._counter,
            hub=self._hub,
            ask=lambda operation, params: ask(operation, params, _say_nothing),
            reader=reader,
        )
        app = create_app(till, lambda: self._server.hosts, frozenset(agent.settings.till.origins))
        self._server = TillServer(app, agent.settings.till.listen, agent.settings.data_dir)
        self._thread = threading.Thread(target=self._counter.run, name="counter")

    @property
    def url(self) -> str:
        return self._server.url

    def start(self) -> None:
        """Serve, and go on with the checkout that was open when the agent ended."""
        try:
            self._counter.resume(asked_of)
        except AgentError as error:
            log.error("till: %s", error)
        self._thread.start()
        self._server.start()

    def stop(self) -> None:
        """The card in hand is finished first."""
        self._counter.stop()
        self._server.stop(self._hub.close)
        self._thread.join()

    def publish(self, name: EventName, data: dict[str, Any]) -> None:
        """Tell the listeners; from any thread."""
        self._hub.publish(name, data)

    def code(self, scopes: tuple[str, ...] = ALL_SCOPES) -> dict[str, Any]:
        """``{code, expires_in_s, till_url}``"""
        return {"code": self._access.new_code(scopes), "expires_in_s": int(CODE_LIFE_S), "till_url": self.url}

    def _hold_reader(self) -> AbstractContextManager[HeldReader]:
        return self._agent.lane.hold(reader_url(self._agent, {}))


def _say_nothing(_text: str) -> None:
    """Nobody reads along."""
