"""Reading one event: from parsed JSON of any shape to an :class:`Event`, or a rejection that names the field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, ValidationError

from terminal_agent.club.phone import normalise_phone
from terminal_agent.contract import EventType, canonical_json, minted_fingerprint, source_of
from terminal_agent.crm.nesting import nested_deeper_than

MALFORMED = "event_malformed"
SOURCE_MISMATCH = "source_mismatch"

MAX_NESTING = 32
_SOURCE = re.compile(r"/terminals/([A-Za-z0-9][A-Za-z0-9._-]{0,63})/([A-Za-z0-9][A-Za-z0-9._-]{0,63})")
_SEQUENCE = re.compile(r"[1-9][0-9]{0,17}")
_CARD_SUBJECT = "cards/"

# Bounds keep every sum of points within 64 bits.
Points = Annotated[int, Field(strict=True, ge=-(10**12), le=10**12)]
TakenPoints = Annotated[int, Field(strict=True, ge=-(10**12), le=0)]
GivenPoints = Annotated[int, Field(strict=True, ge=0, le=10**12)]
Count = Annotated[int, Field(strict=True, ge=0, le=2**53)]
Amount = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")]
Words = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


def _check_moment(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("no time zone")
    return text


def _check_phone(text: str) -> str:
    normalise_phone(text)
    return text


Moment = Annotated[
    str, Field(max_length=40, pattern=r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d"), AfterValidator(_check_moment)
]
Phone = Annotated[str, Field(max_length=40), AfterValidator(_check_phone)]


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


Shape = TypeVar("Shape", bound=_Shape)


class CardState(_Shape):
    """What was written to the card: balance_after = balance_before + adjustments applied at this tap + its points."""

    card_no: Name
    sequence: Count
    balance_before: Points | None = None
    balance_after: Points | None = None
    adjustments_through: Count | None = None


class IntentTried(_Shape):
    """What was tried on a card whose answer never came; the cursors say which adjustments it would have applied."""

    intent_id: Name
    card_no: Name
    sequence_before: Count
    sequence_after: Count
    balance_before: Points
    balance_after: Points
    adjustments_before: Count | None = None
    adjustments_through: Count | None = None


class PointsMoved(_Shape):
    """Points of one event; negative ones take back what an earlier event gave."""

    earned: Points = 0
    redeemed: Points = 0


class PointsGiven(PointsMoved):
    """Points of a purchase, where nothing is taken back."""

    earned: GivenPoints = 0
    redeemed: GivenPoints = 0


class PointsTaken(PointsMoved):
    """Points of a reversal, where nothing is given."""

    earned: TakenPoints = 0
    redeemed: TakenPoints = 0


class PurchaseFacts(_Shape):
    """The bill; ``amount`` in the smallest unit of the currency."""

    amount: Amount
    currency: Words | None = None


class ReversalFacts(_Shape):
    """What of which purchase is taken back."""

    reversed_event_id: Name
    receipt_no: Words | None = None
    amount: Annotated[int, Field(strict=True, gt=0, lt=2**63)]
    currency: Annotated[Words, Field(min_length=1)]


class MemberFacts(_Shape):
    """Who was enrolled."""

    member_id: Name
    phone: Phone | None = None
    name: Words | None = None
    tier: Words | None = None
    referrer_member_id: Name | None = None


class ActivityFacts(_Shape):
    """What a member did; the same ``kind`` and ``reference`` of a card count once."""

    kind: Name
    reference: Name | None = None


class MemberNamed(_Shape):
    """Who bought without a card."""

    member_id: Name


class EventData(_Shape):
    """``data`` of any event: what it did to a card, if it did."""

    card: CardState | None = None
    intent: IntentTried | None = None
    points: PointsMoved = PointsMoved()

    @property
    def named_card(self) -> str | None:
        """The card these data speak of."""
        return self.card.card_no if self.card else self.intent.card_no if self.intent else None

    @property
    def other_card(self) -> str | None:
        """Another card that the event changes as well."""
        return None


class MemberEnrolled(EventData):
    """``provisional``: nobody enrolled; the phone was given at a sale while nobody could say whose it is."""

    member: MemberFacts
    provisional: StrictBool = False


class ConsentChanged(EventData):
    """A member agreed to a purpose, or took it back."""

    member_id: Name | None = None
    purpose: Name | None = None
    given: StrictBool | None = None
    text_version: Words | None = None


class CardIssued(EventData):
    card: CardState
    uid: Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{8,20}$")] | None = None
    member_id: Name | None = None


class PurchaseRecorded(EventData):
    purchase: PurchaseFacts
    points: PointsGiven
    hold_id: Name | None = None
    member: MemberNamed | None = None


class PurchaseReversed(EventData):
    reversal: ReversalFacts
    member: MemberNamed | None = None
    points: PointsTaken


class PointsReversed(EventData):
    """A reversal that does not say of which purchase."""

    points: PointsMoved


class PointsAdjusted(EventData):
    points: PointsMoved


class ActivityRecorded(EventData):
    """Points as the terminal gives them or, where it gives none, as the policy says for ``activity``."""

    activity: ActivityFacts | None = None


class _AboutCard(EventData):
    card_no: Name

    @property
    def named_card(self) -> str | None:
        return self.card_no


class CardReplaced(EventData):
    """``card_no`` takes the place of ``old_card_no``."""

    card_no: Name | None = None
    old_card_no: Name | None = None

    @property
    def named_card(self) -> str | None:
        return self.card_no or super().named_card

    @property
    def other_card(self) -> str | None:
        return self.old_card_no


class IntentResolved(_AboutCard):
    intent_id: Name
    landed: StrictBool


class CardAnomaly(_AboutCard):
    kind: Name
    detail: Any = None

    @property
    def reason(self) -> str:
        """Why, in words of who reported it."""
        words = self.detail.get("reason") if isinstance(self.detail, dict) else None
        return words[:200] if isinstance(words, str) and words.isprintable() else self.kind


DATA_SHAPES: dict[EventType, type[EventData]] = {
    EventType.MEMBER_ENROLLED: MemberEnrolled,
    EventType.CARD_ISSUED: CardIssued,
    EventType.PURCHASE_RECORDED: PurchaseRecorded,
    EventType.PURCHASE_REVERSED: PointsReversed,
    EventType.POINTS_ADJUSTED: PointsAdjusted,
    EventType.INTENT_RESOLVED: IntentResolved,
    EventType.CARD_ANOMALY: CardAnomaly,
    EventType.CARD_REPLACED: CardReplaced,
    EventType.ACTIVITY_RECORDED: ActivityRecorded,
    EventType.CONSENT_CHANGED: ConsentChanged,
}


class Envelope(_Shape):
    """A CloudEvent, before its data are looked at."""

    specversion: Literal["1.0"]
    id: Name
    source: Annotated[str, Field(max_length=200)]
    type: EventType
    subject: Annotated[str, Field(max_length=100)] | None = None
    time: Moment
    sequence: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,17}$")]
    data: dict[str, Any]


@dataclass(frozen=True)
class Position:
    """Where an event stands among those of its terminal."""

    install_epoch: str
    sequence: int


@dataclass(frozen=True)
class Event:
    """A well-formed event. ``told`` is all of its data, ``data`` what we know of them; ``body`` holds its canonical
    bytes, ``fingerprint`` the SHA-256 it was minted with."""

    terminal_id: str
    id: str
    type: EventType
    time: str
    position: Position
    card_no: str | None
    data: EventData
    told: Mapping[str, Any]
    body: bytes
    fingerprint: str


class EventRejected(Exception):
    """An event that cannot be booked: ``code`` for programs, ``detail`` names the field for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail[:500]


