"""All that is particular to SQLite: where the file is, how it is opened, how a transaction begins."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event

from terminal_agent.crm.mark import Mark

FILE_NAME = "crm.sqlite3"
BUSY_TIMEOUT_S = 30

# A rollback journal, not WAL: the server and the administration commands are several connections on one file, and WAL
# can corrupt it before SQLite 3.51.3. EXTRA also syncs the directory: DELETE with FULL may lose the last commit.
_JOURNAL_MODE = "delete"
_SYNCHRONOUS_EXTRA = 3


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
    synchronous = cursor.execute("PRAGMA synchronous").fetchone()[0]
    cursor.close()
    if (mode, synchronous) != (_JOURNAL_MODE, _SYNCHRONOUS_EXTRA):
        raise RuntimeError(f"SQLite refused durability: journal_mode={mode} synchronous={synchronous}")


def _begin(connection: Connection) -> None:
    # A deferred transaction that turns to writing fails at once when another one wrote meanwhile.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
