"""Taking in events: each counts exactly once for ever, nothing sent is forgotten, every one gets a verdict."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, bindparam, insert, or_, select, update
from sqlalchemy.exc import DataError, IntegrityError

from terminal_agent.contract import Verdict, fingerprint
from terminal_agent.crm import (
    booking,
    bulk,
    cardless,
    cards,
    members,
    offers,
    policies,
    privacy,
    reconcile,
    replacement,
    restore,
    reversals,
    tiers,
    turns,
)
from terminal_agent.crm.events import (
    Event,
    EventRejected,
    MemberEnrolled,
    Position,
    canonical_body,
    claimed_id,
    parse_event,
    position_of,
)
from terminal_agent.crm.schema import events, progress
from terminal_agent.crm.wire import EventResult

SEQUENCE_REUSED = "sequence_reused"
ID_REUSED = "id_reused"
TOLD_AGAIN = "told_again"
NOT_BOOKED = "not_booked"


def receive(connection: Connection, terminal_id: str, documents: list[Any], now: str) -> tuple[list[EventResult], int]:
    """The verdicts on a batch, in order, and ``acked_through`` of the last install epoch in it."""
    parsed = [_parse(document, terminal_id) for document in documents]
    _take_turns(connection, terminal_id, [event for event in parsed if isinstance(event, Event)], now)
    new: list[Event] = []
    results: list[EventResult] = []
    while (place := len(results)) < len(documents):
        together = _receive_together(connection, bulk.run_from(parsed, place), now, new)
        results += together or [_receive_one(connection, terminal_id, documents[place], parsed[place], now, new)]
    published = policies.published(connection)
    offers.book(connection, new, published, now)
    tiers.decide_for_cards(connection, policies.newest_of(published, now), _cards_of(new), now)
    if restore.happened(connection):
        for card_no in sorted(_cards_of(new)):
            reconcile.reconcile(connection, card_no, now)
    positions = [
        event.position if isinstance(event, Event) else position_of(document, terminal_id)
        for document, event in zip(documents, parsed, strict=True)
    ]
    epochs = dict.fromkeys(position.install_epoch for position in reversed(positions) if position)
    acked = [_advance(connection, terminal_id, epoch) for epoch in epochs]
    return results, acked[0] if acked else 0


def _cards_of(batch: list[Event]) -> set[str]:
    return {event.card_no for event in batch if event.card_no}


def _parse(document: Any, terminal_id: str) -> Event | EventRejected:
    try:
        return parse_event(document, terminal_id)
    except EventRejected as problem:
        return problem


def _take_turns(connection: Connection, terminal_id: str, batch: list[Event], now: str) -> None:
    turns.take_terminal(connection, terminal_id)
    names = {name for event in batch for name in members.names_in(event.data)}
    card_nos = [card_no for event in batch for card_no in (event.card_no, event.data.other_card) if card_no]
    names = cardless.owners_of(connection, batch, names)
    known = cards.known(connection, set(card_nos))
    turns.take_members(connection, names | tiers.owners_of(connection, known))
    replaced = [row["card_no"] for row in known if row["status"] == cards.REPLACED]
    led_to = cardless.cards_of(connection, batch)
    led_to += replacement.successors_of(connection, replaced + led_to)
    there = {row["card_no"] for row in known} | set(led_to)
    turns.take_cards(connection, [*card_nos, *led_to], fresh=cards.fresh(now), known=there)


def _receive_together(connection: Connection, run: list[Event], now: str, new: list[Event]) -> list[EventResult]:
    """The verdicts on what can be booked together at the beginning of a run; new events are added to ``new``."""
    if not run:
        return []
    try:
        with connection.begin_nested():
            results = bulk.book(connection, run, now)
    except (IntegrityError, DataError):
        return []  # one by one it shows which
    new += [event for event, result in zip(run, results, strict=False) if result.status is Verdict.ACCEPTED]
    return results


def _receive_one(
    connection: Connection, terminal_id: str, document: Any, event: Event | EventRejected, now: str, new: list[Event]
) -> EventResult:
    """The verdict; an event that was not here before is added to ``new``."""
    try:
        # One event's failure must not undo its neighbours. Other database errors (a full disk) end the whole
        # transaction, so they must fail the whole request.
        with connection.begin_nested():
            return _judge(connection, terminal_id, document, event, now, new)
    except (IntegrityError, DataError) as error:
        detail = f"not booked: {type(error).__name__}"
        return EventResult(id=claimed_id(document), status=Verdict.RETRY, code=NOT_BOOKED, detail=detail)


def _judge(
    connection: Connection, terminal_id: str, document: Any, event: Event | EventRejected, now: str, new: list[Event]
) -> EventResult:
    if isinstance(event, EventRejected):
        _keep_rejected(connection, terminal_id, document, event, now)
        return EventResult(id=claimed_id(document), status=Verdict.REJECTED, code=event.code, detail=event.detail)
    stored = _stored(connection, terminal_id, event.position, event.fingerprint)
    if stored is not None and stored["verdict"] != Verdict.REJECTED:
        return _result(connection, event, Verdict.DUPLICATE, None)
    event = cardless.placed(connection, event)
    result = _accept(connection, event, now)
    if result.code != TOLD_AGAIN:
        new.append(event)
    return result


def _accept(connection: Connection, event: Event, now: str) -> EventResult:
    code = _reuse(connection, event)
    # A till put back to an old copy tells an issue again, or a sale, perhaps with another end. The first telling
    # stands; this one is kept and moves nothing. Another sale under the same id is booked: its customer walked out.
    told_again = code == ID_REUSED and _is_told_again(connection, event)
    if not told_again and booking.book(connection, event, now):
        code = booking.REASON_FORKED
    verdict = Verdict.FORK if code else Verdict.ACCEPTED
    facts = booking.facts_of(event, moves_nothing=told_again) | {"body": _body_to_keep(connection, event)}
    code = TOLD_AGAIN if told_again else code
    _keep(connection, event.terminal_id, event.position, event.fingerprint, facts, verdict, code, now)
    exceeds = None if told_again else reversals.check(connection, event)
    return _result(connection, event, verdict, code or exceeds)


def _body_to_keep(connection: Connection, event: Event) -> str:
    """The event's bytes, without the person where it enrols a member who was erased."""
    body, data = event.body.decode(), event.data
    erased = isinstance(data, MemberEnrolled) and members.is_erased(connection, data.member.member_id)
    return privacy.redacted_body(body, event.fingerprint) if erased else body


