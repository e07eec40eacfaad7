"""Production code broken on purpose, one promise at a time: each break is what a hurried change might do."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from terminal_agent import taps
from terminal_agent.card import layout, tap
from terminal_agent.card.keys import aes_decrypt_block
from terminal_agent.club import purchase as club
from terminal_agent.contract import EventType
from terminal_agent.crm import cardless, inbox, replacement
from terminal_agent.desk import rekey
from terminal_agent.journal import database, events, intents, knowledge
from terminal_agent.service import operations
from terminal_agent.sync import client, worker
from terminal_agent.till import by_phone, checkout, decided


@dataclass(frozen=True)
class Break:
    """``apply`` breaks the code while its block lasts; ``rates`` are the faults that bring it to light."""

    name: str
    apply: Callable[[], Any]
    rates: dict[str, float]


def _no_intent_row() -> Any:
    return patch.object(intents.Intents, "begin", lambda _self, _intent: None)


def _synchronous_normal() -> Any:
    connect = database._connect

    def careless(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    return patch.object(database, "_connect", careless)


def _deferred_begin() -> Any:
    def outermost(self: Any) -> Iterator[None]:
        self._connection.execute("BEGIN")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    return patch.object(database.Database, "_outermost", outermost)


def _no_dedupe() -> Any:
    def judge(connection: Any, _terminal_id: str, _document: Any, event: Any, now: str, new: list[Any]) -> Any:
        new.append(event)
        return inbox._accept(connection, event, now)

    def one_by_one(*_arguments: Any) -> list[Any]:
        return []

    return patch.multiple(inbox, _judge=judge, _receive_together=one_by_one)


def _no_adjustment_cursor() -> Any:
    right = decided.next_state

    def wrong(before: Any, adjustments: Any, *rest: Any) -> Any:
        return replace(right(before, adjustments, *rest), adjustments_through=before.adjustments_through)

    return patch.object(decided, "next_state", wrong)


def _no_slot_authentication() -> Any:
    right = layout._open

    def trusting(key: bytes, tag: bytes, block: bytes) -> bytes:
        if tag == layout.STATE_TAG:
            return aes_decrypt_block(key, block)[: -len(tag)]
        return right(key, tag, block)

    return patch.object(layout, "_open", trusting)


def _unsigned_answers() -> Any:
    return patch.object(client, "signature_is_valid", lambda *_: True)


def _no_caps() -> Any:
    def lavish(_policy: Any, account: Any, _amount: int, redeem: int) -> None:
        if redeem > account.balance:
            raise club.RedemptionRefused(club.Refusal.INSUFFICIENT_POINTS, max(0, account.balance))

    return patch.object(club, "_check_redemption", lavish)


def _no_replay() -> Any:
    return patch.object(checkout, "_answer_of", lambda _checkout, _request: None)


def _outcome_without_events() -> Any:
    append = events.Events.append

    def forgetful(self: Any, event: Any) -> int:
        return 0 if event.type is EventType.PURCHASE_RECORDED and event.data["card"] else append(self, event)

    return patch.object(events.Events, "append", forgetful)


def _closed_sales_redeem() -> Any:
    def as_tried(checkout: Any) -> Any:
        return {**checkout.result, "state": intents.CheckoutState.CLOSED.value}

    return patch.object(intents.Checkout, "result_without_card", property(as_tried))


def _judged_by_sequence() -> Any:
    def careless(before: Any, after: Any, current: Any) -> tap.Settlement:
        return tap.Settlement.LANDED if current.sequence >= before.sequence else tap.Settlement.ROLLED_BACK

    return patch.object(tap, "judge", careless)


def _history_decides() -> Any:
    def strict(card: Any, entry: Any) -> bool:
        card.write_history(entry)
        return True

    return patch.object(tap, "write_history", strict)


def _hotlist_ignored() -> Any:
    return patch.object(knowledge.Knowledge, "block_reason", lambda _self, _card_no: None)


def _rollback_ignored() -> Any:
    return patch.object(taps, "refuse_unusable", lambda _terminal, _card: None)


def _copies_counted_apart() -> Any:
    return patch.object(checkout, "_redeemed_offline", lambda _terminal, card: card.state.redeemed_offline)


def _no_backoff() -> Any:
    return patch.object(worker, "backoff_s", lambda *_: 0.5)


def _doubt_told_plainly() -> Any:
    return patch.object(taps, "in_doubt_error", lambda problem, _result: problem)


def _moved_home_before_it_arrived() -> Any:
    def careless(self: Any, live: Any) -> None:
        self._open(live.home.sector, [live.keys])
        self._write(live.home.identity_block, rekey.EMPTY)
        self._settle_in(self._fill(live))

    return patch.object(rekey._Rekeying, "_move", careless)


def _cards_keep_their_keys() -> Any:
    return patch.object(operations, "renew_keys", lambda *_: None)


def _torn_rekey_told() -> Any:
    def loud(_settings: Any, terminal: Any, connection: Any, card: Any, _talk: Any) -> None:
        if rekey.is_due(terminal, card):
            rekey.rekey(terminal, connection)

    return patch.object(operations, "renew_keys", loud)


def _a_new_number_each_try() -> Any:
    return patch.object(by_phone.checkout, "recorded", lambda _terminal, _request: None)


def _waiting_points_stay() -> Any:
    return patch.object(cardless, "release", lambda *_: None)


def _blocked_cards_keep_their_points() -> Any:
    return patch.object(replacement, "take_over", lambda *_: None)


def _person_stays_in_the_events() -> Any:
    return patch.object(events.Events, "redact", lambda _self, _ids: 0)


TORN = {"tears": 0.5}
COPIED = {"fraud": 1.0, "outages": 60.0, "office": 100.0}
WALKED_OUT = {"tears": 0.5, "departures": 0.8}
NEW_KEYS = {"keys": 0.5}
FORGOTTEN = {"phones": 40.0}

BREAKS = (
    Break("no intent row", _no_intent_row, WALKED_OUT),
    Break("synchronous=NORMAL", _synchronous_normal, {"power": 0.1}),
    Break("deferred BEGIN", _deferred_begin, {"tools": 0.8, **WALKED_OUT}),
    Break("no dedupe at the CRM", _no_dedupe, {"network": 0.7}),
    Break("adjustment cursor not moved", _no_adjustment_cursor, {"office": 100.0}),
    Break("seal of a state ignored", _no_slot_authentication, TORN),
    Break("answers not authenticated", _unsigned_answers, {"portal": 0.3}),
    Break("no offline caps", _no_caps, {"outages": 20.0}),
    Break("receipt replay dropped", _no_replay, TORN),
    Break("outcome without its event", _outcome_without_events, TORN),
    Break("closed sales keep their redemption", _closed_sales_redeem, WALKED_OUT),
    Break("write judged by sequence alone", _judged_by_sequence, TORN),
    Break("a failed history write fails the sale", _history_decides, WALKED_OUT),
    Break("hotlist ignored", _hotlist_ignored, {"lost": 1.0}),
    Break("older images and the hotlist ignored", _rollback_ignored, COPIED),
    Break("each copy's redemptions counted apart", _copies_counted_apart, COPIED),
    Break("no backoff", _no_backoff, {"outages": 20.0}),
    Break("a sale in doubt told as failed", _doubt_told_plainly, WALKED_OUT),
    Break("old home given up before the card arrived", _moved_home_before_it_arrived, NEW_KEYS),
    Break("cards keep their old keys", _cards_keep_their_keys, NEW_KEYS),
    Break("a sale by phone is not looked up before it is done", _a_new_number_each_try, {**FORGOTTEN, "crashes": 0.3}),
    Break("points that wait never reach the first card", _waiting_points_stay, {**FORGOTTEN, "outages": 20.0}),
    Break("points of a blocked card stay on it", _blocked_cards_keep_their_points, {**FORGOTTEN, "lost": 1.0}),
    Break("an erasure leaves the events as they are", _person_stays_in_the_events, FORGOTTEN),
    Break("a torn re-key told as a failed sale", _torn_rekey_told, {**NEW_KEYS, "departures": 0.8}),
)


@contextmanager
def broken(which: Break) -> Iterator[None]:
    """The code with this break in it."""
    with which.apply():
        yield
