"""A sale without the card as a command asks for it, and taking it back."""

from __future__ import annotations

from typing import Any

from terminal_agent.desk.typed import phone_of
from terminal_agent.service import lookup
from terminal_agent.service.agent import Agent
from terminal_agent.taps import PURCHASE
from terminal_agent.till import reversal
from terminal_agent.till_api.asked import asked_of


def purchase_by_phone(agent: Agent, params: dict[str, Any]) -> dict[str, Any]:
    """The recorded answer of a receipt that is finished, or the sale, done at once. Raises AgentError."""
    bill = {"receipt_no": params["receipt_no"], "amount": params["amount"], "redeem_points": params.get("redeem", 0)}
    more = {"lines": params.get("lines", ()), "coupon": params.get("coupon"), "expires_in_s": 0}
    unasked = {"phone": phone_of(params["phone"]), "found": None, "certain": False}
    terminal, body = agent.terminal, {"kind": PURCHASE, **bill, **more, **unasked}
    answer = asked_of(body).recorded(terminal)
    if answer is None:
        answer = asked_of(lookup.looked_up(agent, body)).at_once(terminal, agent.ids.uuid()) or {}
        agent.sync.wake()
    return {name: value for name, value in answer.items() if name != "member"}  # a screen's, and not recorded


def reverse_without_card(agent: Agent, request: reversal.ReversalRequest) -> dict[str, Any] | None:
    """Done at once; None for a sale that was made with a card. Raises AgentError."""
    answer = reversal.reverse_without_card(agent.terminal, request)
    if answer is not None:
        agent.sync.wake()
    return answer
