"""What this terminal knows of cards, members and the club: its own sightings and what the CRM's feed brought."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from terminal_agent.club.policy import Policy, Problem, default_policy, usable_policy
from terminal_agent.journal.database import Database
from terminal_agent.journal.rows import rows_as
from terminal_agent.ports import Clock, rfc3339


@dataclass(frozen=True)
class KnownCard:
    """The newest state of a card seen here. ``state`` is the card package's state as a dict; ``status`` one of
    active, wiped, retired."""

    card_no: str
    uid: str
    member_id: str | None
    key_set_version: int
    state: dict[str, Any]
    status: str


@dataclass(frozen=True)
class Member:
    """A member of the club. ``phone`` in its normal form; ``status`` as the CRM says, None before it said so."""

    member_id: str
    phone: str | None
    name: str | None
    tier: str | None
    status: str | None = None


@dataclass(frozen=True)
class Adjustment:
    """Points the CRM moves on a card; numbers are gapless per card."""

    card_no: str
    number: int
    points: int
    reason: str | None


NAMED = "named"
"""The status of somebody whose phone was given at a sale while nobody could say whose it is; no member."""
_SEEN = "what was seen of a card"


class Knowledge:
    """Reads and remembers; every writer runs inside the caller's transaction."""

    def __init__(self, database: Database, clock: Clock, currency: str) -> None:
        self._database = database
        self._clock = clock
        self._currency = currency

    def card(self, card_no: str) -> KnownCard | None:
        """None also where what was seen of it cannot be read any more: its sale must go on."""
        rows = self._database.query("SELECT * FROM cards WHERE card_no = ?", card_no)
        return next(iter(rows_as(_SEEN, _card, rows)), None)

    def card_by_uid(self, uid: str) -> KnownCard | None:
        """Like :meth:`card`."""
        rows = self._database.query("SELECT * FROM cards WHERE uid = ? ORDER BY rowid DESC LIMIT 1", uid)
        return next(iter(rows_as(_SEEN, _card, rows)), None)

    def recent_cards(self, most: int) -> list[KnownCard]:
        """The cards seen here last, newest first."""
        return rows_as(_SEEN, _card, self._database.query("SELECT * FROM cards ORDER BY seen_at DESC LIMIT ?", most))

    def saw_card(self, card: KnownCard) -> None:
        self._database.execute(
            "INSERT INTO cards VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (card_no) DO UPDATE SET uid = excluded.uid, "
            "member_id = coalesce(excluded.member_id, member_id), key_set_version = excluded.key_set_version, "
            "state = excluded.state, status = excluded.status, seen_at = excluded.seen_at",
            card.card_no,
            card.uid,
            card.member_id,
            card.key_set_version,
            json.dumps(card.state),
            card.status,
            rfc3339(self._clock.now()),
        )

    def member(self, member_id: str | None) -> Member | None:
        row = self._database.one("SELECT * FROM members WHERE member_id = ?", member_id)
        return _member(row) if row else None

    def member_by_phone(self, phone: str) -> Member | None:
        row = self._database.one("SELECT * FROM members WHERE phone = ?", phone)
        return _member(row) if row else None

    def member_of(self, card_no: str) -> Member | None:
        """Who holds a card, as the CRM told or as it was issued here."""
        row = self._database.one(
            "SELECT * FROM members WHERE member_id = coalesce((SELECT member_id FROM holders WHERE card_no = ?), "
            "(SELECT member_id FROM cards WHERE card_no = ?))",
            card_no,
            card_no,
        )
        return _member(row) if row else None

    def names_and_phones(self) -> list[str]:
        """Of every member known here: what must not be said."""
        rows = self._database.query("SELECT name, phone FROM members")
        return [text for row in rows for text in (row["name"], row["phone"]) if text]

    def remember_holder(self, card_no: str, member_id: str) -> None:
        """The CRM says whose card it is."""
        self._database.execute(
            "INSERT INTO holders VALUES (?, ?) ON CONFLICT (card_no) DO UPDATE SET member_id = excluded.member_id",
            card_no,
            member_id,
        )

    def remember_member(self, member: Member) -> None:
        """Insert or update. A phone moves to who had it last."""
        if member.phone:
            self._database.execute(
                "UPDATE members SET phone = NULL WHERE phone = ? AND member_id <> ?", member.phone, member.member_id
            )
        self._database.execute(
            "INSERT INTO members (member_id, phone, name, tier, status, updated_at) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (member_id) DO UPDATE SET phone = excluded.phone, name = excluded.name, "
            "tier = excluded.tier, status = excluded.status, updated_at = excluded.updated_at",
            member.member_id,
            member.phone,
            member.name,
            member.tier,
            member.status,
            rfc3339(self._clock.now()),
        )

    def remember_new_member(self, member: Member) -> None:
        """One who was enrolled here; what is known of a member already stays."""
        known = self.member(member.member_id)
        if known is None or known.status == NAMED:
            self.remember_member(member)

    def cards_of(self, member_id: str) -> list[KnownCard]:
        """The member's cards that were seen here."""
        rows = self._database.query("SELECT * FROM cards WHERE member_id = ? ORDER BY rowid", member_id)
        return rows_as(_SEEN, _card, rows)

    def card_numbers_of(self, member_id: str) -> list[str]:
        """The member's cards, as the CRM told or as they were issued here; the newest last."""
        rows = self._database.query(
            "SELECT card_no FROM holders WHERE member_id = ? UNION SELECT card_no FROM cards WHERE member_id = ?",
            member_id,
            member_id,
        )
        seen = [card.card_no for card in self.cards_of(member_id)]
        elsewhere = [row["card_no"] for row in rows if row["card_no"] not in seen]
        return [*elsewhere, *seen]

    def card_held_by(self, member_id: str) -> tuple[str, str | None] | None:
        """Number and UID of the newest card a member holds; a card issued elsewhere is known by its number alone."""
        for card_no in reversed(self.card_numbers_of(member_id)):
            card = self.card(card_no)
            if not self.is_wiped(card_no) and self.block_reason(card_no) != "replaced":
                return card_no, card.uid if card else None
        return None

    def is_wiped(self, card_no: str) -> bool:
        """Whether the card was made blank again here."""
        card = self.card(card_no)
        return card is not None and card.status == "wiped"

    def erase_member(self, member_id: str, card_nos: set[str]) -> int:
        """Forget the member; their cards stay known by their numbers, to be blanked when they are tapped.

        Gives how many rows told who they are.
        """
        known = self._database.execute("DELETE FROM members WHERE member_id = ?", member_id)
        self._database.execute("DELETE FROM holders WHERE member_id = ?", member_id)
        for card_no in card_nos:
            self._database.execute("INSERT INTO erased_cards VALUES (?, ?) ON CONFLICT DO NOTHING", card_no, member_id)
        return known

    def is_erased(self, card_no: str) -> bool:
        """Whether the card's owner had everything erased."""
        return self._database.one("SELECT 1 FROM erased_cards WHERE card_no = ?", card_no) is not None

    def block_reason(self, card_no: str) -> str | None:
        """Why a card is on the hotlist, or None when it is not."""
        row = self._database.one("SELECT reason FROM hotlist WHERE card_no = ? AND blocked = 1", card_no)
        return None if row is None else row["reason"] or "blocked by head office"

    def set_hotlist(self, card_no: str, blocked: bool, reason: str | None) -> None:
        self._database.execute(
            "INSERT INTO hotlist VALUES (?, ?, ?) ON CONFLICT (card_no) "
            "DO UPDATE SET blocked = excluded.blocked, reason = excluded.reason",
            card_no,
            int(blocked),
            reason,
        )

    def adjustments_after(self, card_no: str, number: int) -> list[Adjustment]:
        """The adjustments a card still misses, without a gap: after a missing number nothing may be applied."""
        rows = self._database.query(
            "SELECT * FROM adjustments WHERE card_no = ? AND number > ? ORDER BY number", card_no, number
        )
        gapless: list[Adjustment] = []
        for row in rows:
            if row["number"] != number + len(gapless) + 1:
                break
            gapless.append(Adjustment(**dict(row)))
        return gapless

    def forget_adjustments(self) -> None:
        """The CRM tells all of them from the beginning, inside the caller's transaction."""
        self._database.execute("DELETE FROM adjustments")

    def remember_adjustment(self, adjustment: Adjustment) -> None:
        """Keep it; the same number again changes nothing."""
        self._database.execute(
            "INSERT INTO adjustments VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            adjustment.card_no,
            adjustment.number,
            adjustment.points,
            adjustment.reason,
        )

    def policy(self, version: str | None = None) -> Policy:
        """The policy of that version, if it is known here; else the newest in our currency that is in force, of two
        with one moment the last; else the default. One that cannot be read any more is not known."""
        named = self._policies("SELECT document FROM policies WHERE version = ?", version)
        if named:
            return named[0]
        default = _default_policy(self._currency)
        if version == default.version:
            return default
        now = self._clock.now()
        policies = self._policies("SELECT document FROM policies ORDER BY rowid DESC")
        in_force = [policy for policy in policies if policy.valid_from <= now and policy.currency == self._currency]
        return max(in_force, key=lambda policy: policy.valid_from, default=default)

    def _policies(self, sql: str, *values: Any) -> list[Policy]:
        return rows_as("a policy", lambda row: _policy_in(row["document"]), self._database.query(sql, *values))

    def unreadable_policies(self) -> int:
        """How many were remembered here and cannot be read any more."""
        rows = self._database.one("SELECT count(*) AS n FROM policies")
        return (rows["n"] if rows else 0) - len(self._policies("SELECT document FROM policies"))

    def remember_policy(self, version: str, document: dict[str, Any]) -> list[Problem]:
        """Keep a policy, and say what of it cannot be followed here. Raises PolicyInvalid for a document that cannot
        be used."""
        policy, problems = usable_policy(document)
        self._database.execute(
            "INSERT INTO policies VALUES (?, ?, ?) ON CONFLICT (version) "
            "DO UPDATE SET valid_from = excluded.valid_from, document = excluded.document",
            version,
            rfc3339(policy.valid_from),
            json.dumps(document),
        )
        return problems


@lru_cache(maxsize=32)
def _policy_in(document: str) -> Policy:
    """A stored policy; every tap asks for all of them, and they are frozen."""
    return usable_policy(json.loads(document))[0]


@lru_cache
def _default_policy(currency: str) -> Policy:
    return usable_policy(default_policy(currency))[0]


def _card(row: Any) -> KnownCard:
    return KnownCard(
        row["card_no"], row["uid"], row["member_id"], row["key_set_version"], json.loads(row["state"]), row["status"]
    )


def _member(row: Any) -> Member:
    return Member(row["member_id"], row["phone"], row["name"], row["tier"], row["status"])
