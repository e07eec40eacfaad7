"""What a journal's file is, told before anything is written to it; a damaged one is moved aside, never deleted.

The file is looked at through a read-only connection, which leaves it and its write-ahead log as they are: closing an
ordinary connection would fold the log into a damaged database and remove it.
"""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from urllib.parse import quote

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal import wal
from terminal_agent.journal.files import sync_folder
from terminal_agent.journal.mark import Tally
from terminal_agent.journal.migrations import migrations

APPLICATION_ID = 0x4C4F5941  # "LOYA", so that file(1) and we know our own
INSTALL_EPOCH = "install_epoch"
OPENED = "opened"
COPIED_AT = "copied_at"
"""A copy made by ``backup`` carries when it was made; the journal it is a copy of does not."""
ASIDE = "damaged-"
SIDE_FILES = ("", "-wal", "-shm")
SUSPECT_FILE = "journal.suspect"
DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_NOT_TO_BE_REBUILT = DAMAGE | {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_FULL}
PAGE_BYTES = 4096


class Damaged(Exception):
    """The file cannot be trusted any more; the text says why."""


class IndexesDiffer(Damaged):
    """The tables are sound, and an index of them is not what they hold."""


class Past(StrEnum):
    """What happened to the journal since it was last used here."""

    NEW = "new"
    CONTINUED = "ok"
    STARTED_OVER = "started_over"
    RESTORED = "restored"


@dataclass(frozen=True)
class Found:
    """What the file says of itself; ``epoch`` is None for one that holds nothing yet."""

    epoch: str | None = None
    tally: Tally = Tally(0, 0)
    copied_at: str | None = None


def judge(found: Found, mark: Tally | None, *, any_aside: bool) -> Past:
    """What the file and its mark tell together. ``any_aside``: a damaged journal was once moved aside here."""
    if found.epoch is None:
        return Past.STARTED_OVER if mark is not None or any_aside else Past.NEW
    if found.copied_at is not None:
        return Past.RESTORED
    if mark is None:  # the file came here without it; where nothing was recorded yet, nothing can be recorded twice
        return Past.RESTORED if found.tally.position else Past.NEW
    return Past.RESTORED if found.tally < mark else Past.CONTINUED


def look(path: Path, mark: Tally | None) -> Found:
    """Check the file and read how far it had come; after a crash, or damage met in use, also whether its indexes agree
    with its tables. Raises :class:`Damaged` or sqlite3.Error, and AgentError for a file of a newer version."""
    _undo_unfinished_making(path)
    log = log_of(path)
    left_by_crash, readable = log.exists() and log.stat().st_size > 0, wal.is_readable(log)
    if not path.exists():
        if left_by_crash:
            raise Damaged("the database is gone, its write-ahead log is there")
        return Found()
    try:
        with closing(open_read_only(path, with_wal=left_by_crash and readable)) as connection:
            _require_ours(connection)
            difference = _difference(connection, thorough=left_by_crash or suspect_of(path).exists())
            refuse_newer(connection, path)
            found = _found(connection)
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise Damaged(str(error)) from error
        raise
    if left_by_crash:
        _require_whole(log, readable=readable, behind=mark is not None and found.tally < mark)
    if difference is not None:
        raise IndexesDiffer(difference)
    return found


def _require_whole(log: Path, *, readable: bool, behind: bool) -> None:
    """Raises :class:`Damaged` for a log in which something was recorded that SQLite does not reach any more, and would
    write over. ``behind``: the database is behind its mark; where its log is whole, that is a copy put back."""
    rest = wal.out_of_reach(log)
    if behind and (rest.frames or not readable) or rest.commits > wal.MOST_COMMITS_TORN:
        raise Damaged("its write-ahead log cannot be read to its end, and sales were in it")


def log_of(database: Path) -> Path:
    """The write-ahead log that belongs to a database file."""
    return database.with_name(database.name + "-wal")


def _undo_unfinished_making(path: Path) -> None:
    """A file whose very first page was being written when everything stopped is taken back to nothing.

    Only then is there a rollback journal: later there is the log. SQLite undoes it by itself, but not when it may only
    read. A file of one page holds nothing of ours, so nothing can be lost.
    """
    rollback_journal = path.with_name(path.name + "-journal")
    if rollback_journal.exists() and path.exists() and path.stat().st_size <= PAGE_BYTES:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()


