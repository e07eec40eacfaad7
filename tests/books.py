"""A shop's books and cards read past the program: with sqlite3, and with the shop's own keys."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from drivers.mifare_classic import BLOCK_SIZE, uid_of_manufacturer_block
from terminal_agent.card.layout import CardState
from terminal_agent.journal.journal import JOURNAL_FILE
from tests.card.independent_reader import HOMES, home_that_counts, read_home

SECTOR = 4 * BLOCK_SIZE

FIRST_HASH = "0" * 64


class Event(NamedTuple):
    """One row of the events."""

    install_epoch: str
    sequence: int
    event_id: str
    body: str
    fingerprint: str


class Books:
    """The rows of a journal, read past the program."""

    def __init__(self, data_dir: Path) -> None:
        path = data_dir / JOURNAL_FILE
        with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            self.integrity = str(connection.execute("PRAGMA integrity_check").fetchone()[0])
            columns = "install_epoch, sequence, event_id, body, fingerprint"
            rows = connection.execute(f"SELECT {columns} FROM events ORDER BY install_epoch, sequence")
            self.events = [Event(*row) for row in rows]
            self.outbox = {row["event_id"]: row["state"] for row in connection.execute("SELECT * FROM outbox")}
            self.checkouts = {row["checkout_id"]: row for row in connection.execute("SELECT * FROM checkouts")}
            self.intents = list(connection.execute("SELECT * FROM intents"))
            self.cards = {row["uid"]: row for row in connection.execute("SELECT * FROM cards")}
            self.adjustments = {
                (row["card_no"], row["number"]): row["points"]
                for row in connection.execute("SELECT * FROM adjustments")
            }

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The events, oldest first."""
        return [parsed(event.body) for event in self.events]

    @property
    def unsettled(self) -> list[sqlite3.Row]:
        """The intents whose card has not been heard of since."""
        return [row for row in self.intents if row["state"] in ("open", "closed")]

    def problems(self) -> Iterator[str]:
        """Whether the file is whole; events gapless, chained, and each in the outbox."""
        if self.integrity != "ok":
            yield self.integrity
        last: dict[str, tuple[int, str]] = {}
        for event in self.events:
            before, previous = last.get(event.install_epoch, (0, FIRST_HASH))
            if event.sequence != before + 1:
                yield f"event {event.sequence} follows {before}"
            if sha256(event.body) != event.fingerprint or parsed(event.body)["data"]["previous_hash"] != previous:
                yield f"event {event.sequence} is not chained to {before}"
            last[event.install_epoch] = (event.sequence, event.fingerprint)
        if {event.event_id for event in self.events} != self.outbox.keys():
            yield "events and outbox differ"

    def queued(self, checkout_id: str) -> int:
        """How often a checkout's event stands in the outbox."""
        meant = {event_id for row in self.intents if row["checkout_id"] == checkout_id for event_id in _meant(row)}
        return sum(event_id in meant for event_id in self.outbox)


def _meant(intent: sqlite3.Row) -> list[str]:
    return [event["event_id"] for event in parsed(intent["document"])["events"]]


@lru_cache(maxsize=10_000)
def sha256(body: str) -> str:
    """What the fingerprint of an event must be."""
    return hashlib.sha256(body.encode()).hexdigest()


@lru_cache(maxsize=10_000)
def parsed(body: str) -> dict[str, Any]:
    """A JSON text read; the same ones come back again and again."""
    document: dict[str, Any] = json.loads(body)
    return document


class CardReader:
    """What stands on a card, past every access right; keys are the shop's own."""

    def __init__(self, keys: Path) -> None:
        self._masters = tuple(bytes.fromhex(path.read_text()) for path in sorted(keys.glob("v*.key")))
        self._newest = lru_cache(maxsize=10_000)(self._newest_state)

    def newest(self, image: bytes) -> CardState | None:
        """The newest state, or None where there is none."""
        uid = uid_of_manufacturer_block(image[:BLOCK_SIZE])
        return self._newest(uid, *(image[sector * SECTOR : (sector + 1) * SECTOR] for sector in HOMES))

    def _newest_state(self, uid: bytes, *sectors: bytes) -> CardState | None:
        fours = [[sector[at : at + BLOCK_SIZE] for at in range(0, SECTOR, BLOCK_SIZE)] for sector in sectors]
        homes = zip(fours, HOMES, strict=True)
        counts = home_that_counts([read_home(four, self._masters, uid, number) for four, number in homes])
        states = [CardState.from_json(slot) for slot in counts.slots if slot] if counts else []
        return max(states, key=lambda state: state.sequence, default=None)


def uid_of(image: bytes) -> str:
    """A card's UID in hex, as the journal keeps it."""
    return uid_of_manufacturer_block(image[:BLOCK_SIZE]).hex()


def disagreement(books: Books, image: bytes, cards: CardReader) -> str | None:
    """Where the card's chain of events does not end at what the card and the journal hold; None where it does."""
    uid = uid_of(image)
    row, state = books.cards[uid], cards.newest(image)
    try:
        sequence, balance = _replay(books, row["card_no"])
    except ValueError as error:
        return f"card {row['card_no']}: {error}"
    if state is None or (state.sequence, state.balance) != (sequence, balance):
        return f"card {row['card_no']} holds {state}, its events say {balance} at {sequence}"
    if json.loads(row["state"]) != state.to_json():
        return f"card {row['card_no']} holds {state}, the journal says {row['state']}"
    return None


def _replay(books: Books, card_no: str) -> tuple[int, int]:
    """Sequence and balance at the end of a card's events. Raises ValueError where a link does not fit."""
    sequence, balance, adjusted = 0, 0, 0
    tried = {body["data"]["intent"]["intent_id"]: body["data"]["intent"] for body in books.bodies if _intent(body)}
    for body in books.bodies:
        data = body["data"]
        if body["type"] == "intent.resolved" and data["card_no"] == card_no and data["landed"]:
            intent = tried[data["intent_id"]]
            sequence, balance, adjusted = (
                intent[name] for name in ("sequence_after", "balance_after", "adjustments_through")
            )
        card = data.get("card")
        if not card or card["card_no"] != card_no:
            continue
        points = data.get("points", {"earned": 0, "redeemed": 0})
        due = [(card_no, number) for number in range(adjusted + 1, card["adjustments_through"] + 1)]
        if not books.adjustments.keys() >= set(due):
            raise ValueError(f"event {body['sequence']} applies an adjustment that is not in the journal")
        moved = points["earned"] - points["redeemed"] + sum(books.adjustments[key] for key in due)
        if (card["sequence"], card["balance_before"]) != (sequence + 1, balance):
            raise ValueError(f"event {body['sequence']} does not follow {balance} points at {sequence}")
        if card["balance_after"] != balance + moved:
            raise ValueError(f"event {body['sequence']} moves {moved} points and says otherwise")
        sequence, balance, adjusted = card["sequence"], card["balance_after"], card["adjustments_through"]
    return sequence, balance


def _intent(body: dict[str, Any]) -> bool:
    return bool(body["data"].get("intent"))
