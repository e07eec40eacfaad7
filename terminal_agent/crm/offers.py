"""What cards had of offers and stamp cards: counted from booked events, paid where a till missed a full card.

Uses of grants that no till could know of are facts and booked; ``crm grant list`` shows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection, delete, select, update

from terminal_agent.club.offers import Basket, Line, rewards_due, stamps_collected
from terminal_agent.club.policy import Policy
from terminal_agent.club.rules import StampCard
from terminal_agent.contract import EventType, FeedKind
from terminal_agent.crm import cards, feed, grants, ledger, policies, replacement
from terminal_agent.crm.events import Event
from terminal_agent.crm.schema import card_chain, intents, offer_uses
from terminal_agent.crm.turns import add_missing

CRM = "crm:"
"""Stands among the terminals for the rewards that the CRM paid; no terminal can be called so."""
REWARD = "stamps"
_Count = Annotated[int, Field(strict=True, ge=-(10**12), le=10**12)]
_Id = Annotated[str, Field(min_length=1, max_length=64)]


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Told(_Shape):
    """An offer in ``points.offers`` of an event."""

    offer_id: _Id
    points: _Count = 0
    grant_id: _Id | None = None
    uses: _Count = 1
    stamps: _Count = 0
    rewards: _Count = 0


class _ToldLine(_Shape):
    """A line of a bill in an event."""

    sku: str
    quantity: _Count = 1
    amount: _Count = 0


@dataclass(frozen=True)
class _Moved:
    """What one event adds to what its card had of one offer at its terminal."""

    uses: int = 0
    stamps: int = 0
    rewards: int = 0
    points: int = 0


def book(connection: Connection, events: Sequence[Event], published: Mapping[str, Policy], now: str) -> None:
    """Counts the offers in events that were booked for the first time, each under its policy of those ``published``,
    then pays what is due to their cards.

    What a replaced card had goes to the card that took its place.
    """
    touched = set()
    for event in events:
        if event.card_no is None or event.type not in (EventType.PURCHASE_RECORDED, EventType.PURCHASE_REVERSED):
            continue
        touched.add(event.card_no)
        policy = published.get(str(event.told.get("policy_version")))
        _count(connection, event, event.card_no, policy, now)
    named = {card_no for event in events for card_no in (event.card_no, event.data.other_card) if card_no}
    replaced = [row["card_no"] for row in cards.known(connection, named) if row["status"] == cards.REPLACED]
    for old in sorted(replaced):
        for new in replacement.successors_of(connection, [old])[-1:]:
            _follow(connection, old, new, now)
            touched.add(new)
    in_force = policies.newest_of(published, now)
    if in_force.stamps:
        for card_no in sorted(touched):
            pay(connection, in_force, card_no, now)


def _count(connection: Connection, event: Event, card_no: str, policy: Policy | None, now: str) -> None:
    told = list(_readable(_Told, (event.told.get("points") or {}).get("offers")))
    moved = {use.offer_id: _Moved(use.uses, use.stamps, use.rewards, use.points) for use in told}
    if policy is not None and event.type is EventType.PURCHASE_RECORDED:
        for card in policy.stamps:
            stamps = _stamps(policy, card, event)
            before = moved.get(card.id, _Moved())
            if stamps or card.id in moved:
                moved[card.id] = _Moved(0, stamps, before.rewards, before.points)
    shared = _shared(policy)
    for offer_id, counts in moved.items():
        elsewhere = _add(connection, card_no, offer_id, event.terminal_id, counts, now)
        if elsewhere and offer_id in shared:
            tell(connection, card_no, offer_id, now)
    for use in told:
        if use.grant_id is not None and use.uses:
            grants.used(connection, use.grant_id, event.terminal_id, use.uses, now)


def _follow(connection: Connection, old: str, new: str, now: str) -> None:
    """Stamps, limits and grants of a card that was replaced."""
    for row in connection.execute(select(offer_uses).where(offer_uses.c.card_no == old)).mappings().all():
        moved = _Moved(*(row[name] for name in ("uses", "stamps", "rewards", "points")))
        _add(connection, new, row["offer_id"], row["terminal_id"], moved, now)
        tell(connection, new, row["offer_id"], now)
    connection.execute(delete(offer_uses).where(offer_uses.c.card_no == old))
    grants.follow(connection, old, new, now)


def _readable(shape: type[Any], rows: Any) -> Iterable[Any]:
    """The rows that can be read; what a terminal adds beside the contract never stops its event."""
    for row in rows if isinstance(rows, list) else ():
        try:
            yield shape.model_validate(row)
        except ValidationError:
            continue


def _stamps(policy: Policy, card: StampCard, event: Event) -> int:
    """The stamps of a purchase, whatever its till made of them."""
    bill = event.told["purchase"]
    lines = tuple(Line(line.sku, line.quantity, line.amount) for line in _readable(_ToldLine, bill.get("lines")))
    at = datetime.fromisoformat(event.time) if event.told.get("clock", "synced") == "synced" else None
    return stamps_collected(policy, card, bill["amount"], Basket(lines, at))


def _shared(policy: Policy | None) -> set[str]:
    """The offers of which another till must know what a card had."""
    if policy is None:
        return set()
    limited = {o.id for o in policy.offers if o.limits.per_card is not None or o.limits.per_card_day is not None}
    return limited | {card.id for card in policy.stamps}


def _add(connection: Connection, card_no: str, offer_id: str, terminal_id: str, moved: _Moved, now: str) -> bool:
    """True: the card had the offer at another terminal last, or has a reward of ours, so the terminals must be told."""
    place = {"card_no": card_no, "offer_id": offer_id, "terminal_id": terminal_id}
    others = _rows(connection, card_no, offer_id)
    last = max(others, key=lambda row: str(row["counted_at"]), default=None)
    add_missing(
        connection, offer_uses, [{**place, "uses": 0, "stamps": 0, "rewards": 0, "points": 0, "counted_at": now}]
    )
    columns = offer_uses.c
    here = (columns.card_no == card_no) & (columns.offer_id == offer_id) & (columns.terminal_id == terminal_id)
    values = {name: columns[name] + number for name, number in vars(moved).items()}
    connection.execute(update(offer_uses).where(here).values(**values, counted_at=now))
    return last is not None and last["terminal_id"] != terminal_id


def _rows(connection: Connection, card_no: str, offer_id: str) -> list[Any]:
    wanted = (offer_uses.c.card_no == card_no) & (offer_uses.c.offer_id == offer_id)
    return list(connection.execute(select(offer_uses).where(wanted)).mappings())


def tell(connection: Connection, card_no: str, offer_id: str, now: str) -> None:
    """Tells the terminals what the card had of an offer, by terminal."""
    counts = {
        row["terminal_id"]: {name: row[name] for name in ("uses", "stamps", "rewards")}
        for row in _rows(connection, card_no, offer_id)
    }
    item = {"card_no": card_no, "offer_id": offer_id, "counts": counts}
    feed.publish(connection, FeedKind.OFFER, item, now)


def pay(connection: Connection, policy: Policy, card_no: str, now: str) -> None:
    """Gives the card an adjustment for each full stamp card that no till rewarded.

    Not while an event of the card is missing: it may tell of the very reward.
    """
    if cards.get(connection, card_no)["status"] not in (cards.ACTIVE, cards.BLOCKED):
        return
    for card in policy.stamps:
        rows = _rows(connection, card_no, card.id)
        due = rewards_due(card, sum(row["stamps"] for row in rows), sum(row["rewards"] for row in rows))
        if due and _has_no_gap(connection, card_no):
            points = due * card.reward_points
            given = {"source": ledger.ISSUED, "kind": REWARD, "reason": f"{REWARD}:{card.id}"}
            cards.give_points(connection, card_no, points, **given, now=now)
            _add(connection, card_no, card.id, CRM, _Moved(rewards=due, points=points), now)
            tell(connection, card_no, card.id, now)


def _has_no_gap(connection: Connection, card_no: str) -> bool:
    """Whether every counter between the card's first and its newest event was told of."""
    written = select(card_chain.c.sequence).where(card_chain.c.card_no == card_no)
    landed = select(intents.c.sequence_after).where(intents.c.card_no == card_no, intents.c.landed.is_(True))
    counters = {*connection.execute(written).scalars(), *connection.execute(landed).scalars()}
    return not counters or len(counters) == max(counters) - min(counters) + 1
