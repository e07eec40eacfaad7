"""The shapes of the till's API. Amounts are whole numbers in the smallest unit of the currency."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from terminal_agent.card.layout import MAX_BALANCE
from terminal_agent.till.checkout import MAX_LINES, MAX_QUANTITY
from terminal_agent.till.decided import LONGEST_REFERENCE, MAX_AMOUNT

DEFAULT_EXPIRY_S = 120
LONGEST_EXPIRY_S = 900
LONGEST_NAME = 100
LONGEST_PHONE = 40

Reference = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_REFERENCE)]
Amount = Annotated[int, Field(ge=1, le=MAX_AMOUNT)]
Phone = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_PHONE)]
Expiry = Annotated[int, Field(ge=1, le=LONGEST_EXPIRY_S)]


class Asked(BaseModel):
    """What is sent to the till: nothing it does not know, nothing of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PairIn(Asked):
    """A code that ``terminal-agent till code`` showed, and what the program calls itself."""

    code: Annotated[str, StringConstraints(min_length=1, max_length=32)]
    name: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "POS"
    cashiers: bool = False
    """Whether it stands for whoever is signed in, where cashiers are named."""


class LineIn(Asked):
    """One line of the bill."""

    sku: Reference
    quantity: Annotated[int, Field(ge=1, le=MAX_QUANTITY)]
    amount: Annotated[int, Field(ge=-MAX_AMOUNT, le=MAX_AMOUNT)]


class CheckoutIn(Asked):
    """A sale that waits for the customer's card, or names the ``phone`` of who has left it at home."""

    amount: Amount
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
    receipt_no: Reference
    redeem_points: Annotated[int, Field(ge=0, le=MAX_BALANCE)] = 0
    lines: Annotated[list[LineIn], Field(max_length=MAX_LINES)] = []
    coupon: Reference | None = None
    phone: Phone | None = None
    expires_in_s: Expiry = DEFAULT_EXPIRY_S


class ReversalIn(Asked):
    """A return of an earlier sale, whole without an amount. A second return of the same amount needs a reference."""

    receipt_no: Reference
    amount: Amount | None = None
    reference: Reference | None = None
    expires_in_s: Expiry = DEFAULT_EXPIRY_S


class EnrolmentIn(Asked):
    """A new member, by phone; with ``card`` a blank card is waited for and becomes theirs."""

    phone: Phone
    name: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_NAME)] | None = None
    card: bool = False
    marketing_consent: bool = False
    expires_in_s: Expiry = DEFAULT_EXPIRY_S


class Message(BaseModel):
    """What the cashier reads."""

    fa: str
    en: str


class ErrorOut(BaseModel):
    """Why a checkout failed, or what the cashier must do now. ``upos_code``: UnifiedPOS' name for it."""

    code: str
    retryable: bool
    upos_code: str
    message: Message
    action: Message
    detail: str
    hint: str
    redeemable_points: int | None = None


class MemberOut(BaseModel):
    """As much of a member as a screen needs that customers can see."""

    first_name: str | None
    tier: str | None


class FoundMemberOut(BaseModel):
    """A member found by their phone. ``points``: those of the card ``card_no``, or of a member without one those that
    wait for it, as far as they are known; ``source``: who says so, the CRM now or what this terminal heard last."""

    member_id: str
    first_name: str | None
    tier: str | None
    card_no: str | None
    points: int | None
    status: str
    source: Literal["crm", "terminal"]


class CheckoutOut(BaseModel):
    """A checkout, whole. Points are null until the card has been read; ``error`` stays after the state went on.
    ``member_id`` is told of what was asked for by phone, ``already_member`` of an enrolment, and ``takes_over`` of one
    with a card: the member's blocked cards, whose points come to it."""

    id: str
    kind: Literal["purchase", "reversal", "enrolment"]
    state: Literal[
        "waiting_for_card", "reading", "writing", "done", "failed", "cancelled", "expired", "in_doubt", "closed"
    ]
    amount: int | None
    currency: str
    receipt_no: str | None
    redeem_points: int
    card_no: str | None
    member_id: str | None = None
    member: MemberOut | None
    already_member: bool | None = None
    takes_over: list[str] = []
    points_before: int | None
    points_earned: int | None
    points_redeemed: int | None
    points_after: int | None
    sequence: int | None
    offers: list[dict[str, Any]]
    explanation: list[dict[str, Any]]
    online: bool | None
    replayed: bool
    error: ErrorOut | None
    expires_at: str
    cashier: str | None = None
    """Who had signed in when it was opened; null for POS software, which signs its own people in."""
    approved_by: str | None = None


class SaleOut(BaseModel):
    """A sale or return as this terminal recorded it; ``card_no`` null for one by phone."""

    id: str
    kind: Literal["purchase", "reversal"]
    state: Literal["done", "in_doubt", "closed"]
    amount: int
    currency: str
    receipt_no: str
    reference: str
    card_no: str | None
    member: MemberOut | None
    points_earned: int
    points_redeemed: int
    at: str


class CheckoutsOut(BaseModel):
    """The checkout that is open now, and the last ones recorded, newest first."""

    open: CheckoutOut | None
    checkouts: list[SaleOut]


class TierOut(BaseModel):
    """A tier of the policy in force."""

    tier: str
    level: int
    name: Message


class UnitOut(BaseModel):
    """What amounts are written in: the smallest unit of the currency with ``places`` digits after the point, which are
    left out where they are 0 and ``exact`` is false (ten rials are a toman)."""

    name: Message
    places: int
    exact: bool


class ShopOut(BaseModel):
    """What a screen must know to speak as the shop does."""

    terminal_id: str
    name: str | None
    language: Literal["fa", "en"]
    currency: str
    unit: UnitOut
    redeem: dict[str, int]
    offline_points_per_card: int
    in_doubt_close_after_s: int
    tiers: list[TierOut]
    cashiers: list[str]
    sign_in: bool
    """Whether a page must say who stands there; with no cashiers, because they were lost with a damaged journal."""


class TokenOut(BaseModel):
    """A token is shown this once; send it as ``Authorization: Bearer …``."""

    token: str
    token_id: str
    scopes: list[str]
    terminal_id: str
    currency: str


class EventOut(BaseModel):
    """One event of the stream."""

    id: str
    event: str
    data: dict[str, Any]


class EventsOut(BaseModel):
    """What a long poll answers; ask again with ``after`` set to the last id, or to ``last_id`` when there was none."""

    events: list[EventOut]
    last_id: str


class Health(BaseModel):
    """The process answers."""

    status: str


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    retryable: bool
    hint: str
    upos_code: str
    message: Message
