"""The journal whole: its parts over one database, and the few facts about itself that it keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from terminal_agent.journal.database import Database
from terminal_agent.journal.events import Events
from terminal_agent.journal.intents import Checkouts, Intents
from terminal_agent.journal.knowledge import Knowledge
from terminal_agent.ports import Clock, Ids, rfc3339

JOURNAL_FILE = "journal.sqlite3"
INSTALL_EPOCH = "install_epoch"
TERMINAL_ID = "terminal_id"
CLOCK_SKEW = "clock_skew_s"
"""How far this machine's clock was from the CRM's at the last exchange, in whole seconds."""


class Journal:
    """One terminal's journal. Open it once per data directory; every writer runs in :meth:`transaction`."""

    def __init__(self, data_dir: Path, terminal_id: str, currency: str, clock: Clock, ids: Ids) -> None:
        self._database = Database(data_dir / JOURNAL_FILE)
        self._clock = clock
        self._ids = ids
        epoch = self.meta(INSTALL_EPOCH)
        if epoch is None or self.meta(TERMINAL_ID) != terminal_id:
            self.start_epoch(terminal_id)
        else:
            self.events = Events(self._database, clock, terminal_id, epoch)
        self.intents = Intents(self._database, clock)
        self.checkouts = Checkouts(self._database, clock)
        self.knowledge = Knowledge(self._database, clock, currency)

    def start_epoch(self, terminal_id: str) -> None:
        """Begin a new gapless sequence: for a new journal, and for a terminal that got another id."""
        epoch = self._ids.uuid()
        with self.transaction():
            self.set_meta(INSTALL_EPOCH, epoch)
            self.set_meta(TERMINAL_ID, terminal_id)
        self.events = Events(self._database, self._clock, terminal_id, epoch)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and on disk when it returns."""
        with self._database.transaction():
            yield

    def meta(self, key: str) -> str | None:
        """A fact the journal keeps about itself, or None."""
        row = self._database.one("SELECT value FROM meta WHERE key = ?", key)
        return row["value"] if row else None

    def meta_keys(self, beginning: str) -> list[str]:
        """The names of the facts that begin so."""
        return [row["key"] for row in self._database.query("SELECT key FROM meta") if row["key"].startswith(beginning)]

    def set_meta(self, key: str, value: str) -> None:
        """Keep a fact, inside the caller's transaction."""
        self._database.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", key, value
        )

    def forget_meta(self, key: str) -> None:
        """Keep a fact no longer, inside the caller's transaction."""
        self._database.execute("DELETE FROM meta WHERE key = ?", key)

    def audit(self, action: str, **detail: Any) -> None:
        """Add a line to the audit log, inside the caller's transaction. Never a key, a token or a name."""
        self._database.execute(
            "INSERT INTO audit (time, action, detail) VALUES (?, ?, ?)",
            rfc3339(self._clock.now()),
            action,
            json.dumps(detail, sort_keys=True),
        )

    def close(self) -> None:
        self._database.close()
