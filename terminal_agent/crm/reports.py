"""What happened in the club, as rows: members, points, shops by day, offers, what is owed. Nobody is named."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Select, func, select

from terminal_agent.contract import EventType, Verdict
from terminal_agent.crm import ledger
from terminal_agent.crm.schema import cards, entries, events, members, transfers

Row = dict[str, Any]
_SALES = (EventType.PURCHASE_RECORDED.value, EventType.PURCHASE_REVERSED.value)


@dataclass(frozen=True)
class Span:
    """From the moment ``start`` up to, and without, ``end``; None: without an end. Days are those of ``zone``."""

    start: datetime | None = None
    end: datetime | None = None
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("Asia/Tehran"))

    def holds(self, moment: datetime) -> bool:
        """Whether a moment is in it."""
        return (self.start is None or self.start <= moment) and (self.end is None or moment < self.end)


def members_report(connection: Connection, span: Span) -> list[Row]:
    """``[{status, tier, members, enrolled}]``: how many there are, and how many of them came in the span."""
    query = select(members.c.status, members.c.tier, members.c.enrolled_at).where(members.c.alias_of.is_(None))
    counts: Counter[tuple[str, str]] = Counter()
    came: Counter[tuple[str, str]] = Counter()
    for row in connection.execute(query):
        counts[row.status, row.tier] += 1
        came[row.status, row.tier] += span.holds(datetime.fromisoformat(row.enrolled_at))
    return [
        {"status": status, "tier": tier, "members": number, "enrolled": came[status, tier]}
        for (status, tier), number in sorted(counts.items())
    ]


def points_report(connection: Connection, span: Span) -> list[Row]:
    """``[{what, points}]``: what was issued, redeemed, adjusted and expired in the span, as cards gained or lost it."""
    together = (transfers.c.card_no == entries.c.card_no) & (transfers.c.transfer_id == entries.c.transfer_id)
    query = select(entries.c.account, entries.c.points, transfers.c.booked_at).join(transfers, together)
    sums: Counter[str] = Counter(dict.fromkeys(_PROGRAMME.values(), 0))
    for row in connection.execute(query.where(entries.c.account.in_(_PROGRAMME))):
        if span.holds(datetime.fromisoformat(row.booked_at)):
            sums[_PROGRAMME[row.account]] -= row.points
    return [{"what": what, "points": points} for what, points in sums.items()]


_PROGRAMME = {
    ledger.ISSUED: "issued",
    ledger.REDEEMED: "redeemed",
    ledger.ADJUSTED: "adjusted",
    ledger.EXPIRED: "expired",
}


def shops_report(connection: Connection, span: Span) -> list[Row]:
    """``[{terminal_id, day, currency, purchases, returns, amount, earned, redeemed}]``, returns taken off."""
    rows: dict[tuple[str, str, str], Row] = {}
    columns = (
        events.c.terminal_id,
        events.c.type,
        events.c.amount,
        events.c.currency,
        events.c.earned,
        events.c.redeemed,
    )
    for sale, moment in _sales(connection, select(*columns, events.c.time), span):
        key = (sale.terminal_id, moment.astimezone(span.zone).date().isoformat(), sale.currency or "")
        names = dict(zip(("terminal_id", "day", "currency"), key, strict=True))
        row = rows.setdefault(key, names | {"purchases": 0, "returns": 0, "amount": 0, "earned": 0, "redeemed": 0})
        bought = sale.type == EventType.PURCHASE_RECORDED
        row["purchases" if bought else "returns"] += 1
        row["amount"] += (sale.amount or 0) if bought else -(sale.amount or 0)
        row["earned"] += sale.earned
        row["redeemed"] += sale.redeemed
    return [rows[key] for key in sorted(rows)]


def offers_report(connection: Connection, span: Span) -> list[Row]:
    """``[{offer_id, uses, points}]``, the one that gave most first."""
    uses: Counter[str] = Counter()
    points: Counter[str] = Counter()
    for sale, _moment in _sales(connection, select(events.c.type, events.c.body, events.c.time), span):
        if sale.type == EventType.PURCHASE_RECORDED:
            for offer_id, given in _offers_in(sale.body):
                uses[offer_id] += 1
                points[offer_id] += given
    return [{"offer_id": offer_id, "uses": uses[offer_id], "points": given} for offer_id, given in points.most_common()]


def outstanding_report(connection: Connection, span: Span) -> list[Row]:
    """``[{status, cards, points}]``: what is owed to the cards now, and as ``waiting`` to members without one; a span
    has no say."""
    query = select(cards.c.status, func.count().label("cards"), func.sum(cards.c.balance).label("points"))
    rows = connection.execute(query.group_by(cards.c.status).order_by(cards.c.status))
    held = [{"status": row.status, "cards": row.cards, "points": int(row.points or 0)} for row in rows]
    own = entries.c.account.startswith(ledger.member_account(""), autoescape=True)
    waiting = connection.execute(select(func.sum(entries.c.points)).where(own)).scalar()
    return [*held, {"status": "waiting", "cards": 0, "points": int(waiting)}] if waiting else held


REPORTS: dict[str, Callable[[Connection, Span], list[Row]]] = {
    "members": members_report,
    "points": points_report,
    "shops": shops_report,
    "offers": offers_report,
    "outstanding": outstanding_report,
}


def _sales(connection: Connection, query: Select[Any], span: Span) -> Iterator[tuple[Any, datetime]]:
    """Purchases and returns that count, by their own time."""
    counted = query.where(events.c.type.in_(_SALES), events.c.verdict != Verdict.REJECTED.value)
    for row in connection.execute(counted):
        moment = datetime.fromisoformat(row.time)
        if span.holds(moment):
            yield row, moment


def _offers_in(body: str) -> Iterator[tuple[str, int]]:
    """What a terminal says it gave for which offer; its words are its own, so their shape is checked."""
    points = json.loads(body)["data"].get("points")
    offers = points.get("offers") if isinstance(points, dict) else None
    for offer in offers if isinstance(offers, list) else ():
        if isinstance(offer, dict) and isinstance(offer.get("offer_id"), str) and isinstance(offer.get("points"), int):
            yield offer["offer_id"], offer["points"]
