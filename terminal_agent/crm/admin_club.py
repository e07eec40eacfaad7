"""What the people who run the club do: open and close it, decide on members, read the audit log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from terminal_agent.crm import audit, membership, privacy
from terminal_agent.crm.admin import CLOCK, bad_input, opened
from terminal_agent.crm.membership import Club
from terminal_agent.crm.place import Place
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.ports import rfc3339


def show_audit(place: Place, subject: str | None, limit: int) -> dict[str, Any]:
    """``{entries:[{entry, time, who, action, subject, detail}]}``, the newest first."""
    _check_limit(limit)
    with opened(place) as store, store.reading() as connection:
        return {"entries": audit.read(connection, subject, limit)}


def settings(place: Place, club: Club | None) -> dict[str, Any]:
    """``{club}``, changed before if one is given."""
    with opened(place) as store:
        if club is not None:
            with store.writing() as connection:
                membership.set_club(connection, club, _now())
        with store.reading() as connection:
            return {"club": membership.club(connection).value}


def list_members(place: Place, status: str | None, limit: int) -> list[dict[str, Any]]:
    """``[{member_id, name, phone, tier, status, enrolled_at}]``; that it was read is written down."""
    _check_limit(limit)
    with opened(place) as store, store.writing() as connection:
        audit.note(connection, audit.ADMIN, "members.listed", None, _now(), status=status)
        return membership.listed(connection, status, limit)


def approve_member(place: Place, member_id: str) -> dict[str, Any]:
    """``{member_id, status, cards}``. AgentError: NOT_FOUND."""
    return _decide(place, member_id, "active", lambda connection: membership.approve(connection, member_id, _now()))


def reject_member(place: Place, member_id: str, reason: str) -> dict[str, Any]:
    """``{member_id, status, cards}``. AgentError: NOT_FOUND."""

    def decision(connection: Connection) -> list[str]:
        return membership.reject(connection, member_id, reason, _now())

    return _decide(place, member_id, "rejected", decision)


def erase_member(place: Place, member_id: str) -> dict[str, Any]:
    """``{member_id, card_nos, erased_at}``. AgentError: NOT_FOUND."""
    with opened(place) as store, store.writing() as connection:
        found = privacy.erase(connection, member_id, audit.ADMIN, _now())
    if found is None:
        raise _no_member(member_id)
    return found


def _decide(place: Place, member_id: str, status: str, decision: Callable[[Connection], list[str]]) -> dict[str, Any]:
    try:
        with opened(place) as store, store.writing() as connection:
            card_nos = decision(connection)
    except membership.MemberUnknown as error:
        raise _no_member(member_id) from error
    return {"member_id": member_id, "status": status, "cards": card_nos}


def _now() -> str:
    return rfc3339(CLOCK.now())


def _check_limit(limit: int) -> None:
    if not 0 < limit <= audit.MAX_ROWS:
        raise bad_input(f"Between 1 and {audit.MAX_ROWS} rows are shown.", "Give --limit another number.")


def _no_member(member_id: str) -> AgentError:
    hint = "See them: terminal-agent crm member list"
    return AgentError(ErrorCode.NOT_FOUND, f"This CRM knows no member {member_id}.", hint=hint)
