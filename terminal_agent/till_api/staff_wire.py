"""The shapes of what the till's API says of who stands there."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, StringConstraints, model_validator

from terminal_agent.till_api.wire import Amount, Asked, Reference

Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Pin = Annotated[str, StringConstraints(min_length=1, max_length=32)]
RoleName = Literal["cashier", "supervisor", "administrator"]


class SessionIn(Asked):
    """A cashier's name and PIN; or ``card``: whose staff card lies on the reader now."""

    cashier: Name | None = None
    pin: Pin | None = None
    card: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        named = (self.cashier is not None, self.pin is not None)
        if named != (not self.card, not self.card):
            raise ValueError("send cashier and pin, or card alone")
        return self


class SessionOut(BaseModel):
    """Send ``session`` as ``Cashier-Session`` with each request; it ends after half an hour without one. ``role`` is
    what counts: a card gives the rights of a cashier, whoever's it is."""

    session: str
    cashier: str
    role: RoleName
    by: Literal["card", "pin"]


class ApprovalIn(Asked):
    """A supervisor's name and PIN, and the return they allow: as it will be sent to ``POST /v1/reversals``."""

    cashier: Name
    pin: Pin
    receipt_no: Reference
    amount: Amount | None = None


class ApprovalOut(BaseModel):
    """Send ``approval`` as ``Cashier-Approval`` with the return; it is good once."""

    approval: str
    approved_by: str
    expires_in_s: int


class CashierIn(Asked):
    """Somebody new who may sign in. A PIN is 4 to 12 digits."""

    name: Name
    role: RoleName
    pin: Pin


class CashierChangeIn(Asked):
    """Another role or PIN; what is left out stays."""

    name: Name
    role: RoleName | None = None
    pin: Pin | None = None


class CashierNameIn(Asked):
    """Which cashier."""

    name: Name


class CashierCardIn(Asked):
    """The card on the reader becomes this cashier's; with ``remove`` none is."""

    name: Name
    remove: bool = False


class CashierOut(BaseModel):
    """Somebody who may sign in, and whether they have a staff card."""

    name: str
    role: RoleName
    card: bool


class CashiersOut(BaseModel):
    """Everybody who may sign in, by name."""

    cashiers: list[CashierOut]


class TokenIdIn(Asked):
    """Which paired program."""

    token_id: Annotated[str, Field(min_length=1, max_length=64)]


class PairedOut(BaseModel):
    """A program or browser that was paired, and when it was sent away."""

    token_id: str
    name: str
    scopes: list[str]
    created_at: str
    revoked_at: str | None


class PairedListOut(BaseModel):
    """All that were ever paired, oldest first."""

    tokens: list[PairedOut]
