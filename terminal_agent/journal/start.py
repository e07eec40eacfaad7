"""Opening the journal of a data directory, whatever state it is in, and saying what happened to it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.database import Database, JournalFailed
from terminal_agent.journal.mark import Tally
from terminal_agent.journal.opening import (
    Damaged,
    Found,
    IndexesDiffer,
    Past,
    folders_aside,
    judge,
    look,
    move_aside,
    note_suspicion,
    rebuild_indexes,
    suspect_of,
)
from terminal_agent.journal.salvage import Salvage, salvage
from terminal_agent.journal.staff import named_file
from terminal_agent.ports import Clock


class UnsureName(str):
    """A terminal's name for a journal that has none yet: one that has keeps its own, and its install epoch."""

    __slots__ = ()


@dataclass(frozen=True)
class Start:
    """An open database and its past. ``detail`` is what a person is told of it, ``salvage`` what an older file gave,
    ``aside`` the folder that was moved to, and ``difference`` what was wrong with indexes that were made anew."""

    database: Database
    past: Past
    found: Found = Found()
    detail: str = ""
    salvage: Salvage = field(default_factory=Salvage)
    aside: Path | None = None
    difference: str | None = None


def start(path: Path, mark: Tally | None, clock: Clock) -> Start:
    """Open ``path``; a damaged file is moved aside and a new one begun. Raises AgentError for a file that cannot be
    used now, and is as good as it was: locked, out of reach, of a newer version, on a disk that is full."""
    try:
        database, found, reason, difference = _open(path, mark, clock)
        suspect_of(path).unlink(missing_ok=True)
    except sqlite3.Error as error:
        raise JournalFailed(error, path.parent) from error
    except OSError as error:
        message = f"the journal {path} cannot be used: {error.strerror}"
        hint = "Check the rights of the data directory, and its disk (dmesg)"
        raise AgentError(ErrorCode.JOURNAL_FAILED, message, hint=hint) from error
    aside = folders_aside(path.parent)
    past = judge(found, mark, any_aside=bool(aside))
    if past is Past.STARTED_OVER:
        return _started_over(database, aside[-1] if aside else None, reason)
    return Start(database, past, found, _detail_of_copy(found) if past is Past.RESTORED else "", difference=difference)


def _open(path: Path, mark: Tally | None, clock: Clock) -> tuple[Database, Found, str | None, str | None]:
    """The database, what its file said before, the damage of the file that was moved aside in its place, and what was
    wrong with the indexes that were made anew."""
    try:
        found, difference = _looked_at(path, mark)
        return _connect(path), found, None, difference
    except Damaged as damage:
        move_aside(path, clock.now())
        return Database(path), Found(), str(damage), None


def _looked_at(path: Path, mark: Tally | None) -> tuple[Found, str | None]:
    """An index holds nothing that its table does not: one that differs is made anew, and nothing is lost."""
    try:
        return look(path, mark), None
    except IndexesDiffer as difference:
        rebuild_indexes(path)
        note_suspicion(path)  # look as thoroughly again
        return look(path, mark), str(difference)


def _connect(path: Path) -> Database:
    """Raises :class:`Damaged` for what shows only when the file is opened for writing."""
    try:
        return Database(path)
    except JournalFailed as problem:
        if problem.damaged:
            raise Damaged(str(problem.__cause__)) from problem
        raise


def _started_over(database: Database, aside: Path | None, reason: str | None) -> Start:
    happened = "the journal was gone" if reason is None else f"the journal was damaged ({reason})"
    if aside is None:
        words, kept = [f"{happened}; a new one was begun"], Salvage()
    else:
        kept = salvage(aside / database.path.name)
        words = [
            f"{happened}; a new one was begun",
            f"the old one is kept in {aside}",
            f"{len(kept.events)} of its events wait for the CRM again",
            "how many sales were in doubt in it is not known" if kept.in_doubt is None else "",
            f"{kept.in_doubt} sales in doubt stayed behind in it" if kept.in_doubt else "",
            f"{len(kept.tokens)} paired programs and {len(kept.cashiers)} cashiers were read in it: compare with "
            "terminal-agent till tokens and till cashier list"
            if kept.tokens or kept.cashiers
            else "",
        ]
    if named_file(database.path.parent).exists() and not kept.cashiers:
        words.append("who may sign in is lost: no page sells until somebody is named (till cashier add)")
    return Start(database, Past.STARTED_OVER, detail="; ".join(filter(None, words)), salvage=kept, aside=aside)


def _detail_of_copy(found: Found) -> str:
    if found.copied_at is not None:
        return f"a backup made at {found.copied_at} was put back"
    return "the journal is older than the one last used here: a copy was put back, or the disk lost its end"
