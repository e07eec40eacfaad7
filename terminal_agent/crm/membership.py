"""Who may be a member: in an open club everybody at once, in a closed one whoever head office approves."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, insert, select, update

from terminal_agent.contract import FeedKind
from terminal_agent.crm import audit, card_history, cardless, cards, feed, members, referrals
from terminal_agent.crm.schema import members as member_rows
from terminal_agent.crm.schema import meta

REJECTED_REASON = "membership rejected"
_CLUB = "club"


class Club(StrEnum):
    """Whether new members wait for an approval."""

    OPEN = "open"
    CLOSED = "closed"


class MemberUnknown(Exception):
    """No member has this id, or they had everything erased."""


def club(connection: Connection) -> Club:
    """Which kind of club this is; open until it is said otherwise."""
    found = connection.execute(select(meta.c.value).where(meta.c.key == _CLUB)).scalar()
    return Club(found or Club.OPEN)


def set_club(connection: Connection, kind: Club, now: str) -> bool:
    """Opens or closes the club for those who come from now on, and tells the terminals. False: it was so already."""
    if club(connection) is kind:
        return False
    if connection.execute(update(meta).where(meta.c.key == _CLUB).values(value=kind.value)).rowcount == 0:
        connection.execute(insert(meta).values(key=_CLUB, value=kind.value))
    feed.publish(connection, FeedKind.SETTINGS, {"club": kind.value}, now)
    audit.note(connection, audit.ADMIN, "settings.changed", None, now, club=kind.value)
    return True


def status_of_new(connection: Connection) -> str:
    """What a member who enrols now begins as."""
    return members.ACTIVE if club(connection) is Club.OPEN else members.PENDING


def approve(connection: Connection, member_id: str, now: str) -> list[str]:
    """Takes a member in, one who was rejected too; gives the numbers of their cards. MemberUnknown."""
    ids, card_nos = _decide(connection, member_id, members.ACTIVE, now)
    for card_no in card_nos:
        if cards.block_reason(connection, card_no) == REJECTED_REASON:
            cards.unblock(connection, card_no, "membership approved", now)
        if cards.restate(connection, card_no):
            card_history.note(connection, card_no, "approved", now)
    for one in ids:
        referrals.pay_due(connection, one, now)
    cardless.release(connection, ids[0], now)
    audit.note(connection, audit.ADMIN, "member.approved", ids[0], now)
    return card_nos


def reject(connection: Connection, member_id: str, reason: str, now: str) -> list[str]:
    """Does not take a member in, and blocks their cards; gives their numbers. MemberUnknown."""
    ids, card_nos = _decide(connection, member_id, members.REJECTED, now)
    for card_no in card_nos:
        cards.block(connection, card_no, REJECTED_REASON, now)
    audit.note(connection, audit.ADMIN, "member.rejected", ids[0], now, reason=reason)
    return card_nos


def _decide(connection: Connection, member_id: str, status: str, now: str) -> tuple[list[str], list[str]]:
    row = members.find(connection, member_id)
    if row is None or row["status"] == members.ERASED:
        raise MemberUnknown
    ids, card_nos = members.take_all_of(connection, row, now)
    connection.execute(update(member_rows).where(member_rows.c.member_id.in_(ids)).values(status=status))
    for one in ids:
        members.announce(connection, one, now)
    return ids, card_nos


def listed(connection: Connection, status: str | None, limit: int) -> list[dict[str, Any]]:
    """Members by their enrolment, oldest first: ``[{member_id, name, phone, tier, status, enrolled_at}]``."""
    query = select(member_rows).where(member_rows.c.alias_of.is_(None))
    if status is not None:
        query = query.where(member_rows.c.status == status)
    rows = connection.execute(query.order_by(member_rows.c.enrolled_at, member_rows.c.member_id).limit(limit))
    return [{**members.describe(row), "enrolled_at": row["enrolled_at"]} for row in rows.mappings()]
