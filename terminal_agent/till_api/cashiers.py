"""Who stands at the till: cashiers sign in with a PIN, and some things need more than a cashier.

PINs are short, so guessing is made slow: each wrong one doubles the time until the next is looked at. The count is in
the journal and outlives the daemon; who is signed in is kept in memory alone.
"""

from __future__ import annotations

import hashlib
import math
import re
import secrets
import threading
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from terminal_agent.journal import Journal
from terminal_agent.journal.staff import Cashier, Role
from terminal_agent.ports import Clock, rfc3339
from terminal_agent.till_api.problems import Refusal, Refused

PIN_FORM = re.compile(r"[0-9]{4,12}")
IDLE_S = 30 * 60.0
FREE_TRIES = 2
LONGEST_WAIT_S = 15 * 60
_COST = {"n": 2**14, "r": 8, "p": 1, "maxmem": 64 * 1024 * 1024}
"""scrypt as OWASP's password storage sheet has it at the least: some 50 ms and 16 MB a try."""


class By(StrEnum):
    """How somebody signed in. A card says who, but cards can be copied: only a PIN proves it where money goes out."""

    PIN = "pin"
    CARD = "card"


SUPERVISORS = frozenset({Role.SUPERVISOR, Role.ADMINISTRATOR})


@dataclass(frozen=True)
class Session:
    """A cashier who is signed in at one paired page. ``role`` is what counts here; ``proof`` is what it was opened
    with: once the cashier has another PIN or card, it is over."""

    token_id: str
    cashier: str
    role: Role
    by: By
    proof: str
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
        return [cashier.name for cashier in self._journal.staff.cashiers()]

    @property
    def is_asked_for(self) -> bool:
        """Whether a page must say who stands there."""
        return self._journal.staff.is_asked_for

    def sign_in(self, token_id: str, name: str, pin: str) -> tuple[str, Session]:
        """A secret for the page, and who it stands for. Raises Refused: PIN_WRONG, PIN_LATER."""
        cashier = self.prove(name, pin)
        return self._begin(token_id, cashier, Role(cashier.role), By.PIN, cashier.pin_hash)

    def sign_in_by_card(self, token_id: str, card_no: str) -> tuple[str, Session]:
        """The same for whose staff card this is, with the rights of a cashier. Raises Refused: STAFF_CARD_UNKNOWN."""
        cashier = self._journal.staff.owner_of(card_no)
        if cashier is None:
            raise Refused(Refusal.STAFF_CARD_UNKNOWN)
        return self._begin(token_id, cashier, Role.CASHIER, By.CARD, card_no)

    def prove(self, name: str, pin: str) -> Cashier:
        """Whose PIN this is. Every wrong one counts, whatever it was for. Raises Refused: PIN_WRONG, PIN_LATER."""
        with self._lock:  # one try at a time
            cashier = self._journal.staff.cashier(name)
            if cashier is None:
                hash_pin(pin)  # takes as long as for one who is there
                raise Refused(Refusal.PIN_WRONG)
            now = self._clock.now()
            wait = _wait(cashier, now)
            if wait:
                detail = f"The next PIN is looked at from {cashier.next_try_at} on."
                raise Refused(Refusal.PIN_LATER, detail, math.ceil(wait.total_seconds()))
            if not is_pin(pin, cashier.pin_hash):
                self._note_wrong(cashier, now)
                raise Refused(Refusal.PIN_WRONG)
            if cashier.wrong_pins:
                with self._journal.transaction():
                    self._journal.staff.note_pin(cashier.name, 0, None)
            return cashier

    def _note_wrong(self, cashier: Cashier, now: datetime) -> None:
        wrong = cashier.wrong_pins + 1
        wait_s = 0 if wrong <= FREE_TRIES else min(2 ** (wrong - FREE_TRIES), LONGEST_WAIT_S)
        with self._journal.transaction():
            self._journal.staff.note_pin(cashier.name, wrong, rfc3339(now + timedelta(seconds=wait_s)))
            self._journal.audit("till.pin_refused", cashier=cashier.name, wrong_pins=wrong)

    def _begin(self, token_id: str, cashier: Cashier, role: Role, by: By, proof: str) -> tuple[str, Session]:
        secret = secrets.token_urlsafe(32)
        session = Session(token_id, cashier.name, role, by, proof, self._clock.monotonic() + IDLE_S)
        with self._journal.transaction():
            self._journal.audit("till.signed_in", cashier=cashier.name, role=role, by=by, token_id=token_id)
        with self._lock:
            now = self._clock.monotonic()
            self._sessions = {key: each for key, each in self._sessions.items() if each.expires > now}
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
            if not self._still_holds(found):
                return None
            self._sessions[_key(secret)] = replace(found, expires=self._clock.monotonic() + IDLE_S)
            return found

    def _still_holds(self, session: Session) -> bool:
        cashier = self._journal.staff.cashier(session.cashier)
        if cashier is None:
            return False
        if session.by is By.CARD:
            blocked = self._journal.knowledge.block_reason(session.proof)
            return cashier.card_no == session.proof and blocked is None
        return (cashier.role, cashier.pin_hash) == (session.role, session.proof)

    def end(self, secret: str) -> None:
        """Nobody is signed in with this any more."""
        with self._lock:
            self._sessions.pop(_key(secret), None)


_LONGEST_WAIT = timedelta(seconds=LONGEST_WAIT_S)


def _wait(cashier: Cashier, now: datetime) -> timedelta | None:
    """Until the next PIN is looked at; None for now. A clock that was set back makes nobody wait for years."""
    if cashier.next_try_at is None:
        return None
    wait = datetime.fromisoformat(cashier.next_try_at) - now
    return wait if timedelta(0) < wait <= _LONGEST_WAIT else None


def _key(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
