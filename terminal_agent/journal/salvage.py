"""What can still be read of a damaged journal. Nothing is believed that does not prove itself, nothing is changed.

An event proves itself by its hash. Those in pages that SQLite can reach are read as rows; the others are found in the
database file and its log by their form, because an event stands there in one piece: its bytes, their hash, the hash
before. One longer than a page is in pieces, and read as a row or not at all. The database file holds committed pages
alone; the end of the log may hold a commit that a power cut tore. Its events are as true as the others, because an
event is written when what it tells of has happened.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from terminal_agent.contract import minted_fingerprint
from terminal_agent.journal import wal
from terminal_agent.journal.opening import PAGE_BYTES, log_of, open_read_only, primary_code

_BODY_BEGINS = b'{"data":'
_HASHES = re.compile(rb"\}([0-9a-f]{64})[0-9a-f]{64}")
HASHES_BYTES = 1 + 64 + 64
WINDOW_BYTES = 1 << 18
PASSING = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN})
"""What SQLite may say of a file that it can read another time; damage stays damage."""


@dataclass(frozen=True)
class KeptEvent:
    """An event whose bytes are what was minted."""

    install_epoch: str
    sequence: int
    event_id: str
    type: str
    card_no: str | None
    time: str
    body: str
    previous_hash: str
    redeems: bool


@dataclass
class Salvage:
    """``proven``: every sound event, ``events``: those of them that the CRM is not known to have, in their order.
    ``checkouts``: finished sales as rows, so that their receipts are known again. ``tokens`` and ``cashiers``: who may
    call the till and who may sign in, as rows. ``in_doubt``: how many sales in doubt stay behind; None when nobody can
    tell. ``whole`` is False where something could not be read that may be readable another time."""

    proven: list[KeptEvent] = field(default_factory=list)

    events: list[KeptEvent] = field(default_factory=list)
    checkouts: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[dict[str, Any]] = field(default_factory=list)
    cashiers: list[dict[str, Any]] = field(default_factory=list)
    in_doubt: int | None = None
    whole: bool = True


def salvage(database: Path) -> Salvage:
    """Everything sound in a journal that was moved aside."""
    found, acknowledged, seen = Salvage(), set[str](), set[str]()
    with _as_far_as_possible(found):
        log = log_of(database)
        with closing(open_read_only(database, with_wal=log.exists() and wal.is_readable(log))) as connection:

            def rows(sql: str) -> Iterator[sqlite3.Row]:
                """The rows up to the first that cannot be read."""
                with _as_far_as_possible(found):
                    yield from connection.execute(sql)

            acknowledged |= {row[0] for row in rows("SELECT event_id FROM outbox WHERE state = 'acknowledged'")}
            found.proven += _in_rows(rows("SELECT body, fingerprint FROM events"), seen)
            found.checkouts = [dict(row) for row in rows("SELECT * FROM checkouts WHERE state <> 'in_doubt'")]
            found.tokens = [dict(row) for row in rows("SELECT * FROM till_tokens")]
            found.cashiers = [dict(row) for row in rows("SELECT * FROM cashiers")]
            found.in_doubt = sum(1 for _ in rows("SELECT 1 FROM checkouts WHERE state = 'in_doubt'"))
    for file in (database, log_of(database)):
        found.proven += _in_pages(file, found, seen)
    found.events = [event for event in found.proven if event.event_id not in acknowledged]
    found.events.sort(key=lambda event: (event.install_epoch, event.sequence))
    return found


@contextmanager
def _as_far_as_possible(found: Salvage) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        found.whole = found.whole and primary_code(error) not in PASSING
    except FileNotFoundError:
        pass  # what is not there is not waited for
    except OSError:
        found.whole = False


def _in_rows(rows: Iterator[sqlite3.Row], seen: set[str]) -> Iterator[KeptEvent]:
    for row in rows:
        event = proven(str(row["body"]).encode(), row["fingerprint"])
        if event is not None:
            seen.add(row["fingerprint"])
            yield event


def _in_pages(file: Path, found: Salvage, seen: set[str]) -> Iterator[KeptEvent]:
    """Those that were not seen yet."""
    for content in _windows(file, found):
        for match in _HASHES.finditer(content):
            event = None if match[1].decode() in seen else _before(content, match)
            if event is not None:
                seen.add(match[1].decode())
                yield event


def _windows(file: Path, found: Salvage) -> Iterator[bytes]:
    """The file piece by piece, each long enough into the next for the event that crosses from one to the other.

    Read, not mapped: the disk that damaged the file may fail still, and a mapped page that cannot be read is a signal
    that ends the process.
    """
    with _as_far_as_possible(found), file.open("rb", buffering=0) as opened:
        handle, size = opened.fileno(), os.fstat(opened.fileno()).st_size
        for at in range(0, size, WINDOW_BYTES):
            yield _window(handle, at, min(size, at + WINDOW_BYTES + PAGE_BYTES + HASHES_BYTES), found)


def _window(handle: int, at: int, end: int, found: Salvage) -> bytes:
    """What stands there; zeros in place of each page that the disk does not give."""
    content = b""
    while at + len(content) < end:
        try:
            piece = os.pread(handle, end - at - len(content), at + len(content))
        except OSError:
            found.whole, piece = False, bytes(PAGE_BYTES)
        if not piece:
            break
        content += piece
    return content


def _before(content: bytes, match: re.Match[bytes]) -> KeptEvent | None:
    """The event that ends where a hash begins, if its bytes have that hash."""
    end = match.start(1)
    earliest = max(0, end - PAGE_BYTES)
    start = content.rfind(_BODY_BEGINS, earliest, end)
    while start >= 0:
        event = proven(content[start:end], match[1].decode())
        if event is not None:
            return event
        start = content.rfind(_BODY_BEGINS, earliest, start)
    return None


def proven(body: bytes, fingerprint: str) -> KeptEvent | None:
    """The event that ``body`` is, if ``fingerprint`` is its hash; everything else about it is read from these bytes."""
    if minted_fingerprint(body) != fingerprint:
        return None
    try:
        event = json.loads(body)
        subject, data = event["subject"], event["data"]
        return KeptEvent(
            install_epoch=event["source"].rpartition("/")[2],
            sequence=int(event["sequence"]),
            event_id=event["id"],
            type=event["type"],
            card_no=subject.removeprefix("cards/") if subject.startswith("cards/") else None,
            time=event["time"],
            body=body.decode(),
            previous_hash=data["previous_hash"],
            redeems=(data.get("points") or {}).get("redeemed", 0) > 0,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # the hash fits something that is no event of ours
