"""The reference CRM's tables (SQLAlchemy Core, the same on SQLite and PostgreSQL).

What grows with the club is split by the terminal or the card it belongs to, and every key of such a table begins with
it. Points are integers, times are RFC 3339 text in UTC, JSON documents are text. A change of these tables needs a step
in :mod:`migrations`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    event,
)
from sqlalchemy.schema import SchemaItem

SCHEMA_VERSION = 7
PARTITIONS = 8
"""Of each split table on PostgreSQL. A power of two; each open transaction may lock all of them."""

metadata = MetaData()

# SQLite numbers rows by itself only in a column declared INTEGER.
_Position = BigInteger().with_variant(Integer(), "sqlite")
# Times and ids are compared and sorted byte by byte, whatever the language of the database.
_Text = Text().with_variant(Text(collation="C"), "postgresql")


def _text(name: str, *, key: bool = False) -> Column[str]:
    return Column(name, _Text, primary_key=key, nullable=False)


def _maybe_text(name: str) -> Column[str]:
    return Column(name, _Text, nullable=True)


def _number(name: str, *, key: bool = False) -> Column[int]:
    return Column(name, BigInteger, primary_key=key, nullable=False, autoincrement=False)


def _maybe_number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=True)


def _split(name: str, by: str, *parts: SchemaItem) -> Table:
    """A table in hash partitions by ``by``, where the database has partitions."""
    table = Table(name, metadata, *parts, postgresql_partition_by=f"HASH ({by})")
    event.listen(table, "after_create", _make_partitions)
    return table


def _make_partitions(table: Table, connection: Connection, **_options: Any) -> None:
    if connection.dialect.name != "postgresql":
        return
    for number in range(PARTITIONS):
        place = f"FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {number})"
        connection.exec_driver_sql(f"CREATE TABLE {table.name}_{number} PARTITION OF {table.name} {place}")


meta = Table("meta", metadata, _text("key", key=True), _text("value"))

terminals = Table(
    "terminals",
    metadata,
    _text("terminal_id", key=True),
    Column("token_hash", _Text, nullable=False, unique=True),
    Column("secret", LargeBinary, nullable=False),
    _maybe_text("name"),
    _text("enrolled_at"),
    _maybe_text("revoked_at"),
)

enrolment_codes = Table(
    "enrolment_codes", metadata, _text("code_hash", key=True), _text("expires_at"), _maybe_text("used_at")
)

# The fingerprint is part of the key because a rolled-back terminal uses a sequence twice: both events are kept.
events = _split(
    "events",
    "terminal_id",
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

progress = _split(
    "progress",
    "terminal_id",
    _text("terminal_id", key=True),
    _text("install_epoch", key=True),
    _number("acked_through"),
)

members = _split(
    "members",
    "member_id",
    _text("member_id", key=True),
    _maybe_text("alias_of"),
    _maybe_text("phone"),
    _maybe_text("name"),
    _text("tier"),
    _text("status"),
    _text("enrolled_at"),
    Index("members_by_phone", "phone"),
)

cards = _split(
    "cards",
    "card_no",
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

card_chain = _split(
    "card_chain",
    "card_no",
    _text("card_no", key=True),
    _number("sequence", key=True),
    _text("fingerprint", key=True),
    _text("event_id"),
    _maybe_text("intent_id"),
    _maybe_number("balance_before"),
    _maybe_number("balance_after"),
    _maybe_number("adjustments_through"),
)

# Both sides of a transfer stand with its card, numbered card by card: no account and no number is shared by all.
transfers = _split(
    "transfers",
    "card_no",
    _text("card_no", key=True),
    _number("transfer_id", key=True),
    _text("kind"),
    _text("reference"),
    _text("booked_at"),
)

entries = _split(
    "entries",
    "card_no",
    _text("card_no", key=True),
    _number("transfer_id", key=True),
    _text("account", key=True),
    _number("points"),
    Index("entries_by_account", "account"),
)

adjustments = _split(
    "adjustments",
    "card_no",
    _text("card_no", key=True),
    _number("number", key=True),
    _number("points"),
    _text("reason"),
    _text("created_at"),
)

intents = _split(
    "intents_in_doubt",
    "card_no",
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

# What transactions about members lock; see turns.py.
turns = Table("turns", metadata, _number("turn", key=True))

# One order for all; see feed.py.
feed = Table(
    "feed",
    metadata,
    Column("position", _Position, primary_key=True, autoincrement=False),
    _text("kind"),
    _text("document"),
    _text("published_at"),
    _text("digest"),
)

# Items of transactions that are still open.
feed_waiting = Table(
    "feed_waiting",
    metadata,
    Column("waiting_id", _Position, primary_key=True),
    _text("kind"),
    _text("document"),
    _text("published_at"),
)

policies = Table(
    "policies", metadata, _text("version", key=True), _text("valid_from"), _text("document"), _text("published_at")
)

# ``card_sequence`` is the card's counter as the CRM knew it when the hold was placed.
holds = _split(
    "holds",
    "terminal_id",
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

hotlist = _split("hotlist", "card_no", _text("card_no", key=True), _text("reason"), _text("blocked_at"))

# What a member agreed to, and took back: every word of theirs is kept; the newest by its own time counts.
consents = _split(
    "consents",
    "member_id",
    _text("member_id", key=True),
    _text("purpose", key=True),
    _text("event_id", key=True),
    Column("given", Boolean, nullable=False),
    _maybe_text("text_version"),
    _text("time"),
    _number("sequence"),
    _text("terminal_id"),
)

# What happened to a card besides taps: issued, replaces, replaced, blocked, freed, approved, erased.
card_history = _split(
    "card_history",
    "card_no",
    _text("card_no", key=True),
    _text("time", key=True),
    _text("what", key=True),
    _maybe_text("detail"),
)

# Who did what to whom, never with personal data; rows are only added.
audit_log = Table(
    "audit_log",
    metadata,
    Column("entry", _Position, primary_key=True),
    _text("time"),
    _text("who"),
    _text("action"),
    _maybe_text("subject"),
    _text("detail"),
    Index("audit_by_subject", "subject"),
    sqlite_autoincrement=True,
)

# What a token may do besides telling events and reading the feed; a holder is a terminal, or the hash of a code.
scopes = Table("scopes", metadata, _text("holder", key=True), _text("scopes"))

# Who brought whom; paid once both have a card.
referrals = _split(
    "referrals",
    "member_id",
    _text("member_id", key=True),
    _text("referrer_member_id"),
    _text("told_at"),
    _maybe_text("paid_at"),
    Index("referrals_by_referrer", "referrer_member_id"),
)

# An offer given to a card, or without one to whoever shows its code.
grants = _split(
    "grants",
    "grant_id",
    _text("grant_id", key=True),
    _text("offer_id"),
    _maybe_text("card_no"),
    _maybe_text("valid_from"),
    _maybe_text("valid_to"),
    _number("uses"),
    _text("reason"),
    _text("created_at"),
    Index("grants_by_card", "card_no"),
)

grant_uses = _split(
    "grant_uses", "grant_id", _text("grant_id", key=True), _text("terminal_id", key=True), _number("used")
)

# What a card had of an offer or a stamp card at each terminal; see offers.py.
offer_uses = _split(
    "offer_uses",
    "card_no",
    _text("card_no", key=True),
    _text("offer_id", key=True),
    _text("terminal_id", key=True),
    _number("uses"),
    _number("stamps"),
    _number("rewards"),
    _number("points"),
    _text("counted_at"),
)

# ``floor`` is the tier that was given by hand.
tier_decisions = _split(
    "tier_decisions",
    "member_id",
    _text("member_id", key=True),
    _text("tier"),
    _text("floor"),
    _text("decided_at"),
)

# Sales and returns of members without a card; see cardless.py. Their points are on the member's account.
cardless_sales = _split(
    "cardless_sales",
    "member_id",
    _text("member_id", key=True),
    _text("terminal_id", key=True),
    _text("event_id", key=True),
    _text("fingerprint", key=True),
    _text("told_at"),
)
