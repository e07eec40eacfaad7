"""What the till's API keeps on disk: who may call it, and each request that must be answered the same way again."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from terminal_agent.journal.database import Database
from terminal_agent.ports import Clock, rfc3339

_NOTHING = "{}"
"""What is kept of a request that has ended: a phone and a name are needed only while it may be taken up again."""
DIGITS_OF_A_PERSON = 9
"""The last digits of a phone, which are the same however it is written."""
REMEMBERED = timedelta(days=30)
"""How long a request is answered again as before; its sale is known by its receipt for ever."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class TillToken:
    """A paired program or browser; the token itself is not kept, only its SHA-256."""

    token_id: str
    name: str
    scopes: tuple[str, ...]
    created_at: str
    revoked_at: str | None = None


@dataclass(frozen=True)
class TillRequest:
    """One accepted request to open a checkout. ``fingerprint`` tells whether the same key carries the same body.

    ``document`` is the checkout as the API shows it; while ``ended`` is false it may still be waiting for its card.
    """

    token_id: str
    idempotency_key: str
    fingerprint: str
    checkout_id: str
    answer: dict[str, Any]
    document: dict[str, Any]
    request: dict[str, Any]
    ended: bool
    expires_at: str


class TillBook:
    """Tokens and requests of the till's API, in the journal's database. Writers run in the journal's transaction."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add_token(self, token_hash: str, token: TillToken) -> None:
        self._database.execute(
            "INSERT INTO till_tokens (token_hash, token_id, name, scopes, created_at) VALUES (?, ?, ?, ?, ?)",
            token_hash,
            token.token_id,
            token.name,
            " ".join(token.scopes),
            token.created_at,
        )

    def token(self, token_hash: str) -> TillToken | None:
        """The token with this hash, unless it was revoked."""
        row = self._database.one("SELECT * FROM till_tokens WHERE token_hash = ? AND revoked_at IS NULL", token_hash)
        return _token(row) if row else None

    def tokens(self) -> list[TillToken]:
        """All that were ever given out, oldest first."""
        return [_token(row) for row in self._database.query("SELECT * FROM till_tokens ORDER BY rowid")]

    def revoke(self, token_id: str) -> bool:
        """Whether there was such a token that still worked."""
        now = rfc3339(self._clock.now())
        sql = "UPDATE till_tokens SET revoked_at = ? WHERE token_id = ? AND revoked_at IS NULL"
        return self._database.execute(sql, now, token_id) > 0

    def readmit(self, rows: list[dict[str, Any]]) -> None:
        """Put the tokens of a damaged journal back, inside the caller's transaction, those that were revoked too. A row
        that is no token's, or is here already, is left out."""
        columns = "token_hash, token_id, name, scopes, created_at, revoked_at"
        sql = f"INSERT OR IGNORE INTO till_tokens ({columns}) VALUES (?, ?, ?, ?, ?, ?)"
        for row in rows:
            if not _SHA256.fullmatch(str(row.get("token_hash"))):
                continue
            with suppress(sqlite3.IntegrityError):
                self._database.execute(sql, *(row.get(name) for name in columns.split(", ")))

    def add_request(self, request: TillRequest) -> None:
        self._database.execute(
            "INSERT INTO till_requests (token_id, idempotency_key, fingerprint, checkout_id, answer, document, "
            "request, ended, expires_at, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            request.token_id,
            request.idempotency_key,
            request.fingerprint,
            request.checkout_id,
            json.dumps(request.answer),
            json.dumps(request.document),
            _NOTHING if request.ended else json.dumps(request.request),
            int(request.ended),
            request.expires_at,
            rfc3339(self._clock.now()),
        )

    def request(self, token_id: str, idempotency_key: str) -> TillRequest | None:
        row = self._database.one(
            "SELECT * FROM till_requests WHERE token_id = ? AND idempotency_key = ?", token_id, idempotency_key
        )
        return _request(row) if row else None

    def request_of(self, checkout_id: str) -> TillRequest | None:
        """The newest request for a checkout: one receipt may be asked for again, with another key."""
        row = self._database.one(
            "SELECT * FROM till_requests WHERE checkout_id = ? ORDER BY rowid DESC LIMIT 1", checkout_id
        )
        return _request(row) if row else None

    def open_requests(self) -> list[TillRequest]:
        """Those that were still waiting for a card, oldest first."""
        return [
            _request(row) for row in self._database.query("SELECT * FROM till_requests WHERE ended = 0 ORDER BY rowid")
        ]

    def update(self, checkout_id: str, document: dict[str, Any], *, ended: bool) -> None:
        self._database.execute(
            "UPDATE till_requests SET document = ?, ended = ?, request = iif(?, ?, request) "
            "WHERE checkout_id = ? AND ended = 0",
            json.dumps(document),
            int(ended),
            int(ended),
            _NOTHING,
            checkout_id,
        )

    def redact(self, member_id: str, card_nos: set[str]) -> int:
        """Take whoever is named in what was answered about a member or their cards out of it, inside the caller's
        transaction; how many answers there were. What was asked by phone is not known again by its body."""
        count = 0
        for row in self._database.query("SELECT rowid, answer, document FROM till_requests"):
            answers = {name: json.loads(row[name]) for name in ("answer", "document")}
            by_phone = any(told.get("member_id") == member_id for told in answers.values())
            theirs = by_phone or any(told.get("card_no") in card_nos for told in answers.values())
            named = [told for told in answers.values() if theirs and told.get("member")]
            for told in named:
                told["member"] = None
            if named or by_phone:
                texts = (json.dumps(told) for told in answers.values())
                sql = "UPDATE till_requests SET answer = ?, document = ?, fingerprint = iif(?, '', fingerprint) "
                count += self._database.execute(f"{sql} WHERE rowid = ?", *texts, int(by_phone), row["rowid"])
        return count

    def redact_phone(self, phone: str) -> int:
        """Take a phone out of the keys that requests came with, inside the caller's transaction; and what enrolments
        were known by that came to nothing: whose they were is not known, and a phone could be guessed from it. How
        many there were. Such a key, or such a request, is another one when it comes again."""
        named = "UPDATE till_requests SET idempotency_key = 'erased ' || rowid WHERE instr(idempotency_key, ?)"
        nobody = "json_extract(document, '$.kind') = 'enrolment' AND json_extract(document, '$.member_id') IS NULL"
        guessed = f"UPDATE till_requests SET fingerprint = '' WHERE ended = 1 AND fingerprint <> '' AND {nobody}"
        return self._database.execute(named, phone[-DIGITS_OF_A_PERSON:]) + self._database.execute(guessed)

    def forget_old(self) -> None:
        """Drop what was asked longer ago than requests are remembered."""
        before = rfc3339(self._clock.now() - REMEMBERED)
        self._database.execute("DELETE FROM till_requests WHERE ended = 1 AND created_at < ?", before)


def _token(row: Any) -> TillToken:
    return TillToken(row["token_id"], row["name"], tuple(row["scopes"].split()), row["created_at"], row["revoked_at"])


def _request(row: Any) -> TillRequest:
    return TillRequest(
        row["token_id"],
        row["idempotency_key"],
        row["fingerprint"],
        row["checkout_id"],
        json.loads(row["answer"]),
        json.loads(row["document"]),
        json.loads(row["request"]),
        bool(row["ended"]),
        row["expires_at"],
    )
