"""Production code broken on purpose, and the scenario that must see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from drivers.errors import DriverError
from terminal_agent import taps
from terminal_agent.card import tap
from terminal_agent.desk import issue
from terminal_agent.journal.events import OutboxState
from terminal_agent.service import agent
from terminal_agent.sync import exchange, upload
from tests.simulation.broken import BREAKS as BREAKS_OF_THE_WORLD


@dataclass(frozen=True)
class Break:
    """``apply`` breaks the code while its block lasts."""

    name: str
    apply: Callable[[], Any]
    scenario: str


def _intent_after_the_write() -> Any:
    def commit(card: Any, after: Any, begin: Any, done: Any) -> None:
        try:
            card.write_state(after)
        except DriverError as error:
            raise tap.InDoubt(error) from error
        if begin is not None:
            begin()
        done()

    return patch.object(tap, "commit", commit)


def _events_in_a_transaction_of_their_own() -> Any:
    right = taps.finish

    def finish(terminal: Any, card: Any, intent: Any, checkout: Any = None) -> None:
        right(terminal, card, replace(intent, events=()), checkout)
        with terminal.journal.transaction():
            for event in intent.events:
                terminal.journal.events.append(event)

    return patch.object(taps, "finish", finish)


def _issue_settled_after_its_events() -> Any:
    right = taps.record_issue

    def record_issue(terminal: Any, intent: Any, state: Any) -> None:
        with terminal.journal.transaction():
            for event in intent.events:
                terminal.journal.events.append(event)
        right(terminal, replace(intent, events=()), state)

    return patch.object(taps, "record_issue", record_issue)


def _events_minted_again_on_resume() -> Any:
    right = taps.record_issue

    def record_issue(terminal: Any, intent: Any, state: Any) -> None:
        fresh = (replace(event, event_id=terminal.ids.uuid()) for event in intent.events)
        with terminal.journal.transaction():
            for event in fresh:
                terminal.journal.events.append(event)
        right(terminal, replace(intent, events=()), state)

    return patch.object(taps, "record_issue", record_issue)


def _home_sector_first() -> Any:
    right = issue.issue_order
    return patch.object(issue, "issue_order", lambda home: right(home)[::-1])


def _acknowledged_before_the_verdict() -> Any:
    right = upload._post

    def post(journal: Any, crm: Any, clock: Any, batch: Any, timeout_s: Any = None) -> Any:
        with journal.transaction():
            for entry in batch:
                journal.events.settle(entry.event_id, OutboxState.ACKNOWLEDGED, None)
        return right(journal, crm, clock, batch, timeout_s)

    return patch.object(upload, "_post", post)


def _cursor_before_its_items() -> Any:
    read, right = exchange._read_feed, exchange._page

    def read_feed(journal: Any, crm: Any, *rest: Any) -> Any:
        def page(crm: Any, cursor: Any) -> Any:
            got, begun_anew = right(crm, cursor)
            with journal.transaction():
                journal.set_meta(exchange.FEED_CURSOR, got["next_cursor"])
            return got, begun_anew

        with patch.object(exchange, "_page", page):
            return read(journal, crm, *rest)

    return patch.object(exchange, "_read_feed", read_feed)


def _another_name_for_each_hold() -> Any:
    right = taps.confirmed

    def confirmed(terminal: Any, card: Any, points: int, _reference: str, reserve: Any) -> Any:
        return right(terminal, card, points, terminal.ids.uuid(), reserve)

    return patch.object(taps, "confirmed", confirmed)


def _new_crm_before_the_old_ones_word_is_forgotten() -> Any:
    def join(self: Any, credentials: Any) -> None:
        another = self._credentials is None or self._credentials.programme_id != credentials.programme_id
        self._keep(credentials)
        with self.sync.start_over(another_crm=another):
            self._credentials = credentials
            self._crm = self.open_crm()

    return patch.object(agent.Agent, "join", join)


_OF_THE_WORLD = {each.name: each.apply for each in BREAKS_OF_THE_WORLD}
BREAKS = (
    Break("intent after the card write", _intent_after_the_write, "purchase"),
    Break("no intent row", _OF_THE_WORLD["no intent row"], "purchase"),
    Break("events in a transaction of their own", _events_in_a_transaction_of_their_own, "purchase"),
    Break("receipt replay dropped", _OF_THE_WORLD["receipt replay dropped"], "purchase"),
    Break("a sale in doubt told as failed", _OF_THE_WORLD["a sale in doubt told as failed"], "purchase"),
    Break("write judged by sequence alone", _OF_THE_WORLD["write judged by sequence alone"], "purchase"),
    Break("a failed history write fails the sale", _OF_THE_WORLD["a failed history write fails the sale"], "purchase"),
    Break("another name for each hold", _another_name_for_each_hold, "purchase with redemption online"),
    Break("issue settled after its events", _issue_settled_after_its_events, "issue"),
    Break("issue events minted again on resume", _events_minted_again_on_resume, "issue"),
    Break("home sector keyed first", _home_sector_first, "issue"),
    Break("acknowledged before the verdict", _acknowledged_before_the_verdict, "sync up: several cards"),
    Break("no dedupe at the CRM", _OF_THE_WORLD["no dedupe at the CRM"], "sync up: several cards"),
    Break("feed cursor before its items", _cursor_before_its_items, "sync down: adjustments, hotlist, policy"),
    Break(
        "credentials before the old CRM's word is forgotten",
        _new_crm_before_the_old_ones_word_is_forgotten,
        "join another CRM",
    ),
)
