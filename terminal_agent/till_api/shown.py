"""A checkout as the API shows it: one document, the same in answers, in events and on disk."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.intents import Checkout
from terminal_agent.journal.knowledge import NAMED, Member
from terminal_agent.taps import Terminal
from terminal_agent.till_api.problems import as_shown

_OF_THE_RESULT = (
    "card_no", "points_before", "points_earned", "points_redeemed", "points_after", "sequence", "offers",
    "explanation", "online", "replayed", "amount", "member_id", "already_member",
    "takes_over",
)  # fmt: skip


class State(StrEnum):
    """Where a checkout stands."""

    WAITING = "waiting_for_card"
    READING = "reading"
    WRITING = "writing"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    IN_DOUBT = "in_doubt"
    CLOSED = "closed"
    """In doubt, and ended without its card: the sale stands, its points come by themselves."""


def opened(checkout_id: str, kind: str, asked: dict[str, Any], currency: str, expires_at: str) -> dict[str, Any]:
    """A checkout that waits for its card. ``asked``: ``amount, receipt_no, redeem_points``."""
    return {
        "id": checkout_id,
        "kind": kind,
        "state": State.WAITING.value,
        "amount": asked["amount"],
        "currency": currency,
        "receipt_no": asked["receipt_no"],
        "redeem_points": asked["redeem_points"],
        "card_no": None,
        "member_id": None,
        "member": None,
        "already_member": None,
        "takes_over": [],
        "points_before": None,
        "points_earned": None,
        "points_redeemed": None,
        "points_after": None,
        "sequence": None,
        "offers": [],
        "explanation": [],
        "online": None,
        "replayed": False,
        "error": None,
        "expires_at": expires_at,
        "cashier": None,
        "approved_by": None,
    }


def with_result(terminal: Terminal, document: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """The document with what the tap decided, or recorded, and who the member is."""
    told = {name: result[name] for name in _OF_THE_RESULT if name in result}
    return {
        **document,
        **told,
        "state": result["state"],
        "member": result.get("member") or _named_in(terminal, result) or document["member"],
        "error": None,
    }


def recorded(terminal: Terminal, checkout: Checkout) -> dict[str, Any]:
    """A sale or return out of the journal, for a list of them."""
    return {
        "id": checkout.checkout_id,
        "kind": checkout.kind,
        "state": checkout.state.value,
        "amount": checkout.amount,
        "currency": checkout.currency,
        "receipt_no": checkout.receipt_no,
        "reference": checkout.reference,
        "card_no": checkout.result["card_no"],
        "member": _named_in(terminal, checkout.result),
        "points_earned": checkout.result["points_earned"],
        "points_redeemed": checkout.result["points_redeemed"],
        "at": checkout.created_at,
    }


def _named_in(terminal: Terminal, result: dict[str, Any]) -> dict[str, Any] | None:
    """Who an answer is about: by their card, or by phone where there was none."""
    if result.get("member_id"):
        member = terminal.journal.knowledge.member(result["member_id"])
        return first_name_and_tier(member) if member and member.status != NAMED else None
    return member_of(terminal, result["card_no"])


def member_of(terminal: Terminal, card_no: str) -> dict[str, Any] | None:
    """First name and tier, as far as this shop knows them."""
    knowledge = terminal.journal.knowledge
    card = knowledge.card(card_no)
    member = knowledge.member(card.member_id) if card else None
    return first_name_and_tier(member) if member else None


def first_name_and_tier(member: Member) -> dict[str, Any]:
    """As much of a member as a screen needs that customers can see."""
    return {"first_name": member.name.split()[0] if member.name else None, "tier": member.tier}


def expired(document: dict[str, Any]) -> dict[str, Any]:
    """The checkout after its time; one in doubt stays that until its card comes back or it is closed without."""
    if document["state"] == State.IN_DOUBT:
        return document
    error = AgentError(
        ErrorCode.NO_CARD_TIMEOUT, "no card came in time", hint="Open the checkout again with a new Idempotency-Key"
    )
    return {**document, "state": State.EXPIRED.value, "error": document["error"] or as_shown(error)}


def seconds_until(moment: str, now: datetime) -> float:
    return (datetime.fromisoformat(moment) - now).total_seconds()
