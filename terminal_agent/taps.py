"""What every tap has in common: whose card it is, whether it may be used, and settling what was left in doubt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from drivers.base import ClassicConnection
from terminal_agent.card import tap
from terminal_agent.card.keys import KeyProvider
from terminal_agent.card.layout import (
    CardState,
    HistoryEntry,
    HistoryKind,
    Identity,
    is_sealed_for_a_home,
    short_code,
)
from terminal_agent.card.problems import (
    card_blocked,
    card_erased,
    card_pending,
    card_rolled_back,
    copied_from,
    keys_retired,
    not_our_card,
)
from terminal_agent.card.session import CardSession, look
from terminal_agent.contract import EventType, subject_of
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal import Journal
from terminal_agent.journal.events import NewEvent
from terminal_agent.journal.intents import Checkout, CheckoutState, Intent, IntentState
from terminal_agent.journal.knowledge import KnownCard, Member
from terminal_agent.ports import Clock, Ids, rfc3339

ISSUE, PURCHASE, REVERSAL = "issue", "purchase", "reversal"
ACTIVE, WIPED, BLOCKED, PENDING = "active", "wiped", "blocked", "pending"
NO_LONGER_USED = (BLOCKED, "replaced", "retired")
"""What the CRM may call a card that is not to be used any more."""
REPLACED = "replaced"
"""Why a card is on the hotlist whose owner has another one now."""
MOST_CARDS_COMPARED, LONGEST_COMPARED_S = 3000, 2.0


@dataclass(frozen=True)
class Terminal:
    """Everything a tap needs of this terminal. ``programme_id`` is None until it has joined a CRM.

    ``told`` hears what was decided for the card in the field, just before it is written; ``served`` hears of the card
    once that is done, as it was read before.
    """

    journal: Journal
    keys: KeyProvider
    clock: Clock
    ids: Ids
    terminal_id: str
    currency: str
    programme_id: str | None = None
    told: Callable[[Checkout], None] = lambda _checkout: None
    served: Callable[[PresentedCard], None] = lambda _card: None

    @property
    def programme_code(self) -> int:
        return short_code(self.programme_id) if self.programme_id else 0


@dataclass(frozen=True)
class PresentedCard:
    """A card of ours in the field, read and settled: ``state`` is what it holds now."""

    session: CardSession
    identity: Identity
    state: CardState
    known: KnownCard | None
    torn: bool
    sequence_seen: int = -1
    """The highest sequence this shop knows the card had; a card that holds less was rolled back."""
    has_retired_keys: bool = False

    @property
    def card_no(self) -> str:
        return self.identity.card_no


def present(terminal: Terminal, connection: ClassicConnection) -> PresentedCard:
    """Read the card and say whose it is. Raises AgentError for every card that is not ours to use."""
    knowledge = terminal.journal.knowledge
    known = knowledge.card_by_uid(connection.uid.hex())
    try:
        session = CardSession.open(connection, terminal.keys, known=known is not None and known.status == ACTIVE)
    except AgentError as problem:
        owner = content_owner(terminal, connection) if problem.code is ErrorCode.DATA_CORRUPT else None
        if owner is None:
            raise
        raise copied_from(owner.card_no) from problem
    live = session.live
    if terminal.programme_code and live.identity.programme not in (0, terminal.programme_code):
        raise not_our_card()
    if known is None or known.card_no != live.identity.card_no:
        known = knowledge.card(live.identity.card_no)
    seen = known.state["sequence"] if known else -1
    retired = terminal.keys.is_retired(session.keys.version)
    return PresentedCard(session, live.identity, live.newest, known, live.torn, seen, retired)


def content_owner(terminal: Terminal, connection: ClassicConnection) -> KnownCard | None:
    """The card whose blocks were carried to this one, among those seen here last. Asked of damaged cards only."""
    blocks = [block for opened in look(connection, terminal.keys) for block in opened.raw if any(block)]
    held, began = terminal.keys.versions(), terminal.clock.monotonic()
    for card in terminal.journal.knowledge.recent_cards(MOST_CARDS_COMPARED):
        if terminal.clock.monotonic() - began > LONGEST_COMPARED_S:  # keys out of a slow token
            break
        if card.uid != connection.uid.hex() and card.key_set_version in held:
            keys = terminal.keys.card_keys(card.key_set_version, bytes.fromhex(card.uid))
            if any(is_sealed_for_a_home(keys, block) for block in blocks):
                return card
    return None


def refuse_unusable(terminal: Terminal, card: PresentedCard) -> None:
    """Raises AgentError for a card whose owner was erased, one on the hotlist or of retired keys, or one that
    holds less than this shop has seen."""
    refuse_erased(terminal, card.card_no)
    reason = terminal.journal.knowledge.block_reason(card.card_no)
    if reason is not None:
        raise card_blocked(reason)
    if card.has_retired_keys:
        raise keys_retired(card.session.keys.version, card.card_no)
    if card.sequence_seen > card.state.sequence or is_another_copy(card):
        raise _rolled_back(terminal, card, card.sequence_seen)


def refuse_erased(terminal: Terminal, card_no: str) -> None:
    """Raises AgentError ``card_erased``; who runs the tap then blanks the card."""
    if terminal.journal.knowledge.is_erased(card_no):
        raise card_erased()


@dataclass(frozen=True)
class CardAtCrm:
    """What the CRM says of a card at this tap: its balance there, the newest sequence it has heard of, its status, and
    the hold under which it set the points aside."""

    balance: int
    sequence: int
    status: str
    hold_id: str | None = None


Reserve = Callable[[str, CardState, int, str], CardAtCrm | None]
"""Asks the CRM to set points aside: card number, the state the card shows, points, a name for the request. None when
the CRM is not to be asked, or does not say."""


def confirmed(
    terminal: Terminal, card: PresentedCard, points: int, reference: str, reserve: Reserve
) -> CardAtCrm | None:
    """The card at the CRM, if the CRM has seen exactly this card's chain; None when it cannot say.

    Raises AgentError for a card that the CRM has blocked, or has seen further on than it is now.
    """
    known = reserve(card.card_no, card.state, points, reference)
    refuse_erased(terminal, card.card_no)
    reason = terminal.journal.knowledge.block_reason(card.card_no)
    if reason is not None:  # asking brought the feed along
        raise card_blocked(reason)
    if known is None:
        return None
    if known.status in NO_LONGER_USED:
        raise card_blocked("the CRM says so")
    if known.status == PENDING:
        raise card_pending()
    if known.sequence > card.state.sequence:
        raise _rolled_back(terminal, card, known.sequence)
    return known if (known.sequence, known.status) == (card.state.sequence, ACTIVE) else None


def is_another_copy(card: PresentedCard) -> bool:
    """Whether this shop knows another state under the same sequence, or wiped this card: a clone, or an old image."""
    known = card.known
    if known is None or known.state["sequence"] > card.state.sequence:
        return False
    return known.status == WIPED or (
        known.state["sequence"] == card.state.sequence and known.state != card.state.to_json()
    )


def _rolled_back(terminal: Terminal, card: PresentedCard, seen: int) -> AgentError:
    """The refusal, with one anomaly event for each state a card was rolled back to, however often it is tapped."""
    journal = terminal.journal
    key = f"rolled_back:{card.card_no}:{card.state.sequence}:{seen}"
    if journal.meta(key) is None:
        detail = {"sequence_seen": seen, "sequence_on_card": card.state.sequence}
        data = {"card_no": card.card_no, "kind": "rolled_back", "detail": detail}

        def told() -> None:
            journal.set_meta(key, rfc3339(terminal.clock.now()))
            journal.audit("card.rolled_back", card_no=card.card_no, **detail)
            journal.events.append(new_event(terminal, EventType.CARD_ANOMALY, card.card_no, data))

        journal.write(told)
    return card_rolled_back(seen, card.state.sequence)


def new_event(
    terminal: Terminal, kind: EventType, card_no: str | None, data: dict[str, Any], subject: str = ""
) -> NewEvent:
    """An event of this moment, with an id that it keeps for ever; about the card where no ``subject`` is named."""
    subject = subject or subject_of(card_no or "")
    return NewEvent(terminal.ids.uuid(), kind, subject, card_no, rfc3339(terminal.clock.now()), data)


def card_data(card_no: str, before: CardState | None, after: CardState) -> dict[str, Any]:
    """``data.card`` of an event: the card's chain as the CRM replays it."""
    return {
        "card_no": card_no,
        "sequence": after.sequence,
        "balance_before": before.balance if before else 0,
        "balance_after": after.balance,
        "adjustments_through": after.adjustments_through,
    }


