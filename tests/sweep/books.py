"""The promises, read off the plastic, the journal's file and head office's file."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from drivers.mifare_classic import BLOCK_SIZE, blank_card
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.mark import Mark, Tally
from terminal_agent.journal.opening import OPENED
from tests.card.independent_reader import RING, Card
from tests.sweep.shop import TERMINAL, Shop
from tests.sweep.tables import Row, Tables, without_ids

DONE, IN_DOUBT = "done", "in_doubt"


class Broken(AssertionError):
    """A promise that was not kept."""


def require(kept: bool, promise: str, detail: object) -> None:
    if not kept:
        raise Broken(f"{promise}: {detail}")


# --- right after an answer


@dataclass(frozen=True)
class Answer:
    """What the cashier was told: a result, or an error."""

    result: dict[str, Any] | None = None
    error: AgentError | None = None

    @property
    def told(self) -> dict[str, Any]:
        return self.error.details if self.error else self.result or {}

    @property
    def disk_failed(self) -> bool:
        return self.error is not None and self.error.code in (ErrorCode.JOURNAL_FAILED, ErrorCode.DISK_FULL)

    def __str__(self) -> str:
        return f"{self.error.code}: {self.error.message}" if self.error else str((self.result or {}).get("state", DONE))


def check_answer(shop: Shop, answer: Answer, before: Tables, receipt_no: str | None) -> None:
    """What the cashier is told is what stands in the file at that moment; ``before``: the journal before this step."""
    journal = shop.journal()
    if "checkout_id" in answer.told:
        _answer_is_on_disk(journal, answer)
    known = {row["checkout_id"] for row in before["checkouts"]}
    for row in journal["checkouts"]:
        lied = row["checkout_id"] not in known and row["state"] == DONE and answer.error and not answer.disk_failed
        require(not lied, "done, and told as failed", (str(answer), row["receipt_no"]))
    others = {row["checkout_id"] for row in before["checkouts"] if row["receipt_no"] != receipt_no}
    for intent in journal["intents"]:
        if intent["state"] == "open" and intent["checkout_id"] not in {None, *others}:
            _doubt_is_told(shop, intent, answer)


def _answer_is_on_disk(journal: Tables, answer: Answer) -> None:
    states = [row["state"] for row in journal["checkouts"] if row["checkout_id"] == answer.told["checkout_id"]]
    done_unheard = answer.disk_failed and states == [DONE]  # "in doubt" is then the best that can be said
    if not done_unheard:
        require(states == [answer.told["state"]], "answered before it was on disk", (str(answer), states))
    if answer.result is not None and answer.result["state"] == DONE:
        _an_event_says_so(journal, answer.result)


def _an_event_says_so(journal: Tables, result: dict[str, Any]) -> None:
    if result["card_no"] is None:  # by phone
        ids = [row["event_id"] for row in journal["events"]]
        require(result["event_id"] in ids, "done, and no event says so", result["receipt_no"])
        return
    tap = result["card_no"], result["sequence"]
    cards = [event["card"] for event in _data(journal) if event.get("card")]
    require(tap in [(card["card_no"], card["sequence"]) for card in cards], "done, and no event says so", tap)


def _doubt_is_told(shop: Shop, intent: Row, answer: Answer) -> None:
    """A card was, or may have been, written for a sale: then the answer says so. Only where the disk failed before the
    card was touched does the cashier not know, and need not."""
    told = answer.told.get("checkout_id") == intent["checkout_id"] and answer.told.get("state") == IN_DOUBT
    untouched = any(shop.card(name).state == json.loads(intent["before"]) for name in shop.cards)
    excused = answer.disk_failed and untouched
    require(told or excused, "a sale in doubt was not told", (str(answer), intent["intent_id"]))


# --- when all is said and done, before and after head office has heard of it


def check_here(shop: Shop, alarms: frozenset[str]) -> dict[str, Any]:
    """Every promise about cards and journal; gives how they stand, in facts that no id, time or order changes.

    ``alarms`` are those that the scenario itself is about."""
    journal, names = shop.journal(), _names(shop)
    _nothing_is_left_open(journal)
    if not alarms:  # of a damaged journal only what was unsent is put back
        _without_gap((row["install_epoch"], row["sequence"]) for row in journal["events"])
    standing = {alarm.code.value for alarm in shop.agent.journal.standing_alarms()}
    require(standing == alarms, "another alarm than there was cause for", standing)
    _copies_are_whole(shop)
    require(shop.agent.journal.events.broken_link() is None, "the hash chain is broken", journal["events"])
    for name in shop.cards:
        _card_is_whole(name, bytes(shop.cards[name].content), shop.card(name))
    for card_no, name in names.items():
        seen = [json.loads(row["state"]) for row in _of_card(journal["cards"], card_no)]
        require(seen == [shop.card(name).state], "card and journal differ", (seen, shop.card(name).state))
    return {
        "cards": {name: _plastic(shop, name) for name in sorted(shop.cards)},
        "sales": sorted(_sale(row) for row in journal["checkouts"]),
        "events": sorted(_event(row, names) for row in journal["events"] if not alarms),
    }


def check_there(shop: Shop) -> dict[str, Any]:
    """The same of head office, and of what the shop heard from it, after an exchange."""
    journal, names = shop.journal(), _names(shop)
    offices = {url: office.tables() for url, office in shop.offices.items()}
    unsent = [row for row in journal["outbox"] if row["state"] != "acknowledged"]
    require(not unsent, "an event is unsent or in quarantine", unsent)
    for crm in offices.values():
        _head_office_is_sound(crm)
    _events_are_there_once(journal, list(offices.values()))
    for card_no, name in names.items():
        for crm in offices.values():
            _ledger_agrees(journal, crm, card_no, shop.card(name))
    told = {url: sorted(_event(row, names) for row in crm["events"]) for url, crm in offices.items()}
    known = {"journal": _what_is_known(journal, names)}
    return {"told": told} | known | {url: _what_is_known(crm, names) for url, crm in offices.items()}


def _names(shop: Shop) -> dict[str, str]:
    return {shop.card_no(name): name for name in shop.cards if shop.card(name).identity}


def _nothing_is_left_open(journal: Tables) -> None:
    in_doubt = [row["receipt_no"] for row in journal["checkouts"] if row["state"] == IN_DOUBT]
    require(not in_doubt, "a sale stays in doubt", in_doubt)
    intents = [row for row in journal["intents"] if row["state"] == "open"]
    require(not intents, "an intent stays open", intents)


def _without_gap(places: Iterable[tuple[str, int]]) -> None:
    """1, 2, 3 … in each install epoch, each once."""
    epochs: dict[str, list[int]] = {}
    for epoch, sequence in places:
        epochs.setdefault(epoch, []).append(sequence)
    for epoch, sequences in epochs.items():
        require(sorted(sequences) == list(range(1, len(sequences) + 1)), "a gap in the sequence", (epoch, sequences))


def _copies_are_whole(shop: Shop) -> None:
    """A copy of the journal has its name only when it is whole, and what it was made of is cleared away."""
    for path in shop.copies():
        with closing(sqlite3.Connection(path)) as copy:
            sound = copy.execute("PRAGMA integrity_check").fetchall()
            made = copy.execute("SELECT value FROM meta WHERE key = 'copied_at'").fetchall()
        require(sound == [("ok",)] and bool(made), "a copy is not whole", (path.name, sound))
    partial = [path.name for path in shop.data_dir.rglob("*.partial*")]
    require(not partial, "half a copy is left", partial)


def _card_is_whole(name: str, content: bytes, card: Card) -> None:
    """A card is blank, or ours in every sector: nothing in between, and never lost."""
    if content == blank_card(card.uid):
        return
    require(card.identity is not None and card.state is not None, "a card is lost", (name, card))
    has_directory = any(content[BLOCK_SIZE : 2 * BLOCK_SIZE])
    half = [sector for sector in card.foreign_trailers if sector or not has_directory]
    require(not half, "a card is half issued or half wiped", (name, half))


def _head_office_is_sound(crm: Tables) -> None:
    """The ledger sums to 0, no event contradicts another, no points stay set aside."""
    total = sum(row["points"] for row in crm["entries"])
    require(total == 0, "points from nowhere", total)
    odd = [(row["type"], row["verdict"], row["code"]) for row in crm["events"] if row["verdict"] != "accepted"]
    require(not odd, "head office sees a contradiction", odd)
    holds = [row for row in crm["holds"] if row["state"] in ("held", "confirmed")]
    require(not holds, "points stay set aside", holds)


def _events_are_there_once(journal: Tables, offices: list[Tables]) -> None:
    """What the journal holds, whichever head office was told, and nothing is missing there."""
    there = [row for crm in offices for row in crm["events"] if row["terminal_id"] == TERMINAL]
    _without_gap((row["install_epoch"], row["sequence"]) for row in there)
    sent, got = ({row["fingerprint"] for row in rows} for rows in (journal["events"], there))
    require(sent <= got, "head office was never told", sent - got)
    minted_here = {row["install_epoch"] for row in journal["events"] if row["sequence"] == 1}
    strange = [row["id"] for row in there if row["install_epoch"] in minted_here and row["fingerprint"] not in sent]
    require(not strange, "head office was told what the journal does not hold", strange)


def _ledger_agrees(journal: Tables, crm: Tables, card_no: str, card: Card) -> None:
    """Plastic and ledger say the same of a card; what it has not got yet waits as adjustments."""
    assert card.state is not None
    through = card.state["adjustments_through"]
    due = sum(row["points"] for row in _of_card(journal["adjustments"], card_no) if row["number"] > through)
    here = (card.state["balance"] + due, card.state["sequence"])
    for row in _of_card(crm["cards"], card_no):
        booked = (row["balance"], row["sequence"])
        require(booked == here, "card and ledger differ", (here, booked))


def _of_card(rows: list[Row], card_no: str) -> list[Row]:
    return [row for row in rows if row["card_no"] == card_no]


# --- the world in facts


def world(shop: Shop) -> str:
    """Everything that decides how it goes on, but for ids."""
    cards = [(name, shop.card(name).identity, *_plastic(shop, name)) for name in sorted(shop.cards)]
    offices = [(url, office.reachable, office.tables()) for url, office in shop.offices.items()]
    journal = shop.journal()
    counted = int(next((row["value"] for row in journal["meta"] if row["key"] == OPENED), 0))
    journal["meta"] = [row for row in journal["meta"] if row["key"] != OPENED]
    mark = Mark(shop.data_dir).tally or Tally(0, 0)
    lag = counted - mark.opened, len(journal["outbox"]) - mark.position
    copies = [path.name for path in shop.copies()]
    return without_ids([shop.office_url, shop.disk_is_full, cards, journal, lag, copies, offices])


def _plastic(shop: Shop, name: str) -> tuple[Any, ...]:
    """A card's state, and every byte that is neither state nor history, which is best effort."""
    content = bytes(shop.cards[name].content)
    blocks = [content[at : at + BLOCK_SIZE] for at in range(0, len(content), BLOCK_SIZE)]
    home = (shop.card(name).home or 0) * 4
    changing = {*RING, home, home + 1, home + 2}
    fixed = b"".join(block for number, block in enumerate(blocks) if number not in changing)
    state = shop.card(name).state
    return (tuple(sorted(state.items())) if state else None, hashlib.sha256(fixed).hexdigest()[:40])


