"""Members: who they are, under which phone, and which cards are theirs."""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, or_, select, update

from terminal_agent.club.phone import normalise_phone
from terminal_agent.contract import NO_TIER, FeedKind, canonical_json
from terminal_agent.crm import cards as card_book
from terminal_agent.crm import consents, feed, ledger, turns
from terminal_agent.crm.events import CardIssued, EventData, MemberEnrolled
from terminal_agent.crm.schema import cards, members

ACTIVE = "active"
PENDING = "pending"
REJECTED = "rejected"
ERASED = "erased"
NAMED = "named"
"""Somebody gave this phone at a sale, and nobody has enrolled under it; no member."""


def names_in(data: EventData) -> list[str]:
    """The member ids and phones that an event decides about."""
    if isinstance(data, CardIssued) and data.member_id:
        return [data.member_id]
    if not isinstance(data, MemberEnrolled):
        return []
    who = data.member
    return [who.member_id, *([normalise_phone(who.phone)] if who.phone else [])]


def enrol(
    connection: Connection,
    member_id: str,
    *,
    phone: str | None,
    name: str | None,
    tier: str | None,
    now: str,
    status: str = ACTIVE,
) -> None:
    """Books a member and tells the terminals; a new one begins with ``status``.

    Who first had a phone keeps it; later ids become aliases.
    """
    number = normalise_phone(phone) if phone else None
    known = find(connection, member_id)
    owner = _owner_of(connection, number) if number else None
    if known is not None and known["status"] == ERASED:
        return  # whoever tells again who that was
    if known is not None:
        given = {"name": name, "tier": tier, "phone": None if owner else number}
        given |= {"status": status} if known["status"] == NAMED else {}
        _change(connection, known["member_id"], {key: value for key, value in given.items() if value is not None})
    else:
        if owner and _status_of(connection, owner) == NAMED:
            named = {"name": name, "tier": tier, "status": status}
            _change(connection, owner, {key: value for key, value in named.items() if value is not None})
            announce(connection, owner, now)
        status = _status_of(connection, owner) if owner else status
        facts = {"alias_of": owner, "phone": number, "name": name, "tier": tier or NO_TIER, "status": status}
        connection.execute(insert(members).values(member_id=member_id, enrolled_at=now, **facts))
    announce(connection, member_id, now)


def name(connection: Connection, member_id: str, phone: str | None, now: str) -> None:
    """A phone was given at a sale while the terminal could not say whose it is. ``member_id`` stands for whoever has
    it; nobody is enrolled, and no terminal is told."""
    if phone is None or find(connection, member_id) is not None:
        return
    number = normalise_phone(phone)
    owner = _owner_of(connection, number)
    status = _status_of(connection, owner) if owner else NAMED
    facts = {"alias_of": owner, "phone": number, "name": None, "tier": NO_TIER, "status": status}
    connection.execute(insert(members).values(member_id=member_id, enrolled_at=now, **facts))


def owner_of(connection: Connection, phone: str) -> RowMapping | None:
    """The row of who has a phone (any spelling). Raises PhoneInvalid."""
    owner = _owner_of(connection, normalise_phone(phone))
    return find(connection, owner) if owner else None


def behind(connection: Connection, names: set[str]) -> list[RowMapping]:
    """The rows that go by these ids or phones."""
    known = or_(members.c.member_id.in_(names), members.c.phone.in_(names))
    return list(connection.execute(select(members).where(known)).mappings())


def _change(connection: Connection, member_id: str, values: dict[str, str]) -> None:
    if values:
        connection.execute(update(members).where(members.c.member_id == member_id).values(**values))


def _owner_of(connection: Connection, phone: str) -> str | None:
    owner = select(members.c.member_id).where(members.c.phone == phone, members.c.alias_of.is_(None))
    return connection.execute(owner.order_by(members.c.enrolled_at, members.c.member_id).limit(1)).scalar()


def _status_of(connection: Connection, member_id: str) -> str:
    return str(connection.execute(select(members.c.status).where(members.c.member_id == member_id)).scalar_one())


class PhoneTaken(Exception):
    """Another member has this phone."""


def change(connection: Connection, member_id: str, values: dict[str, str], now: str) -> None:
    """Changes ``name`` or ``phone`` (in its normal form) of a member and tells the terminals. PhoneTaken."""
    if "phone" in values and _owner_of(connection, values["phone"]) not in (None, member_id):
        raise PhoneTaken
    _change(connection, member_id, values)
    for one in ids_of(connection, member_id):
        announce(connection, one, now)


def version_of(row: RowMapping) -> str:
    """Changes with whatever :func:`describe` tells."""
    return hashlib.sha256(canonical_json(describe(row))).hexdigest()[:16]


