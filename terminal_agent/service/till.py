"""The till's API wired to the agent: its reader, its operations, its journal."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, cast

from drivers.base import ClassicConnection
from terminal_agent.errors import AgentError
from terminal_agent.service.agent import Agent
from terminal_agent.service.counts import counts, crm_seen
from terminal_agent.service.enrolment import asked_of
from terminal_agent.service.lookup import looked_up
from terminal_agent.service.metrics import Metrics
from terminal_agent.service.operations import Params, Talk
from terminal_agent.service.readers import reader_url
from terminal_agent.service.rekeying import renew_keys
from terminal_agent.taps import PresentedCard, Terminal
from terminal_agent.till.locale import unit_of
from terminal_agent.till_api.access import ALL_SCOPES, CODE_LIFE_S, Access
from terminal_agent.till_api.allowance import Allowance
from terminal_agent.till_api.app import create_app
from terminal_agent.till_api.approvals import Approvals
from terminal_agent.till_api.calls import Till
from terminal_agent.till_api.cashiers import Sessions
from terminal_agent.till_api.counter import Counter, HeldReader, Shop
from terminal_agent.till_api.hub import EventName, Hub
from terminal_agent.till_api.server import TillServer

log = logging.getLogger(__name__)

RETRY_S = 5.0
Ask = Callable[[str, Params, Talk], Any]


class TillService:
    """Everything of the till that the daemon starts and stops."""

    def __init__(self, agent: Agent, ask: Ask, reader: Callable[[], dict[str, Any]]) -> None:
        self._agent = agent
        self._hub = Hub(agent.ids.uuid())
        self._access = Access(agent.journal, agent.clock, agent.ids)
        shop = Shop(
            terminal=lambda: agent.terminal,
            for_a_tap=agent.redemptions.for_a_tap,
            wake_sync=agent.sync.wake,
            hold_reader=self._hold_reader,
            after_a_sale=self._after_a_sale,
        )
        self._counter = Counter(shop, self._hub)
        agent.sync.told = self._tell_of_sync
        metrics = Metrics(lambda: cast(dict[str, Any], ask("status", {}, _say_nothing)))
        agent.lane.tapped = partial(_tapped, metrics)
        sessions = Sessions(agent.journal, agent.clock)
        approvals = Approvals(
            sessions,
            agent.journal,
            agent.clock,
            limit=lambda: agent.settings.till.reversal_limit,
            returned_with=self._counter.returned_with,
        )
        till = Till(
            terminal_id=lambda: agent.terminal_id,
            currency=agent.settings.currency,
            access=self._access,
            counter=self._counter,
            hub=self._hub,
            ask=lambda operation, params: ask(operation, params, _say_nothing),
            reader=reader,
            metrics=metrics.text,
            shop=lambda: shop_shown(agent),
            sessions=sessions,
            approvals=approvals,
            lookups=Allowance(agent.clock),
            looked_up=partial(looked_up, agent),
            asked_of=asked_of,
        )
        self._app = create_app(till, self._hosts, frozenset(agent.settings.till.origins))
        self._server: TillServer | None = None
        self.problem: AgentError | None = None
        """Why the API cannot be called now, if it cannot."""
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._counter.run, name="counter"),
            threading.Thread(target=self._serve, name="till"),
        ]

    @property
    def url(self) -> str | None:
        """Where the API is reached; None while its port is taken."""
        return self._server.url if self._server else None

    @property
    def silent_s(self) -> float:
        """For how many seconds the API's event loop has not come round; 0 while there is none."""
        return self._server.silent_s if self._server else 0.0

    @property
    def counter_thread(self) -> threading.Thread:
        """Lives until :meth:`stop`."""
        return self._threads[0]

    def start(self) -> None:
        """Serve, and go on with the checkout that was open when the agent ended."""
        self._listen()
        try:
            self._counter.resume(asked_of)
        except AgentError as error:
            log.error("till=not_resumed %s", error)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """The card in hand is finished first."""
        self._counter.stop()
        self._stopped.set()
        if self._server is not None:
            self._server.stop(self._hub.close)
        for thread in self._threads:
            if thread.ident is not None:  # it was started
                thread.join()

    def _serve(self) -> None:
        """A port that another program has is tried again: cards and commands work meanwhile."""
        while self._server is None and not self._stopped.wait(RETRY_S):
            self._listen()

    def _listen(self) -> None:
        settings = self._agent.settings
        try:
            server = TillServer(self._app, settings.till.listen, settings.socket_dir, settings.socket_mode)
        except AgentError as error:
            if self.problem is None:
                log.error("till=down %s", error)
            self.problem = error
            return
        self._server, self.problem = server, None
        server.start()
        log.info("till=up url=%s", server.url)

    def _hosts(self) -> frozenset[str]:
        return self._server.hosts if self._server else frozenset()

    def publish(self, name: EventName, data: dict[str, Any]) -> None:
        """Tell the listeners; from any thread."""
        self._hub.publish(name, data)

    def _tell_of_sync(self) -> None:
        self._hub.publish(EventName.SYNC_CHANGED, {"crm": crm_seen(self._agent), **counts(self._agent)})

    def code(self, scopes: tuple[str, ...] = ALL_SCOPES) -> dict[str, Any]:
        """``{code, expires_in_s, till_url}``. Raises AgentError while the API cannot be called."""
        if self.problem is not None:
            raise self.problem
        return {"code": self._access.new_code(scopes), "expires_in_s": int(CODE_LIFE_S), "till_url": self.url}

    def _hold_reader(self) -> AbstractContextManager[HeldReader]:
        return self._agent.lane.hold(reader_url(self._agent, {}))

    def _after_a_sale(self, terminal: Terminal, connection: ClassicConnection, card: PresentedCard) -> None:
        renew_keys(self._agent.settings.keys, terminal, connection, card)


def shop_shown(agent: Agent) -> dict[str, Any]:
    """How this shop speaks, and the rules its screens ask for."""
    settings = agent.settings.shop
    policy = agent.journal.knowledge.policy()
    unit = unit_of(agent.settings.currency, settings.amounts_in)
    return {
        "name": settings.name,
        "language": settings.language.value,
        "unit": {**unit._asdict(), "name": unit.name._asdict()},
        "redeem": {name: getattr(policy.redeem, name) for name in type(policy.redeem).model_fields},
        "offline_points_per_card": policy.offline.points_per_card,
        "in_doubt_close_after_s": policy.in_doubt.close_after_s,
        "tiers": [
            {
                "tier": tier.tier,
                "level": tier.level,
                "name": {"fa": tier.name.fa or tier.tier, "en": tier.name.en or tier.tier},
            }
            for tier in policy.tiers
        ],
    }


def _tapped(metrics: Metrics, result: str, seconds: float) -> None:
    metrics.tapped(result, seconds)
    log.info("tap=%s ms=%.0f", result, seconds * 1000)


def _say_nothing(_text: str) -> None:
    """Nobody reads along."""
