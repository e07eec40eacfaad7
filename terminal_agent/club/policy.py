"""The policy: one versioned document the CRM publishes and the terminal keeps.

Amounts are integers in the smallest unit of ``currency``, points are integers, times RFC 3339.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AwareDatetime, BaseModel, Field, ValidationError, field_validator

from terminal_agent.club.rules import (
    ActivityPoints,
    EarnRule,
    ExpiryRule,
    Identifier,
    InDoubtRule,
    Offer,
    OfflineRule,
    RedeemRule,
    ReferralRule,
    ReturnsRule,
    Rule,
    Sku,
    StampCard,
    Tier,
)

SPARE_LISTS = ("tiers", "offers", "stamps")
"""Lists of which a terminal can do without an entry that it cannot read."""


class Policy(Rule):
    """The whole document; keys it does not know are kept."""

    version: str = Field(min_length=1, max_length=64)
    currency: str = Field("IRR", pattern=r"^[A-Z]{3}$")
    valid_from: AwareDatetime
    time_zone: str = "Asia/Tehran"
    earn: EarnRule = EarnRule()
    redeem: RedeemRule = RedeemRule()
    offline: OfflineRule = OfflineRule()
    returns: ReturnsRule = ReturnsRule()
    in_doubt: InDoubtRule = InDoubtRule()
    tiers: tuple[Tier, ...] = ()
    categories: dict[Identifier, tuple[Sku, ...]] = {}
    offers: tuple[Offer, ...] = ()
    stacking: Literal["add", "best"] = "add"
    stamps: tuple[StampCard, ...] = ()
    expiry: ExpiryRule = ExpiryRule()
    referral: ReferralRule = ReferralRule()
    activities: dict[Identifier, ActivityPoints] = {}

    @field_validator("valid_from")
    @classmethod
    def _a_date_of_this_world(cls, moment: datetime) -> datetime:
        if not 1970 <= moment.year <= 9998:
            raise ValueError("a time between the years 1970 and 9998")
        return moment

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("a time zone of the IANA database, such as Asia/Tehran") from error
        return name

    def tier(self, name: str | None) -> Tier | None:
        """The tier of that name."""
        return next((tier for tier in self.tiers if tier.tier == name), None)

    def tier_at(self, level: int) -> Tier | None:
        """The tier a card's number stands for."""
        return next((tier for tier in self.tiers if tier.level == level), None)


@dataclass(frozen=True)
class Problem:
    """What is wrong at a place of the document; ``pointer`` is a JSON pointer (RFC 6901)."""

    pointer: str
    expected: str

    def __str__(self) -> str:
        return f"{self.pointer or 'the document'}: {self.expected}"


class PolicyInvalid(Exception):
    """A policy document that cannot be used; ``problems`` says where and why."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


def parse_policy(document: Any) -> Policy:
    """The policy in ``document``. Raises :class:`PolicyInvalid`."""
    try:
        policy = Policy.model_validate(document)
    except ValidationError as error:
        raise PolicyInvalid([_problem(e["loc"], e["msg"]) for e in error.errors(include_url=False)]) from error
    problems = list(_contradictions(policy))
    if problems:
        raise PolicyInvalid(problems)
    return policy


def usable_policy(document: dict[str, Any]) -> tuple[Policy, list[Problem]]:
    """What a terminal makes of a document of a later version: the policy without the tiers, offers and stamp cards
    that it cannot read, and what was wrong with them. Raises :class:`PolicyInvalid` where anything else is wrong."""
    try:
        return parse_policy(document), []
    except PolicyInvalid as invalid:
        bad = {tuple(problem.pointer.split("/")[1:3]) for problem in invalid.problems}
        if any(len(place) < 2 or place[0] not in SPARE_LISTS for place in bad):
            raise
        lists = {key: [x for i, x in enumerate(document[key]) if (key, str(i)) not in bad] for key, _ in bad}
        policy, others = usable_policy({**document, **lists})
        return policy, invalid.problems + others


def unknown_keys(policy: Policy) -> list[str]:
    """JSON pointers of the keys that mean nothing here: misspelt, or of a later version."""
    return [pointer(place) for place in _extras(policy, ())]


def pointer(place: tuple[Any, ...]) -> str:
    """The JSON pointer of a place in a document."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in place)


def _problem(place: tuple[Any, ...], message: str) -> Problem:
    return Problem(pointer(place), message.removeprefix("Value error, "))


def _extras(part: Any, place: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    if isinstance(part, BaseModel):
        yield from ((*place, key) for key in part.model_extra or ())
        for name, field in type(part).model_fields.items():
            yield from _extras(getattr(part, name), (*place, field.alias or name))
    elif isinstance(part, tuple):
        for index, item in enumerate(part):
            yield from _extras(item, (*place, index))


def _contradictions(policy: Policy) -> Iterator[Problem]:
    """What no single field shows: names used twice, or that stand for nothing."""
    yield from _repeated("tiers", "tier", [tier.tier for tier in policy.tiers])
    yield from _repeated("tiers", "level", [tier.level for tier in policy.tiers])
    offers = [offer.id for offer in policy.offers]
    yield from _repeated("offers", "id", offers)
    stamps = [card.id for card in policy.stamps]
    yield from (p for p in _repeated("stamps", "id", stamps, taken=offers))
    tiers = {tier.tier for tier in policy.tiers}
    for index, offer in enumerate(policy.offers):
        yield from _unknown(("offers", index, "tiers"), offer.tiers, tiers, "a tier of this policy")
    for key, conditions in (("offers", policy.offers), ("stamps", policy.stamps)):
        for index, condition in enumerate(conditions):
            place = (key, index, "categories")
            yield from _unknown(place, condition.categories, set(policy.categories), "a category of this policy")


def _repeated(key: str, field: str, values: list[Any], taken: list[Any] | None = None) -> Iterator[Problem]:
    seen = set(taken or ())
    for index, value in enumerate(values):
        if value in seen:
            yield _problem((key, index, field), f"{value} is used already; each is used once")
        seen.add(value)


def _unknown(place: tuple[Any, ...], names: tuple[str, ...], known: set[str], what: str) -> Iterator[Problem]:
    for index, name in enumerate(names):
        if name not in known:
            yield _problem((*place, index), f"{name} should be {what}")


def policy_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a policy document; docs/policy.schema.json is a copy of it."""
    schema = Policy.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def default_policy(currency: str = "IRR") -> dict[str, Any]:
    """What holds until a CRM publishes a policy."""
    return {
        "version": "default",
        "currency": currency,
        "valid_from": "2026-01-01T00:00:00Z",
        "earn": {"points": 1, "per_amount": 10_000, "basis": "gross"},
        "redeem": {"amount_per_point": 100, "minimum_points": 1, "maximum_share_percent": 100},
        "offline": {"points_per_card": 200, "points_per_terminal_day": 2_000},
        "tiers": [],
        "offers": [],
        "returns": {"window_days": 30},
    }
