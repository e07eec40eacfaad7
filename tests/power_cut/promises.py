"""The promises, checked on what a power cut left: first with nothing but sqlite3, then with the program itself."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.books import Books, CardReader, uid_of
from tests.power_cut.campaign import LOST, Violation
from tests.power_cut.told import Told

DATA = "var/data"
CARDS = "cards"
BROKEN_FILE, CARD = "corrupt", "card"
SET_UP = {"init": f"{DATA}/keys/v1.key", "enroll": f"{DATA}/crm.json"}


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
    yield from (Violation("books", problem) for problem in books.problems())
    yield from _told_is_kept(root, books, told)
    yield from _sent_is_kept(books, told)
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


def _sent_is_kept(books: Books, told: Told) -> Iterator[Violation]:
    """What left for the CRM is here and the same: a sequence is never used twice (P7)."""
    here = {event.event_id: event.fingerprint for event in books.events}
    for event_id, fingerprint in told.sent.items():
        if here.get(event_id) != fingerprint:
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
