"""A member's rights: everything this CRM holds of them in one document, and forgetting who they are.

An erasure takes names and phones out of every table: the member, the events that told them, the feed that passed them
on. What cards did stays under their numbers, so that the ledger still sums to 0.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, or_, select, update

from terminal_agent.contract import EventType, FeedKind, Verdict, canonical_json, redact_enrolment
from terminal_agent.crm import audit, card_history, cards, consents, feed, ledger, members
from terminal_agent.crm.schema import events, grants, offer_uses, referrals, tier_decisions
from terminal_agent.crm.schema import feed as feed_items

_PERSONAL = ("phone", "name", "first_name")


def export(connection: Connection, member_id: str, who: str, now: str) -> dict[str, Any] | None:
    """Everything about a member, or None for one who is not known:
    ``{member_id, exported_at, profile, member_ids, consents, cards, events, ledger, waiting_points, tiers, referrals,
    audit}``."""
    row = members.find(connection, member_id)
    if row is None:
        return None
    ids = members.ids_of(connection, row["member_id"])
    card_nos = members.card_numbers_of(connection, ids)
    audit.note(connection, who, "member.exported", row["member_id"], now)
    return {
        "member_id": row["member_id"],
        "exported_at": now,
        "profile": {**members.describe(row), "enrolled_at": row["enrolled_at"]},
        "member_ids": ids,
        "consents": consents.history(connection, ids),
        "cards": [_card(connection, card_no) for card_no in card_nos],
        "events": [json.loads(body) for body in _bodies(connection, ids, card_nos)],
        "ledger": [line for card_no in card_nos for line in ledger.lines(connection, card_no)],
        "waiting_points": ledger.waiting(connection, ids),
        "tiers": _rows(connection, tier_decisions, tier_decisions.c.member_id, ids),
        "referrals": _rows(connection, referrals, referrals.c.member_id, ids),
        "audit": [line for subject in (*ids, *card_nos) for line in audit.read(connection, subject, audit.MAX_ROWS)],
    }


def _card(connection: Connection, card_no: str) -> dict[str, Any]:
    return {
        **cards.get(connection, card_no),
        "blocked_because": cards.block_reason(connection, card_no),
        "adjustments": cards.adjustments_of(connection, card_no),
        "grants": _rows(connection, grants, grants.c.card_no, [card_no]),
        "offers": _rows(connection, offer_uses, offer_uses.c.card_no, [card_no]),
        "history": card_history.of(connection, card_no),
    }


def _rows(connection: Connection, table: Table, column: ColumnElement[str], values: list[str]) -> list[dict[str, Any]]:
    """Every row of a table that is about one of these."""
    return [dict(row) for row in connection.execute(select(table).where(column.in_(values))).mappings()]


def _bodies(connection: Connection, ids: list[str], card_nos: list[str]) -> list[str]:
    """Of every event about the member or a card of theirs."""
    about = or_(events.c.card_no.in_(card_nos), *(_names(events.c.body, member_id) for member_id in ids))
    query = select(events.c.body).where(about).order_by(events.c.booked_at, events.c.terminal_id, events.c.sequence)
    return list(connection.execute(query).scalars())


def erase(connection: Connection, member_id: str, who: str, now: str) -> dict[str, Any] | None:
    """Forgets who a member is and tells the terminals, which blank the cards: ``{member_id, card_nos, erased_at}``.

    None for one who is not known. Doing it again changes nothing and answers the same but for the time.
    """
    row = members.find(connection, member_id)
    if row is None:
        return None
    ids, card_nos = members.take_all_of(connection, row, now)
    if row["status"] != members.ERASED:
        members.forget(connection, ids)
        for one in ids:
            _redact_events(connection, one)
            _redact_feed(connection, one)
            theirs = card_nos if one == row["member_id"] else []
            feed.publish(connection, FeedKind.ERASURE, {"member_id": one, "card_nos": theirs}, now)
        for card_no in card_nos:
            cards.set_status(connection, card_no, cards.RETIRED)
            card_history.note(connection, card_no, "erased", now)
        audit.note(connection, who, "member.erased", row["member_id"], now, cards=len(card_nos))
    return {"member_id": row["member_id"], "card_nos": card_nos, "erased_at": now}


def retire_if_erased(connection: Connection, card_no: str, now: str) -> None:
    """A card that was issued to a member before the erasure, and is heard of after it, is to be blanked too."""
    owner = cards.get(connection, card_no)["member_id"]
    if (
        owner is not None
        and members.is_erased(connection, owner)
        and cards.set_status(connection, card_no, cards.RETIRED)
    ):
        card_history.note(connection, card_no, "erased", now)
        feed.publish(connection, FeedKind.ERASURE, {"member_id": owner, "card_nos": [card_no]}, now)


def _names(document: ColumnElement[str], member_id: str) -> ColumnElement[bool]:
    """Whether a JSON text has this id as one of its strings."""
    return document.contains(json.dumps(member_id), autoescape=True)


def _redact_events(connection: Connection, member_id: str) -> None:
    told = or_(events.c.type == EventType.MEMBER_ENROLLED.value, events.c.verdict == Verdict.REJECTED.value)
    key = (events.c.terminal_id, events.c.install_epoch, events.c.sequence, events.c.fingerprint)
    query = select(events.c.body, events.c.verdict, *key).where(told, _names(events.c.body, member_id))
    for row in connection.execute(query).mappings().all():
        body = "{}" if row["verdict"] == Verdict.REJECTED else redacted_body(row["body"], row["fingerprint"])
        this = (column == row[column.name] for column in key)
        connection.execute(update(events).where(*this).values(body=body))


def redacted_body(body: str, mark: str) -> str:
    """An enrolment as it is kept of a member who was erased; the fingerprint still tells it when it is sent again."""
    return redact_enrolment(body.encode(), mark).decode()


def _redact_feed(connection: Connection, member_id: str) -> None:
    """Items keep their place and mark: terminals that read from the beginning learn of no name."""
    of_member = (feed_items.c.kind == FeedKind.MEMBER.value) & _names(feed_items.c.document, member_id)
    for row in connection.execute(select(feed_items.c.position, feed_items.c.document).where(of_member)).all():
        item = {key: None if key in _PERSONAL else value for key, value in json.loads(row.document).items()}
        text = canonical_json(item).decode()
        connection.execute(update(feed_items).where(feed_items.c.position == row.position).values(document=text))
