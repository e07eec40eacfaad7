"""The hash chain: each event's bytes have its fingerprint, and the next one names it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from terminal_agent.contract import minted_fingerprint
from terminal_agent.journal.database import Database

FIRST_HASH = "0" * 64
ROWS_AT_ONCE = 500
# As bytes: what is no text any more is told by its hash, not by a decoder in the middle of a row.
_LINKS = (
    "install_epoch, sequence, CAST(body AS BLOB) AS body, CAST(fingerprint AS BLOB) AS fingerprint, "
    "CAST(previous_hash AS BLOB) AS previous_hash"
)


class BrokenLink(NamedTuple):
    """The first event whose bytes, or whose place in the chain, are not what was minted."""

    install_epoch: str
    sequence: int


@dataclass(frozen=True)
class _Link:
    """One event of the chain: its bytes, their fingerprint as it was minted, and the fingerprint before."""

    place: BrokenLink
    body: bytes
    fingerprint: bytes
    previous_hash: bytes

    @property
    def is_whole(self) -> bool:
        return minted_fingerprint(self.body).encode() == self.fingerprint

    @property
    def named_inside(self) -> bytes:
        """The link inside the event's own bytes; empty for bytes that somebody made unreadable."""
        try:
            return str(json.loads(self.body)["data"]["previous_hash"]).encode()
        except (ValueError, KeyError, TypeError):
            return b""


def broken_link(database: Database, with_gaps: set[str]) -> BrokenLink | None:
    """Walk every install epoch in the file; None when all hold. The epochs ``with_gaps`` were put together from a
    damaged journal: what follows a gap there has only its own bytes to prove it."""
    place, previous = BrokenLink("", 0), FIRST_HASH.encode()
    for link in _links(database):
        if link.place.install_epoch != place.install_epoch:
            place, previous = BrokenLink(link.place.install_epoch, 0), FIRST_HASH.encode()
        if link.place.sequence != place.sequence + 1 and place.install_epoch in with_gaps:
            previous = link.previous_hash
        if not link.is_whole or not previous == link.previous_hash == link.named_inside:
            return link.place
        place, previous = link.place, link.fingerprint
    return None


def _links(database: Database) -> Iterator[_Link]:
    """All events, a few at a time, so that a tap waits for a few at most."""
    last = BrokenLink("", 0)
    sql = f"SELECT {_LINKS} FROM events WHERE (install_epoch, sequence) > (?, ?) ORDER BY 1, 2 LIMIT {ROWS_AT_ONCE}"
    while rows := database.query(sql, *last):
        yield from map(_link, rows)
        last = _link(rows[-1]).place


def _link(row: Any) -> _Link:
    place = BrokenLink(row["install_epoch"], row["sequence"])
    return _Link(place, row["body"], row["fingerprint"], row["previous_hash"])


def is_sound(database: Database, place: BrokenLink, body: bytes, fingerprint: str, named_by_next: str | None) -> bool:
    """Whether one event may be sent: its bytes have its fingerprint, and the event after it names that fingerprint.

    A successor that is damaged itself has no say, and one whose column alone was changed is heard by its bytes.
    """
    if minted_fingerprint(body) != fingerprint:
        return False
    if named_by_next in (None, fingerprint):
        return True
    sql = f"SELECT {_LINKS} FROM events WHERE install_epoch = ? AND sequence = ?"
    row = database.one(sql, place.install_epoch, place.sequence + 1)
    following = _link(row) if row else None
    return following is None or not following.is_whole or following.named_inside == fingerprint.encode()
