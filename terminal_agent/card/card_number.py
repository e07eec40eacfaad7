"""Card numbers: 16 digits, the last one a check digit (Luhn, ISO/IEC 7812-1 annex B)."""

from __future__ import annotations

CARD_NUMBER_DIGITS = 16


def check_digit(digits: str) -> str:
    """The Luhn digit to append."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if position % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def card_number(digits: str) -> str:
    """A card number from its 15 leading digits."""
    return digits + check_digit(digits)


def is_card_number(text: str) -> bool:
    """Whether ``text`` is a well-formed card number."""
    return (
        len(text) == CARD_NUMBER_DIGITS
        and text.isascii()
        and text.isdigit()
        and text[0] != "0"
        and check_digit(text[:-1]) == text[-1]
    )
