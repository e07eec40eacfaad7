"""Digits, money, calendars and directions: exact both ways, and judged by other sources than ourselves."""

from __future__ import annotations

import unicodedata
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from terminal_agent.club.text import fold_digits
from terminal_agent.till import locale
from terminal_agent.till.locale import AmountsIn, Language

FA, EN = Language.FA, Language.EN
LRI, FSI, PDI, RLM = "\u2066", "\u2068", "\u2069", "\u200f"
INVISIBLE = {ord(c): None for c in (LRI, FSI, PDI, RLM)}
NOON = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)


def read_back(shown: str) -> int:
    """A number as a person reads it."""
    plain = fold_digits(shown).translate(INVISIBLE).replace("٬", "").replace(",", "").replace("\u2212", "-")
    return int(plain)


@given(st.integers(-(10**18), 10**18))
def test_a_number_reads_back_as_itself(value: int) -> None:
    for language in Language:
        assert read_back(locale.number(value, language)) == value
        assert read_back(locale.moved(value, language)) == value
    assert not any(c.isascii() and c.isdigit() for c in locale.number(value, FA))
    assert locale.number(value, EN).isascii()


@given(st.text(alphabet="0123456789-/:., abc"))
def test_digits_go_to_persian_and_back(text: str) -> None:
    assert fold_digits(locale.digits(text, FA)) == text
    assert locale.digits(text, EN) == text


def test_numbers_are_grouped_as_the_language_does() -> None:
    assert locale.number(1_234_567, FA) == "۱٬۲۳۴٬۵۶۷"
    assert locale.number(1_234_567, EN) == "1,234,567"
    assert locale.number(999, FA) == "۹۹۹"
    assert locale.number(-50, FA) == f"{LRI}\u2212۵۰{PDI}"
    assert locale.number(-50, EN) == "-50"
    assert locale.moved(25, FA) == f"{LRI}+۲۵{PDI}"
    assert locale.moved(25, EN) == "+25"
    assert locale.moved(0, FA) == "۰"


def test_money_is_shown_in_the_shops_unit() -> None:
    assert locale.money(250_000, "IRR", FA) == "۲۵۰٬۰۰۰ ریال"
    assert locale.money(250_000, "IRR", FA, AmountsIn.TOMAN) == "۲۵٬۰۰۰ تومان"
    assert locale.money(250_005, "IRR", FA, AmountsIn.TOMAN) == "۲۵٬۰۰۰٫۵ تومان"
    assert locale.money(250_000, "IRR", EN, AmountsIn.TOMAN) == "25,000 toman"
    assert locale.money(1_250, "EUR", EN) == "12.50 EUR"
    assert locale.money(5, "EUR", EN, AmountsIn.TOMAN) == "0.05 EUR"
    assert locale.money(-5, "EUR", EN) == "-0.05 EUR"
    assert locale.money(1_250, "JPY", EN) == "1,250 JPY"
    assert locale.money(1_250, "KWD", EN) == "1.250 KWD"
    assert locale.money(1_250, "EUR", FA) == f"۱۲٫۵۰ {LRI}EUR{PDI}"


@given(st.integers(-(10**15), 10**15))
def test_rials_and_tomans_tell_the_same_amount(amount: int) -> None:
    shown = locale.money(amount, "IRR", EN, AmountsIn.TOMAN).removesuffix(" toman").replace(",", "")
    whole, _, part = shown.lstrip("-").partition(".")
    assert (int(whole) * 10 + int(part or 0)) * (-1 if shown.startswith("-") else 1) == amount
    assert len(part) <= 1


def jalali_by_arithmetic(day: date) -> tuple[int, int, int]:
    """The Jalali date by the 33-year cycle, written from its definition: leap are the years that give 1, 5, 9, 13, 17,
    22, 26 or 30 modulo 33; this agrees with the sky from 1178 to 1633. 1 Farvardin 1400 was 21 March 2021."""
    year, days = 1400, (day - date(2021, 3, 21)).days
    while days < 0:
        year -= 1
        days += days_in(year)
    while days >= days_in(year):
        days -= days_in(year)
        year += 1
    for month, length in enumerate([31] * 6 + [30] * 6, 1):
        if days < length:
            return year, month, days + 1
        days -= length
    raise AssertionError("a year has twelve months")


