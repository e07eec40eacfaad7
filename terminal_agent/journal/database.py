"""One SQLite connection, opened the one way that survives a power cut.

WAL with ``synchronous=FULL`` (NORMAL loses every commit since the last checkpoint at a power cut), set and read back;
``BEGIN IMMEDIATE`` for every write; exactly one connection, because SQLite before 3.51.3 can corrupt a WAL file with
two. A lock lets the daemon's threads take turns on it. https://www.sqlite.org/pragma.html#pragma_synchronous
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlite_utils import Database as SqliteUtils

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.migrations import migrations

APPLICATION_ID = 0x4C4F5941  # "LOYA", so that file(1) and we know our own
SYNCHRONOUS_FULL = 2


class Database:
    """The journal's connection. ``query`` reads, ``transaction`` writes; both take the one lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        try:
            self._connection = _connect(path)
            _migrate(self._connection, path)
        except sqlite3.DatabaseError as error:
            raise AgentError(
                ErrorCode.JOURNAL_FAILED,
                f"the journal {path} cannot be opened: {error}",
                hint="Check the disk (df -h). Is it damaged? Keep it, it may hold unsent sales, and go on without: "
                f"mkdir {path.parent}/damaged && mv {path}* {path.parent}/damaged/",
            ) from error

    def query(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """All rows of a SELECT; never a half-read cursor, which would pin the WAL."""
        with self._lock:
            try:
                return self._connection.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise _for_people(error) from error

    def one(self, sql: str, *values: Any) -> sqlite3.Row | None:
        """The first row of a SELECT."""
        rows = self.query(sql, *values)
        return rows[0] if rows else None

    def execute(self, sql: str, *values: Any) -> int:
        """One statement inside a :meth:`transaction`; gives the number of rows changed."""
        with self._lock:  # else another thread's open transaction would take this write in
            if not self._connection.in_transaction:
                raise RuntimeError("a write outside of a transaction")
            return self._connection.execute(sql, values).rowcount

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """On disk when this returns; nothing of it when it raises. Nested use joins the outer one."""
        with self._lock:
            if self._connection.in_transaction:
                yield
                return
            try:
                yield from self._outermost()
            except sqlite3.Error as error:
                raise _for_people(error) from error

    def _outermost(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # after a failed COMMIT too: SQLite may leave it open
                self._connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def _for_people(error: sqlite3.Error) -> AgentError:
    """A disk that is full or broken is the operator's to mend: one sentence, one action."""
    return AgentError(
        ErrorCode.JOURNAL_FAILED,
        f"the journal cannot be used: {error}",
        hint="Check the disk (df -h, dmesg), then run the command again; what was recorded before is safe",
    )


def _connect(path: Path) -> sqlite3.Connection:
    created = not path.exists()
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    if created:
        path.chmod(0o600)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "mmap_size=0"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    journal_mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    synchronous = connection.execute("PRAGMA synchronous").fetchone()[0]
    if (journal_mode, synchronous) != ("wal", SYNCHRONOUS_FULL):
        raise sqlite3.DatabaseError(f"durable writes are not to be had here (journal_mode={journal_mode})")
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    database = SqliteUtils(connection)
    known = {migration.name for migration in migrations.pending(database)}
    applied = {migration.name for migration in migrations.applied(database)}
    if applied - {migration.name for migration in migrations._migrations}:
        raise AgentError(
            ErrorCode.CONFIG_INVALID,
            f"the data in {path.parent} was written by a newer version of terminal-agent",
            hint="Install that version again, or use another data directory",
        )
    if known:
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        migrations.apply(database)
