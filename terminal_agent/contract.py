"""What a terminal and a CRM agree on: names on the wire, limits, canonical bytes and signatures.

Both sides import this file and nothing of each other. The prose is docs/crm-api.md.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from enum import StrEnum
from typing import Any

MAX_BATCH_EVENTS = 500
MAX_BATCH_BYTES = 1024 * 1024
BATCH_MEDIA_TYPE = "application/cloudevents-batch+json"
REQUEST_ID_HEADER = "Request-Id"
SIGNATURE_HEADER = "Terminal-Signature"
NO_TIER = "basic"
"""The tier of a member who has none; screens and receipts leave it out unless the policy names it."""


class EventType(StrEnum):
    """Facts a terminal reports."""

    MEMBER_ENROLLED = "member.enrolled"
    CARD_ISSUED = "card.issued"
    PURCHASE_RECORDED = "purchase.recorded"
    PURCHASE_REVERSED = "purchase.reversed"
    POINTS_ADJUSTED = "points.adjusted"
    CARD_REPLACED = "card.replaced"
    CARD_ANOMALY = "card.anomaly"
    INTENT_RESOLVED = "intent.resolved"
    CONSENT_CHANGED = "consent.changed"
    ACTIVITY_RECORDED = "activity.recorded"


class Verdict(StrEnum):
    """What a CRM says of one event. The first three count as acknowledged."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    FORK = "fork"
    REJECTED = "rejected"
    RETRY = "retry"


ACKNOWLEDGED = frozenset({Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.FORK})


class FeedKind(StrEnum):
    """What a CRM tells its terminals."""

    POLICY = "policy"
    OFFER = "offer"
    MEMBER = "member"
    ADJUSTMENT = "adjustment"
    HOTLIST = "hotlist"
    RESOLUTION = "resolution"
    ERASURE = "erasure"
    SETTINGS = "settings"


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical_json(document: Any) -> bytes:
    """The one way we write JSON that is hashed or signed: sorted keys, no spaces, UTF-8."""
    return _CANONICAL.encode(document).encode()


def fingerprint(body: bytes) -> str:
    """SHA-256 of an event's bytes, hex: tells a resent event from another one under the same id."""
    return hashlib.sha256(body).hexdigest()


def salted(member: dict[str, Any], salt: str) -> dict[str, Any]:
    """``data.member`` of an enrolment. At an erasure the salt leaves the event with the person: the fingerprint stays,
    and a phone could be guessed from the fingerprint of bytes in which nothing else is unknown."""
    return {**member, "salt": salt}


def redact_enrolment(body: bytes, mark: str) -> bytes:
    """The bytes of a ``member.enrolled`` event without the person; ``mark`` is the fingerprint it was minted with.

    They carry that fingerprint, so that hash chains and dedupe go on as before, and a check of their own.
    """
    event = json.loads(body)
    data = event["data"]
    data["member"] = {key: value for key, value in data["member"].items() if key in _KEPT_OF_A_MEMBER}
    data[_REDACTED] = {"fingerprint": mark}
    data[_REDACTED]["check"] = fingerprint(canonical_json(event))
    return canonical_json(event)


def redacted_from(body: bytes) -> str | None:
    """The fingerprint that redacted bytes were minted with; None for all others, and for what was changed since."""
    if b'"redacted":' not in body:
        return None
    try:
        event = json.loads(body)
        if event["type"] != EventType.MEMBER_ENROLLED or not set(event["data"]["member"]) <= _KEPT_OF_A_MEMBER:
            return None
        check = event["data"][_REDACTED].pop("check")
        mark = event["data"][_REDACTED]["fingerprint"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return (
        mark
        if isinstance(mark, str) and _HASH.fullmatch(mark) and check == fingerprint(canonical_json(event))
        else None
    )


def minted_fingerprint(body: bytes) -> str:
    """The fingerprint an event was minted with, redacted or not."""
    return redacted_from(body) or fingerprint(body)


_REDACTED = "redacted"
_HASH = re.compile("[0-9a-f]{64}")
_KEPT_OF_A_MEMBER = {"member_id", "tier", "referrer_member_id"}


def sign(secret: bytes, request_id: str, body: bytes) -> str:
    """The value of ``Terminal-Signature`` for an answer ``body`` (before any content encoding)."""
    return "v1=" + hmac.new(secret, request_id.encode() + b"." + body, hashlib.sha256).hexdigest()


def signature_is_valid(secret: bytes, request_id: str, body: bytes, signature: str | None) -> bool:
    """Whether an answer comes from who knows our secret; constant-time."""
    return signature is not None and hmac.compare_digest(sign(secret, request_id, body).encode(), signature.encode())


def subject_of(card_no: str) -> str:
    """The ``subject`` attribute of a card's events."""
    return f"cards/{card_no}"


def subject_of_member(member_id: str) -> str:
    """The ``subject`` attribute of a member's events."""
    return f"members/{member_id}"


def source_of(terminal_id: str, install_epoch: str) -> str:
    """The ``source`` attribute: one gapless sequence belongs to each."""
    return f"/terminals/{terminal_id}/{install_epoch}"
