"""The journal's SQLite connection with every statement counted. The file below it is real."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

from tests.sweep.ports import Do, Port, Ports, Ways, after

CHANGES = ("INSERT", "UPDATE", "DELETE", "COMMIT")


def io_error() -> sqlite3.OperationalError:
    return _as_sqlite_says("disk I/O error", sqlite3.SQLITE_IOERR)


def disk_full() -> sqlite3.OperationalError:
    return _as_sqlite_says("database or disk is full", sqlite3.SQLITE_FULL)


def _as_sqlite_says(text: str, code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


class CountedConnection(sqlite3.Connection):
    """What ``sqlite3.connect`` gives for a file under watch."""

    ports: ClassVar[Ports]

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        return self._counted(sql, partial(super().execute, sql, parameters))

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        return self._counted(sql, partial(super().executemany, sql, parameters))

    def executescript(self, sql: str, /) -> sqlite3.Cursor:
        return self._counted(sql, partial(super().executescript, sql))

    def backup(self, *arguments: Any, **options: Any) -> None:
        self._counted("BACKUP", partial(super().backup, *arguments, **options))

    def _counted(self, sql: str, do: Do) -> Any:
        what = " ".join(sql.split()[:3])
        return self.ports.call(Port.STORE, what, do, self._ways(what))

    def _ways(self, what: str) -> Ways:
        ways: dict[str, Callable[[Do], Any]] = {"io_error": self._fail}
        if what.startswith(CHANGES):
            ways["disk_full"] = self._fill_up
        if what == "COMMIT":
            ways["committed_io_error"] = partial(after, error=io_error)
        return ways

    @staticmethod
    def _fail(_do: Do) -> Any:
        """The transaction stays open: rolling back is the program's to do."""
        raise io_error()

    def _fill_up(self, _do: Do) -> Any:
        """SQLite rolls back by itself (seen: in_transaction is false after SQLITE_FULL), and space stays short."""
        if self.in_transaction:
            super().execute("ROLLBACK")
        self.ports.break_down("disk_full", disk_full)


@contextmanager
def counted(ports: Ports, folder: Path) -> Iterator[list[sqlite3.Connection]]:
    """Inside, every SQLite file under ``folder`` that the program opens is under watch; gives what it opened."""
    plain = sqlite3.connect
    opened: list[sqlite3.Connection] = []
    counting = type("Counted", (CountedConnection,), {"ports": ports})

    def connect(database: Any, *arguments: Any, **options: Any) -> sqlite3.Connection:
        if str(folder) not in str(database):
            return plain(database, *arguments, **options)
        opened.append(counting(database, *arguments, **options))
        return opened[-1]

    with patch.object(sqlite3, "connect", connect):
        yield opened
