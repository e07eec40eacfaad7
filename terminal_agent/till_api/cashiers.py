"""Who stands at the till: cashiers sign in with a PIN, and some things need more than a cashier.

PINs are short, so guessing is made slow: each wrong one doubles the time until the next is looked at. The count is in
the journal and outlives the daemon; who is signed in is kept in memory alone.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from terminal_agent.journal import Journal
from terminal_agent.journal.till import Cashier
from terminal_agent.ports import Clock, rfc3339
from terminal_agent.till_api.problems import Refusal, Refused

PIN_FORM = re.compile(r"[0-9]{4,12}")
IDLE_S = 30 * 60.0
FREE_TRIES = 2
LONGEST_WAIT_S = 15 * 60
_COST = {"n": 2**14, "r": 8, "p": 1, "maxmem": 64 * 1024 * 1024}
"""scrypt as OWASP's password storage sheet has it at the least: some 50 ms and 16 MB a try."""


class Role(StrEnum):
    """What somebody at the till may do; each may do what those before it may."""

    CASHIER = "cashier"
    SUPERVISOR = "supervisor"
    ADMINISTRATOR = "administrator"


SUPERVISORS = frozenset({Role.SUPERVISOR, Role.ADMINISTRATOR})


@dataclass(frozen=True)
class Session:
    """A cashier who is signed in at one paired page."""

    token_id: str
    cashier: str
    role: Role
    expires: float


def hash_pin(pin: str) -> str:
    """What is kept of a PIN: ``SALT$HASH`` in hex."""
    salt = secrets.token_bytes(16)
    return f"{salt.hex()}${_scrypt(pin, salt).hex()}"


def is_pin(pin: str, kept: str) -> bool:
    """Whether ``kept`` was made of this PIN."""
    salt, _, hashed = kept.partition("$")
    return secrets.compare_digest(_scrypt(pin, bytes.fromhex(salt)), bytes.fromhex(hashed))


def _scrypt(pin: str, salt: bytes) -> bytes:
    return hashlib.scrypt(pin.encode(), salt=salt, dklen=32, **_COST)


class Sessions:
    """Who is signed in where. A page that was told to asks for cashiers, as soon as there are any."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[bytes, Session] = {}

    def names(self) -> list[str]:
        return [cashier.name for cashier in self._journal.till.cashiers()]

    def sign_in(self, token_id: str, name: str, pin: str) -> tuple[str, Session]:
        """A secret for the page, and who it stands for. Raises Refused: PIN_WRONG, PIN_LATER."""
        with self._lock:  # one try at a time
            cashier = self._journal.till.cashier(name)
            if cashier is None:
                hash_pin(pin)  # takes as long as for one who is there
                raise Refused(Refusal.PIN_WRONG)
            now = self._clock.now()
            if cashier.next_try_at and now < datetime.fromisoformat(cashier.next_try_at) <= now + _LONGEST_WAIT:
                raise Refused(Refusal.PIN_LATER, f"The next PIN is looked at from {cashier.next_try_at} on.")
            if not is_pin(pin, cashier.pin_hash):
                self._note_wrong(cashier, now)
                raise Refused(Refusal.PIN_WRONG)
            return self._begin(token_id, cashier)

    def _note_wrong(self, cashier: Cashier, now: datetime) -> None:
        wrong = cashier.wrong_pins + 1
        wait_s = 0 if wrong <= FREE_TRIES else min(2 ** (wrong - FREE_TRIES), LONGEST_WAIT_S)
        with self._journal.transaction():
            self._journal.till.note_pin(cashier.name, wrong, rfc3339(now + timedelta(seconds=wait_s)))
            self._journal.audit("till.pin_refused", cashier=cashier.name, wrong_pins=wrong)

    def _begin(self, token_id: str, cashier: Cashier) -> tuple[str, Session]:
        secret = secrets.token_urlsafe(32)
        session = Session(token_id, cashier.name, Role(cashier.role), self._clock.monotonic() + IDLE_S)
        with self._journal.transaction():
            self._journal.till.note_pin(cashier.name, 0, None)
            self._journal.audit("till.signed_in", cashier=cashier.name, role=cashier.role, token_id=token_id)
        self._sessions = {key: each for key, each in self._sessions.items() if each.expires > self._clock.monotonic()}
        self._sessions[_key(secret)] = session
        return secret, session

    def session(self, token_id: str, secret: str | None) -> Session | None:
        """Who is signed in, if anybody. Every use prolongs it; a cashier who was removed or changed is out at once."""
        if secret is None:
            return None
        with self._lock:
            found = self._sessions.get(_key(secret))
            if found is None or found.token_id != token_id or found.expires <= self._clock.monotonic():
                return None
            cashier = self._journal.till.cashier(found.cashier)
            if cashier is None or cashier.role != found.role:
                return None
            self._sessions[_key(secret)] = replace(found, expires=self._clock.monotonic() + IDLE_S)
            return found

    def end(self, secret: str) -> None:
        """Nobody is signed in with this any more."""
        with self._lock:
            self._sessions.pop(_key(secret), None)


_LONGEST_WAIT = timedelta(seconds=LONGEST_WAIT_S)


def _key(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