def open_read_only(path: Path, *, with_wal: bool) -> sqlite3.Connection:
    """A connection that changes neither the database nor its log. Raises sqlite3.Error."""
    how = "mode=ro" if with_wal else "immutable=1"
    connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?{how}", uri=True, isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.text_factory = as_text
    return connection


def as_text(raw: bytes) -> str:
    """What is damaged is told by its hash or its row, not by a decoder that fails its neighbours with it."""
    return raw.decode(errors="replace")


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite says that the file is damaged: not that it is locked, full, read-only or out of reach."""
    return primary_code(error) in DAMAGE


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 for an error that Python's module raised by itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _require_ours(connection: sqlite3.Connection) -> None:
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application_id != APPLICATION_ID and (application_id or tables):
        raise Damaged("it is a database of another program")


def _difference(connection: sqlite3.Connection, *, thorough: bool) -> str | None:
    """Raises :class:`Damaged` unless the tables are sound; where ``thorough``, what their indexes hold differently."""
    difference = _problem(connection, "integrity_check") if thorough else None
    problem = _problem(connection, "quick_check") if difference is not None or not thorough else None
    if problem is not None:
        raise Damaged(problem)
    return difference


def _problem(connection: sqlite3.Connection, check: str) -> str | None:
    (verdict,) = connection.execute(f"PRAGMA {check}(1)").fetchone()
    return None if verdict == "ok" else str(verdict).replace("\n", " ")


def rebuild_indexes(path: Path) -> None:
    """Make every index anew from its table, all or none. Raises :class:`Damaged` where that cannot be, because the rows
    themselves are at odds or there is no room, and sqlite3.Error for a file that cannot be written now."""
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("REINDEX")
    except sqlite3.Error as error:
        if primary_code(error) in _NOT_TO_BE_REBUILT:
            raise Damaged(str(error)) from error
        raise


def suspect_of(path: Path) -> Path:
    """The file that says that damage was met in use, which a quick check may not see."""
    return path.with_name(SUSPECT_FILE)


def note_suspicion(path: Path) -> None:
    """Have the next start look thoroughly. As far as the disk lets it."""
    with suppress(OSError):
        suspect_of(path).touch(mode=0o600)
        sync_folder(path.parent)


def refuse_newer(connection: sqlite3.Connection, path: Path) -> None:
    """Raises AgentError for a file with a migration that this version does not know."""
    if not _has_table(connection, "_sqlite_migrations"):
        return
    rows = connection.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = ?", (migrations.name,))
    if {row["name"] for row in rows} - {migration.name for migration in migrations._migrations}:
        raise AgentError(
            ErrorCode.CONFIG_INVALID,
            f"the data in {path.parent} was written by a newer version of terminal-agent",
            hint="Install that version again, or use another data directory",
        )


def _found(connection: sqlite3.Connection) -> Found:
    if not _has_table(connection, "meta"):
        return Found()
    facts = dict(connection.execute("SELECT key, value FROM meta WHERE key IN (?, ?, ?)", _FACTS).fetchall())
    position = connection.execute("SELECT max(position) FROM outbox").fetchone()[0]
    opened = facts.get(OPENED, "0")
    if not opened.isdigit():
        raise Damaged("what it says of itself cannot be read")
    return Found(facts.get(INSTALL_EPOCH), Tally(int(opened), position or 0), facts.get(COPIED_AT))


_FACTS = (INSTALL_EPOCH, OPENED, COPIED_AT)


def _has_table(connection: sqlite3.Connection, name: str) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (name,)).fetchone() is not None


def move_aside(path: Path, moment: datetime) -> Path:
    """Move the database and its side files into a new folder ``damaged-<number>-<UTC time>``; gives the folder."""
    number = 1 + max(map(_number_aside, folders_aside(path.parent)), default=0)
    folder = path.parent / f"{ASIDE}{number}-{moment:%Y%m%dT%H%M%SZ}"
    folder.mkdir(mode=0o700)
    for suffix in SIDE_FILES:
        file = path.with_name(path.name + suffix)
        if file.exists():
            os.rename(file, folder / file.name)
    sync_folder(folder)
    sync_folder(path.parent)
    return folder


def folders_aside(folder: Path) -> list[Path]:
    """Where damaged journals were moved, in that order: numbered, because a clock may have been behind."""
    return sorted((path for path in folder.glob(f"{ASIDE}*") if path.is_dir()), key=lambda x: (_number_aside(x), x))


def _number_aside(folder: Path) -> int:
    """0 for a folder of a version that did not number them."""
    match = re.match(rf"{ASIDE}(\d+)-", folder.name)
    return int(match[1]) if match else 0
