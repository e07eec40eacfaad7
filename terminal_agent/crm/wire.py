"""The shapes of the CRM's requests and answers, as /openapi.json shows them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from terminal_agent.contract import Verdict

Label = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]
TerminalId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class EnrolRequest(BaseModel):
    """A one-time code, and what the terminal wants to be called."""

    code: str = Field(min_length=1, max_length=64)
    terminal_id: TerminalId | None = None
    name: str | None = Field(None, max_length=100)


class EnrolAnswer(BaseModel):
    """Credentials, given out once. ``secret`` is base64 of 32 bytes."""

    terminal_id: str
    token: str
    secret: str
    programme_id: str
    server_time: str


def _is_none(value: object) -> bool:
    return value is None


class EventResult(BaseModel):
    """The verdict on one event. ``balance``: the card's points afterwards, when the event is about a card."""

    id: str | None
    status: Verdict
    code: str | None = Field(None, exclude_if=_is_none)
    detail: str | None = Field(None, exclude_if=_is_none)
    balance: int | None = Field(None, exclude_if=_is_none)


class EventsAnswer(BaseModel):
    """One verdict per event, in order, and the highest sequence up to which nothing is missing."""

    results: list[EventResult]
    acked_through: int
    server_time: str


class FeedAnswer(BaseModel):
    """Items of any ``kind``; go on from ``next_cursor``. ``acked_through``: by install epoch of who asks."""

    items: list[dict[str, Any]]
    next_cursor: str
    has_more: bool
    acked_through: dict[str, int]


class PolicyItem(BaseModel):
    """A policy, in force from ``valid_from``."""

    kind: Literal["policy"]
    version: str
    valid_from: str
    document: dict[str, Any]


class AdjustmentItem(BaseModel):
    """Points for a card at its next tap; numbers are 1, 2, 3 … for each card."""

    kind: Literal["adjustment"]
    card_no: str
    number: int
    points: int
    reason: str


class HotlistItem(BaseModel):
    """A card that is blocked, or free again."""

    kind: Literal["hotlist"]
    card_no: str
    blocked: bool
    reason: str


class MemberItem(BaseModel):
    """Who a member is; ``alias_of``: another id of theirs, which counts."""

    kind: Literal["member"]
    member_id: str
    name: str | None
    first_name: str | None = None
    phone: str | None
    tier: str
    status: str
    alias_of: str | None = None
    cards: list[str] = []


class GrantItem(BaseModel):
    """An offer for one card, or without ``card_no`` for whoever shows its code. ``used`` is by terminal; a terminal
    counts its own uses itself."""

    kind: Literal["offer"]
    grant_id: str
    offer_id: str
    card_no: str | None
    valid_from: str | None
    valid_to: str | None
    uses: int
    used: dict[str, int]


class OfferCounts(BaseModel):
    """What a card had of an offer or a stamp card at one terminal."""

    uses: int
    stamps: int
    rewards: int


class OfferCountsItem(BaseModel):
    """What a card had of an offer or a stamp card, by terminal; ``crm:`` is the CRM itself."""

    kind: Literal["offer"]
    card_no: str
    offer_id: str
    counts: dict[str, OfferCounts]


class ErasureItem(BaseModel):
    """A member to forget; these cards of theirs are to be blanked when they are tapped."""

    kind: Literal["erasure"]
    member_id: str
    card_nos: list[str]


class SettingsItem(BaseModel):
    """How the club is run: ``closed`` lets new members wait for an approval."""

    kind: Literal["settings"]
    club: Literal["open", "closed"]


class ResolutionItem(BaseModel):
    """What a terminal does with an event in its quarantine."""

    kind: Literal["resolution"]
    terminal_id: str
    event_id: str
    action: Literal["retry", "drop"]
    reason: str


class MemberSummary(BaseModel):
    """Who a member is; only ``member_id`` is known before the member's own event arrived."""

    member_id: str
    name: str | None = None
    phone: str | None = None
    tier: str | None = None
    status: str | None = None


class MemberChange(BaseModel):
    """What is to be different in a profile; what is not named stays."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")
    phone: str | None = Field(None, min_length=1, max_length=40)


class CardSummary(BaseModel):
    """One of a member's cards."""

    card_no: str
    status: str
    balance: int


class MemberAnswer(MemberSummary):
    """A member with their cards, and what they agreed to. ``version`` is the ``ETag``: it changes with the profile;
    ``waiting_points`` go to the first card."""

    version: str
    consents: dict[str, bool]
    cards: list[CardSummary]
    waiting_points: int


class ExportAnswer(BaseModel):
    """Everything a CRM holds of a member. ``events`` are what terminals told, ``ledger`` the lines of their cards."""

    member_id: str
    exported_at: str
    profile: dict[str, Any]
    member_ids: list[str]
    consents: list[dict[str, Any]]
    cards: list[dict[str, Any]]
    events: list[dict[str, Any]]
    ledger: list[dict[str, Any]]
    waiting_points: int
    tiers: list[dict[str, Any]]
    referrals: list[dict[str, Any]]
    audit: list[dict[str, Any]]


class ErasureAnswer(BaseModel):
    """A member who is forgotten; these cards are blanked when they are tapped."""

    member_id: str
    card_nos: list[str]
    erased_at: str


class CardAnswer(BaseModel):
    """A card; ``balance`` is the ledger's, ``adjustments_through`` the highest number given out."""

    card_no: str
    balance: int
    sequence: int
    status: str
    adjustments_through: int
    member: MemberSummary | None = None


class HoldState(StrEnum):
    """``expired`` is told, never stored: it is ``held`` after its time."""

    HELD = "held"
    CONFIRMED = "confirmed"
    SPENT = "spent"
    RELEASED = "released"
    EXPIRED = "expired"


class HoldRequest(BaseModel):
    """Points to set aside. ``card_sequence``: the counter on the card, to be checked against the CRM's; ``reference``:
    the terminal's own name for this hold, so that asking again does not set them aside twice."""

    card_no: Label
    points: int = Field(strict=True, ge=1, le=10**12)
    card_sequence: int | None = Field(None, strict=True, ge=0, le=2**53)
    reference: Label | None = None


class HoldAnswer(BaseModel):
    """A hold. ``balance`` is the ledger's, ``available`` what no hold sets aside, this one included."""

    hold_id: str
    expires_at: str
    state: HoldState
    card_no: str
    points: int
    balance: int
    available: int


class Health(BaseModel):
    """The server answers and can read its database."""

    status: str


class Problem(BaseModel):
    """An error (RFC 9457). ``code`` is for programs; ``retryable`` says whether the same request may succeed later.
    Of a refused hold, ``balance`` and ``available`` or ``sequence`` tell what the CRM has."""

    model_config = ConfigDict(json_schema_extra={"description": "RFC 9457 problem details"})

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    balance: int | None = None
    available: int | None = None
    sequence: int | None = None
