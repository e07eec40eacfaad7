"""Intents and checkouts: what was decided before a card was written, and how each sale ended."""

from __future__ import annotations

import json
import sqlite3
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from terminal_agent.contract import canonical_json
from terminal_agent.journal.database import Database
from terminal_agent.journal.events import NewEvent
from terminal_agent.journal.rows import row_as, rows_as
from terminal_agent.ports import Clock, rfc3339


class IntentState(StrEnum):
    """``open``: the write may or may not have landed. ``closed``: the CRM will find out."""

    OPEN = "open"
    LANDED = "landed"
    NOT_LANDED = "not_landed"
    CLOSED = "closed"


class CheckoutState(StrEnum):
    IN_DOUBT = "in_doubt"
    DONE = "done"
    CLOSED = "closed"


@dataclass(frozen=True)
class Intent:
    """One decided card write. ``before`` and ``after`` are card states as the card package gives them; ``events`` are
    recorded when the write is known to have landed; ``history`` is what the card's ring then gets."""

    intent_id: str
    kind: str
    card_no: str
    uid: str
    before: dict[str, Any] | None
    after: dict[str, Any]
    events: tuple[NewEvent, ...]
    checkout_id: str | None = None
    history: dict[str, Any] = field(default_factory=dict)
    created_at: str = ""

    @property
    def tried(self) -> dict[str, Any]:
        """``data.intent`` of an event: from the card's later events the CRM can tell whether this write landed."""
        before, after = self.before or {}, self.after
        return {
            "intent_id": self.intent_id,
            "card_no": self.card_no,
            "sequence_before": before.get("sequence"),
            "sequence_after": after["sequence"],
            "balance_before": before.get("balance"),
            "balance_after": after["balance"],
            "adjustments_before": before.get("adjustments_through"),
            "adjustments_through": after["adjustments_through"],
        }


@dataclass(frozen=True)
class Checkout:
    """One sale or return by its receipt, ``card_no`` empty for one by phone of who has no card. ``result`` is the
    answer the cashier got, or gets again; ``reference`` tells several returns of one receipt apart;
    ``redeemed_offline`` counts what was granted without the CRM."""

    checkout_id: str
    kind: str
    receipt_no: str
    amount: int
    currency: str
    state: CheckoutState
    card_no: str
    redeemed_offline: int
    result: dict[str, Any]
    created_at: str
    reference: str = ""
    online: bool = False

    @property
    def result_without_card(self) -> dict[str, Any]:
        """The answer of a checkout that ends without its card: what was to be redeemed is not, the rest stands."""
        tried = self.result
        redeemed = min(0, tried["points_redeemed"])
        return {
            **tried,
            "state": CheckoutState.CLOSED.value,
            "points_redeemed": redeemed,
            "explanation": [reason for reason in tried["explanation"] if reason["rule"] != "redeem"],
            "points_after": tried["points_before"] + tried["points_adjusted"] + tried["points_earned"] - redeemed,
        }


_INTENT = "what was decided for a card"
_CHECKOUT = "what was recorded of a sale"


