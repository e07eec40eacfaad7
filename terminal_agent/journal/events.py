"""Events and the outbox: facts minted once, chained by hash, kept until an authenticated CRM has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from terminal_agent.contract import (
    EventType,
    canonical_json,
    fingerprint,
    minted_fingerprint,
    redact_enrolment,
    source_of,
)
from terminal_agent.journal import chain
from terminal_agent.journal.chain import FIRST_HASH, BrokenLink
from terminal_agent.journal.database import Database
from terminal_agent.journal.salvage import KeptEvent
from terminal_agent.ports import Clock, rfc3339

HASH_CHAIN_BROKEN = "hash_chain_broken"
"""Why an event was quarantined that is not what was minted; it was never sent."""
DROPPED = "dropped"
"""Why an event is done with that the CRM never booked: head office said so."""
SALVAGED = "salvaged:"
"""Before an install epoch: it was put together from a damaged journal, and has gaps."""
WAITING = "state <> 'acknowledged'"
"""The words of the partial index over what waits or is quarantined: a query that says them reads nothing else."""


class OutboxState(StrEnum):
    PENDING = "pending"
    QUARANTINED = "quarantined"
    ACKNOWLEDGED = "acknowledged"


@dataclass(frozen=True)
class NewEvent:
    """A fact to record. ``data`` is the CloudEvent's data without ``previous_hash``, which the journal adds."""

    event_id: str
    type: EventType
    subject: str
    card_no: str | None
    time: str
    data: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {
            "event_id": self.event_id,
            "type": self.type.value,
            "subject": self.subject,
            "card_no": self.card_no,
            "time": self.time,
            "data": self.data,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> NewEvent:
        return cls(**{**document, "type": EventType(document["type"])})


@dataclass(frozen=True)
class OutboxEntry:
    """One event and where it stands. ``body`` is its bytes on the wire as text, ``named_by_next`` the fingerprint that
    the event after it was chained to."""

    event_id: str
    type: str
    card_no: str | None
    install_epoch: str
    sequence: int
    state: OutboxState
    attempts: int
    reason: str | None
    created_at: str
    body: str
    position: int
    fingerprint: str
    named_by_next: str | None

    def to_json(self) -> dict[str, Any]:
        """The row ``queue list`` shows."""
        return {
            "id": self.event_id,
            "type": self.type,
            "card_no": self.card_no,
            "sequence": self.sequence,
            "state": self.state.value,
            "attempts": self.attempts,
            "reason": self.reason,
        }


class Events:
    """Appends events and walks them to the CRM. ``terminal_id`` and ``install_epoch`` name their source, ``recorded``
    hears of the position of each event that is appended."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        terminal_id: str,
        install_epoch: str,
        recorded: Callable[[int], None] = lambda _position: None,
    ) -> None:
        self._database = database
        self._clock = clock
        self.terminal_id = terminal_id
        self.install_epoch = install_epoch
        self._recorded = recorded
        self._source = source_of(terminal_id, install_epoch)

    def append(self, event: NewEvent) -> int:
        """Record ``event`` and put it into the outbox, inside the caller's transaction; gives its sequence."""
        last = self._database.one(
            "SELECT sequence, fingerprint FROM events WHERE install_epoch = ? ORDER BY sequence DESC LIMIT 1",
            self.install_epoch,
        )
        sequence = last["sequence"] + 1 if last else 1
        previous_hash = last["fingerprint"] if last else FIRST_HASH
        body = canonical_json(self._envelope(event, sequence, previous_hash))
        row = (event.event_id, event.type.value, event.card_no, event.time, body.decode(), fingerprint(body))
        self._database.execute(_KEEP, self.install_epoch, sequence, *row, previous_hash)
        points = event.data.get("points") or {}
        self._enqueue(event.event_id, event.card_no, points.get("redeemed", 0) > 0)
        return int(sequence)

    def last_sequence(self) -> int:
        """The sequence of the newest event of the current install epoch; 0 when there is none."""
        row = self._database.one("SELECT max(sequence) AS n FROM events WHERE install_epoch = ?", self.install_epoch)
        return int(row["n"] or 0) if row else 0

    def _enqueue(self, event_id: str, card_no: str | None, redeems: bool) -> None:
        row = self._database.one(
            "INSERT INTO outbox (event_id, position, state, card_no, redeems, created_at) "
            "SELECT ?, coalesce(max(position), 0) + 1, 'pending', ?, ?, ? FROM outbox RETURNING position",
            event_id,
            card_no,
            int(redeems),
            rfc3339(self._clock.now()),
        )
        if row is not None:
            self._recorded(row["position"])

    def find(self, event_id: str | None) -> NewEvent | None:
        """A recorded event as it was minted."""
        row = self._database.one("SELECT card_no, body FROM events WHERE event_id = ?", event_id)
        if row is None:
            return None
        told = json.loads(row["body"])
        data = {name: value for name, value in told["data"].items() if name != "previous_hash"}
        return NewEvent(told["id"], EventType(told["type"]), told["subject"], row["card_no"], told["time"], data)

    def readmit(self, kept: KeptEvent) -> bool:
        """Put an event of a damaged journal back, byte for byte, in the caller's transaction; whether it was new."""
        row = (kept.event_id, kept.type, kept.card_no, kept.time, kept.body, minted_fingerprint(kept.body.encode()))
        values = (kept.install_epoch, kept.sequence, *row, kept.previous_hash)
        if not self._database.execute(f"{_KEEP} ON CONFLICT DO NOTHING", *values):
            return False
        self._enqueue(kept.event_id, kept.card_no, kept.redeems)
        return True

    def _envelope(self, event: NewEvent, sequence: int, previous_hash: str) -> dict[str, Any]:
        return {
            "specversion": "1.0",
            "id": event.event_id,
            "source": self._source,
            "type": event.type.value,
            "subject": event.subject,
            "time": event.time,
            "sequence": str(sequence),
            "datacontenttype": "application/json",
            "data": {**event.data, "previous_hash": previous_hash},
        }

    def next_batch(
        self, max_events: int, max_bytes: int, after: int = 0, card_no: str | None = None
    ) -> list[OutboxEntry]:
        """The oldest pending events behind the position ``after`` that fit one request, all of one install epoch; of
        one card, where one is named.

        Later events of a card wait behind its refused redemption, but its earnings pass: what a customer is given may
        be booked in any order.
        """
        rows = self._database.query(
            f"{_ENTRY} WHERE o.state = 'pending' AND o.{WAITING} AND o.position > ? "
            f"{'AND o.card_no = ? ' if card_no else ''}"
            f"AND NOT EXISTS (SELECT 1 FROM outbox q WHERE q.state = 'quarantined' AND q.{WAITING} "
            "AND q.redeems = 1 AND q.card_no = o.card_no AND q.position < o.position "
            "AND (o.redeems = 1 OR e.type <> ?)) ORDER BY o.position LIMIT ?",
            after,
            *([card_no] if card_no else []),
            EventType.PURCHASE_RECORDED.value,
            max_events,
        )
        batch: list[OutboxEntry] = []
        size = 2
        for entry in map(_entry, rows):
            size += len(entry.body.encode()) + 1
            if batch and (size > max_bytes or entry.install_epoch != batch[0].install_epoch):
                break
            batch.append(entry)
        return batch

    def entries(self, state: OutboxState | None, limit: int, after: int = 0) -> list[OutboxEntry]:
        """What waits and what is quarantined (or one state) behind the position ``after``, oldest first."""
        wanted = f"o.state = '{state.value}'" if state else f"o.{WAITING}"
        if state is not OutboxState.ACKNOWLEDGED:
            wanted += f" AND o.{WAITING}"
        select = f"{_ENTRY} WHERE {wanted} AND o.position > ? ORDER BY o.position LIMIT ?"
        return [_entry(row) for row in self._database.query(select, after, limit)]

    def count_waiting(self, after: int) -> int:
        """How many events behind the position ``after`` the CRM has not acknowledged."""
        row = self._database.one(f"SELECT count(*) AS n FROM outbox WHERE {WAITING} AND position > ?", after)
        return int(row["n"]) if row else 0

    def count(self, state: OutboxState) -> int:
        """How many events are in this state; counting what waits reads nothing of what is acknowledged."""
        waiting = "" if state is OutboxState.ACKNOWLEDGED else f"AND {WAITING}"
        row = self._database.one(f"SELECT count(*) AS n FROM outbox WHERE state = ? {waiting}", state.value)
        return int(row["n"]) if row else 0

    def waiting_of(self, card_no: str) -> bool:
        """Whether the CRM lacks an event of this card that is recorded here: it waits, or is quarantined."""
        row = self._database.one(f"SELECT 1 FROM outbox WHERE {WAITING} AND card_no = ? LIMIT 1", card_no)
        return row is not None

    def oldest_pending_age_s(self) -> float | None:
        """How long the oldest unacknowledged event has waited, in seconds; None when nothing waits."""
        row = self._database.one(f"SELECT created_at FROM outbox WHERE {WAITING} ORDER BY position LIMIT 1")
        if row is None:
            return None
        return max(0.0, (self._clock.now() - datetime.fromisoformat(row["created_at"])).total_seconds())

    def newest_time(self) -> datetime | None:
        """When the event was minted that was minted last; None before the first."""
        row = self._database.one("SELECT time FROM events ORDER BY rowid DESC LIMIT 1")
        return datetime.fromisoformat(row["time"]) if row else None

    def attempted(self, event_ids: list[str]) -> None:
        """Count one more try of each."""
        for event_id in event_ids:
            self._database.execute("UPDATE outbox SET attempts = attempts + 1 WHERE event_id = ?", event_id)

    def settle(self, event_id: str, state: OutboxState, reason: str | None) -> bool:
        """The CRM's verdict, inside the caller's transaction; whether there was an event that waited for one."""
        changed = self._database.execute(
            f"UPDATE outbox SET state = ?, reason = ?, settled_at = ? WHERE event_id = ? AND {WAITING}",
            state.value,
            reason,
            rfc3339(self._clock.now()),
            event_id,
        )
        return changed == 1

    def remark(self, event_id: str, reason: str) -> None:
        """Why a pending event still waits, inside the caller's transaction."""
        self._database.execute(
            "UPDATE outbox SET reason = ? WHERE event_id = ? AND state = 'pending'", reason, event_id
        )

    def is_minted_by(self, install_epoch: str, terminal_id: str) -> bool:
        """Whether an install epoch recorded here was this terminal's, and not under a name that it had before."""
        row = self._database.one(
            "SELECT body FROM events WHERE install_epoch = ? ORDER BY sequence LIMIT 1", install_epoch
        )
        return row is not None and json.loads(row["body"])["source"] == source_of(terminal_id, install_epoch)

    def retry(self, event_id: str) -> bool:
        """Take a quarantined event back into the queue; whether there was one."""
        return (
            self._database.execute(
                "UPDATE outbox SET state = 'pending', reason = NULL WHERE event_id = ? AND state = 'quarantined'",
                event_id,
            )
            == 1
        )

    def redact(self, member_ids: set[str]) -> int:
        """Take the persons out of their enrolments, in the caller's transaction; how many there were.

        Sent or not, each stays one link of the chain and counts once at the CRM.
        """
        asked = "SELECT event_id, body, fingerprint FROM events WHERE type = ?"
        count = 0
        for row in self._database.query(asked, EventType.MEMBER_ENROLLED.value):
            if json.loads(row["body"])["data"]["member"]["member_id"] in member_ids:
                redacted = redact_enrolment(row["body"].encode(), row["fingerprint"]).decode()
                count += self._database.execute(
                    "UPDATE events SET body = ? WHERE event_id = ? AND body <> ?", redacted, row["event_id"], redacted
                )
        return count

    def bodies_of(self, member_id: str, card_nos: set[str]) -> list[dict[str, Any]]:
        """Every event about a member or one of their cards, oldest first."""
        rows = self._database.query("SELECT card_no, body FROM events ORDER BY rowid")
        about = (row for row in rows if row["card_no"] in card_nos or member_id in row["body"])
        return [json.loads(row["body"]) for row in about]

    def drop(self, event_id: str, reason: str) -> bool:
        """Head office lets a quarantined event be: it waits no more, and stays here; whether there was one."""
        return (
            self._database.execute(
                "UPDATE outbox SET state = 'acknowledged', reason = ?, settled_at = ? "
                "WHERE event_id = ? AND state = 'quarantined'",
                f"{DROPPED}: {reason}",
                rfc3339(self._clock.now()),
                event_id,
            )
            == 1
        )

    def forgotten_after(self, install_epoch: str, sequence: int) -> int:
        """The CRM has lost what it had acknowledged of an epoch beyond ``sequence``: back into the queue with it.

        Inside the caller's transaction; gives how many. The last one of every other epoch goes too: the answer to it
        tells what else is lost.
        """
        lost = "UPDATE outbox SET state = 'pending', reason = 'forgotten_by_crm', settled_at = NULL WHERE state = "
        newest = "SELECT max(sequence) FROM events n WHERE n.install_epoch = e.install_epoch"
        others = f"e.install_epoch <> ? AND e.sequence = ({newest})"
        return self._database.execute(
            f"{lost}'acknowledged' AND event_id IN (SELECT event_id FROM events e WHERE e.install_epoch = ? "
            f"AND e.sequence > ? OR {others})",
            install_epoch,
            sequence,
            install_epoch,
        )

    def unsound(self, entries: list[OutboxEntry]) -> list[OutboxEntry]:
        """Those that are not what was minted, by their own bytes or by the word of the event after them."""
        return [entry for entry in entries if not self._is_sound(entry)]

    def _is_sound(self, entry: OutboxEntry) -> bool:
        place = BrokenLink(entry.install_epoch, entry.sequence)
        return chain.is_sound(self._database, place, entry.body.encode(), entry.fingerprint, entry.named_by_next)

    def count_quarantined_for(self, reason: str) -> int:
        """How many events are in quarantine for exactly this reason."""
        row = self._database.one(
            f"SELECT count(*) AS n FROM outbox WHERE state = 'quarantined' AND {WAITING} AND reason = ?",
            reason,
        )
        return int(row["n"]) if row else 0

    def broken_link(self) -> BrokenLink | None:
        """The first event that is not what was minted, in whichever install epoch of this file; None when all hold."""
        keys = self._database.query("SELECT key FROM meta WHERE key GLOB ?", f"{SALVAGED}*")
        return chain.broken_link(self._database, {row["key"].removeprefix(SALVAGED) for row in keys})


_KEEP = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
# As bytes: a text that is no UTF-8 any more must not stop its neighbours. Its fingerprint tells that it was changed.
_TEXTS = {
    "event_id": "o.event_id",
    "type": "e.type",
    "card_no": "e.card_no",
    "install_epoch": "e.install_epoch",
    "state": "o.state",
    "reason": "o.reason",
    "created_at": "o.created_at",
    "body": "e.body",
    "fingerprint": "e.fingerprint",
    "named_by_next": "n.previous_hash",
}
_AS_BYTES = ", ".join(f"CAST({column} AS BLOB) AS {name}" for name, column in _TEXTS.items())
_ENTRY = (
    f"SELECT {_AS_BYTES}, e.sequence, o.attempts, o.position FROM outbox o JOIN events e USING (event_id) "
    "LEFT JOIN events n ON n.install_epoch = e.install_epoch AND n.sequence = e.sequence + 1"
)


def _entry(row: Any) -> OutboxEntry:
    texts = {name: row[name] and row[name].decode(errors="replace") for name in _TEXTS}
    return OutboxEntry(**{**dict(row), **texts, "state": OutboxState(texts["state"])})
