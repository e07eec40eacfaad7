"""What head office does: reports, the expiry run, terminals, decisions on events that could not be booked."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from terminal_agent.crm import activities, audit, cards, enrolment, expiry, policies, resolutions, turns
from terminal_agent.crm.admin import CLOCK, bad_input, opened
from terminal_agent.crm.place import Place
from terminal_agent.crm.reports import REPORTS, Span
from terminal_agent.crm.resolutions import Resolution
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.ports import rfc3339


def report(place: Place, name: str, first_day: str | None, last_day: str | None) -> dict[str, Any]:
    """``{report, from, to, time_zone, rows}``; days (YYYY-MM-DD, both included) in the policy's time zone."""
    with opened(place) as store, store.reading() as connection:
        zone = ZoneInfo(policies.in_force(connection, _now()).time_zone)
        span = Span(_start_of(first_day, zone), _end_of(last_day, zone), zone)
        rows = REPORTS[name](connection, span)
    return {"report": name, "from": first_day, "to": last_day, "time_zone": zone.key, "rows": rows}


def expire(place: Place, through: str | None, *, dry_run: bool) -> dict[str, Any]:
    """``{through, after_days, dry_run, cards, lots, points}``; doing it again finds nothing. ``through`` is a day."""
    now = CLOCK.now()
    with opened(place) as store:
        with store.reading() as connection:
            policy = policies.in_force(connection, rfc3339(now))
            card_nos = expiry.candidates(connection)
        end = _end_of(through, ZoneInfo(policy.time_zone))
        if end is not None and end > now + timedelta(days=1):
            raise bad_input(f"{through} is still to come.", "Give --through a day that has begun.")
        answer = {"through": rfc3339(min(end or now, now)), "after_days": policy.expiry.after_days, "dry_run": dry_run}
        counts = {"cards": 0, "lots": 0, "points": 0}
        if policy.expiry.after_days is None:
            return answer | counts
        term = expiry.Term(policy.expiry.after_days, min(end or now, now), now)
        for card_no in card_nos:
            if dry_run:
                with store.reading() as connection:
                    lots = expiry.due(connection, card_no, term)
            else:
                lots = store.write(partial(expiry.expire, card_no=card_no, term=term))
            counts["cards"] += bool(lots)
            counts["lots"] += len(lots)
            counts["points"] += sum(lot.points for lot in lots)
        if counts["cards"] and not dry_run:
            store.write(
                lambda connection: audit.note(connection, audit.ADMIN, "points.expired", None, _now(), **counts)
            )
    return answer | counts


def count_activity(place: Place, card_no: str, activity: str, reference: str) -> dict[str, Any]:
    """``{card_no, activity, reference, points, counted}``; ``counted`` is false where it was before. AgentError."""
    with opened(place) as store, store.writing() as connection:
        known = policies.in_force(connection, _now()).activities
        if activity not in known:
            names = ", ".join(sorted(known)) or "none"
            raise bad_input(f"The policy gives no points for {activity}.", f"It knows: {names}.")
        if cards.find(connection, card_no) is None:
            hint = "Check the number; a card is known once the first event about it has arrived."
            raise AgentError(ErrorCode.NOT_FOUND, f"This CRM knows no card {card_no}.", hint=hint)
        turns.take_cards(connection, [card_no], fresh=cards.fresh(_now()))
        points = activities.pay(connection, card_no, activity, reference, _now())
        audit.note(connection, audit.ADMIN, "activity.counted", card_no, _now(), activity=activity, points=points)
    facts = {"card_no": card_no, "activity": activity, "reference": reference}
    return {**facts, "points": points or 0, "counted": points is not None}


def list_terminals(place: Place) -> list[dict[str, Any]]:
    """``[{terminal_id, name, scopes, enrolled_at, revoked_at}]``."""
    with opened(place) as store, store.reading() as connection:
        return enrolment.listed(connection)


def revoke_terminal(place: Place, terminal_id: str) -> dict[str, Any]:
    """``{terminal_id, revoked_at, changed}``: its token works no more; what it told stays. AgentError: NOT_FOUND."""
    with opened(place) as store, store.writing() as connection:
        found = enrolment.revoke(connection, terminal_id, _now())
        if found is None:
            hint = "See them: terminal-agent crm terminal list"
            raise AgentError(ErrorCode.NOT_FOUND, f"This CRM knows no terminal {terminal_id}.", hint=hint)
        if found["changed"]:
            audit.note(connection, audit.ADMIN, "terminal.revoked", terminal_id, _now())
    return found


def list_rejected(place: Place, limit: int) -> list[dict[str, Any]]:
    """What terminals have in quarantine by this CRM's word."""
    with opened(place) as store, store.reading() as connection:
        return resolutions.rejected(connection, limit)


def resolve(place: Place, terminal_id: str, event_id: str, action: Resolution, reason: str) -> dict[str, Any]:
    """``{terminal_id, event_id, action, reason, known}``; the terminal acts on it at its next exchange."""
    with opened(place) as store, store.writing() as connection:
        known = resolutions.resolve(connection, terminal_id, event_id, action, reason, _now())
    return {"terminal_id": terminal_id, "event_id": event_id, "action": action.value, "reason": reason, "known": known}


def _now() -> str:
    return rfc3339(CLOCK.now())


def _start_of(day: str | None, zone: ZoneInfo) -> datetime | None:
    if day is None:
        return None
    try:
        return datetime.combine(date.fromisoformat(day), time(), zone).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise bad_input(f"{day} is no day.", "Write it as in 2026-11-22.") from error


def _end_of(day: str | None, zone: ZoneInfo) -> datetime | None:
    start = _start_of(day, zone)
    return None if start is None else start + timedelta(days=1)
