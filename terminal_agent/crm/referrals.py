"""Bringing a friend: both get what the policy says, once, as soon as both are members with a card."""

from __future__ import annotations

from sqlalchemy import Connection, insert, or_, select, update

from terminal_agent.crm import cards, ledger, members, policies, turns
from terminal_agent.crm.schema import referrals

KIND = "referral"


def note(connection: Connection, member_id: str, referrer_member_id: str, now: str) -> None:
    """Who brought a new member. Nobody brings themselves, nor somebody who was here before; the first word counts."""
    row, referrer = members.find(connection, member_id), members.find(connection, referrer_member_id)
    known = select(referrals.c.member_id).where(referrals.c.member_id == member_id)
    is_new = row is not None and row["member_id"] == member_id
    themselves = referrer_member_id == member_id or referrer is not None and referrer["member_id"] == member_id
    if is_new and not themselves and connection.execute(known).first() is None:
        facts = {"member_id": member_id, "referrer_member_id": referrer_member_id, "told_at": now}
        connection.execute(insert(referrals).values(**facts))


def pay_due(connection: Connection, member_id: str, now: str) -> None:
    """Pays what waits for this member, as who came or as who brought somebody."""
    theirs = or_(referrals.c.member_id == member_id, referrals.c.referrer_member_id == member_id)
    waiting = select(referrals.c.member_id, referrals.c.referrer_member_id).where(theirs, referrals.c.paid_at.is_(None))
    for row in connection.execute(waiting.order_by(referrals.c.member_id)).all():
        _pay(connection, row.member_id, row.referrer_member_id, now)


def _pay(connection: Connection, member_id: str, referrer_member_id: str, now: str) -> None:
    came, brought = _card_of(connection, member_id), _card_of(connection, referrer_member_id)
    if came is None or brought is None:
        return
    turns.take_cards(connection, [came, brought], fresh=cards.fresh(now))
    this = (referrals.c.member_id == member_id) & referrals.c.paid_at.is_(None)
    if connection.execute(update(referrals).where(this).values(paid_at=now)).rowcount == 0:
        return
    rule = policies.in_force(connection, now).referral
    for card_no, points in ((came, rule.referred_points), (brought, rule.referrer_points)):
        if points:
            given = {"source": ledger.ADJUSTED, "kind": KIND, "reason": KIND, "reference": f"{KIND}/{member_id}"}
            cards.give_points(connection, card_no, points, **given, now=now)


def _card_of(connection: Connection, member_id: str) -> str | None:
    """The newest card of a member that is in use."""
    row = members.find(connection, member_id)
    if row is None or row["status"] != members.ACTIVE:
        return None
    card_nos = members.card_numbers_of(connection, members.ids_of(connection, row["member_id"]))
    usable = [card_no for card_no in card_nos if cards.get(connection, card_no)["status"] == cards.ACTIVE]
    return usable[-1] if usable else None