def days_in(year: int) -> int:
    return 366 if year % 33 in (1, 5, 9, 13, 17, 22, 26, 30) else 365


@given(st.dates(date(1930, 1, 1), date(2120, 12, 31)))
@example(date(2025, 3, 20))  # the last day of a leap year, 30 Esfand 1403
@example(date(2029, 3, 20))
@example(date(2030, 3, 20))
def test_the_jalali_date_is_what_the_calendars_rule_gives(day: date) -> None:
    noon = datetime(day.year, day.month, day.day, 8, tzinfo=UTC)
    year, month, of_month = jalali_by_arithmetic(day)
    assert fold_digits(locale.date(noon, FA)) == f"{year:04}/{month:02}/{of_month:02}"
    assert locale.date(noon, EN) == day.isoformat()


@pytest.mark.parametrize(
    ("moment", "persian", "english"),
    [
        (NOON, "۱۴۰۵/۰۹/۰۱ ۱۳:۰۰", "2026-11-22 13:00"),
        (datetime(2025, 3, 20, 20, 29, tzinfo=UTC), "۱۴۰۳/۱۲/۳۰ ۲۳:۵۹", "2025-03-20 23:59"),  # the new year in Tehran
        (datetime(2025, 3, 20, 20, 30, tzinfo=UTC), "۱۴۰۴/۰۱/۰۱ ۰۰:۰۰", "2025-03-21 00:00"),
        (datetime(2022, 6, 1, 12, 0, tzinfo=UTC), "۱۴۰۱/۰۳/۱۱ ۱۶:۳۰", "2022-06-01 16:30"),  # the last summer time
        (datetime(2024, 6, 1, 12, 0, tzinfo=UTC), "۱۴۰۳/۰۳/۱۲ ۱۵:۳۰", "2024-06-01 15:30"),
    ],
)
def test_days_and_hours_are_those_of_the_shop(moment: datetime, persian: str, english: str) -> None:
    for away in (UTC, timezone(timedelta(hours=-8))):
        seen = moment.astimezone(away)
        assert f"{locale.date(seen, FA)} {locale.time_of_day(seen, FA)}" == persian
        assert f"{locale.date(seen, EN)} {locale.time_of_day(seen, EN)}" == english


def test_what_reads_the_other_way_is_set_apart() -> None:
    assert locale.isolated("A-1001", FA) == f"{LRI}A-1001{PDI}"
    assert locale.isolated("1001", FA) == f"{LRI}1001{PDI}"
    assert locale.isolated("چای سارا", FA) == "چای سارا"
    assert locale.isolated("کافه B12", FA) == f"{FSI}کافه B12{PDI}"
    assert locale.isolated("A-1001", EN) == "A-1001"
    assert locale.isolated("سارا", EN) == f"{FSI}سارا{PDI}"


@given(st.text(alphabet="aB1۲ سار-/.\u200c", max_size=12), st.sampled_from(Language))
def test_every_isolate_that_opens_closes_and_hides_nothing(text: str, language: Language) -> None:
    shown = locale.isolated(text, language)
    assert shown.translate(INVISIBLE) == text
    assert shown.count(PDI) == shown.count(LRI) + shown.count(FSI)


def test_a_name_cannot_turn_or_break_the_line_it_stands_in() -> None:
    for language in Language:
        for evil in ("\u202e", "\u2069", "\u2066", "\n", "\r", "\x1b", "\u200f", "\u2028", "\ud800"):
            assert locale.isolated(f"A{evil}b", language).translate(INVISIBLE) == "Ab"
            assert locale.isolated(f"A{evil}b", language).count(PDI) == (language is FA)
    assert "\u200c" in locale.isolated("خرج\u200cشده", FA), "a half-space is spelling"


def test_a_persian_line_is_read_from_the_right_whatever_it_begins_with() -> None:
    assert locale.paragraph("Sara", FA) == f"{RLM}Sara"
    assert locale.paragraph(f"{LRI}A-1{PDI} رسید", FA) == f"{LRI}A-1{PDI} رسید"
    assert locale.paragraph("۱۲۳", FA) == f"{RLM}۱۲۳"
    assert locale.paragraph("رسید", FA) == "رسید"
    assert locale.paragraph("Sara", EN) == "Sara"
    assert unicodedata.bidirectional(RLM) == "R"
