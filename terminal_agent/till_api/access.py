"""Who may call the till's API: a short code, shown by the daemon, is traded once for a token."""

from __future__ import annotations

import hashlib
import secrets
import threading
from dataclasses import dataclass

from terminal_agent.journal import Journal
from terminal_agent.journal.till import TillToken
from terminal_agent.ports import Clock, Ids, rfc3339

CODE_DIGITS = 6
CODE_LIFE_S = 120.0
TRIES = 5
"""Guesses at one code: a chance of 1 in 200 000 for who knows nothing of it."""
ALL_SCOPES = ("read", "checkout", "reverse", "members")
FOR_CASHIERS = "cashiers"
"""What a token has that stands for whoever is signed in: where cashiers are named, it may do nothing by itself."""
LONGEST_NAME = 64


@dataclass
class _Code:
    hashed: bytes
    expires: float
    scopes: tuple[str, ...]
    tries_left: int = TRIES


class Access:
    """The one code that works now, and the tokens given out."""

    def __init__(self, journal: Journal, clock: Clock, ids: Ids) -> None:
        self._journal = journal
        self._clock = clock
        self._ids = ids
        self._lock = threading.Lock()
        self._code: _Code | None = None

    def new_code(self, scopes: tuple[str, ...] = ALL_SCOPES) -> str:
        """A code that pairs one program within two minutes; the one before no longer works."""
        code = str(secrets.randbelow(10**CODE_DIGITS)).zfill(CODE_DIGITS)
        with self._lock:
            self._code = _Code(_hash(code), self._clock.monotonic() + CODE_LIFE_S, scopes)
        return code

    def pair(self, code: str, name: str, *, for_cashiers: bool = False) -> tuple[str, TillToken] | None:
        """A new token for who knows the code; None for who does not, or when no code works now."""
        with self._lock:
            active = self._code
            if active is None or self._clock.monotonic() > active.expires:
                return None
            active.tries_left -= 1
            right = secrets.compare_digest(_hash(code), active.hashed)
            if right or active.tries_left <= 0:
                self._code = None
        scopes = (*active.scopes, FOR_CASHIERS) if for_cashiers else active.scopes
        return self._give_out(name, scopes) if right else None

    def caller(self, token: str) -> TillToken | None:
        """Whose token this is, or None."""
        return self._journal.till.token(_hash(token).hex())

    def _give_out(self, name: str, scopes: tuple[str, ...]) -> tuple[str, TillToken]:
        token = secrets.token_urlsafe(32)
        given = TillToken(self._ids.uuid(), name, scopes, rfc3339(self._clock.now()))
        with self._journal.transaction():
            self._journal.till.add_token(_hash(token).hex(), given)
            self._journal.audit("till.paired", token_id=given.token_id, name=name)
        return token, given


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
