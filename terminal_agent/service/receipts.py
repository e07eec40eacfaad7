"""Printing a recorded checkout's receipt again."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any

from terminal_agent import taps
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.intents import Checkout
from terminal_agent.service.agent import Agent
from terminal_agent.service.settings import ShopSettings
from terminal_agent.till import decided
from terminal_agent.till.locale import Language
from terminal_agent.till.receipt import Receipt, Shop, lines_of, receipt_of
from terminal_agent.till.receipt_text import text

COMMAND = "receipt"


def print_again(agent: Agent, params: dict[str, Any], _talk: Callable[[str], None]) -> Any:
    """The receipt of the checkout ``checkout_id``, or that of the purchase ``receipt_no``, with ``returned`` that of
    its last return: ``lines`` of text, or ``content``, the base64 of a picture. It is marked as a copy unless ``copy``
    is false. Changes nothing. Raises AgentError."""
    checkout = _checkout(agent, params)
    shop = agent.settings.shop
    language = Language(params.get("language") or shop.language)
    columns = params.get("columns") or shop.receipt_columns
    answer = {
        "receipt_no": checkout.receipt_no,
        "kind": checkout.kind,
        "state": checkout.state.value,
        "language": language.value,
        "columns": columns,
        "format": params["format"],
    }
    receipt = receipt_for(agent, checkout, copy=params.get("copy", True))
    if params["format"] == "text":
        return {**answer, "lines": text(receipt, language, columns)}
    return {**answer, "content": b64encode(_printed(receipt, language, columns, params["format"])).decode()}


def receipt_for(agent: Agent, checkout: Checkout, *, copy: bool) -> Receipt:
    """The receipt of a checkout of this terminal, with what its journal and its config file add."""
    journal = agent.journal
    event = journal.event_of(checkout)
    data = event.data if event else {}
    card = journal.knowledge.card(checkout.card_no)
    member_id = checkout.result.get("member_id") or (card.member_id if card else None)
    return receipt_of(
        checkout,
        shop_of(agent.settings.shop),
        agent.terminal_id,
        journal.knowledge.policy(data.get("policy_version")),
        lines=lines_of(data),
        member=journal.knowledge.member(member_id),
        copy=copy,
    )


def shop_of(settings: ShopSettings) -> Shop:
    """What the config file says of receipts."""
    return Shop(settings.name, settings.amounts_in, settings.member_page, settings.first_name_on_receipts)


def _checkout(agent: Agent, params: dict[str, Any]) -> Checkout:
    return _by_id(agent, params["checkout_id"]) if "checkout_id" in params else _by_receipt(agent, params)


def _by_id(agent: Agent, checkout_id: str) -> Checkout:
    checkout = agent.journal.checkouts.by_id(checkout_id)
    if checkout is None:
        raise AgentError(
            ErrorCode.NOT_FOUND,
            "no sale or return of this id was recorded on this terminal",
            hint="A checkout has a receipt once its card was written; look at it: GET /v1/checkouts/{id}",
        )
    return checkout


def _by_receipt(agent: Agent, params: dict[str, Any]) -> Checkout:
    receipt_no = decided.checked_reference(params["receipt_no"], "the receipt number", COMMAND)
    kind = taps.REVERSAL if params.get("returned") else taps.PURCHASE
    checkout = agent.journal.checkouts.latest(kind, receipt_no)
    if checkout is None:
        what = "return of" if kind == taps.REVERSAL else "purchase with"
        raise AgentError(
            ErrorCode.NOT_FOUND,
            f"no {what} the receipt {receipt_no} was recorded on this terminal",
            hint="Check the number; a receipt is printed again at the till where it was made",
        )
    return checkout


def _printed(receipt: Receipt, language: Language, columns: int, kind: str) -> bytes:
    from terminal_agent.till.escpos import encode
    from terminal_agent.till.receipt_picture import DOTS, picture, png

    drawn = picture(receipt, language, DOTS[columns])
    return png(drawn) if kind == "png" else encode(drawn)
