"""A club in small: honest cards, shops that lose the card mid-write, a CRM that hears of it in any order.

Shops follow the rules of taps.py: adjustments without a gap, a write in doubt settled when the card comes back, a sale
closed without its card reported with what was tried. What they send goes to the real CRM code on a real database.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from terminal_agent import contract
from terminal_agent.contract import ACKNOWLEDGED
from terminal_agent.crm import admin, cards, feed, inbox, reconcile, restore, sqlite
from terminal_agent.crm.store import Store, open_store
from terminal_agent.ports import SystemClock, SystemIds

NOW = "2026-11-22T09:30:00.000Z"


@dataclass(frozen=True)
class State:
    """What a card holds."""

    sequence: int = 0
    balance: int = 0
    adjustments_through: int = 0


@dataclass
class Card:
    """A genuine card: one state, wherever it is."""

    card_no: str
    state: State = State()


@dataclass
class Doubt:
    """A write whose answer a shop never got."""

    intent_id: str
    card: Card
    before: State
    after: State
    event: dict[str, Any]
    closed: bool = False


@dataclass
class Shop:
    """A terminal and all it ever recorded."""

    terminal_id: str
    events: list[dict[str, Any]] = field(default_factory=list)
    acknowledged: set[int] = field(default_factory=set)
    acked_through: int = 0
    cursor: str | None = None
    adjustments: dict[tuple[str, int], int] = field(default_factory=dict)
    doubts: list[Doubt] = field(default_factory=list)

    def record(self, kind: str, card_no: str, data: dict[str, Any]) -> None:
        self.events.append(
            {
                "specversion": "1.0",
                "id": f"{self.terminal_id}-{len(self.events) + 1}",
                "source": contract.source_of(self.terminal_id, "epoch-1"),
                "type": kind,
                "subject": contract.subject_of(card_no),
                "time": NOW,
                "sequence": str(len(self.events) + 1),
                "data": data,
            }
        )

    @property
    def gapless_through(self) -> int:
        """The highest sequence up to which every event was acknowledged here."""
        return next(number for number in itertools.count() if number + 1 not in self.acknowledged)

    def due(self, card: Card) -> list[int]:
        """Points of the adjustments the card misses, as far as this shop knows them without a gap."""
        points: list[int] = []
        number = card.state.adjustments_through + 1
        while (card.card_no, number) in self.adjustments:
            points.append(self.adjustments[card.card_no, number])
            number += 1
        return points


def card_data(card: Card, before: State, after: State) -> dict[str, Any]:
    return {
        "card_no": card.card_no,
        "sequence": after.sequence,
        "balance_before": before.balance,
        "balance_after": after.balance,
        "adjustments_through": after.adjustments_through,
    }


def tried(doubt: Doubt) -> dict[str, Any]:
    before, after = doubt.before, doubt.after
    return {
        "intent_id": doubt.intent_id,
        "card_no": doubt.card.card_no,
        "sequence_before": before.sequence,
        "sequence_after": after.sequence,
        "balance_before": before.balance,
        "balance_after": after.balance,
        "adjustments_before": before.adjustments_through,
        "adjustments_through": after.adjustments_through,
    }


class World:
    """Shops, cards and their CRM; all chance comes from ``seed``."""

    def __init__(self, seed: int, data_dir: Path, *, forgetful: bool = True) -> None:
        """``forgetful``: shops drop the adjustments they know when they must read the feed from its beginning."""
        self.random = random.Random(seed)
        self.data_dir = data_dir
        self.forgetful = forgetful
        self.shops = [Shop(f"shop-{number}") for number in range(3)]
        self.cards = [Card(f"card-{number}") for number in range(3)]
        self.store = self._open()
        self.intents = self.taps = 0
        for card in self.cards:
            self.issue(self.random.choice(self.shops), card)

    def _open(self) -> Store:
        return open_store(self.data_dir, SystemClock(), SystemIds())

    def close(self) -> None:
        self.store.close()

    # What happens in a shop.

    def issue(self, shop: Shop, card: Card) -> None:
        card.state = State(sequence=1)
        data = {"card": card_data(card, State(), card.state), "uid": "04a1b2c3", "member_id": "m-1"}
        shop.record("card.issued", card.card_no, data)

    def tap(self, shop: Shop, card: Card, torn: str | None = None) -> None:
        """A purchase. ``torn``: the answer of the write is lost, with the write ``landed`` or ``not_landed``."""
        self.settle(shop, card)
        due = shop.due(card)
        self.taps += 1
        earned = self.random.randrange(100) * 1000 + self.taps  # no two taps leave the same state by chance
        balance = card.state.balance + sum(due)
        redeemed = self.random.randrange(balance + 1) if balance > 0 and self.random.random() < 0.3 else 0
        before, cursor = card.state, card.state.adjustments_through + len(due)
        after = State(before.sequence + 1, balance + earned - redeemed, cursor)
        points = {"earned": earned, "redeemed": redeemed}
        data = {"card": card_data(card, before, after), "purchase": {"amount": 1}, "points": points}
        if torn is None:
            card.state = after
            shop.record("purchase.recorded", card.card_no, data)
            return
        self.intents += 1
        shop.doubts.append(Doubt(f"i-{self.intents}", card, before, after, data))
        if torn == "landed":
            card.state = after

    def settle(self, shop: Shop, card: Card) -> None:
        """The card is back: what was left in doubt here is settled."""
        for doubt in [doubt for doubt in shop.doubts if doubt.card is card]:
            moved_on = card.state not in (doubt.before, doubt.after)
            if not doubt.closed and moved_on:
                self.close_sale(shop, doubt)
            elif not doubt.closed:
                card.state = doubt.after  # landed, or written again
                shop.record("purchase.recorded", card.card_no, doubt.event)
            elif not moved_on:
                landed = card.state == doubt.after
                data = {"intent_id": doubt.intent_id, "card_no": card.card_no, "landed": landed, "card": None}
                shop.record("intent.resolved", card.card_no, data)
            shop.doubts.remove(doubt)

    def close_sale(self, shop: Shop, doubt: Doubt) -> None:
        points = doubt.event["points"] | {"redeemed": 0}
        data = doubt.event | {"card": None, "intent": tried(doubt), "points": points}
        shop.record("purchase.recorded", doubt.card.card_no, data)
        doubt.closed = True

    # What the CRM hears and says.

    def send(self, shop: Shop, events: Iterable[dict[str, Any]]) -> None:
        with self.store.writing() as connection:
            results, acked = inbox.receive(connection, shop.terminal_id, list(events), NOW)
        for event, result in zip(events, results, strict=True):
            assert result.status in ACKNOWLEDGED, result
            assert result.code is None, result
            shop.acknowledged.add(int(event["sequence"]))
        if acked < max(shop.acked_through, shop.gapless_through):  # the CRM has forgotten
            shop.acknowledged = {sequence for sequence in shop.acknowledged if sequence <= acked}
        shop.acked_through = acked

    def send_some(self, shop: Shop) -> None:
        """A part of what waits, in any order."""
        waiting = [event for event in shop.events if int(event["sequence"]) not in shop.acknowledged]
        if waiting:
            self.send(shop, self.random.sample(waiting, self.random.randint(1, len(waiting))))

    def send_all(self, shop: Shop) -> None:
        """As a terminal does: what waits, and again what the answer says is missing. The last event tells."""
        self.send(shop, shop.events[-1:])
        while waiting := [event for event in shop.events if int(event["sequence"]) not in shop.acknowledged]:
            self.send(shop, self.random.sample(waiting, len(waiting)))

    def read_feed(self, shop: Shop) -> None:
        try:
            with self.store.reading() as connection:
                page = feed.read_page(connection, shop.cursor, 500)
        except feed.CursorUnknown:
            with self.store.writing() as connection:  # as the API does
                restore.note_once(connection, NOW)
            if self.forgetful:
                shop.adjustments.clear()
            shop.cursor = None
            return self.read_feed(shop)
        for item in page.items:
            if item["kind"] == "adjustment":
                shop.adjustments.setdefault((item["card_no"], item["number"]), item["points"])
        shop.cursor = page.next_cursor
        return None

    def adjust(self) -> None:
        """Head office gives or takes points, of a card it has heard of."""
        card_no = self.random.choice(self.cards).card_no
        with self.store.reading() as connection:
            known = cards.find(connection, card_no) is not None
        if known:
            admin.adjust_card(self.data_dir, card_no, self.random.choice([-50, -7, 3, 400]), "a gift")

    def activity(self) -> None:
        """Points of something that was no tap."""
        points = {"earned": self.random.randrange(1, 100)}
        self.random.choice(self.shops).record(
            "activity.recorded", self.random.choice(self.cards).card_no, {"points": points}
        )

    # The whole.

    def step(self) -> None:
        shop, card = self.random.choice(self.shops), self.random.choice(self.cards)
        open_sales = [doubt for doubt in shop.doubts if not doubt.closed]
        deeds: list[tuple[int, Callable[[], None]]] = [
            (30, lambda: self.tap(shop, card)),
            (5, lambda: self.tap(shop, card, "landed")),
            (5, lambda: self.tap(shop, card, "not_landed")),
            (20, lambda: self.send_some(shop)),
            (15, lambda: self.read_feed(shop)),
            (6, self.adjust),
            (4, self.activity),
        ]
        if open_sales:
            deeds.append((10, lambda: self.close_sale(shop, self.random.choice(open_sales))))
        self.random.choices([deed for _, deed in deeds], [weight for weight, _ in deeds])[0]()

    def owed(self) -> dict[str, int | None]:
        """By card: what the check says it is owed."""
        with self.store.reading() as connection:
            return {card.card_no: reconcile.owed_to(connection, card.card_no) for card in self.cards}

    def end_doubts(self) -> None:
        """Every card comes back to every shop that is in doubt about it."""
        for shop in self.shops:
            for card in self.cards:
                self.settle(shop, card)

    def exchange_all(self) -> None:
        for shop in self.shops:
            self.send_all(shop)
        for shop in self.shops:
            self.read_feed(shop)

    def tap_all(self) -> None:
        for card in self.cards:
            self.tap(self.random.choice(self.shops), card)

    def ledger(self) -> dict[str, int]:
        accounts = admin.show_ledger(self.data_dir)
        assert accounts["sum"] == 0
        balances = {row["account"]: row["balance"] for row in accounts["accounts"]}
        return {card.card_no: balances.get(f"card:{card.card_no}", 0) for card in self.cards}

    def on_cards(self) -> dict[str, int]:
        return {card.card_no: card.state.balance for card in self.cards}

    # Backups.

    def backup(self) -> bytes:
        return sqlite.database_file(self.data_dir).read_bytes()

    def put_back(self, backup: bytes) -> None:
        self.store.close()
        sqlite.database_file(self.data_dir).write_bytes(backup)
        self.store = self._open()
