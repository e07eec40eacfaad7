"""What this terminal knows of offers per card: grants the CRM made, what was used here, and what was used elsewhere.

Uses here are counted in the commit of their sale. Those elsewhere come from the CRM by terminal, so that its telling
of our own is never added to our own count.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from terminal_agent.club.offers import Grant, OfferUse, Used
from terminal_agent.journal.database import Database


class Offers:
    """Reads and remembers; every writer runs inside the caller's transaction."""

    def __init__(self, database: Database, terminal_id: str) -> None:
        self._database = database
        self._terminal_id = terminal_id

    def grants_of(self, card_no: str) -> list[Grant]:
        """The grants of a card, used up or not."""
        rows = self._database.query("SELECT * FROM grants WHERE card_no = ? ORDER BY valid_to, grant_id", card_no)
        return [_grant(row, None) for row in rows]

    def coupon(self, grant_id: str, code: str) -> Grant | None:
        """The grant behind a single-use code that is shown."""
        row = self._database.one("SELECT * FROM grants WHERE grant_id = ? AND card_no IS NULL", grant_id)
        return _grant(row, code) if row else None

    def used_by(self, card_no: str, day: str) -> dict[str, Used]:
        """What a card had of each offer and stamp card; ``day`` is the shop's date, such as 2026-11-22."""
        rows = self._database.query(
            "SELECT offer_id, day, today, uses, stamps, rewards FROM offer_uses WHERE card_no = ? UNION ALL "
            "SELECT offer_id, NULL, 0, uses, stamps, rewards FROM offer_counts WHERE card_no = ?",
            card_no,
            card_no,
        )
        used: dict[str, Used] = {}
        for row in rows:
            before = used.get(row["offer_id"], Used())
            used[row["offer_id"]] = Used(
                today=before.today + (row["today"] if row["day"] == day else 0),
                ever=before.ever + row["uses"],
                stamps=before.stamps + row["stamps"],
                rewards=before.rewards + row["rewards"],
            )
        return used

    def note(self, card_no: str, day: str, use: OfferUse) -> None:
        """A use of this sale, or with negative numbers of this return."""
        self._database.execute(
            "INSERT INTO offer_uses VALUES (?, ?, ?, max(0, ?), ?, ?, ?) ON CONFLICT (card_no, offer_id) DO UPDATE SET "
            "today = CASE WHEN day = excluded.day THEN max(0, today + excluded.uses) ELSE excluded.today END, "
            "day = excluded.day, uses = uses + excluded.uses, stamps = stamps + excluded.stamps, "
            "rewards = rewards + excluded.rewards",
            card_no,
            use.offer_id,
            day,
            use.uses,
            use.uses,
            use.stamps,
            use.rewards,
        )
        if use.grant_id is not None:
            grant = "UPDATE grants SET used_here = max(0, used_here + ?) WHERE grant_id = ?"
            self._database.execute(grant, use.uses, use.grant_id)

    def take(self, item: dict[str, Any]) -> None:
        """An ``offer`` of the CRM's feed: a grant, or what was used elsewhere. Raises ValueError, KeyError, TypeError
        for what is neither."""
        if "grant_id" in item:
            self._take_grant(item)
        else:
            self._take_counts(item)

    def _take_grant(self, item: dict[str, Any]) -> None:
        used = {str(terminal): _number(count) for terminal, count in item.get("used", {}).items()}
        here = used.pop(self._terminal_id, 0)  # counts only where our own count was lost
        self._database.execute(
            "INSERT INTO grants VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (grant_id) DO UPDATE SET "
            "offer_id = excluded.offer_id, card_no = excluded.card_no, valid_from = excluded.valid_from, "
            "valid_to = excluded.valid_to, uses = excluded.uses, used_elsewhere = excluded.used_elsewhere",
            str(item["grant_id"]),
            str(item["offer_id"]),
            None if item.get("card_no") is None else str(item["card_no"]),
            _moment_text(item.get("valid_from")),
            _moment_text(item.get("valid_to")),
            _number(item.get("uses", 1)),
            here,
            sum(used.values()),
        )

    def _take_counts(self, item: dict[str, Any]) -> None:
        card_no, offer_id = str(item["card_no"]), str(item["offer_id"])
        for terminal_id, counts in item["counts"].items():
            numbers = [_number(counts.get(name, 0)) for name in ("uses", "stamps", "rewards")]
            if terminal_id == self._terminal_id:  # counts only where our own count was lost
                own = "INSERT INTO offer_uses VALUES (?, ?, '', 0, ?, ?, ?) ON CONFLICT DO NOTHING"
                self._database.execute(own, card_no, offer_id, *numbers)
                continue
            self._database.execute(
                "INSERT INTO offer_counts VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (card_no, offer_id, terminal_id) "
                "DO UPDATE SET uses = excluded.uses, stamps = excluded.stamps, rewards = excluded.rewards",
                card_no,
                offer_id,
                str(terminal_id),
                *numbers,
            )


def _grant(row: Any, code: str | None) -> Grant:
    return Grant(
        grant_id=row["grant_id"],
        offer_id=row["offer_id"],
        valid_from=_moment(row["valid_from"]),
        valid_to=_moment(row["valid_to"]),
        uses_left=row["uses"] - row["used_here"] - row["used_elsewhere"],
        coupon=code,
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _moment_text(text: Any) -> str | None:
    """The same text, if it is a moment. Raises ValueError."""
    if text is not None and datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a moment has a time zone")
    return None if text is None else str(text)


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > 10**12:
        raise ValueError("a count is a whole number")
    return value