def settle(terminal: Terminal, card: PresentedCard) -> PresentedCard:
    """Bring every open intent of this card to its end, then say what the card holds now.

    Raises AgentError, or what the driver raises; what could not be settled then stays open.
    """
    unsettled = terminal.journal.intents.unsettled(card.card_no)
    for state, intent in unsettled:
        if state is IntentState.OPEN:
            card = _settle_one(terminal, card, intent)
    for state, intent in unsettled:
        if state is IntentState.CLOSED:
            _report_closed(terminal, card, intent)
    return card


def _settle_one(terminal: Terminal, card: PresentedCard, intent: Intent) -> PresentedCard:
    after = CardState.from_json(intent.after)
    if intent.before is None:  # an issue: the card opens with our keys, so its last write landed
        record_issue(terminal, intent, card.state)
        known = terminal.journal.knowledge.card(card.card_no)
        return replace(card, known=known)
    verdict = tap.judge(CardState.from_json(intent.before), after, card.state)
    if verdict is tap.Settlement.ROLLED_BACK:
        return replace(card, sequence_seen=max(card.sequence_seen, intent.before["sequence"]))
    knowledge = terminal.journal.knowledge
    blocked = knowledge.block_reason(card.card_no) or knowledge.is_erased(card.card_no) or card.has_retired_keys
    if verdict is tap.Settlement.MOVED_ON or verdict is tap.Settlement.NOT_LANDED and blocked:
        if intent.checkout_id:
            close(terminal, intent.checkout_id)
        return card
    if verdict is tap.Settlement.LANDED:
        finish(terminal, card, _as_seen(intent))
    else:
        try:
            tap.commit(card.session, after, None, lambda: finish(terminal, card, intent))
        except tap.InDoubt as doubt:  # still: the intent stays open
            raise doubt.problem from doubt
    tap.write_history(card.session, history_entry(terminal, intent))
    return replace(card, state=after)


