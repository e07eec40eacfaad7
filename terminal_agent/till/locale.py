"""Numbers, money, dates and directions as people in the shop read them, in Persian and English.

Nothing shown here is stored: amounts stay integers in the currency's smallest unit, times stay RFC 3339 in UTC, digits
stay ASCII. Identifiers (receipt numbers, card numbers, SKUs) keep the letters and digits they are typed with.
"""

from __future__ import annotations

import unicodedata
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from zoneinfo import ZoneInfo

from terminal_agent.till.messages import Words

TEHRAN = ZoneInfo("Asia/Tehran")
# Unicode standard annex 9: what stands between these is laid out by itself and turns nothing around it.
LEFT_TO_RIGHT, FIRST_STRONG, POP = "\u2066", "\u2068", "\u2069"
_JOINERS = "\u200c\u200d"
RIGHT_TO_LEFT_MARK = "\u200f"
_PERSIAN_DIGITS = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")
_RIGHT_TO_LEFT = frozenset({"R", "AL"})


class Language(StrEnum):
    """What the cashier and the customer read."""

    FA = "fa"
    EN = "en"


class AmountsIn(StrEnum):
    """How a shop writes amounts of the Iranian rial; other currencies have one way."""

    RIAL = "rial"
    TOMAN = "toman"


class Unit(NamedTuple):
    """What an amount is written in: the smallest unit with ``places`` digits after the point, which are left out where
    they are 0 and ``exact`` is false."""

    name: Words
    places: int
    exact: bool = True


_RIAL = {
    AmountsIn.RIAL: Unit(Words("ریال", "rial"), 0),
    AmountsIn.TOMAN: Unit(Words("تومان", "toman"), 1, exact=False),
}
"""The rial has no smaller unit in use, whatever ISO 4217 says; ten of them are a toman. The new rial that the law of
2025 brings needs a currency code of its own, and so a line of its own here."""
_NO_PLACES = frozenset(
    {"BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"}
)
_THREE_PLACES = frozenset({"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"})
"""Currencies with none, or three, digits after the point by ISO 4217; all others have two."""


def digits(text: str, language: Language) -> str:
    """ASCII digits as the language writes them; the inverse is ``club.text.fold_digits``."""
    return text.translate(_PERSIAN_DIGITS) if language is Language.FA else text


def number(value: int, language: Language) -> str:
    """``250000`` is ``250,000`` or ``۲۵۰٬۰۰۰``; a minus stays left of its number in either direction."""
    return _decimal(value, 0, language)


def moved(value: int, language: Language) -> str:
    """Points that came or went, with their sign: ``+25``."""
    return number(value, language) if value <= 0 else _left_to_right(f"+{number(value, language)}", language)


def money(amount: int, currency: str, language: Language, amounts_in: AmountsIn = AmountsIn.RIAL) -> str:
    """An amount in the smallest unit of ``currency`` (ISO 4217) with its name: ``۲۵٬۰۰۰ تومان``, ``12.50 EUR``."""
    unit = unit_of(currency, amounts_in)
    places, whole = unit.places, 10**unit.places
    if not unit.exact and amount % whole == 0:
        amount, places = amount // whole, 0
    return f"{_decimal(amount, places, language)} {words_in(unit.name, language)}"


def unit_of(currency: str, amounts_in: AmountsIn) -> Unit:
    """What amounts of this currency are written in."""
    if currency == "IRR":
        return _RIAL[amounts_in]
    places = 0 if currency in _NO_PLACES else 3 if currency in _THREE_PLACES else 2
    return Unit(Words(isolated(currency, Language.FA), currency), places)


def _decimal(value: int, places: int, language: Language) -> str:
    """``value`` of which the last ``places`` digits stand after the point."""
    whole, part = divmod(abs(value), 10**places)
    grouped, point = f"{whole:,}", "."
    if language is Language.FA:
        grouped, point = grouped.replace(",", "٬"), "٫"
    text = digits(grouped + (f"{point}{part:0{places}}" if places else ""), language)
    return _left_to_right(f"\u2212{text}" if language is Language.FA else f"-{text}", language) if value < 0 else text


def date(moment: datetime, language: Language, zone: ZoneInfo = TEHRAN) -> str:
    """The day in the shop: ``۱۴۰۵/۰۹/۰۱`` by the Jalali calendar, ``2026-11-22`` by the Gregorian."""
    day = moment.astimezone(zone).date()
    if language is Language.EN:
        return day.isoformat()
    import jdatetime  # takes longer to load than most commands take to run

    jalali = jdatetime.date.fromgregorian(date=day)
    return digits(f"{jalali.year:04}/{jalali.month:02}/{jalali.day:02}", language)


def time_of_day(moment: datetime, language: Language, zone: ZoneInfo = TEHRAN) -> str:
    """``13:00`` by the shop's clock."""
    return digits(moment.astimezone(zone).strftime("%H:%M"), language)


def words_in(words: Words, language: Language) -> str:
    """The words in one language."""
    return words.fa if language is Language.FA else words.en


def isolated(text: str, language: Language) -> str:
    """``text`` of unknown direction (a name, a number, an address) set apart where it could turn what is around it.

    What holds nothing of the other direction is left as it is, so that an English receipt stays plain ASCII. Characters
    that cannot be printed, and those that turn text around, are left out: a name may come from anywhere.
    """
    text = "".join(c for c in text if c.isprintable() or c in _JOINERS)
    if language is Language.FA:
        plain = all(c in " \u200c" or unicodedata.bidirectional(c) in _RIGHT_TO_LEFT for c in text)
        return text if plain else f"{FIRST_STRONG if _is_right_to_left(text) else LEFT_TO_RIGHT}{text}{POP}"
    return f"{FIRST_STRONG}{text}{POP}" if any(unicodedata.bidirectional(c) in _RIGHT_TO_LEFT for c in text) else text


def paragraph(line: str, language: Language) -> str:
    """A line that is read from the right in Persian, also where a program guesses by its first letter."""
    return line if language is Language.EN or _is_right_to_left(line) else RIGHT_TO_LEFT_MARK + line


def _left_to_right(text: str, language: Language) -> str:
    return f"{LEFT_TO_RIGHT}{text}{POP}" if language is Language.FA else text


def _is_right_to_left(text: str) -> bool:
    """By the first letter that has a direction, those inside isolates not counted (rules P2 and P3)."""
    depth = 0
    for c in text:
        depth += (c in (LEFT_TO_RIGHT, FIRST_STRONG)) - (c == POP)
        kind = unicodedata.bidirectional(c)
        if depth == 0 and (kind == "L" or kind in _RIGHT_TO_LEFT):
            return kind != "L"
    return False
