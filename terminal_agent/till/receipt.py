"""A receipt: what the customer takes home of a purchase or a return, as a value and as the rows of a strip of paper.

It says what was recorded, not what is true now: points and names are those of the sale. Of the card only the last four
digits are shown, of the member at most the first name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from terminal_agent import taps
from terminal_agent.club.policy import Policy
from terminal_agent.club.rules import Name
from terminal_agent.contract import NO_TIER
from terminal_agent.journal.intents import Checkout, CheckoutState
from terminal_agent.journal.knowledge import Member
from terminal_agent.till import locale
from terminal_agent.till.checkout import Line
from terminal_agent.till.locale import AmountsIn, Language, isolated, words_in
from terminal_agent.till.messages import Words

CARD_DIGITS_SHOWN = 4
BY_NAME = ("offer", "stamps")
"""Rules that have names of their own in the policy; their reasons stand in the order of the answer's offers."""


@dataclass(frozen=True)
class Shop:
    """What a shop puts on its receipts. ``member_page`` is where a member sees the account, as a QR code."""

    name: str | None = None
    amounts_in: AmountsIn = AmountsIn.RIAL
    member_page: str | None = None
    shows_first_name: bool = False


@dataclass(frozen=True)
class Change:
    """Points that one rule gave or took, and what the rule is called where it has a name of its own."""

    rule: str
    points: int
    name: Words | None = None


@dataclass(frozen=True)
class Receipt:
    """One recorded checkout as it is printed; one without a card was made by phone. ``at`` is when it was begun;
    ``copy`` marks a second print."""

    shop: Shop
    terminal_id: str
    kind: str
    state: CheckoutState
    receipt_no: str
    at: datetime
    amount: int
    currency: str
    card_no: str | None
    points_before: int | None
    points_after: int | None
    changes: tuple[Change, ...]
    lines: tuple[Line, ...] = ()
    tier: Words | None = None
    first_name: str | None = None
    copy: bool = False


def receipt_of(
    checkout: Checkout,
    shop: Shop,
    terminal_id: str,
    policy: Policy,
    *,
    lines: tuple[Line, ...] = (),
    member: Member | None = None,
    copy: bool = False,
) -> Receipt:
    """The receipt of a recorded checkout; ``policy`` is the one it was made under, it names offers and tiers."""
    answer = checkout.result
    names = (member.name or "").split() if member and shop.shows_first_name else []
    return Receipt(
        shop=shop,
        terminal_id=terminal_id,
        kind=checkout.kind,
        state=checkout.state,
        receipt_no=checkout.receipt_no,
        at=datetime.fromisoformat(checkout.created_at),
        amount=checkout.amount,
        currency=checkout.currency,
        card_no=answer["card_no"],
        points_before=answer["points_before"],
        points_after=answer["points_after"],
        changes=tuple(_changes(answer, policy)),
        lines=lines,
        tier=_tier_name(policy, member.tier if member else None),
        first_name=names[0] if names else None,
        copy=copy,
    )


def lines_of(event_data: dict[str, Any]) -> tuple[Line, ...]:
    """The lines of the bill that a checkout's event carries."""
    return tuple(Line(**line) for line in event_data.get("purchase", {}).get("lines", ()))


def _changes(answer: dict[str, Any], policy: Policy) -> Iterator[Change]:
    if answer["points_adjusted"]:
        yield Change("adjustment", answer["points_adjusted"])
    if not answer["explanation"]:  # a sale put together from its event
        yield Change("earn", answer["points_earned"])
        yield Change("redeem", -answer["points_redeemed"])
        return
    names = {rule.id: _words(rule.name, rule.id) for rule in (*policy.offers, *policy.stamps)}
    named = (names.get(offer["offer_id"]) for offer in answer["offers"])
    for reason in answer["explanation"]:
        yield Change(reason["rule"], reason["points"], next(named, None) if reason["rule"] in BY_NAME else None)


def _tier_name(policy: Policy, tier: str | None) -> Words | None:
    if tier is None:
        return None
    rule = policy.tier(tier)
    if rule is None and tier == NO_TIER:
        return None
    return _words(rule.name, tier) if rule else Words(tier, tier)


def _words(name: Name, identifier: str) -> Words:
    return Words(name.fa or name.en or identifier, name.en or name.fa or identifier)


@dataclass(frozen=True)
class Heading:
    """A centred line."""

    text: str


@dataclass(frozen=True)
class Pair:
    """What it is at the line's start, how much at its end."""

    label: str
    value: str
    strong: bool = False


@dataclass(frozen=True)
class Ruler:
    """A line across the paper."""


@dataclass(frozen=True)
class Note:
    """A sentence."""

    text: str


@dataclass(frozen=True)
class Link:
    """A sentence, and an address under it: a QR code where one can be printed."""

    text: str
    url: str


Row = Heading | Pair | Ruler | Note | Link

