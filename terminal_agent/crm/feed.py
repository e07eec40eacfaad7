"""What the CRM tells its terminals: items in the order of publication, read on from an opaque cursor."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from terminal_agent.contract import FeedKind, canonical_json
from terminal_agent.crm.schema import feed, policies

DEFAULT_LIMIT = 100
MAX_LIMIT = 500
_PREFIX = "f1:"


class CursorInvalid(Exception):
    """A cursor that this CRM did not give out."""


@dataclass(frozen=True)
class Page:
    """Items with the ``kind`` inside, the cursor that continues after them, and whether more wait already."""

    items: list[dict[str, Any]]
    next_cursor: str
    has_more: bool


def encode_cursor(position: int) -> str:
    """The cursor of everything after ``position``."""
    return base64.urlsafe_b64encode(f"{_PREFIX}{position}".encode()).decode()


def decode_cursor(cursor: str | None) -> int:
    """The position in ``cursor``; 0, the beginning, without one. Raises :class:`CursorInvalid`."""
    if not cursor:
        return 0
    try:
        text = base64.b64decode(cursor, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise CursorInvalid from error
    digits = text.removeprefix(_PREFIX)
    if digits == text or not digits.isdigit() or len(digits) > 18:
        raise CursorInvalid
    return int(digits)


def publish(connection: Connection, kind: FeedKind, document: dict[str, Any], now: str) -> None:
    """Appends one item; every terminal sees it once."""
    text = canonical_json({"kind": kind.value, **document}).decode()
    connection.execute(insert(feed).values(kind=kind.value, document=text, published_at=now))


def publish_policy(connection: Connection, document: dict[str, Any], now: str) -> None:
    """Keeps a policy (as ``club.policy`` reads it) and sends it to the terminals."""
    facts = {"version": document["version"], "valid_from": document["valid_from"]}
    text = canonical_json(document).decode()
    connection.execute(insert(policies).values(**facts, document=text, published_at=now))
    publish(connection, FeedKind.POLICY, {**facts, "document": document}, now)


def read_page(connection: Connection, cursor: str | None, limit: int) -> Page:
    """Up to ``limit`` items after ``cursor``. Raises :class:`CursorInvalid`."""
    position = decode_cursor(cursor)
    query = select(feed.c.position, feed.c.document).where(feed.c.position > position)
    rows = connection.execute(query.order_by(feed.c.position).limit(limit + 1)).all()
    shown = rows[:limit]
    last = shown[-1].position if shown else position
    return Page([json.loads(row.document) for row in shown], encode_cursor(last), len(rows) > limit)