def find(connection: Connection, member_id: str) -> RowMapping | None:
    """The member behind an id, which may be an alias of theirs."""
    query = select(members).where(members.c.member_id == member_id)
    row = connection.execute(query).mappings().first()
    if row is None or row["alias_of"] is None:
        return row
    return connection.execute(select(members).where(members.c.member_id == row["alias_of"])).mappings().first()


def get(connection: Connection, member_id: str) -> RowMapping:
    """The row of a member who is known."""
    return connection.execute(select(members).where(members.c.member_id == member_id)).mappings().one()


def describe(row: RowMapping) -> dict[str, Any]:
    """A member as the API shows one: member_id, name, phone, tier, status."""
    return {key: row[key] for key in ("member_id", "name", "phone", "tier", "status")}


def find_by_phone(connection: Connection, phone: str) -> dict[str, Any] | None:
    """The member of a phone (any spelling) with ``cards:[{card_no, status, balance}]``. Raises PhoneInvalid."""
    row = owner_of(connection, phone)
    return in_full(connection, row) if row else None


def in_full(connection: Connection, row: RowMapping) -> dict[str, Any]:
    """A member as the API shows one, with ``version, consents, cards, waiting_points``."""
    ids = ids_of(connection, row["member_id"])
    said = consents.standing(connection, ids)
    held = {"cards": _cards_of(connection, ids), "waiting_points": ledger.waiting(connection, ids)}
    return {**describe(row), "version": version_of(row), "consents": said, **held}


def ids_of(connection: Connection, member_id: str) -> list[str]:
    """The member's id, then every alias of it."""
    query = select(members.c.member_id).where(members.c.alias_of == member_id).order_by(members.c.member_id)
    return [member_id, *connection.execute(query).scalars()]


def card_numbers_of(connection: Connection, ids: list[str]) -> list[str]:
    """The cards issued to any of these ids, oldest first."""
    query = select(cards.c.card_no).where(cards.c.member_id.in_(ids)).order_by(cards.c.created_at, cards.c.card_no)
    return list(connection.execute(query).scalars())


def card_in_use(connection: Connection, row: RowMapping) -> str | None:
    """The newest card of a member that is in use."""
    if row["status"] not in (ACTIVE, PENDING):
        return None
    card_nos = card_numbers_of(connection, ids_of(connection, row["member_id"]))
    usable = [card_no for card_no in card_nos if card_book.get(connection, card_no)["status"] in card_book.IN_USE]
    return usable[-1] if usable else None


def take_all_of(connection: Connection, row: RowMapping, now: str) -> tuple[list[str], list[str]]:
    """A member's ids and cards, which nobody else changes until the commit."""
    names = [*ids_of(connection, row["member_id"]), *([row["phone"]] if row["phone"] else [])]
    turns.take_members(connection, names)
    ids = ids_of(connection, row["member_id"])
    card_nos = card_numbers_of(connection, ids)
    turns.take_cards(connection, card_nos, fresh=card_book.fresh(now))
    return ids, card_nos


def set_tier(connection: Connection, ids: list[str], tier: str, now: str) -> None:
    """These ids of one member are in another tier; the terminals are told."""
    connection.execute(update(members).where(members.c.member_id.in_(ids)).values(tier=tier))
    for member_id in ids:
        announce(connection, member_id, now)


def tell_of_card(connection: Connection, member_id: str, now: str) -> None:
    """A member has another card; the terminals know a card by its holder."""
    if not is_erased(connection, member_id):
        announce(connection, member_id, now)


def forget(connection: Connection, ids: list[str]) -> None:
    """Who these ids of one member are; that there was one stays."""
    nobody = {"phone": None, "name": None, "status": ERASED}
    connection.execute(update(members).where(members.c.member_id.in_(ids)).values(**nobody))


def is_erased(connection: Connection, member_id: str) -> bool:
    """Whether the member behind an id had everything erased."""
    row = find(connection, member_id)
    return row is not None and row["status"] == ERASED


def _cards_of(connection: Connection, names: list[str]) -> list[dict[str, Any]]:
    query = select(cards.c.card_no, cards.c.status, cards.c.balance).where(cards.c.member_id.in_(names))
    return [dict(row) for row in connection.execute(query.order_by(cards.c.created_at, cards.c.card_no)).mappings()]


def announce(connection: Connection, member_id: str, now: str) -> None:
    """Tells the terminals who is behind an id."""
    row = find(connection, member_id)
    if row is None or row["status"] == NAMED:
        return
    item = describe(row) | {"cards": card_numbers_of(connection, [member_id])}
    if row["name"]:
        item["first_name"] = row["name"].split()[0] if row["name"].split() else row["name"]
    if row["member_id"] != member_id:
        item |= {"member_id": member_id, "alias_of": row["member_id"]}
    feed.publish(connection, FeedKind.MEMBER, item, now)
