"""The reference CRM of a world: the real application on its real store, called in process, one request at a time."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import anyio.to_thread

from terminal_agent.crm import admin, enrolment
from terminal_agent.crm.api import create_app
from terminal_agent.crm.sqlite import FILE_NAME
from terminal_agent.crm.store import open_store
from tests.simulation.ports import SeededIds, Timeline, VirtualClock


@dataclass(frozen=True)
class Answer:
    """What came back over HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes


@contextmanager
def endpoints_inline() -> Iterator[None]:
    """Endpoints run where they are called instead of in a pool: one thread, one order, the same in every run."""
    pooled = anyio.to_thread.run_sync

    async def inline(function: Callable[..., Any], *args: Any, **_options: Any) -> Any:
        return function(*args)

    anyio.to_thread.run_sync = inline
    try:
        yield
    finally:
        anyio.to_thread.run_sync = pooled


class CrmHouse:
    """Head office: the CRM's process and its file. ``down`` while nobody answers."""

    def __init__(self, folder: Path, timeline: Timeline, chance: Random) -> None:
        self.folder = folder
        self.clock = VirtualClock(timeline)
        self._ids = SeededIds(timeline, chance)
        self._loop = asyncio.new_event_loop()
        self.down = False
        self.went_back = False
        """Whether it was ever put back to a backup."""
        self._store = open_store(folder, self.clock, self._ids)
        self._app = create_app(self._store, self.clock, self._ids)

    def restart(self) -> None:
        """The process ended, in whatever way, and starts again."""
        self._store.close()
        self._store = open_store(self.folder, self.clock, self._ids)
        self._app = create_app(self._store, self.clock, self._ids)

    def backup(self) -> bytes:
        """The whole file as it is between two requests."""
        return (self.folder / FILE_NAME).read_bytes()

    def put_back(self, backup: bytes) -> None:
        """Somebody restores an old copy; whatever came since is forgotten."""
        self.went_back = True
        self._store.close()
        (self.folder / FILE_NAME).write_bytes(backup)
        self.restart()

    def close(self) -> None:
        self._store.close()
        self._loop.close()

    def enrolment_code(self) -> str:
        with self._store.writing() as connection:
            return enrolment.new_code(connection, self.clock.now(), enrolment.DEFAULT_CODE_LIFE_S)

    def adjust(self, card_no: str, points: int) -> dict[str, Any]:
        return admin.adjust_card(self.folder, card_no, points, "goodwill")

    def block(self, card_no: str) -> None:
        admin.block_card(self.folder, card_no, "lost")

    def call(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Answer:
        """One request through the whole application. Raises what a server would log: an error nobody foresaw."""
        parts = urlsplit(url)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": parts.path,
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        messages: list[dict[str, Any]] = []
        waiting = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            return waiting.pop() if waiting else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            messages.append(message)

        self._loop.run_until_complete(self._app(scope, receive, send))
        head, *parts_of_body = messages
        got = {name.decode().title(): value.decode() for name, value in head["headers"]}
        return Answer(head["status"], got, b"".join(message.get("body", b"") for message in parts_of_body))

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """What stands in the CRM's file, read past the CRM."""
        with closing(sqlite3.connect(f"file:{self.folder / FILE_NAME}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, values)]

    def waiting(self, member_ids: set[str]) -> int:
        """Points that wait at members' own accounts."""
        accounts = [f"member:{member_id}" for member_id in sorted(member_ids)]
        marks = ", ".join("?" * len(accounts))
        (row,) = self.rows(f"SELECT coalesce(sum(points), 0) AS n FROM entries WHERE account IN ({marks})", *accounts)
        return int(row["n"])

    def balance(self, card_no: str) -> int:
        (row,) = self.rows("SELECT balance FROM cards WHERE card_no = ?", card_no)
        return int(row["balance"])

    def sales(self) -> list[dict[str, Any]]:
        """Every purchase and return the CRM booked: terminal_id, kind, receipt_no, card_no or member_id, earned,
        redeemed, id."""
        found = []
        for row in self.rows(
            "SELECT terminal_id, id, body, earned, redeemed, verdict, substr(type, 10) AS verb FROM events "
            "WHERE type IN ('purchase.recorded', 'purchase.reversed') AND verdict <> 'rejected' "
            "AND coalesce(code, '') <> 'told_again' "
            "ORDER BY terminal_id, install_epoch, sequence"
        ):
            body = json.loads(row.pop("body"))
            kind = "reversal" if row.pop("verb") == "reversed" else "purchase"
            subject, _, number = body["subject"].partition("/")
            who = (
                {"card_no": number, "member_id": None} if subject == "cards" else {"card_no": None, "member_id": number}
            )
            found.append({**row, "kind": kind, **who, "receipt_no": body["data"][kind]["receipt_no"]})
        return found
