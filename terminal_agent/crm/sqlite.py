"""All that is particular to SQLite: where the file is, how it is opened, how a transaction begins and is counted."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from terminal_agent.crm import restore
from terminal_agent.crm.mark import Mark

FILE_NAME = "crm.sqlite3"
BUSY_TIMEOUT_S = 30

# A rollback journal, not WAL: the server and the administration commands are several connections on one file, and WAL
# can corrupt it before SQLite 3.51.3. EXTRA also syncs the directory: DELETE with FULL may lose the last commit.
_JOURNAL_MODE = "delete"
_SYNCHRONOUS_EXTRA = 3


class SqliteDatabase:
    """A CRM in one file. As :class:`database.Database`."""

    advice = "Restore it from a backup."
    warnings: tuple[str, ...] = ()

    def __init__(self, data_dir: Path) -> None:
        """OSError: the directory cannot be used."""
        prepare_file(data_dir)
        self.name = f"in {data_dir}"
        self._mark = Mark(data_dir)
        self._engine = make_engine(database_file(data_dir))
        # SQLite lets waiting writers poll; a lock lets the threads of one process queue up instead.
        self._turn = threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent view; what is written here is not meant to be."""
        with self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """The only writer until the block ends."""
        with self._turn, self._engine.connect() as connection:
            connection.execution_options(writes=True)
            with connection.begin():
                yield connection
                commits = restore.count_commit(connection)
            self._mark.write(commits)

    def changing_tables(self, connection: Connection) -> None:
        """A writer is alone anyway."""

    def fill(self, connection: Connection) -> None:
        """Begins to count commits."""
        restore.begin_count(connection)

    def was_put_back(self) -> bool:
        """Whether the database has counted fewer commits than its mark."""
        marked = self._mark.read()  # before the database, whose count goes up before the mark's
        with self.reading() as connection:
            return marked is None or marked > restore.counted(connection)

    def go_on(self, connection: Connection) -> None:
        """Counts on from the mark."""
        restore.set_count(connection, max(self._mark.read() or 0, restore.counted(connection)))

    def is_conflict(self, error: DBAPIError) -> bool:
        """Never: writers take turns."""
        return False

    def close(self) -> None:
        """Lets go of the file."""
        self._engine.dispose()


def database_file(data_dir: Path) -> Path:
    """Where the CRM of ``data_dir`` keeps everything."""
    return data_dir / FILE_NAME


def prepare_file(data_dir: Path) -> None:
    """Makes the directory (0700) and an empty database file (0600), so that nobody else can read secrets. OSError."""
    data_dir.mkdir(parents=True, mode=0o700, exist_ok=True)
    if not database_file(data_dir).exists():
        Mark(data_dir).begin()
    # Never opened here: closing any descriptor of the file would drop the locks SQLite holds on it in this process.
    with suppress(FileExistsError):
        os.mknod(database_file(data_dir), stat.S_IFREG | 0o600)
    database_file(data_dir).chmod(0o600)


def make_engine(path: Path) -> Engine:
    """An engine whose connections are durable and whose transactions begin where we say."""
    engine = create_engine(
        f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT_S}, hide_parameters=True, pool_size=16
    )
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver would begin transactions on its own, too late and deferred
    cursor = connection.cursor()
    mode = cursor.execute(f"PRAGMA journal_mode={_JOURNAL_MODE}").fetchone()[0]
    cursor.execute(f"PRAGMA synchronous={_SYNCHRONOUS_EXTRA}")
    cursor.execute("PRAGMA secure_delete=ON")  # what a member had erased must be gone from the file
    synchronous = cursor.execute("PRAGMA synchronous").fetchone()[0]
    cursor.close()
    if (mode, synchronous) != (_JOURNAL_MODE, _SYNCHRONOUS_EXTRA):
        raise RuntimeError(f"SQLite refused durability: journal_mode={mode} synchronous={synchronous}")


def _begin(connection: Connection) -> None:
    # A deferred transaction that turns to writing fails at once when another one wrote meanwhile.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
