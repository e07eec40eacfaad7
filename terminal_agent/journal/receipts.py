"""Receipts known again from their events: a sale whose own row is lost must all the same not be made twice."""

from __future__ import annotations

import json
from typing import Any

from terminal_agent.journal.intents import CheckoutState
from terminal_agent.journal.salvage import KeptEvent


def checkout_told_by(event: KeptEvent) -> dict[str, Any] | None:
    """The finished purchase that ``event`` tells of, as a row of checkouts; None for another kind of event."""
    data = json.loads(event.body)["data"]
    try:
        if data["card"] is None and "intent" not in data:
            return _told_by_phone(event, data)
        purchase, points, written = data["purchase"], data["points"], data["card"] or data["intent"]
        moved = points["earned"] - points["redeemed"]
        result = {
            "checkout_id": event.event_id,
            "receipt_no": purchase["receipt_no"],
            "amount": purchase["amount"],
            "currency": purchase["currency"],
            "card_no": event.card_no,
            "points_before": written["balance_before"],
            "points_adjusted": written["balance_after"] - written["balance_before"] - moved if data["card"] else 0,
            "points_earned": points["earned"],
            "points_redeemed": points["redeemed"],
            "points_after": written["balance_after"] if data["card"] else written["balance_before"] + moved,
            "sequence": written["sequence"] if data["card"] else written["sequence_after"],
            "explanation": [],
            "offers": [],
            "online": data["online"],
            "replayed": False,
        }
    except (KeyError, TypeError):
        return None
    state = CheckoutState.DONE if data["card"] else CheckoutState.CLOSED
    return _row(event, data, result, state)


def _told_by_phone(event: KeptEvent, data: dict[str, Any]) -> dict[str, Any]:
    """The same of a sale without a card. Raises KeyError, TypeError."""
    purchase, points = data["purchase"], data["points"]
    unknown = dict.fromkeys(("card_no", "points_before", "points_after", "sequence"))
    result = {
        **unknown,
        "checkout_id": event.event_id,
        "event_id": event.event_id,
        "member_id": data["member"]["member_id"],
        "receipt_no": purchase["receipt_no"],
        "amount": purchase["amount"],
        "currency": purchase["currency"],
        "points_adjusted": 0,
        "points_earned": points["earned"],
        "points_redeemed": 0,
        "explanation": [],
        "offers": [],
        "online": False,
        "replayed": False,
    }
    return _row(event, data, result, CheckoutState.DONE)


def _row(event: KeptEvent, data: dict[str, Any], result: dict[str, Any], state: CheckoutState) -> dict[str, Any]:
    return {
        **{name: result[name] for name in ("checkout_id", "receipt_no", "amount", "currency")},
        "card_no": event.card_no or "",
        "kind": "purchase",
        "state": state.value,
        "redeemed_offline": 0 if data["online"] else data["points"]["redeemed"],
        "result": json.dumps(result),
        "created_at": event.time,
        "reference": "",
        "online": int(data["online"]),
        "finished_at": event.time,
    }
