"""Card numbers and their check digit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terminal_agent.card.card_number import CARD_NUMBER_DIGITS, card_number, is_card_number

leading_digits = st.integers(10**14, 10**15 - 1).map(str)


@pytest.mark.parametrize("known", ["4111111111111111", "5500005555555559", "6011000990139424"])
def test_well_known_test_numbers_check_out(known: str) -> None:
    assert card_number(known[:15]) == known
    assert is_card_number(known)


@given(digits=leading_digits)
def test_a_number_made_is_a_number_taken(digits: str) -> None:
    assert len(card_number(digits)) == CARD_NUMBER_DIGITS
    assert is_card_number(card_number(digits))


@given(digits=leading_digits, place=st.integers(0, 15), other=st.integers(1, 9))
def test_one_mistyped_digit_is_always_found(digits: str, place: int, other: int) -> None:
    number = card_number(digits)
    wrong = str((int(number[place]) + other) % 10)
    assert not is_card_number(number[:place] + wrong + number[place + 1 :])


@given(digits=leading_digits, place=st.integers(0, 14))
def test_swapped_neighbours_are_found_except_0_and_9(digits: str, place: int) -> None:
    number = card_number(digits)
    swapped = number[:place] + number[place + 1] + number[place] + number[place + 2 :]
    blind = {number[place], number[place + 1]} == {"0", "9"} or number == swapped
    assert is_card_number(swapped) == (blind and swapped[0] != "0")


@pytest.mark.parametrize(
    "text", ["", "411111111111111", "41111111111111111", "4111-1111-1111-111", "٤١١١١١١١١١١١١١١١", "0000000000000000"]
)
def test_what_is_no_number_is_refused(text: str) -> None:
    assert not is_card_number(text)
