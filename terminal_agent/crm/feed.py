"""What the CRM tells its terminals: items in the order of publication, read on from an opaque cursor."""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from terminal_agent.contract import FeedKind, canonical_json
from terminal_agent.crm.schema import feed, feed_waiting, meta, policies

DEFAULT_LIMIT = 100
MAX_LIMIT = 500
MARK_BYTES = 8
END_OF_FEED = "end_of_feed"
"""The row of ``meta`` that whoever appends to the feed holds."""
_WAITING = select(feed_waiting).order_by(feed_waiting.c.waiting_id)
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
    """Appends one item when the transaction commits; every terminal sees it once."""
    text = canonical_json({"kind": kind.value, **document}).decode()
    connection.execute(insert(feed_waiting).values(kind=kind.value, document=text, published_at=now))


def put_in_order(connection: Connection) -> None:
    """Gives the items of this transaction their places, right before its commit.

    Who does so keeps the end of the feed until the commit is done, so that places become visible in their order: a
    reader who has seen one has seen all before it. A mark stands for all items up to its own, so that a cursor tells
    whether its terminal has read this very feed. It is made of chance: from a digest a phone could be guessed that an
    erasure took out of the item.
    """
    waiting = connection.execute(_WAITING).mappings().all()
    if not waiting:
        return
    connection.execute(
        delete(feed_waiting).where(feed_waiting.c.waiting_id.in_([row["waiting_id"] for row in waiting]))
    )
    connection.execute(select(meta.c.value).where(meta.c.key == END_OF_FEED).with_for_update())
    last = connection.execute(select(feed.c.position).order_by(feed.c.position.desc()).limit(1)).scalar() or 0
    rows = []
    for place, row in enumerate(waiting, last + 1):
        facts = {name: row[name] for name in ("kind", "document", "published_at")}
        rows.append({"position": place, "digest": secrets.token_hex(MARK_BYTES), **facts})
    connection.execute(insert(feed), rows)


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
