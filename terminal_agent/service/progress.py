"""How far an exchange is, as a line of talk: over the daemon's socket nothing else is told before the answer."""

from __future__ import annotations

import re

_LINE = re.compile(r"sent ([0-9]{1,18}), ([0-9]{1,18}) left")


def told(sent: int, left: int) -> str:
    """What is said after each batch."""
    return f"sent {sent}, {left} left"


def heard(text: str) -> tuple[int, int] | None:
    """``sent, left`` of such a line; None for other talk."""
    found = _LINE.fullmatch(text)
    return (int(found[1]), int(found[2])) if found else None
