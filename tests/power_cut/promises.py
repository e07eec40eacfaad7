"""The promises, checked on what a power cut left: first with nothing but sqlite3, then with the program itself."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.books import Books, CardReader, parsed, uid_of
from tests.power_cut.campaign import LOST, Violation
from tests.power_cut.told import Told

DATA = "var/data"
CARDS = "cards"
BROKEN_FILE, CARD = "corrupt", "card"
SET_UP = {"init": f"{DATA}/keys/v1.key", "enroll": f"{DATA}/crm.json"}


@lru_cache(maxsize=10_000)
def _sha256(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def check(root: Path, told: Told, cards: CardReader, blanks: frozenset[bytes]) -> Iterator[Violation]:
    """Everything a plain reader of the files can see."""
    try:
        books = Books(root / DATA)
    except sqlite3.OperationalError as error:  # no folder, no file, no table yet
        yield from (Violation(LOST, f"{what}: {error}") for what in (*told.checkouts, *told.issued))
        if "unable to open" not in str(error) and "no such table" not in str(error):
            yield Violation(BROKEN_FILE, str(error))
        return
    except sqlite3.DatabaseError as error:
        yield Violation(BROKEN_FILE, str(error))
        return
    if books.integrity != "ok":
        yield Violation(BROKEN_FILE, books.integrity)
    yield from _told_is_kept(root, books, told)
    yield from _events_hold(books, told)
    for path in sorted((root / CARDS).glob("*.mfd")):
        image = path.read_bytes()
        if image not in blanks:
            yield from _card_is_explained(books, path.name, image, cards)


def _told_is_kept(root: Path, books: Books, told: Told) -> Iterator[Violation]:
    """Whatever a cashier saw is on disk (P1, I2)."""
    for checkout_id, answer in told.checkouts.items():
        checkout = books.checkouts.get(checkout_id)
        if checkout is None:
            yield Violation(LOST, f"receipt {answer['receipt_no']}, told {answer['state']}, is gone")
        elif answer["state"] != "in_doubt":
            yield from _sale_is_kept(books, answer, checkout)
    for uid in told.issued - books.cards.keys():
        yield Violation(LOST, f"card {uid} was issued and is gone")
    for operation, file in SET_UP.items():
        if operation in told.set_up and not (root / file).is_file():
            yield Violation(LOST, f"{operation} was done and {file} is gone")


def _sale_is_kept(books: Books, answer: dict[str, Any], checkout: sqlite3.Row) -> Iterator[Violation]:
    kept = json.loads(checkout["result"])
    same = all(kept[name] == answer[name] for name in ("card_no", "amount", "points_after", "sequence"))
    if checkout["state"] != answer["state"] or not same:
        yield Violation(LOST, f"receipt {answer['receipt_no']}, told {answer['state']}, is {checkout['state']}")
    queued = books.queued(checkout["checkout_id"])
    if queued != 1:
        kind = LOST if queued == 0 else "doubled"
        yield Violation(kind, f"receipt {answer['receipt_no']} stands {queued} times in the outbox")


def _events_hold(books: Books, told: Told) -> Iterator[Violation]:
    """Gapless, chained, each once in the outbox; what left for the CRM is here and the same (P2, P7)."""
    last: dict[str, tuple[int, str]] = {}
    for event in books.events:
        before, previous = last.get(event.install_epoch, (0, "0" * 64))
        if event.sequence != before + 1:
            yield Violation("gap", f"event {event.sequence} follows {before}")
        if _sha256(event.body) != event.fingerprint or parsed(event.body)["data"]["previous_hash"] != previous:
            yield Violation("chain", f"event {event.sequence} is not chained to {before}")
        if told.sent.get(event.event_id, event.fingerprint) != event.fingerprint:
            yield Violation("fork", f"event {event.sequence} is not the one that was sent to the CRM")
        last[event.install_epoch] = (event.sequence, event.fingerprint)
    ids = [event.event_id for event in books.events]
    if Counter(ids) != Counter(books.outbox):
        yield Violation("outbox", "events and outbox differ")
    for event_id in told.sent.keys() - set(ids):
        yield Violation("fork", f"event {event_id} was sent to the CRM and is gone: its sequence is used again")


def _card_is_explained(books: Books, name: str, image: bytes, cards: CardReader) -> Iterator[Violation]:
    """The card holds what the journal says, or what an unsettled intent meant to write (P3, I4)."""
    uid, state = uid_of(image), cards.newest(image)
    intents = [row for row in books.unsettled if row["uid"] == uid]
    known = books.cards.get(uid)
    if known is None:
        if not intents:
            yield Violation(CARD, f"{name} was written and the journal knows nothing of it")
    elif state is None or json.loads(known["state"]) != state.to_json():
        meant = [json.loads(row["after"]) for row in intents]
        if state is None or state.to_json() not in meant:
            yield Violation(CARD, f"{name} holds {state}; the journal says {known['state']}, meant {meant}")
