"""What the CRM tells its terminals: items in the order of publication, read on from an opaque cursor."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from terminal_agent.contract import FeedKind, canonical_json
from terminal_agent.crm.schema import feed, policies

DEFAULT_LIMIT = 100
MAX_LIMIT = 500
_CURSOR = re.compile(r"f2:([1-9][0-9]{0,17}):([0-9a-f]{16})")


class CursorInvalid(Exception):
    """What was sent is no cursor."""


class CursorUnknown(CursorInvalid):
    """A cursor of items that are not, or no longer, the beginning of this feed."""


@dataclass(frozen=True)
class Page:
    """Items with the ``kind`` inside, the cursor that continues after them, and whether more wait already."""

    items: list[dict[str, Any]]
    next_cursor: str
    has_more: bool


def encode_cursor(position: int, digest: str) -> str:
    """The cursor of everything after the item at ``position``."""
    return base64.urlsafe_b64encode(f"f2:{position}:{digest}".encode()).decode()


def decode_cursor(cursor: str) -> tuple[int, str]:
    """Position and digest of the last item read. Raises :class:`CursorInvalid`."""
    try:
        found = _CURSOR.fullmatch(base64.b64decode(cursor, altchars=b"-_", validate=True).decode("ascii"))
    except (binascii.Error, ValueError) as error:
        raise CursorInvalid from error
    if found is None:
        raise CursorInvalid
    return int(found[1]), found[2]


def publish(connection: Connection, kind: FeedKind, document: dict[str, Any], now: str) -> None:
    """Appends one item; every terminal sees it once.

    Its digest stands for all items up to it, so that a cursor tells whether its terminal has read this very feed.
    """
    text = canonical_json({"kind": kind.value, **document}).decode()
    last = connection.execute(select(feed.c.digest).order_by(feed.c.position.desc()).limit(1)).scalar()
    digest = hashlib.sha256(f"{last}\n{text}".encode()).hexdigest()[:16]
    connection.execute(insert(feed).values(kind=kind.value, document=text, published_at=now, digest=digest))


def publish_policy(connection: Connection, document: dict[str, Any], now: str) -> None:
    """Keeps a policy (as ``club.policy`` reads it) and sends it to the terminals."""
    facts = {"version": document["version"], "valid_from": document["valid_from"]}
    text = canonical_json(document).decode()
    connection.execute(insert(policies).values(**facts, document=text, published_at=now))
    publish(connection, FeedKind.POLICY, {**facts, "document": document}, now)


def read_page(connection: Connection, cursor: str | None, limit: int) -> Page:
    """Up to ``limit`` items after ``cursor``, from the beginning without one.

    Raises :class:`CursorInvalid`, :class:`CursorUnknown`.
    """
    position, digest = decode_cursor(cursor) if cursor else (0, "")
    if cursor and _digest_at(connection, position) != digest:
        raise CursorUnknown
    query = select(feed.c.position, feed.c.document, feed.c.digest).where(feed.c.position > position)
    rows = connection.execute(query.order_by(feed.c.position).limit(limit + 1)).all()
    shown = rows[:limit]
    next_cursor = encode_cursor(shown[-1].position, shown[-1].digest) if shown else cursor or ""
    return Page([json.loads(row.document) for row in shown], next_cursor, len(rows) > limit)


def _digest_at(connection: Connection, position: int) -> str | None:
    return connection.execute(select(feed.c.digest).where(feed.c.position == position)).scalar()