class Intents:
    """Rows that are on disk before a card changes, and settled when its state is known.

    Asked for one that cannot be read, these raise :class:`RowUnreadable`; of many, it is left out.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def begin(self, intent: Intent) -> None:
        """Record an open intent, inside the caller's transaction."""
        document = {"events": [event.to_json() for event in intent.events], "history": intent.history}
        self._database.execute(
            "INSERT INTO intents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', NULL)",
            intent.intent_id,
            intent.checkout_id,
            intent.kind,
            intent.card_no,
            intent.uid,
            None if intent.before is None else json.dumps(intent.before),
            json.dumps(intent.after),
            # Minted the same way as the events later: what cannot be minted fails here, before the card is written.
            canonical_json(document).decode(),
            rfc3339(self._clock.now()),
        )

    def settle(self, intent_id: str, state: IntentState, was: IntentState = IntentState.OPEN) -> bool:
        """Record how an intent ended, inside the caller's transaction; whether it still was as the caller knew it."""
        return bool(
            self._database.execute(
                "UPDATE intents SET state = ?, settled_at = ? WHERE intent_id = ? AND state = ?",
                state.value,
                rfc3339(self._clock.now()),
                intent_id,
                was.value,
            )
        )

    def ended(self, intent_id: str) -> bool:
        """Whether it is recorded how this intent ended, without its card or with it."""
        row = self._database.one("SELECT 1 FROM intents WHERE intent_id = ? AND state <> 'open'", intent_id)
        return row is not None

    def unsettled(self, card_no: str) -> list[tuple[IntentState, Intent]]:
        """A card's open and closed intents, oldest first; without those that cannot be read."""
        rows = self._database.query(f"SELECT * FROM {_UNSETTLED} AND card_no = ? ORDER BY rowid", card_no)
        return rows_as(_INTENT, lambda row: (IntentState(row["state"]), _intent(row)), rows)

    def of_uid(self, uid: str, kind: str) -> list[Intent]:
        """Open intents of one kind for a card that may not carry its number yet."""
        rows = self._database.query(f"SELECT * FROM {_OPEN} AND uid = ? AND kind = ? ORDER BY rowid", uid, kind)
        return rows_as(_INTENT, _intent, rows)

    def open_of(self, kind: str) -> list[Intent]:
        """Every open intent of one kind, oldest first."""
        rows = self._database.query(f"SELECT * FROM {_OPEN} AND kind = ? ORDER BY rowid", kind)
        return rows_as(_INTENT, _intent, rows)

    def note(self, intent_id: str, fact: str) -> None:
        """Add a fact to an intent's history, inside the caller's transaction."""
        noted = "UPDATE intents SET document = json_set(document, '$.history.' || ?, json('true')) WHERE intent_id = ?"
        self._database.execute(noted, fact, intent_id)

    def event_of(self, checkout_id: str) -> NewEvent | None:
        """The event that a checkout recorded, or will when it is settled."""
        row = self._database.one("SELECT * FROM intents WHERE checkout_id = ?", checkout_id)
        return row_as(_INTENT, _intent, row).events[0] if row else None

    def of_checkout(self, checkout_id: str) -> Intent | None:
        row = self._database.one("SELECT * FROM intents WHERE checkout_id = ? AND state = 'open'", checkout_id)
        return row_as(_INTENT, _intent, row) if row else None

    def redact(self, member_ids: set[str]) -> int:
        """Take the persons out of their cards' issues, inside the caller's transaction; how many there were."""
        count = 0
        for row in self._database.query("SELECT intent_id, document FROM intents WHERE kind = 'issue'"):
            document = json.loads(row["document"])
            named = [document["history"].get("member"), *(event["data"].get("member") for event in document["events"])]
            theirs = [member for member in named if member and member["member_id"] in member_ids]
            for member in theirs:
                member.update(phone=None, name=None)
                member.pop("salt", None)  # with it, the fingerprint of the event that was made of this tells a phone
            if theirs:
                redacted = canonical_json(document).decode()
                changed = "UPDATE intents SET document = ? WHERE intent_id = ? AND document <> ?"
                count += self._database.execute(changed, redacted, row["intent_id"], redacted)
        return count

    def count_open(self) -> int:
        row = self._database.one(f"SELECT count(*) AS n FROM {_OPEN} AND checkout_id IS NOT NULL")
        return int(row["n"]) if row else 0

    def open_checkouts_outside(self, earliest: str, latest: str) -> list[str]:
        """Checkouts in doubt whose intent is dated before ``earliest`` or after ``latest`` (RFC 3339)."""
        rows = self._database.query(
            f"SELECT checkout_id FROM {_OPEN} AND checkout_id IS NOT NULL AND created_at NOT BETWEEN ? AND ?",
            earliest,
            latest,
        )
        return [row["checkout_id"] for row in rows]


# The index is named, because the planner would rather walk through every intent there ever was. There is one for both
# states: each index is a page more to sync in both of a sale's commits.
_UNSETTLED = "intents INDEXED BY intents_unsettled WHERE state IN ('open', 'closed')"
_OPEN = f"{_UNSETTLED} AND state = 'open'"


