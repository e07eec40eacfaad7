"""Telephone numbers as people type them, in one normal form."""

from __future__ import annotations

import re

from terminal_agent.club.text import fold_digits

SHORTEST, LONGEST = 7, 15


class PhoneInvalid(ValueError):
    """What was typed is no telephone number."""


def normalise_phone(text: str) -> str:
    """Digits only, Iranian numbers as ``09…``: ``+98 (0)912 555 4433`` and ``۰۹۱۲۵۵۵۴۴۳۳`` are ``09125554433``.

    Other countries keep their prefix as ``+…``. A normal form is its own normal form. Raises :class:`PhoneInvalid`.
    """
    folded = fold_digits(text.strip())
    if re.search(r"[^\d+()\s./-]", folded):
        raise PhoneInvalid("a telephone number has digits only")
    digits = re.sub(r"\D", "", folded)
    international = folded.lstrip("( ").startswith("+") or digits.startswith("00")
    number = _normal_form(digits, international)
    if not SHORTEST <= len(number.removeprefix("+")) <= LONGEST:
        raise PhoneInvalid(f"a telephone number has {SHORTEST} to {LONGEST} digits")
    return number


def _normal_form(digits: str, international: bool) -> str:
    if not international and len(digits) == 10 and digits.startswith("9"):
        return "0" + digits
    if not international and not (len(digits) == 12 and digits.startswith("98")):
        return digits
    digits = digits.lstrip("0")  # no country code begins with 0
    if digits.startswith("98"):
        return "0" + digits[2:].lstrip("0")  # many write the 0 of the area too: +98 (0)912 …
    return "+" + digits
