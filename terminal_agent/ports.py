"""Time and chance, as ports: the core asks these, never the system, so that a whole shop can run in virtual time."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID


class Clock(Protocol):
    """Wall time for dating, monotonic time for waiting."""

    def now(self) -> datetime: ...
    def monotonic(self) -> float: ...


class Ids(Protocol):
    """Where ids, card numbers and chance come from."""

    def uuid(self) -> str: ...
    def card_digits(self) -> str: ...
    def uniform(self, low: float, high: float) -> float: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class SystemIds:
    """Ids nobody has used before and nobody can guess."""

    def uuid(self) -> str:
        """A UUIDv7: time-ordered, 74 random bits (RFC 9562 section 5.7)."""
        return str(uuid7(time.time_ns() // 1_000_000, secrets.randbits(74)))

    def card_digits(self) -> str:
        """15 random digits, the first not 0; the card number adds its check digit."""
        return str(secrets.randbelow(9 * 10**14) + 10**14)

    def uniform(self, low: float, high: float) -> float:
        return secrets.SystemRandom().uniform(low, high)


def uuid7(unix_ms: int, chance: int) -> UUID:
    """The UUIDv7 of a time in milliseconds and 74 bits of chance (RFC 9562 section 5.7)."""
    high, low = chance >> 62, chance & (1 << 62) - 1
    return UUID(int=(unix_ms & (1 << 48) - 1) << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)


def rfc3339(moment: datetime) -> str:
    """UTC with milliseconds, as events carry it: ``2026-11-22T09:30:00.000Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