class Checkouts:
    """Sales by receipt number, the natural key of a checkout on a terminal.

    Asked for one that cannot be read, these raise :class:`RowUnreadable`; of many, it is left out.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def begin(self, checkout: Checkout) -> None:
        """Record a checkout whose card write is about to happen, inside the caller's transaction."""
        values = {**vars(checkout), "state": checkout.state.value, "result": json.dumps(checkout.result)}
        values["online"] = int(checkout.online)
        columns = ", ".join(values)
        self._database.execute(
            f"INSERT INTO checkouts ({columns}) VALUES ({', '.join('?' * len(values))})", *values.values()
        )

    def readmit(self, row: dict[str, Any]) -> None:
        """Put a finished checkout of a damaged journal back, inside the caller's transaction, so that its receipt is
        known again. One that its table does not take, or that is here already, is left out."""
        columns = ", ".join(row)
        sql = f"INSERT OR IGNORE INTO checkouts ({columns}) VALUES ({', '.join('?' * len(row))})"
        with suppress(ValueError, sqlite3.IntegrityError):
            json.loads(str(row["result"]))
            self._database.execute(sql, *row.values())

    def finish(self, checkout_id: str, state: CheckoutState, result: dict[str, Any]) -> None:
        """Record how a checkout ended, inside the caller's transaction."""
        self._database.execute(
            "UPDATE checkouts SET state = ?, result = ?, finished_at = ? WHERE checkout_id = ?",
            state.value,
            json.dumps(result),
            rfc3339(self._clock.now()),
            checkout_id,
        )

    def by_receipt(self, kind: str, receipt_no: str, reference: str = "") -> Checkout | None:
        row = self._database.one(
            "SELECT * FROM checkouts WHERE kind = ? AND receipt_no = ? AND reference = ?", kind, receipt_no, reference
        )
        return row_as(_CHECKOUT, _checkout, row) if row else None

    def of_card(self, card_no: str) -> list[Checkout]:
        """Every sale and return of a card, oldest first."""
        rows = self._database.query("SELECT * FROM checkouts WHERE card_no = ? ORDER BY rowid", card_no)
        return rows_as(_CHECKOUT, _checkout, rows)

    def of_member(self, member_id: str) -> list[Checkout]:
        """Every sale and return of a member without a card, oldest first."""
        sql = "SELECT * FROM checkouts WHERE json_extract(result, '$.member_id') = ? ORDER BY rowid"
        return rows_as(_CHECKOUT, _checkout, self._database.query(sql, member_id))

    def newest(self, count: int) -> list[Checkout]:
        """The last sales and returns, newest first."""
        rows = self._database.query("SELECT * FROM checkouts ORDER BY rowid DESC LIMIT ?", count)
        return [_checkout(row) for row in rows]

    def redact(self, card_nos: set[str]) -> int:
        """Take whoever is named in the answers of these cards' sales out of them, inside the caller's transaction; how
        many there were."""
        count = 0
        for checkout in (checkout for card_no in card_nos for checkout in self.of_card(card_no)):
            if checkout.result.get("member"):
                count += self._database.execute(
                    "UPDATE checkouts SET result = ? WHERE checkout_id = ?",
                    json.dumps({**checkout.result, "member": None}),
                    checkout.checkout_id,
                )
        return count

    def latest(self, kind: str, receipt_no: str) -> Checkout | None:
        """The newest checkout of one kind on one receipt, of several returns the last."""
        row = self._database.one(
            "SELECT * FROM checkouts WHERE kind = ? AND receipt_no = ? ORDER BY rowid DESC LIMIT 1", kind, receipt_no
        )
        return row_as(_CHECKOUT, _checkout, row) if row else None

    def amount_of(self, kind: str, receipt_no: str) -> int:
        """The sum of all checkouts of one kind on one receipt, those in doubt included."""
        row = self._database.one(
            "SELECT coalesce(sum(amount), 0) AS n FROM checkouts WHERE kind = ? AND receipt_no = ?", kind, receipt_no
        )
        return int(row["n"]) if row else 0

    def by_id(self, checkout_id: str) -> Checkout | None:
        row = self._database.one("SELECT * FROM checkouts WHERE checkout_id = ?", checkout_id)
        return row_as(_CHECKOUT, _checkout, row) if row else None

    def in_doubt(self) -> list[Checkout]:
        """The sales whose card write may or may not have landed, found by their open intents; oldest first."""
        rows = self._database.query(
            f"SELECT * FROM checkouts WHERE checkout_id IN (SELECT checkout_id FROM {_OPEN}) AND state = 'in_doubt' "
            "ORDER BY rowid"
        )
        return rows_as(_CHECKOUT, _checkout, rows)

    def carries(self, card_no: str, hold_id: str) -> bool:
        """Whether a sale of this card was begun on these points that the CRM had set aside."""
        row = self._database.one(
            "SELECT 1 FROM checkouts WHERE card_no = ? AND online = 1 AND json_extract(result, '$.hold_id') = ?",
            card_no,
            hold_id,
        )
        return row is not None

    def redeemed_offline_today(self) -> int:
        """Points redeemed offline on this terminal in the last 24 hours, sales in doubt included."""
        moment = rfc3339(self._clock.now() - timedelta(days=1))
        row = self._database.one(
            "SELECT coalesce(sum(redeemed_offline), 0) AS n FROM checkouts "
            "WHERE created_at >= ? AND redeemed_offline > 0",
            moment,
        )
        return int(row["n"]) if row else 0

    def redeemed_offline_by(self, card_no: str) -> int:
        """Points a card redeemed offline on this terminal since the CRM last confirmed it here, in doubt included."""
        row = self._database.one(
            "SELECT coalesce(sum(redeemed_offline), 0) AS n FROM checkouts WHERE card_no = ? AND redeemed_offline > 0 "
            "AND rowid > (SELECT coalesce(max(rowid), 0) FROM checkouts WHERE card_no = ? AND online = 1)",
            card_no,
            card_no,
        )
        return int(row["n"]) if row else 0


def _intent(row: Any) -> Intent:
    document = json.loads(row["document"])
    return Intent(
        intent_id=row["intent_id"],
        kind=row["kind"],
        card_no=row["card_no"],
        uid=row["uid"],
        before=json.loads(row["before"]) if row["before"] else None,
        after=json.loads(row["after"]),
        events=tuple(NewEvent.from_json(event) for event in document["events"]),
        checkout_id=row["checkout_id"],
        history=document["history"],
        created_at=row["created_at"],
    )


def _checkout(row: Any) -> Checkout:
    fields = {name: row[name] for name in row.keys() if name != "finished_at"}  # noqa: SIM118 - a Row is no dict
    plain = {"state": CheckoutState(row["state"]), "result": json.loads(row["result"]), "online": bool(row["online"])}
    return Checkout(**{**fields, **plain})
