"""How a terminal joins: a one-time code becomes a token (who it is) and a secret (how it knows our answers)."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, insert, select, update

from terminal_agent.crm.schema import enrolment_codes, terminals
from terminal_agent.ports import rfc3339

DEFAULT_CODE_LIFE_S = 24 * 3600
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE_LENGTH = 12
_GROUP = 4
# Crockford's base32 leaves out letters that look like digits; people type them anyway.
_LOOK_ALIKES = str.maketrans("OIL", "011", "- ")


class CodeInvalid(Exception):
    """A code that is unknown, used or expired; which of these is not told."""


@dataclass(frozen=True)
class Terminal:
    """An enrolled terminal. ``secret`` signs the answers it gets."""

    terminal_id: str
    secret: bytes
    revoked: bool = False


@dataclass(frozen=True)
class Credentials:
    """What a terminal is given, once."""

    terminal_id: str
    token: str
    secret: bytes

    @property
    def secret_text(self) -> str:
        """The secret in base64."""
        return base64.b64encode(self.secret).decode()


def new_code(connection: Connection, now: datetime, life_s: int) -> str:
    """A fresh one-time code like ``7K2M-9QXA-4TBD``; only its hash is kept."""
    code = "".join(secrets.choice(_ALPHABET) for _ in range(_CODE_LENGTH))
    expires_at = rfc3339(now + timedelta(seconds=life_s))
    connection.execute(insert(enrolment_codes).values(code_hash=_code_hash(code), expires_at=expires_at))
    return "-".join(code[start : start + _GROUP] for start in range(0, _CODE_LENGTH, _GROUP))


def enrol(connection: Connection, code: str, terminal_id: str, name: str | None, now: datetime) -> Credentials:
    """Uses up the code; a terminal that joins again gets a new token and the old one stops working. CodeInvalid."""
    _use_up(connection, _code_hash(code), now)
    credentials = Credentials(terminal_id, secrets.token_urlsafe(32), secrets.token_bytes(32))
    facts = {"token_hash": _hash(credentials.token), "secret": credentials.secret, "name": name}
    facts |= {"enrolled_at": rfc3339(now), "revoked_at": None}
    # The row stays the same one: whoever books this terminal's events holds it.
    again = update(terminals).where(terminals.c.terminal_id == terminal_id).values(**facts)
    if connection.execute(again).rowcount == 0:
        connection.execute(insert(terminals).values(terminal_id=terminal_id, **facts))
    return credentials


def _use_up(connection: Connection, code_hash: str, now: datetime) -> None:
    this = enrolment_codes.c.code_hash == code_hash
    unused = select(enrolment_codes.c.expires_at).where(this, enrolment_codes.c.used_at.is_(None))
    expires_at = connection.execute(unused.with_for_update()).scalar()
    if expires_at is None or datetime.fromisoformat(expires_at) <= now.astimezone(UTC):
        raise CodeInvalid
    connection.execute(update(enrolment_codes).where(this).values(used_at=rfc3339(now)))


def find_by_token(connection: Connection, token: str) -> Terminal | None:
    """Whose token this is."""
    row = connection.execute(select(terminals).where(terminals.c.token_hash == _hash(token))).mappings().first()
    return Terminal(row["terminal_id"], row["secret"], row["revoked_at"] is not None) if row else None


def _code_hash(code: str) -> str:
    return _hash(code.upper().translate(_LOOK_ALIKES))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
