"""The reference CRM's tables (SQLAlchemy Core, portable to PostgreSQL).

Every key starts with the terminal or the card it belongs to, so that the tables can be split by either.
Points are integers, times are RFC 3339 text in UTC, JSON documents are text.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, Table, Text

SCHEMA_VERSION = 1

metadata = MetaData()

# SQLite numbers rows by itself only in a column declared INTEGER.
_Position = BigInteger().with_variant(Integer(), "sqlite")


def _text(name: str, *, key: bool = False) -> Column[str]:
    return Column(name, Text, primary_key=key, nullable=False)


def _maybe_text(name: str) -> Column[str]:
    return Column(name, Text, nullable=True)


def _number(name: str, *, key: bool = False) -> Column[int]:
    return Column(name, BigInteger, primary_key=key, nullable=False, autoincrement=False)


def _maybe_number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=True)


meta = Table("meta", metadata, _text("key", key=True), _text("value"))

terminals = Table(
    "terminals",
    metadata,
    _text("terminal_id", key=True),
    Column("token_hash", Text, nullable=False, unique=True),
    Column("secret", LargeBinary, nullable=False),
    _maybe_text("name"),
    _text("enrolled_at"),
    _maybe_text("revoked_at"),
)

enrolment_codes = Table(
    "enrolment_codes", metadata, _text("code_hash", key=True), _text("expires_at"), _maybe_text("used_at")
)

# The fingerprint is part of the key because a rolled-back terminal uses a sequence twice: both events are kept.
events = Table(
    "events",
    metadata,
    _text("terminal_id", key=True),
    _text("install_epoch", key=True),
    _number("sequence", key=True),
    _text("fingerprint", key=True),
    _text("id"),
    _text("type"),
    _text("time"),
    _maybe_text("card_no"),
    _maybe_number("card_sequence"),
    _number("earned"),
    _number("redeemed"),
    _maybe_number("amount"),
    _maybe_text("currency"),
    _maybe_text("reverses"),
    _text("body"),
    _text("verdict"),
    _maybe_text("code"),
    _text("booked_at"),
    Index("events_by_id", "terminal_id", "id"),
    Index("events_by_card", "card_no", "booked_at"),
    Index("events_by_reversed", "card_no", "reverses"),
)

progress = Table(
    "progress",
    metadata,
    _text("terminal_id", key=True),
    _text("install_epoch", key=True),
    _number("acked_through"),
)

members = Table(
    "members",
    metadata,
    _text("member_id", key=True),
    _maybe_text("alias_of"),
    _maybe_text("phone"),
    _maybe_text("name"),
    _text("tier"),
    _text("status"),
    _text("enrolled_at"),
    Index("members_by_phone", "phone"),
)

cards = Table(
    "cards",
    metadata,
    _text("card_no", key=True),
    _maybe_text("uid"),
    _maybe_text("member_id"),
    _text("status"),
    _number("balance"),
    _number("sequence"),
    _number("adjustments_through"),
    _text("created_at"),
    Index("cards_by_member", "member_id"),
)

card_chain = Table(
    "card_chain",
    metadata,
    _text("card_no", key=True),
    _number("sequence", key=True),
    _text("fingerprint", key=True),
    _text("event_id"),
    _maybe_text("intent_id"),
    _maybe_number("balance_before"),
    _maybe_number("balance_after"),
    _maybe_number("adjustments_through"),
)

transfers = Table(
    "transfers",
    metadata,
    Column("transfer_id", _Position, primary_key=True),
    _text("kind"),
    _text("reference"),
    _text("booked_at"),
)

entries = Table(
    "entries",
    metadata,
    _number("transfer_id", key=True),
    _text("account", key=True),
    _number("points"),
    Index("entries_by_account", "account"),
)

adjustments = Table(
    "adjustments",
    metadata,
    _text("card_no", key=True),
    _number("number", key=True),
    _number("points"),
    _text("reason"),
    _text("created_at"),
)

intents = Table(
    "intents_in_doubt",
    metadata,
    _text("card_no", key=True),
    _text("intent_id", key=True),
    _maybe_number("sequence_before"),
    _maybe_number("sequence_after"),
    _maybe_number("balance_before"),
    _maybe_number("balance_after"),
    _maybe_number("adjustments_before"),
    _maybe_number("adjustments_through"),
    _number("booked"),
    _number("adjusted"),
    Column("told", Boolean, nullable=True),
    Column("landed", Boolean, nullable=True),
    Index("intents_by_sequence", "card_no", "sequence_after"),
)

feed = Table(
    "feed",
    metadata,
    Column("position", _Position, primary_key=True),
    _text("kind"),
    _text("document"),
    _text("published_at"),
    _text("digest"),
    sqlite_autoincrement=True,
)

policies = Table(
    "policies", metadata, _text("version", key=True), _text("valid_from"), _text("document"), _text("published_at")
)

# ``card_sequence`` is the card's counter as the CRM knew it when the hold was placed.
holds = Table(
    "holds",
    metadata,
    _text("terminal_id", key=True),
    _text("hold_id", key=True),
    _text("card_no"),
    _number("points"),
    _number("card_sequence"),
    _maybe_text("reference"),
    _text("state"),
    _text("placed_at"),
    _text("expires_at"),
    Index("holds_by_card", "card_no", "state"),
    Index("holds_by_reference", "terminal_id", "reference", unique=True),
)

hotlist = Table("hotlist", metadata, _text("card_no", key=True), _text("reason"), _text("blocked_at"))
