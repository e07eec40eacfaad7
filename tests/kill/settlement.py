"""The books after the last kill: every sale once, at the till, on the card and at the CRM."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terminal_agent.crm.sqlite import database_file
from terminal_agent.service.keys.store import KEYS_FOLDER
from tests.books import Books, CardReader, disagreement, uid_of


@dataclass(frozen=True)
class Finished:
    """A sale with the answer its cashier went on with."""

    card: Path
    amount: int
    answer: dict[str, Any]

    @property
    def replayed(self) -> bool:
        return bool(self.answer["replayed"])

    @property
    def points(self) -> int:
        return int(self.answer["points_earned"] - self.answer["points_redeemed"])


def problems(data_dir: Path, crm_dir: Path, cards: list[Path], finished: list[Finished]) -> list[str]:
    """Everything that does not add up."""
    books = Books(data_dir)
    found = [*books.problems(), *_sales(books, finished), *_queue(books)]
    reader = CardReader(data_dir / KEYS_FOLDER)
    with closing(sqlite3.connect(database_file(crm_dir))) as crm:
        found += _crm(books, crm)
        balances = dict(crm.execute("SELECT card_no, balance FROM cards").fetchall())
    for card in cards:
        image = card.read_bytes()
        if uid_of(image) not in books.cards:
            found.append(f"the journal knows nothing of {card.name}")
            continue
        said = disagreement(books, image, reader)
        found += [said] if said else []
        state, card_no = reader.newest(image), books.cards[uid_of(image)]["card_no"]
        points = sum(sale.points for sale in finished if sale.card == card)
        holds = state.balance if state else None
        if not holds == balances.get(card_no) == points:
            found.append(f"card {card_no} holds {holds}, the CRM says {balances.get(card_no)}, its sales {points}")
    return found


def _sales(books: Books, finished: list[Finished]) -> Iterator[str]:
    """Every receipt once: done in the journal with the answer that was given, one event in the outbox."""
    by_receipt = Counter(row["receipt_no"] for row in books.checkouts.values())
    for sale in finished:
        receipt_no, checkout_id = sale.answer["receipt_no"], sale.answer["checkout_id"]
        row = books.checkouts.get(checkout_id)
        if row is None or (row["state"], row["amount"]) != ("done", sale.amount):
            yield f"receipt {receipt_no} was done and is {row['state'] if row else 'gone'}"
        elif by_receipt[receipt_no] != 1 or books.queued(checkout_id) != 1:
            yield f"receipt {receipt_no} is there {by_receipt[receipt_no]} times, {books.queued(checkout_id)} queued"
    recorded = sum(body["type"] == "purchase.recorded" for body in books.bodies)
    if not recorded == len(books.checkouts) == len(finished):
        yield f"{len(finished)} sales, {len(books.checkouts)} checkouts, {recorded} events"


def _queue(books: Books) -> Iterator[str]:
    """Nothing waits, nothing is in doubt."""
    waiting = Counter(state for state in books.outbox.values() if state != "acknowledged")
    if waiting:
        yield f"events wait: {dict(waiting)}"
    if books.unsettled:
        yield f"{len(books.unsettled)} intents are open"


def _crm(books: Books, crm: sqlite3.Connection) -> Iterator[str]:
    """Each event booked once and the ledger in balance."""
    booked = crm.execute("SELECT id, verdict FROM events").fetchall()
    if Counter(event_id for event_id, _ in booked) != Counter(books.outbox.keys()):
        yield f"the CRM booked {len(booked)} events, the journal has {len(books.outbox)}"
    if {verdict for _, verdict in booked} != {"accepted"}:
        yield f"verdicts at the CRM: {Counter(verdict for _, verdict in booked)}"
    (ledger,) = crm.execute("SELECT coalesce(sum(points), 0) FROM entries").fetchone()
    if ledger != 0:
        yield f"all accounts sum to {ledger}"