def _sale(row: Row) -> tuple[Any, ...]:
    result = json.loads(row["result"])
    points = tuple(result[key] for key in ("points_before", "points_earned", "points_redeemed", "points_after"))
    return (row["kind"], row["receipt_no"], row["reference"], row["amount"], row["state"], *points)


def _data(journal: Tables) -> list[dict[str, Any]]:
    return [json.loads(row["body"])["data"] for row in journal["events"]]


def _event(row: Row, names: dict[str, str]) -> str:
    """An event without its ids, its place in the row and its time."""
    data = json.loads(row["body"])["data"]
    card = {**data["card"], "card_no": names.get(data["card"]["card_no"])} if data.get("card") else None
    facts = [data.get(key) for key in ("purchase", "points", "landed", "kind", "policy_version")]
    return json.dumps([row["type"], card, *facts])


def _what_is_known(tables: Tables, names: dict[str, str]) -> dict[str, Any]:
    """Cards, adjustments, hotlist, policies and members, as the journal or head office knows them."""

    def of(table: str, *columns: str) -> list[tuple[Any, ...]]:
        rows = [{**row, "card_no": names.get(row.get("card_no", ""))} for row in tables[table]]
        return sorted(tuple(str(row.get(column)) for column in columns) for row in rows)

    return {
        "cards": of("cards", "card_no", "balance", "sequence", "status", "key_set_version"),
        "adjustments": of("adjustments", "card_no", "number", "points"),
        "hotlist": of("hotlist", "card_no", "blocked"),
        "policies": of("policies", "version"),
        "members": of("members", "phone", "name", "tier"),
    }