def _as_seen(intent: Intent) -> Intent:
    """The write was not read back at once: the card only holds what it would have left. Another shop may have written
    the same meanwhile, so the CRM is told what was tried as well, and decides by the whole chain."""
    tried = intent.tried
    return replace(intent, events=tuple(replace(e, data={**e.data, "intent": tried}) for e in intent.events))


def finish(terminal: Terminal, card: PresentedCard, intent: Intent, checkout: Checkout | None = None) -> bool:
    """The write landed: outcome, events and the newest state seen, in one commit. ``checkout`` saves looking it up.

    Gives whether the intent had ended before. It was closed meanwhile, which stands, and the CRM is told that its write
    landed; or this is the second try of a commit that took and was told as failed.
    """
    journal, after = terminal.journal, CardState.from_json(intent.after)

    def landed() -> bool:
        if not journal.intents.settle(intent.intent_id, IntentState.LANDED) and journal.intents.ended(intent.intent_id):
            _resolve(terminal, card, intent, after, landed=True)
            remember_state(terminal, card, after)
            return True
        for event in intent.events:
            journal.record(event)
        remember_state(terminal, card, after)
        begun = checkout
        if begun is None and intent.checkout_id is not None:
            begun = journal.checkouts.by_id(intent.checkout_id)
        if begun is not None:
            result = {**begun.result, "state": CheckoutState.DONE.value}
            journal.checkouts.finish(begun.checkout_id, CheckoutState.DONE, result)
        return False

    return journal.write(landed)


def record_issue(terminal: Terminal, intent: Intent, state: CardState) -> None:
    """A card is issued: member, card and both events, in one commit. ``state`` is what the card holds now."""
    journal = terminal.journal
    member = Member(**intent.history["member"])
    version, replaces = intent.history["key_set_version"], intent.history.get("replaces")

    def issued() -> None:
        if not journal.intents.settle(intent.intent_id, IntentState.LANDED) and journal.intents.ended(intent.intent_id):
            return
        for event in intent.events:
            journal.events.append(event)
        journal.knowledge.remember_new_member(member)
        card = KnownCard(intent.card_no, intent.uid, member.member_id, version, state.to_json(), ACTIVE)
        journal.knowledge.saw_card(card)
        if replaces:
            journal.knowledge.set_hotlist(replaces, True, REPLACED)
        journal.audit("card.issued", card_no=intent.card_no, uid=intent.uid, key_set_version=version)

    journal.write(issued)


