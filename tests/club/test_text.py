"""Text that people and programs hand in has one normal form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terminal_agent.club.text import TextInvalid, plain_text, reference


def test_digits_of_every_script_are_the_same_number() -> None:
    assert reference("۱۲۳", 9) == reference("١٢٣", 9) == reference(" 123 ", 9) == "123"


def test_letters_are_kept_as_they_are() -> None:
    assert plain_text("سارا‌خانم", 100) == "سارا‌خانم"


@pytest.mark.parametrize("text", ["", "  ", "a\x00", "\udcff", "\u202eabc", "x" * 10])
def test_what_cannot_be_printed_or_is_too_long_is_refused(text: str) -> None:
    with pytest.raises(TextInvalid):
        plain_text(text, 9)


@given(st.text())
def test_a_normal_form_is_its_own_normal_form_and_can_be_sent(text: str) -> None:
    try:
        normal = reference(text, 1000)
    except TextInvalid:
        return
    assert reference(normal, 1000) == normal
    normal.encode()
