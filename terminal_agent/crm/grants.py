"""Grants: an offer given to one card, or behind a single-use code that anybody may show; the terminals are told."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from terminal_agent.club.offers import coupon_id, normal_code
from terminal_agent.club.policy import Policy
from terminal_agent.contract import FeedKind
from terminal_agent.crm import feed, policies
from terminal_agent.crm.schema import grant_uses, grants
from terminal_agent.crm.turns import add_missing
from terminal_agent.errors import AgentError, ErrorCode

MAX_CODES = 10_000
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE_LENGTH = 12


def give(
    connection: Connection,
    grant_id: str,
    offer_id: str,
    card_no: str,
    now: str,
    *,
    valid_from: str | None = None,
    valid_to: str | None = None,
    uses: int = 1,
    reason: str = "",
) -> dict[str, Any]:
    """Gives a card an offer (audience ``granted`` or ``birthday``): what the terminals are told. AgentError."""
    _require_offer(policies.in_force(connection, now), offer_id, ("granted", "birthday"))
    facts = {"grant_id": grant_id, "offer_id": offer_id, "card_no": card_no, "uses": uses}
    times = {"valid_from": valid_from, "valid_to": valid_to}
    connection.execute(insert(grants).values(**facts, **times, reason=reason, created_at=now))
    return _tell(connection, grant_id, now)


def make_codes(
    connection: Connection, offer_id: str, count: int, now: str, *, valid_to: str | None = None
) -> list[str]:
    """Single-use codes of an offer with audience ``coupon``. They are shown once: only their hashes are kept."""
    if not 0 < count <= MAX_CODES:
        message = f"between 1 and {MAX_CODES} codes are made at once"
        raise AgentError(ErrorCode.INVALID_INPUT, message, hint="Give another --count")
    _require_offer(policies.in_force(connection, now), offer_id, ("coupon",))
    codes = []
    for _ in range(count):
        code = "".join(secrets.choice(_ALPHABET) for _ in range(_CODE_LENGTH))
        grant_id = coupon_id(normal_code(code))
        facts = {"grant_id": grant_id, "offer_id": offer_id, "uses": 1, "valid_to": valid_to, "reason": "code"}
        connection.execute(insert(grants).values(**facts, created_at=now))
        _tell(connection, grant_id, now)
        codes.append("-".join(code[place : place + 4] for place in range(0, _CODE_LENGTH, 4)))
    return codes


def revoke(connection: Connection, grant_id: str, now: str) -> dict[str, Any]:
    """Nobody may use it from now on; uses that were made stand. AgentError: NOT_FOUND."""
    this = grants.c.grant_id == grant_id
    if connection.execute(update(grants).where(this).values(uses=0)).rowcount == 0:
        message = f"there is no grant {grant_id}"
        raise AgentError(ErrorCode.NOT_FOUND, message, hint="See them: terminal-agent crm grant list")
    return _tell(connection, grant_id, now)


def used(connection: Connection, grant_id: str, terminal_id: str, uses: int, now: str) -> None:
    """A terminal told of a use, or with a negative number that its sale was returned; the others are told."""
    known = connection.execute(select(grants.c.grant_id).where(grants.c.grant_id == grant_id)).first()
    if known is None:
        return
    place = {"grant_id": grant_id, "terminal_id": terminal_id}
    add_missing(connection, grant_uses, [{**place, "used": 0}])
    here = (grant_uses.c.grant_id == grant_id) & (grant_uses.c.terminal_id == terminal_id)
    connection.execute(update(grant_uses).where(here).values(used=grant_uses.c.used + uses))
    _tell(connection, grant_id, now)


def follow(connection: Connection, old: str, new: str, now: str) -> None:
    """The grants of a card that was replaced are the new card's."""
    theirs = select(grants.c.grant_id).where(grants.c.card_no == old).order_by(grants.c.grant_id)
    for grant_id in connection.execute(theirs).scalars().all():
        connection.execute(update(grants).where(grants.c.grant_id == grant_id).values(card_no=new))
        _tell(connection, grant_id, now)


def listing(connection: Connection, card_no: str | None, limit: int) -> list[dict[str, Any]]:
    """The newest first, of one card or of all: ``[{grant_id, offer_id, card_no, valid_from, valid_to, uses, used,
    reason, created_at}]``; ``used`` beyond ``uses`` was used at shops that were offline."""
    counted = select(func.coalesce(func.sum(grant_uses.c.used), 0)).where(grant_uses.c.grant_id == grants.c.grant_id)
    query = select(grants, counted.scalar_subquery().label("used"))
    if card_no is not None:
        query = query.where(grants.c.card_no == card_no)
    newest = query.order_by(grants.c.created_at.desc(), grants.c.grant_id).limit(limit)
    return [{**row, "used": int(row["used"])} for row in connection.execute(newest).mappings()]


def _require_offer(policy: Policy, offer_id: str, audiences: Sequence[str]) -> None:
    offer = next((offer for offer in policy.offers if offer.id == offer_id), None)
    if offer is None or offer.audience not in audiences or offer.code is not None:
        raise AgentError(
            ErrorCode.INVALID_INPUT,
            f"no offer {offer_id} with audience {' or '.join(audiences)}, and no code of its own, is in force",
            hint="See its offers: terminal-agent crm policy show --data-dir DIR",
        )


def _tell(connection: Connection, grant_id: str, now: str) -> dict[str, Any]:
    row = connection.execute(select(grants).where(grants.c.grant_id == grant_id)).mappings().one()
    uses = connection.execute(select(grant_uses).where(grant_uses.c.grant_id == grant_id)).mappings()
    names = ("grant_id", "offer_id", "card_no", "valid_from", "valid_to", "uses")
    item = {name: row[name] for name in names} | {"used": {use["terminal_id"]: use["used"] for use in uses}}
    feed.publish(connection, FeedKind.OFFER, item, now)
    return item
