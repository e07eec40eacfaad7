"""How a terminal joins: a one-time code becomes a token (who it is) and a secret (how it knows our answers)."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from terminal_agent.crm.schema import enrolment_codes, scopes, terminals
from terminal_agent.ports import rfc3339

DEFAULT_CODE_LIFE_S = 24 * 3600
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE_LENGTH = 12
_GROUP = 4
# Crockford's base32 leaves out letters that look like digits; people type them anyway.
_LOOK_ALIKES = str.maketrans("OIL", "011", "- ")


class CodeInvalid(Exception):
    """A code that is unknown, used or expired; which of these is not told."""


class Scope(StrEnum):
    """What a token may do besides telling events, reading the feed and redeeming."""

    MEMBERS = "members"
    """Look members up and change their profiles."""
    PRIVACY = "privacy"
    """Export and erase members."""


ALL_SCOPES = tuple(Scope)


@dataclass(frozen=True)
class Terminal:
    """An enrolled terminal. ``secret`` signs the answers it gets."""

    terminal_id: str
    secret: bytes
    revoked: bool = False
    scopes: tuple[Scope, ...] = ALL_SCOPES


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


def new_code(connection: Connection, now: datetime, life_s: int, allowed: Sequence[Scope] = ALL_SCOPES) -> str:
    """A fresh one-time code like ``7K2M-9QXA-4TBD``; only its hash is kept. Who joins with it may do what is
    ``allowed``."""
    code = "".join(secrets.choice(_ALPHABET) for _ in range(_CODE_LENGTH))
    expires_at = rfc3339(now + timedelta(seconds=life_s))
    connection.execute(insert(enrolment_codes).values(code_hash=_code_hash(code), expires_at=expires_at))
    _allow(connection, _code_hash(code), allowed)
    return "-".join(code[start : start + _GROUP] for start in range(0, _CODE_LENGTH, _GROUP))


def enrol(connection: Connection, code: str, terminal_id: str, name: str | None, now: datetime) -> Credentials:
    """Uses up the code; a terminal that joins again gets a new token and the old one stops working. CodeInvalid."""
    _use_up(connection, _code_hash(code), now)
    credentials = Credentials(terminal_id, secrets.token_urlsafe(32), secrets.token_bytes(32))
    facts = {"token_hash": _hash(credentials.token), "secret": credentials.secret, "name": name}
    facts |= {"enrolled_at": rfc3339(now), "revoked_at": None}
    _allow(connection, terminal_id, _allowed(connection, _code_hash(code)))
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


def find(connection: Connection, terminal_id: str) -> Terminal | None:
    """The terminal of this id."""
    return _terminal(connection, terminals.c.terminal_id == terminal_id)


def find_by_token(connection: Connection, token: str) -> Terminal | None:
    """Whose token this is."""
    return _terminal(connection, terminals.c.token_hash == _hash(token))


def _terminal(connection: Connection, this: ColumnElement[bool]) -> Terminal | None:
    row = connection.execute(select(terminals).where(this)).mappings().first()
    if row is None:
        return None
    allowed = _allowed(connection, row["terminal_id"])
    return Terminal(row["terminal_id"], row["secret"], row["revoked_at"] is not None, allowed)


def listed(connection: Connection) -> list[dict[str, Any]]:
    """``[{terminal_id, name, scopes, enrolled_at, revoked_at}]`` by name; no token, no secret."""
    columns = (terminals.c[name] for name in ("terminal_id", "name", "enrolled_at", "revoked_at"))
    rows = connection.execute(select(*columns).order_by(terminals.c.terminal_id)).mappings().all()
    return [{**row, "scopes": [scope.value for scope in _allowed(connection, row["terminal_id"])]} for row in rows]


def revoke(connection: Connection, terminal_id: str, now: str) -> dict[str, Any] | None:
    """Takes the token away: ``{terminal_id, revoked_at, changed}``; None for a terminal that never joined."""
    this = terminals.c.terminal_id == terminal_id
    changed = connection.execute(update(terminals).where(this, terminals.c.revoked_at.is_(None)).values(revoked_at=now))
    row = connection.execute(select(terminals.c.revoked_at).where(this)).first()
    if row is None:
        return None
    return {"terminal_id": terminal_id, "revoked_at": row.revoked_at, "changed": changed.rowcount > 0}


def _allow(connection: Connection, holder: str, allowed: Sequence[Scope]) -> None:
    connection.execute(delete(scopes).where(scopes.c.holder == holder))
    connection.execute(insert(scopes).values(holder=holder, scopes=" ".join(allowed)))


def _allowed(connection: Connection, holder: str) -> tuple[Scope, ...]:
    """All, for a token or a code of a time when there were no scopes."""
    text = connection.execute(select(scopes.c.scopes).where(scopes.c.holder == holder)).scalar()
    return ALL_SCOPES if text is None else tuple(Scope(word) for word in text.split())


def _code_hash(code: str) -> str:
    return _hash(code.upper().translate(_LOOK_ALIKES))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