def _result(connection: Connection, event: Event, verdict: Verdict, code: str | None) -> EventResult:
    card = cards.find(connection, event.card_no) if event.card_no else None
    return EventResult(id=event.id, status=verdict, code=code, balance=card["balance"] if card else None)


def _reuse(connection: Connection, event: Event) -> str | None:
    """How a terminal contradicts itself: a restored or copied one numbers other events the same."""
    same_sequence = and_(
        events.c.install_epoch == event.position.install_epoch, events.c.sequence == event.position.sequence
    )
    query = select(events.c.id).where(
        events.c.terminal_id == event.terminal_id,
        events.c.verdict != Verdict.REJECTED.value,
        or_(same_sequence, events.c.id == event.id),
    )
    ids = connection.execute(query).scalars().all()
    if not ids:
        return None
    return ID_REUSED if event.id in ids else SEQUENCE_REUSED


def _is_told_again(connection: Connection, event: Event) -> bool:
    """Whether the event that has this id already tells of the very same thing."""
    told = _told_in(event.body)
    same_id = (events.c.terminal_id == event.terminal_id) & (events.c.id == event.id)
    stored = connection.execute(select(events.c.body).where(same_id, events.c.verdict != Verdict.REJECTED.value))
    return any(_told_in(body) == told for body in stored.scalars())


def _told_in(body: bytes | str) -> tuple[Any, ...]:
    """A sale by its receipt and amount, because it may have had another end; all else by every word but its place."""
    document = json.loads(body)
    data = document["data"]
    bill = data.get("purchase") or data.get("reversal") or {}
    sale = None if bill.get("receipt_no") is None else (bill["receipt_no"], bill.get("amount"))
    told = sale or {name: value for name, value in data.items() if name != "previous_hash"}
    return document["type"], document.get("subject"), told


