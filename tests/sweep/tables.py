"""SQLite files read whole, past the program that owns them, and where the sweep keeps them."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Tables = dict[str, list[Row]]


def memory() -> Path | None:
    """A folder that costs no disk, where there is one: what is swept here is order, not durability."""
    shared = Path("/dev/shm")  # noqa: S108 - folders made in it are private and named by chance
    return shared if shared.is_dir() else None


def read_tables(connection: sqlite3.Connection, *names: str) -> Tables:
    """The rows of these tables in the order they were written; none where there is no table yet, or a bad page."""
    connection.row_factory = sqlite3.Row
    tables: Tables = {name: [] for name in names}
    for name in names:
        with suppress(sqlite3.DatabaseError):
            tables[name] = [dict(row) for row in connection.execute(f"SELECT * FROM {name}")]
    return tables


def without_ids(facts: Any) -> str:
    """The same text for facts that differ by nothing but ids, card numbers and hashes: each is named by its turn."""
    turn: dict[str, str] = {}
    return _DRAWN.sub(lambda found: turn.setdefault(found[0], f"#{len(turn)}"), json.dumps(facts))


_DRAWN = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{64}\b|\b[0-9]{16}\b")
