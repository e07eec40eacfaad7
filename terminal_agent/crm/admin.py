"""What the people who run the CRM do to it. Each call opens the database itself, whether or not it is served."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection

from terminal_agent.crm import (
    audit,
    card_history,
    cardless,
    cards,
    courier,
    enrolment,
    grants,
    holds,
    ledger,
    lookups,
    policies,
    replacement,
    tiers,
)
from terminal_agent.crm.place import Place
from terminal_agent.crm.store import Store, open_store
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.ports import Clock, SystemClock, SystemIds, rfc3339

MAX_ADJUSTMENT = 10**12
_AT_ONCE = 200
CLOCK: Clock = SystemClock()


@contextmanager
def opened(place: Place, *, create: bool = False) -> Iterator[Store]:
    """The CRM there, closed when the block ends. AgentError(CONFIG_INVALID)."""
    store = open_store(place, CLOCK, SystemIds(), create=create)
    try:
        yield store
    finally:
        store.close()


def make_code(
    place: Place,
    expires_in_s: int = enrolment.DEFAULT_CODE_LIFE_S,
    scopes: Sequence[enrolment.Scope] = enrolment.ALL_SCOPES,
) -> dict[str, Any]:
    """A one-time enrolment code: ``{code, expires_in_s, scopes}``. Makes the CRM if there is none."""
    if expires_in_s <= 0:
        raise bad_input("A code must live for at least one second.", "Give --expires-in-s a positive number.")
    with opened(place, create=True) as store, store.writing() as connection:
        code = enrolment.new_code(connection, CLOCK.now(), expires_in_s, scopes)
        audit.note(connection, audit.ADMIN, "code.made", None, rfc3339(CLOCK.now()), scopes=list(scopes))
    return {"code": code, "expires_in_s": expires_in_s, "scopes": [scope.value for scope in scopes]}


def import_events(place: Place, content: bytes) -> courier.TakenIn:
    """Books the queue that a terminal exported to a file. AgentError: FILE_INVALID, NOT_FOUND."""
    with opened(place) as store:
        return courier.take_in(store, content, rfc3339(CLOCK.now()))


def show_card(place: Place, card_no: str) -> dict[str, Any]:
    """What ``GET /v1/cards`` answers, with ``available, holds, history, events``. AgentError: NOT_FOUND."""
    with opened(place) as store, store.reading() as connection:
        answer = lookups.card_answer(connection, card_no)
        if answer is None:
            raise _no_card(card_no)
        aside = holds.describe(connection, card_no, answer.balance, rfc3339(CLOCK.now()))
        told = {"history": card_history.of(connection, card_no), "events": lookups.card_events(connection, card_no)}
        return {**answer.model_dump(mode="json"), **aside, **told}


def show_ledger(place: Place) -> dict[str, Any]:
    """``{sum, accounts:[{account, balance}]}``; a sum other than 0 means that points were made or lost."""
    with opened(place) as store, store.reading() as connection:
        accounts = [{"account": row.account, "balance": row.balance} for row in ledger.balances(connection)]
        return {"sum": ledger.total(connection), "accounts": accounts}


def adjust_card(place: Place, card_no: str, points: int, reason: str) -> dict[str, Any]:
    """Gives (or with negative ``points`` takes) points: ``{card_no, number, points, reason, balance}``."""
    if points == 0 or abs(points) > MAX_ADJUSTMENT:
        raise bad_input("An adjustment moves between 1 and 10^12 points.", "Give another number of points.")
    with opened(place) as store, store.writing() as connection:
        _require_card(connection, card_no)
        now = rfc3339(CLOCK.now())
        given = {"source": ledger.ADJUSTED, "kind": "adjustment", "reason": reason}
        number = cards.give_points(connection, card_no, points, **given, now=now)
        replacement.follow(connection, card_no, now)
        audit.note(connection, audit.ADMIN, "card.adjusted", card_no, now, number=number, points=points)
        balance = _require_card(connection, card_no)
    return {"card_no": card_no, "number": number, "points": points, "reason": reason, "balance": balance}


def block_card(place: Place, card_no: str, reason: str) -> dict[str, Any]:
    """Puts a card on the hotlist; doing it again changes nothing. ``{card_no, blocked, changed}``."""
    with opened(place) as store, store.writing() as connection:
        _require_card(connection, card_no)
        now = rfc3339(CLOCK.now())
        changed = cards.block(connection, card_no, reason, now)
        audit.note(connection, audit.ADMIN, "card.blocked", card_no, now, changed=changed)
    return {"card_no": card_no, "blocked": True, "changed": changed}


def unblock_card(place: Place, card_no: str, reason: str) -> dict[str, Any]:
    """Takes a card off the hotlist. ``{card_no, blocked, changed}``."""
    with opened(place) as store, store.writing() as connection:
        _require_card(connection, card_no)
        now = rfc3339(CLOCK.now())
        changed = cards.unblock(connection, card_no, reason, now)
        owner = cards.get(connection, card_no)["member_id"]
        if changed and owner is not None:
            cardless.release(connection, owner, now)
        audit.note(connection, audit.ADMIN, "card.freed", card_no, now, changed=changed)
    return {"card_no": card_no, "blocked": False, "changed": changed}


def load_policy(place: Place, text: str) -> dict[str, Any]:
    """Publishes the policy in a file, whole or not at all; what ``policies.load`` gives. AgentError: INVALID_INPUT."""
    document = policies.read(text)
    policies.checked(document)
    with opened(place, create=True) as store, store.writing() as connection:
        answer = policies.load(connection, document, rfc3339(CLOCK.now()))
        if answer["published"]:
            audit.note(connection, audit.ADMIN, "policy.published", answer["version"], rfc3339(CLOCK.now()))
        return answer


def list_policies(place: Place) -> list[dict[str, Any]]:
    """What ``policies.listing`` gives."""
    with opened(place) as store, store.reading() as connection:
        return policies.listing(connection, rfc3339(CLOCK.now()))


def show_policy(place: Place, version: str | None) -> dict[str, Any]:
    """The document of a version, or of the one in force. AgentError: NOT_FOUND."""
    with opened(place) as store, store.reading() as connection:
        wanted = version or policies.in_force(connection, rfc3339(CLOCK.now())).version
        return policies.document_of(connection, wanted)


def give_grant(place: Place, offer_id: str, card_no: str, **given: Any) -> dict[str, Any]:
    """Gives a card an offer; what ``grants.give`` gives. AgentError: NOT_FOUND, INVALID_INPUT."""
    with opened(place) as store, store.writing() as connection:
        _require_card(connection, card_no)
        now, grant_id = rfc3339(CLOCK.now()), SystemIds().uuid()
        audit.note(connection, audit.ADMIN, "grant.given", card_no, now, grant_id=grant_id, offer_id=offer_id)
        return grants.give(connection, grant_id, offer_id, card_no, now, **given)


def make_coupons(place: Place, offer_id: str, count: int, valid_to: str | None) -> dict[str, Any]:
    """``{offer_id, codes:[…]}``, shown this once. AgentError: INVALID_INPUT."""
    with opened(place) as store, store.writing() as connection:
        now = rfc3339(CLOCK.now())
        codes = grants.make_codes(connection, offer_id, count, now, valid_to=valid_to)
        audit.note(connection, audit.ADMIN, "coupons.made", None, now, offer_id=offer_id, count=len(codes))
    return {"offer_id": offer_id, "codes": codes}


def revoke_grant(place: Place, grant_id: str) -> dict[str, Any]:
    """Ends a grant; what ``grants.revoke`` gives. AgentError: NOT_FOUND."""
    with opened(place) as store, store.writing() as connection:
        now = rfc3339(CLOCK.now())
        audit.note(connection, audit.ADMIN, "grant.revoked", None, now, grant_id=grant_id)
        return grants.revoke(connection, grant_id, now)


def list_grants(place: Place, card_no: str | None, limit: int) -> list[dict[str, Any]]:
    """What ``grants.listing`` gives."""
    with opened(place) as store, store.reading() as connection:
        return grants.listing(connection, card_no, limit)


def decide_tiers(place: Place) -> dict[str, Any]:
    """Everybody's tier by the policy in force, some members at a time: ``{version, members, changed}``."""
    with opened(place) as store:
        with store.reading() as connection:
            policy = policies.in_force(connection, rfc3339(CLOCK.now()))
            everybody = tiers.everybody(connection)
        changed = 0
        for first in range(0, len(everybody), _AT_ONCE):
            some = everybody[first : first + _AT_ONCE]
            with store.writing() as connection:
                changed += tiers.decide_for_members(connection, policy, some, rfc3339(CLOCK.now()))
    return {"version": policy.version, "members": len(everybody), "changed": changed}


def _require_card(connection: Connection, card_no: str) -> int:
    """The card's balance; the card is ours to change."""
    row = cards.find(connection, card_no, to_change=True)
    if row is None:
        raise _no_card(card_no)
    return int(row["balance"])


def _no_card(card_no: str) -> AgentError:
    hint = "Check the number; a card is known once the first event about it has arrived."
    return AgentError(ErrorCode.NOT_FOUND, f"This CRM knows no card {card_no}.", hint=hint)


def bad_input(message: str, hint: str) -> AgentError:
    """An argument that cannot be used."""
    return AgentError(ErrorCode.INVALID_INPUT, message, hint=hint)