def _keep_rejected(connection: Connection, terminal_id: str, document: Any, problem: EventRejected, now: str) -> None:
    """A rejected event keeps its sequence, so that the terminal's other events are not held up behind a gap."""
    position = position_of(document, terminal_id)
    if position is None:
        return
    try:
        body = canonical_body(document)
    except EventRejected:
        body = b"{}"  # cannot be written as JSON: the position is all there is to keep
    kind, time = document.get("type"), document.get("time")
    facts = {
        "id": claimed_id(document) or "",
        "type": kind if isinstance(kind, str) and len(kind) <= 64 and kind.isprintable() else "",
        "time": time if isinstance(time, str) and len(time) <= 40 and time.isprintable() else "",
        "card_no": None,
        "card_sequence": None,
        "earned": 0,
        "redeemed": 0,
        "amount": None,
        "currency": None,
        "reverses": None,
        "body": body.decode(),
    }
    _keep(connection, terminal_id, position, fingerprint(body), facts, Verdict.REJECTED, problem.code, now)


def _keep(
    connection: Connection,
    terminal_id: str,
    position: Position,
    fingerprint: str,
    facts: dict[str, Any],
    verdict: Verdict,
    code: str | None,
    now: str,
) -> None:
    values = {**facts, "verdict": verdict.value, "code": code, "booked_at": now}
    if _stored(connection, terminal_id, position, fingerprint) is not None:
        connection.execute(update(events).where(_key(terminal_id, position, fingerprint)).values(**values))
        return
    place = {"install_epoch": position.install_epoch, "sequence": position.sequence}
    connection.execute(insert(events).values(terminal_id=terminal_id, fingerprint=fingerprint, **place, **values))


def _key(terminal_id: str, position: Position, fingerprint: str) -> ColumnElement[bool]:
    return and_(
        events.c.terminal_id == terminal_id,
        events.c.install_epoch == position.install_epoch,
        events.c.sequence == position.sequence,
        events.c.fingerprint == fingerprint,
    )


def _stored(connection: Connection, terminal_id: str, position: Position, fingerprint: str) -> RowMapping | None:
    query = select(events.c.verdict).where(_key(terminal_id, position, fingerprint))
    return connection.execute(query).mappings().first()


def acked_through(connection: Connection, terminal_id: str) -> dict[str, int]:
    """Of each install epoch of a terminal, the highest sequence up to which nothing is missing."""
    query = select(progress.c.install_epoch, progress.c.acked_through).where(progress.c.terminal_id == terminal_id)
    return {row.install_epoch: row.acked_through for row in connection.execute(query)}


def _advance(connection: Connection, terminal_id: str, epoch: str) -> int:
    """Moves ``acked_through`` over what has arrived, up to the first gap."""
    place = {"of_terminal": terminal_id, "of_epoch": epoch}
    before = connection.execute(_ACKED_THROUGH, place).scalar()
    if before is None:
        connection.execute(insert(progress).values(terminal_id=terminal_id, install_epoch=epoch, acked_through=0))
    through = start = before or 0
    with connection.execute(_LATER, {**place, "after": start}) as rows:
        for sequence in rows.scalars():
            if sequence != through + 1:
                break
            through = sequence
    if through != start:
        connection.execute(_ADVANCE, {**place, "through": through})
    return through


# Written once: building a statement takes longer than running it.
_HERE = (progress.c.terminal_id == bindparam("of_terminal")) & (progress.c.install_epoch == bindparam("of_epoch"))
_ACKED_THROUGH = select(progress.c.acked_through).where(_HERE)
_ADVANCE = update(progress).where(_HERE).values(acked_through=bindparam("through"))
_THERE = (events.c.terminal_id == bindparam("of_terminal")) & (events.c.install_epoch == bindparam("of_epoch"))
_LATER = select(events.c.sequence).where(_THERE, events.c.sequence > bindparam("after")).distinct()
_LATER = _LATER.order_by(events.c.sequence)
