"""One SQLite connection, opened the one way that survives a power cut.

``secure_delete``: what a member had erased is overwritten, not only forgotten.
WAL with ``synchronous=FULL`` (NORMAL loses every commit since the last checkpoint at a power cut), set and read back;
``BEGIN IMMEDIATE`` for every write; exactly one connection, because SQLite before 3.51.3 can corrupt a WAL file with
two. A lock lets the daemon's threads take turns on it. https://www.sqlite.org/pragma.html#pragma_synchronous
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlite_utils import Database as SqliteUtils

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.files import READ_ONLY_HINT, is_read_only
from terminal_agent.journal.migrations import migrations
from terminal_agent.journal.opening import APPLICATION_ID, DAMAGE, as_text, primary_code

SYNCHRONOUS_FULL = 2
WAL_PAGES = 1000
WAL_PAGES_WHEN_SHORT = 32
"""The log is folded into the database from this size on; small where each kilobyte is another sale."""
COPY_STEP_PAGES = 256
COPY_PAUSE_S = 0.001


class JournalFailed(AgentError):
    """SQLite said no. ``primary`` is its primary result code."""

    def __init__(self, error: sqlite3.Error, folder: Path) -> None:
        self.primary = primary_code(error)
        code, message, hint = _READ_ONLY_WORDS if _is_read_only(folder) else _WORDS.get(self.primary, _OTHER_WORDS)
        super().__init__(code, message.format(error=error, folder=folder), hint=hint.format(folder=folder))

    @property
    def no_room(self) -> bool:
        """Whether more free space may help: some file systems tell a full disk as an input/output error."""
        return self.primary in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)

    @property
    def damaged(self) -> bool:
        return self.primary in DAMAGE


def _is_read_only(folder: Path) -> bool:
    try:
        return is_read_only(folder)
    except OSError:  # then something else is wrong, and has its own words
        return False


_READ_ONLY_WORDS = (
    ErrorCode.JOURNAL_FAILED,
    "the disk of {folder} is read-only, and nothing can be recorded",
    READ_ONLY_HINT,
)
_DAMAGED_WORDS = (
    ErrorCode.JOURNAL_FAILED,
    "the journal is damaged: {error}",
    "Run the command again: the damaged file in {folder} is then moved aside and selling goes on",
)
_OTHER_WORDS = (
    ErrorCode.JOURNAL_FAILED,
    "the journal cannot be used: {error}",
    "Check the disk of {folder} (df -h, its rights, dmesg), then run the command again; what was recorded is safe",
)
_WORDS = {
    sqlite3.SQLITE_FULL: (
        ErrorCode.DISK_FULL,
        "the disk is full, and nothing more can be recorded",
        "Free some space (df -h {folder}), then run the command again; what was recorded before is safe",
    ),
    sqlite3.SQLITE_CORRUPT: _DAMAGED_WORDS,
    sqlite3.SQLITE_NOTADB: _DAMAGED_WORDS,
}


class Database:
    """The journal's connection. ``query`` reads, ``transaction`` writes; both take the one ``lock``.

    ``on_damage`` is called, from whichever thread met it, when SQLite finds the file damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.on_damage: Callable[[JournalFailed], None] = lambda _problem: None
        self.lock = threading.RLock()
        try:
            self._connection = _connect(path)
        except sqlite3.DatabaseError as error:
            raise JournalFailed(error, path.parent) from error

    def query(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """All rows of a SELECT; never a half-read cursor, which would pin the WAL."""
        with self.lock:
            try:
                return self._connection.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def one(self, sql: str, *values: Any) -> sqlite3.Row | None:
        """The first row of a SELECT."""
        rows = self.query(sql, *values)
        return rows[0] if rows else None

    def execute(self, sql: str, *values: Any) -> int:
        """One statement inside a :meth:`transaction`; gives the number of rows changed."""
        with self.lock:  # else another thread's open transaction would take this write in
            if not self._connection.in_transaction:
                raise RuntimeError("a write outside of a transaction")
            return self._connection.execute(sql, values).rowcount

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open; of this thread, where the caller holds :attr:`lock`."""
        return bool(self._connection.in_transaction)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """On disk when this returns; nothing of it when it raises. Nested use joins the outer one."""
        with self.lock:
            if self._connection.in_transaction:
                yield
                return
            try:
                yield from self._outermost()
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def _outermost(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # after a failed COMMIT too: SQLite may leave it open
                self._connection.execute("ROLLBACK")
            raise

    def shrink_log(self) -> None:
        """Fold the write-ahead log into the database and give its space back, as far as the disk lets it."""
        self.query("PRAGMA wal_checkpoint(TRUNCATE)")

    def keep_log_small(self, small: bool) -> None:
        """How large the write-ahead log may grow: as ever, or as small as it can be kept on a disk that is full."""
        self.query(f"PRAGMA wal_autocheckpoint={WAL_PAGES_WHEN_SHORT if small else WAL_PAGES}")
        self.query(f"PRAGMA journal_size_limit={0 if small else -1}")

    def copy_to(self, target: sqlite3.Connection) -> None:
        """Copy everything into ``target``, also what is committed meanwhile. A tap waits for one step at most.

        Raises sqlite3.Error, which may be about the target.
        """
        with self.lock:
            self._connection.backup(target, pages=COPY_STEP_PAGES, progress=self._give_way)

    def _give_way(self, _status: int, remaining: int, _total: int) -> None:
        if remaining:
            self.lock.release()
            threading.Event().wait(COPY_PAUSE_S)  # long enough for a thread that waits for the lock to get it
            self.lock.acquire()

    def _failed(self, error: sqlite3.Error) -> JournalFailed:
        problem = JournalFailed(error, self.path.parent)
        if problem.damaged:
            self.on_damage(problem)
        return problem

    def close(self) -> None:
        with self.lock:
            self._connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    created = not path.exists()
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.text_factory = as_text
    try:
        if created:
            path.chmod(0o600)
        _set_durable(connection)
        _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_durable(connection: sqlite3.Connection) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "mmap_size=0", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    journal_mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    synchronous = connection.execute("PRAGMA synchronous").fetchone()[0]
    if (journal_mode, synchronous) != ("wal", SYNCHRONOUS_FULL):
        raise sqlite3.DatabaseError(f"durable writes are not to be had here (journal_mode={journal_mode})")


def _migrate(connection: sqlite3.Connection) -> None:
    database = SqliteUtils(connection)
    if migrations.pending(database):
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        migrations.apply(database)
