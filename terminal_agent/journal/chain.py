"""The hash chain: each event's bytes have its fingerprint, and the next one names it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from terminal_agent.contract import fingerprint
from terminal_agent.journal.database import Database

FIRST_HASH = "0" * 64
ROWS_AT_ONCE = 500
_LINKS = "install_epoch, sequence, CAST(body AS BLOB) AS body, fingerprint, previous_hash"


class BrokenLink(NamedTuple):
    """The first event whose bytes, or whose place in the chain, are not what was minted."""

    install_epoch: str
    sequence: int


def broken_link(database: Database, with_gaps: set[str]) -> BrokenLink | None:
    """Walk every install epoch in the file; None when all hold. The epochs ``with_gaps`` were put together from a
    damaged journal: what follows a gap there has only its own bytes to prove it."""
    epoch, sequence, previous = "", 0, FIRST_HASH
    for row in _links(database):
        if row["install_epoch"] != epoch:
            epoch, sequence, previous = row["install_epoch"], 0, FIRST_HASH
        if row["sequence"] != sequence + 1 and epoch in with_gaps:
            previous = row["previous_hash"]
        if (row["previous_hash"], row["fingerprint"]) != (previous, fingerprint(row["body"])):
            return BrokenLink(epoch, row["sequence"])
        if link_in(row["body"]) != previous:
            return BrokenLink(epoch, row["sequence"])
        sequence, previous = row["sequence"], row["fingerprint"]
    return None


def _links(database: Database) -> Iterator[Any]:
    """All events, a few at a time, so that a tap waits for a few at most."""
    last = ("", 0)
    sql = f"SELECT {_LINKS} FROM events WHERE (install_epoch, sequence) > (?, ?) ORDER BY 1, 2 LIMIT {ROWS_AT_ONCE}"
    while rows := database.query(sql, *last):
        yield from rows
        last = (rows[-1]["install_epoch"], rows[-1]["sequence"])


def link_in(body: bytes) -> Any:
    """The link inside an event's own bytes; None for bytes that somebody made unreadable."""
    try:
        return json.loads(body)["data"]["previous_hash"]
    except (ValueError, KeyError, TypeError):
        return None


def is_sound(database: Database, place: BrokenLink, body: bytes, mark: str, named_by_next: str | None) -> bool:
    """Whether one event may be sent: its bytes have its fingerprint, and the event after it names that fingerprint.

    A successor that is damaged itself has no say, and one whose column alone was changed is heard by its bytes.
    """
    if fingerprint(body) != mark:
        return False
    if named_by_next in (None, mark):
        return True
    following = database.one(
        f"SELECT {_LINKS} FROM events WHERE install_epoch = ? AND sequence = ?", place.install_epoch, place.sequence + 1
    )
    if following is None or fingerprint(following["body"]) != following["fingerprint"]:
        return True
    return bool(link_in(following["body"]) == mark)
