"""The common purchase, many at a time: a few reads for a run of them, a few writes for what became of it.

A purchase is common when its card's write is known, its card is in use, and nothing about them is contested, in doubt,
taken back or told in another way before. What is written for one is what :mod:`inbox` and :mod:`booking` write one by
one, row for row; a test compares them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, bindparam, func, insert, select, union_all, update

from terminal_agent.contract import Verdict
from terminal_agent.crm import booking, cards, ledger
from terminal_agent.crm.events import CardState, Event, EventRejected, PurchaseRecorded
from terminal_agent.crm.schema import card_chain, entries, events, intents, transfers
from terminal_agent.crm.schema import cards as card_rows
from terminal_agent.crm.wire import EventResult

AT_ONCE = 250
"""The longest run: what is read for it is read again when an event that is not common ends it."""


@dataclass
class _Card:
    """A card as this run will leave it."""

    balance: int
    sequence: int
    adjustments_through: int
    last_transfer: int
    is_common: bool
    counters: set[int] = field(default_factory=set)


@dataclass
class _Known:
    """What the tables say of a run before it. ``told``: by epoch and sequence the verdicts by fingerprint."""

    cards: dict[str, _Card]
    told: dict[tuple[str, int], dict[str, str]]
    ids: set[str]


@dataclass
class _Rows:
    """What the run writes."""

    events: list[dict[str, Any]] = field(default_factory=list)
    chain: list[dict[str, Any]] = field(default_factory=list)
    transfers: list[dict[str, Any]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    cards: set[str] = field(default_factory=set)


def run_from(batch: Sequence[Event | EventRejected], place: int) -> list[Event]:
    """The events from ``place`` on that may be common by what they say themselves."""
    run: list[Event] = []
    for event in batch[place : place + AT_ONCE]:
        if isinstance(event, EventRejected) or _state_of(event) is None:
            break
        run.append(event)
    return run


def book(connection: Connection, run: Sequence[Event], now: str) -> list[EventResult]:
    """Books what is common at the beginning of a run from one terminal, whose cards are ours (:mod:`turns`); gives its
    verdicts, and none when already the first event is not common. IntegrityError, DataError."""
    known, rows = _look_up(connection, run), _Rows()
    results: list[EventResult] = []
    for event in run:
        verdict = _verdict(event, known)
        if verdict is None:
            break
        card = known.cards[event.card_no or ""]
        if verdict is Verdict.ACCEPTED:
            _add(event, known, card, rows, now)
        results.append(EventResult(id=event.id, status=verdict, balance=card.balance))
    _write(connection, rows, known)
    return results


def _state_of(event: Event) -> CardState | None:
    data = event.data
    is_common = isinstance(data, PurchaseRecorded) and data.intent is None and data.hold_id is None
    return data.card if is_common else None


def _verdict(event: Event, known: _Known) -> Verdict | None:
    """Of an event that is common as things stand; else None."""
    state, card = _state_of(event), known.cards.get(event.card_no or "")
    told = known.told.get((event.position.install_epoch, event.position.sequence), {})
    if card is not None and told.get(event.fingerprint, Verdict.REJECTED) != Verdict.REJECTED:
        return Verdict.DUPLICATE
    if state is None or card is None or not card.is_common or told or event.id in known.ids:
        return None
    is_next = state.sequence not in card.counters and (state.adjustments_through or 0) <= card.adjustments_through
    return Verdict.ACCEPTED if is_next else None


def _add(event: Event, known: _Known, card: _Card, rows: _Rows, now: str) -> None:
    state, card_no = _state_of(event), event.card_no or ""
    known.told[event.position.install_epoch, event.position.sequence] = {event.fingerprint: Verdict.ACCEPTED}
    known.ids.add(event.id)
    rows.events.append(booking.row_of(event, booking.facts_of(event), Verdict.ACCEPTED, None, now))
    rows.cards.add(card_no)
    if state is not None:
        rows.chain.append(cards.link(event, state, None))
        card.counters.add(state.sequence)
        card.sequence = max(card.sequence, state.sequence)
    for move in booking.moves_of(event, card_no):
        card.last_transfer += 1
        transfer, sides = ledger.rows_of(move, card_no, card.last_transfer, event.type, event.id, now)
        rows.transfers.append(transfer)
        rows.entries += sides
        card.balance += sum(side["points"] for side in sides if side["account"] == ledger.card_account(card_no))


def _write(connection: Connection, rows: _Rows, known: _Known) -> None:
    written = ((events, rows.events), (card_chain, rows.chain), (transfers, rows.transfers), (entries, rows.entries))
    for table, values in written:
        if values:
            connection.execute(insert(table), values)
    changed = [(card_no, known.cards[card_no]) for card_no in sorted(rows.cards)]
    if changed:
        this = card_rows.c.card_no == bindparam("of_card")
        becomes: dict[str, Any] = {"balance": bindparam("to_balance"), "sequence": bindparam("to_sequence")}
        left = [{"of_card": no, "to_balance": card.balance, "to_sequence": card.sequence} for no, card in changed]
        connection.execute(update(card_rows).where(this).values(**becomes), left)


def _look_up(connection: Connection, run: Sequence[Event]) -> _Known:
    asked = {
        "terminal_id": run[0].terminal_id,
        "epochs": list({event.position.install_epoch for event in run}),
        "sequences": [event.position.sequence for event in run],
        "ids": [event.id for event in run],
        "card_nos": list({event.card_no for event in run}),
        "counters": list({state.sequence for event in run if (state := _state_of(event))}),
    }
    known = _Known({}, {}, set(connection.execute(_SAME_ID, asked).scalars()))
    for row in connection.execute(_CARDS, asked).mappings():
        facts = {name: row[name] for name in ("balance", "sequence", "adjustments_through", "last_transfer")}
        known.cards[row["card_no"]] = _Card(**facts, is_common=row["status"] == cards.ACTIVE)
    for row in connection.execute(_SAME_PLACE, asked).mappings():
        known.told.setdefault((row["install_epoch"], row["sequence"]), {})[row["fingerprint"]] = row["verdict"]
    for card_no in connection.execute(_ODD_CARDS, asked).scalars():
        known.cards[card_no].is_common = False
    for row in connection.execute(_COUNTERS, asked).mappings():
        known.cards[row["card_no"]].counters.add(row["sequence"])
    return known


def _in(column: Column[Any], name: str) -> ColumnElement[bool]:
    return column.in_(bindparam(name, expanding=True))


# Written once: building a statement takes longer than running it.
_OURS = events.c.terminal_id == bindparam("terminal_id")
_SAME_ID = select(events.c.id).where(_OURS, _in(events.c.id, "ids"))
_SAME_PLACE = select(events.c.install_epoch, events.c.sequence, events.c.fingerprint, events.c.verdict).where(
    _OURS, _in(events.c.install_epoch, "epochs"), _in(events.c.sequence, "sequences")
)
_LAST_TRANSFER = select(func.coalesce(func.max(transfers.c.transfer_id), 0)).where(
    transfers.c.card_no == card_rows.c.card_no
)
_CARDS = select(card_rows, _LAST_TRANSFER.scalar_subquery().label("last_transfer")).where(
    _in(card_rows.c.card_no, "card_nos")
)
_ODD_CARDS = union_all(
    select(intents.c.card_no).where(_in(intents.c.card_no, "card_nos")),
    select(events.c.card_no).where(_in(events.c.card_no, "card_nos"), _in(events.c.reverses, "ids")),
)
_COUNTERS = select(card_chain.c.card_no, card_chain.c.sequence).where(
    _in(card_chain.c.card_no, "card_nos"), _in(card_chain.c.sequence, "counters")
)
