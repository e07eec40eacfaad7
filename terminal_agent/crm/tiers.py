"""Who is in which tier: decided by the policy's thresholds when sales are booked, and told to the terminals."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import Connection, RowMapping, case, func, insert, select, update

from terminal_agent.club.policy import Policy
from terminal_agent.club.tiers import Total, periods, tier_for
from terminal_agent.contract import EventType, Verdict
from terminal_agent.crm import cards, members, turns
from terminal_agent.crm.schema import events, tier_decisions
from terminal_agent.crm.schema import members as members_table
from terminal_agent.ports import rfc3339


def owners_of(connection: Connection, known: Iterable[RowMapping]) -> set[str]:
    """The ids of the members who hold these cards (:func:`cards.known`), aliases and whom they stand for."""
    ids = {row["member_id"] for row in known if row["member_id"] is not None}
    query = select(members_table.c.alias_of).where(members_table.c.member_id.in_(ids))
    return ids | {alias for alias in connection.execute(query).scalars() if alias is not None} if ids else ids


def decide_for_cards(connection: Connection, policy: Policy, card_nos: Iterable[str], now: str) -> None:
    """Decides anew for whoever holds these cards; nothing is looked up where no tier has a threshold."""
    if not periods(policy):
        return
    for member_id in sorted(owners_of(connection, cards.known(connection, set(card_nos)))):
        row = members.find(connection, member_id)
        if row is not None and row["member_id"] == member_id and row["status"] != members.ERASED:
            decide(connection, policy, row, now)


def decide(connection: Connection, policy: Policy, member: RowMapping, now: str) -> str:
    """The member's tier from now on, which the terminals are told if it is another one.

    What somebody gave by hand is the least; what a threshold gave goes when it is no longer reached.
    """
    member_id = member["member_id"]
    known = select(tier_decisions).where(tier_decisions.c.member_id == member_id)
    before = connection.execute(known).mappings().first()
    by_hand = before is None or before["tier"] != member["tier"]
    floor = member["tier"] if before is None or by_hand else before["floor"]
    ids = members.ids_of(connection, member_id)
    card_nos = members.card_numbers_of(connection, ids)
    totals = {days: _total(connection, card_nos, days, now) for days in periods(policy)}
    reached = tier_for(policy, totals, floor)
    tier = reached.tier if reached else str(floor)
    facts = {"tier": tier, "floor": floor, "decided_at": now}
    if before is None:
        connection.execute(insert(tier_decisions).values(member_id=member_id, **facts))
    elif by_hand or tier != before["tier"]:
        this = tier_decisions.c.member_id == member_id
        connection.execute(update(tier_decisions).where(this).values(**facts))
    if tier != member["tier"]:
        members.set_tier(connection, ids, tier, now)
    return tier


def _total(connection: Connection, card_nos: list[str], days: int, now: str) -> Total:
    """What was bought and earned with these cards since so many days, returns taken off."""
    since = rfc3339(datetime.fromisoformat(now) - timedelta(days=days))
    bought, returned = EventType.PURCHASE_RECORDED.value, EventType.PURCHASE_REVERSED.value
    sign = case((events.c.type == bought, 1), else_=-1)
    query = select(
        func.coalesce(func.sum(sign * func.coalesce(events.c.amount, 0)), 0),
        func.coalesce(func.sum(events.c.earned), 0),
    ).where(
        events.c.card_no.in_(card_nos),
        events.c.booked_at >= since,
        events.c.type.in_((bought, returned)),
        events.c.verdict != Verdict.REJECTED.value,
    )
    amount, points = connection.execute(query).one()
    return Total(int(amount), int(points))


def everybody(connection: Connection) -> list[str]:
    """The ids of all members, each once, erased ones left out."""
    known = (members_table.c.alias_of.is_(None)) & (members_table.c.status != members.ERASED)
    query = select(members_table.c.member_id).where(known).order_by(members_table.c.member_id)
    return list(connection.execute(query).scalars())


def decide_for_members(connection: Connection, policy: Policy, member_ids: list[str], now: str) -> int:
    """Decides anew for these members; how many are in another tier now."""
    turns.take_members(connection, member_ids)
    changed = 0
    for member_id in member_ids:
        row = members.find(connection, member_id)
        if row is not None and row["status"] != members.ERASED:
            changed += decide(connection, policy, row, now) != row["tier"]
    return changed
