"""What a checkout is asked to do, and by whom: found again, done at once, or carried out with a card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from drivers.base import ClassicConnection
from terminal_agent import taps
from terminal_agent.journal import Journal
from terminal_agent.journal.intents import Checkout
from terminal_agent.journal.till import TillRequest
from terminal_agent.taps import Reserve, Terminal
from terminal_agent.till import by_phone, checkout, reversal
from terminal_agent.till.by_phone import Buyer
from terminal_agent.till.checkout import Line, PurchaseRequest
from terminal_agent.till.reversal import ReversalRequest

Body = dict[str, Any]


@dataclass(frozen=True)
class Asker:
    """Whose token it is, and the cashier who is signed in with it. ``permit`` says who else approved, if anybody had
    to; it is called once, for what was neither answered nor begun before. Raises Refused."""

    token_id: str
    cashier: str | None = None
    permit: Callable[[], str | None] = lambda: None


@dataclass(frozen=True)
class Attempt:
    """One try with a card in the field. ``writing``: to be called when the card is about to be written, by what does
    not tell ``terminal.told``."""

    terminal: Terminal
    connection: ClassicConnection
    reserve: Reserve
    checkout_id: str
    writing: Callable[[], None]


class Asked(Protocol):
    """One request to open a checkout. The answers it gives have ``state``, ``card_no`` and what else is known."""

    @property
    def kind(self) -> str: ...

    @property
    def expires_in_s(self) -> int: ...

    def shown(self, terminal: Terminal) -> Body:
        """What its document begins with: ``amount, receipt_no, redeem_points``. Raises AgentError."""

    def begun(self, terminal: Terminal) -> Checkout | None:
        """The journal's checkout of this very request, if a card was already written for it, or may have been."""

    def recorded(self, terminal: Terminal) -> Body | None:
        """The answer of what is finished. Raises AgentError for what can never be carried out."""

    def at_once(self, terminal: Terminal, checkout_id: str) -> Body | None:
        """The answer of what needs no card, recorded in the caller's transaction; None for what waits for one. Raises
        AgentError."""

    def carry_out(self, attempt: Attempt) -> Body:
        """With the card in the field. Raises AgentError."""


@dataclass(frozen=True)
class Purchase:
    """A sale."""

    request: PurchaseRequest
    expires_in_s: int
    kind: str = taps.PURCHASE

    def shown(self, terminal: Terminal) -> Body:
        asked = self.request
        return {"amount": asked.amount, "receipt_no": asked.receipt_no, "redeem_points": asked.redeem}

    def begun(self, terminal: Terminal) -> Checkout | None:
        return checkout.checkout_of(terminal, self.request)

    def recorded(self, terminal: Terminal) -> Body | None:
        return checkout.recorded(terminal, self.request)

    def at_once(self, terminal: Terminal, checkout_id: str) -> Body | None:
        return None

    def carry_out(self, attempt: Attempt) -> Body:
        request = replace(self.request, checkout_id=attempt.checkout_id)
        return checkout.purchase(attempt.terminal, attempt.connection, request, attempt.reserve)


@dataclass(frozen=True)
class PurchaseByPhone(Purchase):
    """A sale without the card. ``found``: ``{member_id, card_no, member}`` of who has this phone, as it was looked up;
    None means nobody where that is ``certain``."""

    phone: str = ""
    found: Body | None = None
    certain: bool = False

    def at_once(self, terminal: Terminal, checkout_id: str) -> Body | None:
        if self.found is None and self.certain:
            raise by_phone.nobody()
        found = self.found or {"member_id": None, "card_no": None, "member": None}
        tier = found["member"] and found["member"]["tier"]
        buyer = Buyer(self.phone, found["member_id"], found["card_no"], tier)
        sold = by_phone.sell(terminal, replace(self.request, checkout_id=checkout_id), buyer)
        return {**sold, "member": found["member"]}


@dataclass(frozen=True)
class Reversal:
    """A return."""

    request: ReversalRequest
    expires_in_s: int
    kind: str = taps.REVERSAL

    def shown(self, terminal: Terminal) -> Body:
        amount = reversal.amount_of(terminal, self.request)
        return {"amount": amount, "receipt_no": self.request.receipt_no, "redeem_points": 0}

    def begun(self, terminal: Terminal) -> Checkout | None:
        return reversal.checkout_of(terminal, self.request)

    def recorded(self, terminal: Terminal) -> Body | None:
        return reversal.recorded_reversal(terminal, self.request)

    def at_once(self, terminal: Terminal, checkout_id: str) -> Body | None:
        """What was sold without a card is taken back without one."""
        return reversal.reverse_without_card(terminal, replace(self.request, checkout_id=checkout_id))

    def carry_out(self, attempt: Attempt) -> Body:
        request = replace(self.request, checkout_id=attempt.checkout_id)
        return reversal.reverse_by_tap(attempt.terminal, attempt.connection, request)


def asked_of(body: Body) -> Asked:
    """The sale or return that a body stands for; one by phone says who was found. Raises AgentError
    ``invalid_input``."""
    if body["kind"] == taps.REVERSAL:
        returned = ReversalRequest(body["receipt_no"], body["amount"], body["reference"])
        return Reversal(returned, body["expires_in_s"])
    lines = tuple(Line(**line) for line in body["lines"])
    bill = (body["receipt_no"], body["amount"], body["redeem_points"], lines)
    request = PurchaseRequest(*bill, coupon=body["coupon"])
    if "phone" not in body:
        return Purchase(request, body["expires_in_s"])
    who = {name: body[name] for name in ("phone", "found", "certain")}
    return PurchaseByPhone(request, body["expires_in_s"], **who)


def staff_of(terminal: Terminal, begun: Checkout) -> dict[str, Any]:
    """Who had opened it, as far as requests are remembered; nobody for what a command began."""
    kept = terminal.journal.till.request_of(begun.checkout_id)
    return {name: kept.document.get(name) if kept else None for name in ("cashier", "approved_by")}


def keep_opened(journal: Journal, request: TillRequest, asker: Asker, *, is_new: bool) -> None:
    """Inside the caller's transaction: the request, and who stood at the till."""
    journal.till.add_request(request)
    document = request.document
    told = {"checkout_id": document["id"], "kind": document["kind"], "receipt_no": document["receipt_no"]}
    if is_new:  # else it was done before
        approved_by = document["approved_by"]
        journal.audit("till.opened", **told, token_id=asker.token_id, cashier=asker.cashier, approved_by=approved_by)