def parse_event(document: Any, terminal_id: str) -> Event:
    """The event in ``document``, sent by ``terminal_id``. Raises :class:`EventRejected`."""
    body = canonical_body(document)
    envelope = _validated(Envelope, document, "")
    position = position_of(document, terminal_id)
    if position is None:
        raise EventRejected(SOURCE_MISMATCH, f"source: must be {source_of(terminal_id, '<install_epoch>')}")
    data = _validated(_shape_of(envelope), envelope.data, "data.")
    return Event(
        terminal_id=terminal_id,
        id=envelope.id,
        type=envelope.type,
        time=envelope.time,
        position=position,
        card_no=_card_of(envelope, data),
        data=data,
        told=envelope.data,
        body=body,
        fingerprint=minted_fingerprint(body),
    )


def canonical_body(document: Any) -> bytes:
    """The canonical bytes of an event; they equal what a terminal sends. Raises :class:`EventRejected`."""
    if not isinstance(document, dict):
        raise EventRejected(MALFORMED, "event: must be an object")
    too_deep = f"event: nested deeper than {MAX_NESTING} levels"
    try:
        body = canonical_json(document)
    except UnicodeEncodeError as error:
        raise EventRejected(MALFORMED, "event: text is not Unicode") from error
    except RecursionError as error:
        raise EventRejected(MALFORMED, too_deep) from error
    # Fewer brackets than levels, as in nearly every event: no need to look closer.
    if body.count(b"{") + body.count(b"[") >= MAX_NESTING and nested_deeper_than(document, MAX_NESTING):
        raise EventRejected(MALFORMED, too_deep)
    return body


def position_of(document: Any, terminal_id: str) -> Position | None:
    """Where the event claims to stand, if it is one of this terminal's; works for otherwise malformed events."""
    if not isinstance(document, dict):
        return None
    source, sequence = document.get("source"), document.get("sequence")
    if not isinstance(source, str) or not isinstance(sequence, str) or not _SEQUENCE.fullmatch(sequence):
        return None
    found = _SOURCE.fullmatch(source)
    if found is None or found[1] != terminal_id:
        return None
    return Position(found[2], int(sequence))


def claimed_id(document: Any) -> str | None:
    """The id to answer under, however malformed the rest is."""
    value = document.get("id") if isinstance(document, dict) else None
    return value if isinstance(value, str) and len(value) <= 128 and value.isprintable() else None


def _validated(shape: type[Shape], document: Any, prefix: str) -> Shape:
    try:
        return shape.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = prefix + ".".join(str(part) for part in first["loc"])
        raise EventRejected(MALFORMED, f"{field}: {first['msg']}") from error


def _shape_of(envelope: Envelope) -> type[EventData]:
    if envelope.type is EventType.PURCHASE_REVERSED and envelope.data.get("reversal") is not None:
        return PurchaseReversed
    return DATA_SHAPES.get(envelope.type, EventData)


def _card_of(envelope: Envelope, data: EventData) -> str | None:
    """The one card an event is about."""
    subject = envelope.subject or ""
    in_subject = subject.removeprefix(_CARD_SUBJECT) if subject.startswith(_CARD_SUBJECT) else None
    named = {name for name in (data.named_card, data.card and data.card.card_no, in_subject) if name}
    if data.intent:
        named.add(data.intent.card_no)
    if len(named) > 1:
        raise EventRejected(MALFORMED, "subject: names another card than data")
    card_no = next(iter(named), None)
    names_member = isinstance(data, PurchaseRecorded | PurchaseReversed) and data.member is not None
    if card_no is None and not names_member and (data.points.earned or data.points.redeemed):
        raise EventRejected(MALFORMED, "subject: no card is named for the points")
    return card_no