_TITLES = {taps.PURCHASE: Words("رسید خرید", "Receipt"), taps.REVERSAL: Words("رسید مرجوعی", "Return receipt")}
_TOTALS = {taps.PURCHASE: Words("مبلغ خرید", "Total"), taps.REVERSAL: Words("مبلغ مرجوعی", "Returned")}
_COPY = Words("رونوشت", "Copy")
_RECEIPT_NO = Words("شمارهٔ رسید", "Receipt no.")
_DATE = Words("تاریخ", "Date")
_TERMINAL = Words("صندوق", "Till")
_CARD = Words("کارت", "Card")
_CUSTOMER = Words("مشتری", "Customer")
_TIER = Words("سطح عضویت", "Tier")
_TIMES = Words("×", "x")
_BEFORE = Words("امتیاز قبلی", "Points before")
_AFTER = Words("امتیاز فعلی", "Points now")
_ACCOUNT = Words("حساب باشگاه شما:", "Your club account:")
_RULES = {
    "adjustment": Words("اصلاح از سوی مرکز", "From head office"),
    "earn": Words("امتیاز این خرید", "Earned"),
    "tier": Words("پاداش سطح عضویت", "Tier bonus"),
    "offer": Words("پیشنهاد ویژه", "Offer"),
    "stamps": Words("کارت مهر", "Stamp card"),
    "redeem": Words("امتیاز خرج‌شده", "Redeemed"),
    "return": Words("کسر بابت مرجوعی", "Taken back"),
    "give_back": Words("امتیاز بازگشتی", "Given back"),
}
_OTHER_RULE = Words("سایر", "Other")
_NOT_ON_CARD = {
    CheckoutState.IN_DOUBT: Words(
        "امتیازهای این رسید هنوز روی کارت ثبت نشده است؛ لطفاً همان کارت را دوباره بگذارید.",
        "These points are not on the card yet: please present the same card again.",
    ),
    CheckoutState.CLOSED: Words(
        "امتیازهای این رسید در باشگاه ثبت شد و در مراجعهٔ بعدی به کارت می‌رسد.",
        "These points are booked at the club and reach the card at the next visit.",
    ),
}


_WITHOUT_CARD = Words(
    "این خرید با شمارهٔ تلفن ثبت شد؛ امتیاز آن در باشگاه ثبت می‌شود و به کارت می‌رسد.",
    "Recorded by phone number: its points are booked at the club and reach the card.",
)


def rows(receipt: Receipt, language: Language) -> list[Row]:
    """The receipt from top to bottom, in one language."""
    return [*_head(receipt, language), Ruler(), *_bill(receipt, language), Ruler(), *_points(receipt, language)]


def _head(receipt: Receipt, language: Language) -> Iterator[Row]:
    if receipt.shop.name:
        yield Heading(isolated(receipt.shop.name, language))
    yield Heading(words_in(_TITLES[receipt.kind], language))
    if receipt.copy:
        yield Heading(f"*** {words_in(_COPY, language)} ***")
    moment = f"{locale.date(receipt.at, language)} {locale.time_of_day(receipt.at, language)}"
    yield Pair(words_in(_RECEIPT_NO, language), isolated(receipt.receipt_no, language))
    yield Pair(words_in(_DATE, language), moment)
    yield Pair(words_in(_TERMINAL, language), isolated(receipt.terminal_id, language))


def _bill(receipt: Receipt, language: Language) -> Iterator[Row]:
    for line in receipt.lines:
        label = isolated(line.sku, language)
        if line.quantity != 1:
            label += f" {words_in(_TIMES, language)} {locale.number(line.quantity, language)}"
        yield Pair(label, _money(receipt, line.amount, language))
    yield Pair(words_in(_TOTALS[receipt.kind], language), _money(receipt, receipt.amount, language), strong=True)


def _money(receipt: Receipt, amount: int, language: Language) -> str:
    return locale.money(amount, receipt.currency, language, receipt.shop.amounts_in)


def _points(receipt: Receipt, language: Language) -> Iterator[Row]:
    if receipt.card_no is not None:
        card = "**** " + receipt.card_no[-CARD_DIGITS_SHOWN:]
        yield Pair(words_in(_CARD, language), isolated(card, language))
    if receipt.first_name:
        yield Pair(words_in(_CUSTOMER, language), isolated(receipt.first_name, language))
    if receipt.tier:
        yield Pair(words_in(_TIER, language), isolated(words_in(receipt.tier, language), language))
    if receipt.points_before is not None:
        yield Pair(words_in(_BEFORE, language), locale.number(receipt.points_before, language))
    for change in receipt.changes:
        if change.points:
            name = change.name or _RULES.get(change.rule, _OTHER_RULE)
            yield Pair(isolated(words_in(name, language), language), locale.moved(change.points, language))
    if receipt.points_after is None:
        yield Note(words_in(_WITHOUT_CARD, language))
    elif receipt.state is CheckoutState.DONE:
        yield Pair(words_in(_AFTER, language), locale.number(receipt.points_after, language), strong=True)
    else:
        yield Note(words_in(_NOT_ON_CARD[receipt.state], language))
    if receipt.shop.member_page:
        yield Link(words_in(_ACCOUNT, language), receipt.shop.member_page)
