"""A copy of the journal while it is in use: whole, checked, and recognisable as a copy when it is put back."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.database import Database
from terminal_agent.journal.files import sync_folder
from terminal_agent.journal.opening import COPIED_AT
from terminal_agent.ports import rfc3339

BACKUPS_FOLDER = "backups"
KEPT_COPIES = 7
COPY_INTERVAL = timedelta(days=1)
_COPY_NAME = re.compile(r"journal-\d{8}T\d{6}Z\.sqlite3")
"""Files of other names in that folder are the operator's own."""


@dataclass(frozen=True)
class Copy:
    """A finished copy; ``events`` ever recorded in it, ``pending`` of them still to be sent."""

    file: str
    bytes: int
    events: int
    pending: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def copy_journal(database: Database, target: Path, moment: datetime) -> Copy:
    """Write a copy to ``target``, which must not be there yet; on disk when this returns. Raises AgentError."""
    if target.exists():
        raise AgentError(
            ErrorCode.INVALID_INPUT, f"{target} is already there", hint="Give the copy a name that is not taken"
        )
    partial = target.with_name(f".{target.name}.partial")
    try:
        _forget(partial)
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            events, pending = _fill(database, partial, moment)
            _sync(partial)
            os.rename(partial, target)
        finally:
            _forget(partial)
        sync_folder(target.parent)
    except OSError as error:
        raise _not_copied(target, error.strerror or str(error)) from error
    except sqlite3.Error as error:
        raise _not_copied(target, str(error)) from error
    return Copy(str(target), target.stat().st_size, events, pending)


def _fill(database: Database, partial: Path, moment: datetime) -> tuple[int, int]:
    with closing(sqlite3.connect(partial, isolation_level=None)) as copy:
        for pragma in ("synchronous=OFF", "journal_mode=OFF"):  # it is synced once, when it is whole
            copy.execute(f"PRAGMA {pragma}").fetchall()
        database.copy_to(copy)
        copy.execute("PRAGMA journal_mode=DELETE").fetchall()  # one file, not three
        copy.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (COPIED_AT, rfc3339(moment)))
        (verdict,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(f"the copy is not sound: {verdict}")
        events = copy.execute("SELECT coalesce(max(position), 0) FROM outbox").fetchone()[0]
        pending = copy.execute("SELECT count(*) FROM outbox WHERE state = 'pending'").fetchone()[0]
        return events, pending


def _forget(partial: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        partial.with_name(partial.name + suffix).unlink(missing_ok=True)


def _sync(file: Path) -> None:
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _not_copied(target: Path, problem: str) -> AgentError:
    return AgentError(
        ErrorCode.JOURNAL_FAILED,
        f"no copy was written to {target}: {problem}",
        hint=f"Check that {target.parent} is a folder you may write to, with room for the journal",
    )


def daily_copy(folder: Path, moment: datetime) -> Path:
    """Where the copy of this moment goes; makes ``DIR/backups``. Raises AgentError."""
    backups = folder / BACKUPS_FOLDER
    try:
        backups.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder)
    except OSError as error:
        raise _not_copied(backups, error.strerror or str(error)) from error
    return backups / f"journal-{moment:%Y%m%dT%H%M%SZ}.sqlite3"


def daily_copies(folder: Path) -> list[Path]:
    """The copies that we made by ourselves, oldest first."""
    return sorted(path for path in (folder / BACKUPS_FOLDER).glob("*") if _COPY_NAME.fullmatch(path.name))


def forget_old_copies(folder: Path) -> None:
    """Remove all but the newest copies; nothing but copies that we made by ourselves."""
    for path in daily_copies(folder)[:-KEPT_COPIES]:
        path.unlink()