def remember_state(terminal: Terminal, card: PresentedCard, state: CardState) -> None:
    """Keep the newest state seen of a card, inside the caller's transaction."""
    member_id = card.known.member_id if card.known else None
    uid, version = card.session.uid.hex(), card.session.keys.version
    terminal.journal.knowledge.saw_card(KnownCard(card.card_no, uid, member_id, version, state.to_json(), ACTIVE))


def _report_closed(terminal: Terminal, card: PresentedCard, intent: Intent) -> None:
    """A sale closed without its card: now that the card is back, tell the CRM whether the write had landed."""
    if intent.before is None:
        return
    verdict = tap.judge(CardState.from_json(intent.before), CardState.from_json(intent.after), card.state)
    if verdict not in (tap.Settlement.LANDED, tap.Settlement.NOT_LANDED):
        return
    landed = verdict is tap.Settlement.LANDED
    terminal.journal.write(lambda: _resolve(terminal, card, intent, card.state, landed=landed))


def _resolve(terminal: Terminal, card: PresentedCard, intent: Intent, state: CardState, *, landed: bool) -> None:
    """Tell how the write of a closed sale ended, inside the caller's transaction. ``state`` is what the card holds."""
    journal = terminal.journal
    ended = IntentState.LANDED if landed else IntentState.NOT_LANDED
    if journal.intents.settle(intent.intent_id, ended, IntentState.CLOSED):
        data = {"intent_id": intent.intent_id, "card_no": card.card_no, "landed": landed, "card": None}
        journal.events.append(new_event(terminal, EventType.INTENT_RESOLVED, card.card_no, data))
        if landed:
            remember_state(terminal, card, state)


def close(terminal: Terminal, checkout_id: str) -> dict[str, Any] | None:
    """End a sale in doubt without its card: the sale stands and earns, nothing unverified is redeemed.

    Gives the checkout's answer, or None when it is not in doubt. The CRM books the points and brings the difference
    to the card as an adjustment.
    """
    journal = terminal.journal

    def closed() -> dict[str, Any] | None:  # looked up inside: two who close the same sale must not both do it
        checkout, intent = journal.checkouts.by_id(checkout_id), journal.intents.of_checkout(checkout_id)
        if checkout is None or intent is None or checkout.state is not CheckoutState.IN_DOUBT:
            return None
        result = checkout.result_without_card
        journal.intents.settle(intent.intent_id, IntentState.CLOSED)
        for event in intent.events:
            points = {**event.data["points"], "redeemed": min(0, event.data["points"]["redeemed"])}
            data = {**event.data, "card": None, "intent": intent.tried, "points": points}
            journal.record(replace(event, data=data))
        journal.checkouts.finish(checkout_id, CheckoutState.CLOSED, result)
        journal.audit("checkout.closed", checkout_id=checkout_id, card_no=intent.card_no)
        return result

    return journal.write(closed)


def history_entry(terminal: Terminal, intent: Intent) -> HistoryEntry:
    """What the card's own ring gets of an intent."""
    return HistoryEntry(
        kind=HistoryKind(intent.history["kind"]),
        sequence=intent.after["sequence"],
        time=terminal.clock.now(),
        amount=intent.history["amount"],
        points=intent.history["points"],
        terminal=short_code(terminal.terminal_id),
    )


def in_doubt_error(problem: AgentError, result: dict[str, Any]) -> AgentError:
    """The answer while a checkout is in doubt: its state beside the error, and the two ways out of it."""
    hint = (
        "Put the SAME card back and run the same command again, or end the sale without it: terminal-agent queue close "
    )
    details = {**result, "state": CheckoutState.IN_DOUBT.value}
    return AgentError(problem.code, problem.message, hint=hint + result["checkout_id"], details=details)
