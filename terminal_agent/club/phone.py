"""Telephone numbers as people type them, in one normal form."""

from __future__ import annotations

import re
import unicodedata

SHORTEST, LONGEST = 7, 15


class PhoneInvalid(ValueError):
    """What was typed is no telephone number."""


def normalise_phone(text: str) -> str:
    """Digits only, Iranian numbers as ``09…``: ``+98 912 555 4433`` and ``۰۹۱۲۵۵۵۴۴۳۳`` are ``09125554433``.

    Other countries keep their prefix as ``+…``. Raises :class:`PhoneInvalid`.
    """
    folded = "".join(str(unicodedata.digit(c)) if c.isdigit() else c for c in text.strip())
    if re.search(r"[^\d+()\s./-]", folded):
        raise PhoneInvalid("a telephone number has digits only")
    digits = re.sub(r"\D", "", folded)
    international = folded.lstrip("( ").startswith("+") or digits.startswith("00")
    digits = digits[2:] if digits.startswith("00") else digits
    if not SHORTEST <= len(digits) <= LONGEST:
        raise PhoneInvalid(f"a telephone number has {SHORTEST} to {LONGEST} digits")
    if international and digits.startswith("98"):
        return "0" + digits[2:]
    if not international and len(digits) == 10 and digits.startswith("9"):
        return "0" + digits
    return ("+" if international else "") + digits
