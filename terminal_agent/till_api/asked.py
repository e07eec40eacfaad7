"""What the till is asked for, and by whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from drivers.base import ClassicConnection
from terminal_agent import taps
from terminal_agent.journal.intents import Checkout
from terminal_agent.taps import Reserve, Terminal
from terminal_agent.till import checkout, reversal


@dataclass(frozen=True)
class Asker:
    """Whose token it is, and the cashier who is signed in with it. ``permit`` says who else approved, if anybody had
    to; it is called once, for what was neither answered nor begun before. Raises Refused."""

    token_id: str
    cashier: str | None = None
    permit: Callable[[], str | None] = lambda: None


@dataclass(frozen=True)
class Asked:
    """A sale or a return, and how long it waits for its card."""

    request: checkout.PurchaseRequest | reversal.ReversalRequest
    expires_in_s: int

    @property
    def kind(self) -> str:
        return taps.PURCHASE if isinstance(self.request, checkout.PurchaseRequest) else taps.REVERSAL

    def begun(self, terminal: Terminal) -> Checkout | None:
        """The journal's checkout of this very request, if a card was already written for it, or may have been."""
        if isinstance(self.request, checkout.PurchaseRequest):
            return checkout.checkout_of(terminal, self.request)
        return reversal.checkout_of(terminal, self.request)

    def recorded(self, terminal: Terminal) -> dict[str, Any] | None:
        """The answer of what is finished. Raises AgentError for what can never be carried out."""
        if isinstance(self.request, checkout.PurchaseRequest):
            return checkout.recorded(terminal, self.request)
        return reversal.recorded_reversal(terminal, self.request)

    def carry_out(
        self, terminal: Terminal, connection: ClassicConnection, reserve: Reserve, checkout_id: str
    ) -> dict[str, Any]:
        """With the card in the field. Raises AgentError."""
        request = replace(self.request, checkout_id=checkout_id)
        if isinstance(request, checkout.PurchaseRequest):
            return checkout.purchase(terminal, connection, request, reserve)
        return reversal.reverse_by_tap(terminal, connection, request)
