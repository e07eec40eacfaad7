"""One person's telephone number is one string, however it was typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terminal_agent.club.phone import PhoneInvalid, normalise_phone


@pytest.mark.parametrize(
    "typed",
    [
        "09125554433",
        "0912 555 44 33",
        "۰۹۱۲۵۵۵۴۴۳۳",
        "٠٩١٢٥٥٥٤٤٣٣",
        "9125554433",
        "+98 912 555 4433",
        "+98 (0)912 555 4433",
        "+98 0912-555-4433",
        "(+98) 912.555.4433",
        "00989125554433",
        "0098 0912 555 4433",
        "989125554433",
    ],
)
def test_every_spelling_of_an_iranian_mobile_is_the_same_number(typed: str) -> None:
    assert normalise_phone(typed) == "09125554433"


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        ("+49 151 12345678", "+4915112345678"),
        ("0049 151 12345678", "+4915112345678"),
        ("021 8888 7777", "02188887777"),
        ("+98 21 8888 7777", "02188887777"),
        ("98 21 8888 7777", "02188887777"),
    ],
)
def test_other_numbers_keep_their_prefix(typed: str, number: str) -> None:
    assert normalise_phone(typed) == number


@pytest.mark.parametrize("typed", ["", "   ", "hello", "0912x5554433", "123456", "1" * 16, "+98 12345", "+", "٫٫٫٫٫٫٫"])
def test_what_is_no_number_is_refused(typed: str) -> None:
    with pytest.raises(PhoneInvalid):
        normalise_phone(typed)


@given(st.text("0123456789۰۹+ ()-./٣", max_size=24))
def test_a_normal_form_stays_as_it_is(typed: str) -> None:
    try:
        number = normalise_phone(typed)
    except PhoneInvalid:
        return
    assert normalise_phone(number) == number
    assert number.removeprefix("+").isascii()
    assert 7 <= len(number.removeprefix("+")) <= 15


@given(st.text(max_size=30))
def test_any_text_is_a_number_or_is_refused(typed: str) -> None:
    try:
        normalise_phone(typed)
    except PhoneInvalid:
        return
