"""Text as people and other programs hand it in: one normal form, nothing in it that a screen or a wire chokes on."""

from __future__ import annotations

import unicodedata

# Unprintable: control, surrogate (bytes that were no UTF-8), unassigned; and the marks that turn text around.
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cs", "Cn"})
_BIDI_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class TextInvalid(ValueError):
    """What was handed in cannot be used as this text."""


def fold_digits(text: str) -> str:
    """Digits of any script as ASCII: ``۱۲۳`` and ``١٢٣`` are ``123``."""
    return "".join(str(unicodedata.digit(c)) if c.isdigit() else c for c in text)


def plain_text(text: str, longest: int) -> str:
    """``text`` in composed form (NFC) without white space around it. Raises :class:`TextInvalid`."""
    if any(unicodedata.category(c) in _FORBIDDEN_CATEGORIES or c in _BIDI_OVERRIDES for c in text):
        raise TextInvalid("holds characters that cannot be printed")
    plain = unicodedata.normalize("NFC", text).strip()
    if not 0 < len(plain) <= longest:
        raise TextInvalid(f"has 1 to {longest} characters")
    return plain


def reference(text: str, longest: int) -> str:
    """A number or code that must compare equal however it was typed: plain text with its digits folded."""
    return fold_digits(plain_text(text, longest))
