"""Booking one well-formed event: its points in the ledger, its facts about members and cards.

Nothing here refuses: what a customer walked out with is a fact, even when a balance turns negative.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from terminal_agent.contract import EventType, Verdict
from terminal_agent.crm import (
    activities,
    card_history,
    cardless,
    cards,
    consents,
    holds,
    intents,
    ledger,
    members,
    membership,
    privacy,
    referrals,
    replacement,
    restore,
    reversals,
)
from terminal_agent.crm.events import (
    ActivityRecorded,
    CardAnomaly,
    CardIssued,
    CardReplaced,
    CardState,
    ConsentChanged,
    Event,
    IntentResolved,
    MemberEnrolled,
    PurchaseRecorded,
)

REASON_FORKED = "card_counter_reused"
REASON_ROLLED_BACK = "card_rolled_back"
_ROLLED_BACK = "rolled_back"
_BLOCKED = "blocked"

# Where the points of an event come from; types not named move none.
_SOURCES = {
    EventType.CARD_ISSUED: ledger.ISSUED,
    EventType.PURCHASE_RECORDED: ledger.ISSUED,
    EventType.PURCHASE_REVERSED: ledger.ISSUED,
    EventType.ACTIVITY_RECORDED: ledger.ISSUED,
    EventType.POINTS_ADJUSTED: ledger.ADJUSTED,
}


def book(connection: Connection, event: Event, now: str) -> bool:
    """Books the event. True: another event had the same card counter, so the card is now blocked."""
    if event.card_no is not None:
        cards.ensure(connection, event.card_no, now)
        _book_points(connection, event, event.card_no, now)
    _book_facts(connection, event, now)
    if event.card_no is None:
        if (member_id := cardless.member_of(event)) is not None:
            cardless.keep(connection, event, member_id, now)
        return False
    replacement.follow(connection, event.card_no, now)
    forked = _book_card_state(connection, event, now)
    if forked:
        cards.block(connection, event.card_no, REASON_FORKED, now)
    return forked


def moved_points(event: Event) -> tuple[int, int]:
    """Points the ledger books for an event: (earned, redeemed)."""
    return (event.data.points.earned, event.data.points.redeemed) if event.type in _SOURCES else (0, 0)


def moves_of(event: Event, card_no: str) -> list[ledger.Move]:
    """The transfers an event books on its card."""
    earned, redeemed = moved_points(event)
    card = ledger.card_account(card_no)
    source = _SOURCES.get(event.type, ledger.ISSUED)
    moves = (ledger.Move(source, card, earned), ledger.Move(card, ledger.REDEEMED, redeemed))
    return [move for move in moves if move.points]


def facts_of(event: Event, *, moves_nothing: bool = False) -> dict[str, Any]:
    """What is kept of an event beside its place: its columns in ``events``, its bytes included."""
    earned, redeemed = (0, 0) if moves_nothing else moved_points(event)
    bill = reversals.Bill() if moves_nothing else reversals.bill_of(event)
    return {
        "id": event.id,
        "type": event.type.value,
        "time": event.time,
        "card_no": event.card_no,
        "card_sequence": event.data.card.sequence if event.data.card else None,
        "earned": earned,
        "redeemed": redeemed,
        "amount": bill.amount,
        "currency": bill.currency,
        "reverses": bill.reverses,
        "body": event.body.decode(),
    }


def row_of(event: Event, facts: dict[str, Any], verdict: Verdict, code: str | None, now: str) -> dict[str, Any]:
    """The row of an event in ``events``."""
    place = {"install_epoch": event.position.install_epoch, "sequence": event.position.sequence}
    key = {"terminal_id": event.terminal_id, **place, "fingerprint": event.fingerprint}
    return {**key, **facts, "verdict": verdict.value, "code": code, "booked_at": now}


def _book_points(connection: Connection, event: Event, card_no: str, now: str) -> None:
    for move in moves_of(event, card_no):
        ledger.transfer(connection, **vars(move), kind=event.type, reference=event.id, now=now)
    earned, redeemed = moved_points(event)
    if earned != redeemed and event.data.card is None and event.data.intent is None:
        cards.adjust(connection, card_no, earned - redeemed, event.type, now)  # no tap brought them to the card


def _book_facts(connection: Connection, event: Event, now: str) -> None:
    data = event.data
    if isinstance(data, MemberEnrolled):
        _book_member(connection, data, now)
    elif isinstance(data, CardIssued):
        _book_issue(connection, data, now)
    elif isinstance(data, CardAnomaly):
        _book_anomaly(connection, data, now)
    elif isinstance(data, ConsentChanged):
        consents.book(connection, event, data)
    elif isinstance(data, ActivityRecorded) and data.activity and event.card_no and moved_points(event) == (0, 0):
        activities.pay(connection, event.card_no, data.activity.kind, data.activity.reference or event.id, now)
    elif isinstance(data, PurchaseRecorded) and data.hold_id:
        holds.spend(connection, event.terminal_id, data.hold_id)
    elif isinstance(data, CardReplaced) and data.card_no and data.old_card_no:
        replacement.replace(connection, data.old_card_no, data.card_no, now)
        owner = cards.get(connection, data.card_no)["member_id"]
        if owner is not None:
            cardless.release(connection, owner, now)


def _book_member(connection: Connection, data: MemberEnrolled, now: str) -> None:
    who, is_new = data.member, members.find(connection, data.member.member_id) is None
    if data.provisional:
        members.name(connection, who.member_id, who.phone, now)
        return
    status = membership.status_of_new(connection)
    facts = {"phone": who.phone, "name": who.name, "tier": who.tier}
    members.enrol(connection, who.member_id, **facts, status=status, now=now)
    told_before = members.card_numbers_of(connection, [who.member_id])
    for card_no in told_before:
        cards.restate(connection, card_no)
    if is_new and told_before:
        replacement.take_over(connection, who.member_id, now)
    if is_new and who.referrer_member_id:
        referrals.note(connection, who.member_id, who.referrer_member_id, now)
    referrals.pay_due(connection, who.member_id, now)
    cardless.release(connection, who.member_id, now)


def _book_issue(connection: Connection, data: CardIssued, now: str) -> None:
    card_no = data.card.card_no
    cards.set_owner(connection, card_no, data.uid, data.member_id)
    cards.restate(connection, card_no)
    card_history.note(connection, card_no, "issued", now)
    privacy.retire_if_erased(connection, card_no, now)
    if data.member_id:
        members.tell_of_card(connection, data.member_id, now)
        referrals.pay_due(connection, data.member_id, now)
        replacement.take_over(connection, data.member_id, now)
        cardless.release(connection, data.member_id, now)


def _book_anomaly(connection: Connection, data: CardAnomaly, now: str) -> None:
    if data.kind == _ROLLED_BACK:
        cards.block(connection, data.card_no, REASON_ROLLED_BACK, now)
    elif data.kind == _BLOCKED:
        cards.block(connection, data.card_no, data.reason, now)


def _book_card_state(connection: Connection, event: Event, now: str) -> bool:
    """Adds what was written to the card to its chain, then settles the writes in doubt that this tells about."""
    data = event.data
    contested = _is_contested(connection, event)
    if data.card and cards.pass_adjustments(connection, data.card.card_no, data.card.adjustments_through):
        restore.note_once(connection, now)
    if isinstance(data, IntentResolved):
        intents.told(connection, data.card_no, data.intent_id, data.landed, now)
    elif data.intent:
        earned, redeemed = moved_points(event)
        if data.card:  # its terminal looked later, and found it there
            intents.told(connection, data.intent.card_no, data.intent.intent_id, True, now)
        intents.tried(connection, data.intent, earned - redeemed, now)
    state, intent_id = _written(event)
    if state:
        cards.add_state(connection, event, state, intent_id)
        intents.settle(connection, state.card_no, {state.sequence - 1, state.sequence, state.sequence + 1}, now)
    return contested


def _is_contested(connection: Connection, event: Event) -> bool:
    """Whether this event claims a card counter that another one has claimed."""
    data = event.data
    claim = None
    if isinstance(data, IntentResolved) and data.landed and data.card is None:
        claim = intents.claim_of(connection, data.card_no, data.intent_id)
    state, intent_id = _written(event)
    if state:
        balances = state.balance_before, state.balance_after, state.adjustments_through
        claim = intents.Claim(state.card_no, state.sequence, intent_id, balances, looked=False)
    elif data.intent and data.card:
        tried = data.intent
        balances = tried.balance_before, tried.balance_after, tried.adjustments_through
        claim = intents.Claim(tried.card_no, tried.sequence_after, tried.intent_id, balances, looked=True)
    return claim is not None and intents.is_contested(connection, claim)


def _written(event: Event) -> tuple[CardState | None, str | None]:
    """The state this event read back from the card, and the write in doubt it came from, if any."""
    data = event.data
    if isinstance(data, IntentResolved):
        return (data.card if data.landed else None), data.intent_id
    return (None if data.intent else data.card), None
