"""A copy is whole, private and recognisable, and is made while sales go on."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal import Journal
from terminal_agent.journal.backup import BACKUPS_FOLDER, KEPT_COPIES
from terminal_agent.journal.database import Database
from terminal_agent.journal.events import OutboxState
from terminal_agent.journal.journal import JOURNAL_FILE
from terminal_agent.journal.space import Space
from tests.journal.support import CountedIds, ManualClock, event, event_id
from tests.small_disk import fill

OpenJournal = Callable[..., Journal]


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder on the operator's stick."""
    return tmp_path_factory.mktemp("stick")


def record(journal: Journal, first: int, last: int, **data: Any) -> None:
    with journal.transaction():
        for number in range(first, last + 1):
            journal.events.append(event(number, **data))


def rows(file: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(sql).fetchall()


def test_a_copy_is_one_private_file_and_whole(journal: Journal, outside: Path) -> None:
    record(journal, 1, 50)
    with journal.transaction():
        journal.events.settle(event_id(1), OutboxState.ACKNOWLEDGED, None)
    copy = journal.back_up(outside / "copy.sqlite3")
    assert [path.name for path in outside.iterdir()] == ["copy.sqlite3"]
    assert stat.S_IMODE((outside / "copy.sqlite3").stat().st_mode) == 0o600
    size = (outside / "copy.sqlite3").stat().st_size
    assert copy.to_json() == {"file": str(outside / "copy.sqlite3"), "bytes": size, "events": 50, "pending": 49}
    assert rows(outside / "copy.sqlite3", "PRAGMA integrity_check") == [("ok",)]
    assert rows(outside / "copy.sqlite3", "SELECT body FROM events ORDER BY 1") == rows(
        journal._database.path, "SELECT body FROM events ORDER BY 1"
    )
    assert journal.health()["last_backup_at"] == "2026-11-22T09:30:00.000Z"


def test_the_journal_itself_does_not_become_a_copy(open_journal: OpenJournal, outside: Path) -> None:
    journal = open_journal()
    record(journal, 1, 2)
    epoch = journal.events.install_epoch
    journal.back_up(outside / "copy")
    journal.close()
    journal = open_journal()
    assert journal.events.install_epoch == epoch
    assert journal.standing_alarms() == []


def test_sales_go_on_while_a_copy_is_made_and_the_copy_is_of_one_moment(
    journal: Journal, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(journal, 1, 4000, note="x" * 2000)
    sold_meanwhile, made = list[int](), threading.Event()
    sold_at_each_step: list[int] = []
    give_way = Database._give_way

    def noting(database: Database, *progress: int) -> None:
        sold_at_each_step.append(len(sold_meanwhile))
        give_way(database, *progress)

    monkeypatch.setattr(Database, "_give_way", noting)

    def sell() -> None:
        number = 10_000
        while not made.is_set():
            number += 1
            with journal.transaction():
                journal.events.append(event(number))
                journal.audit("sold", number=number)
            sold_meanwhile.append(number)

    till = threading.Thread(target=sell)
    till.start()
    try:
        copy = journal.back_up(outside / "copy")
    finally:
        made.set()
        till.join()
    assert len(sold_at_each_step) > 10
    assert len(set(sold_at_each_step)) > 3, "the till was not kept waiting for the whole copy"
    ((events,),) = rows(outside / "copy", "SELECT count(*) FROM events")
    ((audited,),) = rows(outside / "copy", "SELECT count(*) FROM audit WHERE action = 'sold'")
    assert events - 4000 == audited == copy.events - 4000
    assert rows(outside / "copy", "PRAGMA integrity_check") == [("ok",)]


def test_a_file_that_is_there_is_never_written_over(journal: Journal, outside: Path) -> None:
    for taken in (journal._database.path, outside / "copy"):
        if not taken.exists():
            taken.write_text("mine")
        before = taken.read_bytes()
        with pytest.raises(AgentError) as told:
            journal.back_up(taken)
        assert told.value.code is ErrorCode.INVALID_INPUT
        assert taken.read_bytes() == before


def test_a_copy_that_cannot_be_written_leaves_nothing(journal: Journal, outside: Path, small_disk: Path) -> None:
    record(journal, 1, 2000, note="x" * 1000)
    fill(small_disk, leave=1 << 20)
    for target in (outside / "no such folder" / "copy", small_disk / "copy"):
        with pytest.raises(AgentError) as told:
            journal.back_up(target)
        assert told.value.code is ErrorCode.JOURNAL_FAILED
        assert str(target) in told.value.message
    assert [path.name for path in small_disk.iterdir()] == ["film.mp4"]
    assert journal.health()["last_backup_at"] is None
    record(journal, 3000, 3000)


def test_a_copy_that_is_not_sound_is_not_given_out(
    journal: Journal, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(journal, 1, 200)

    def torn(database: Any, target: sqlite3.Connection) -> None:
        database._connection.backup(target)
        target.execute("PRAGMA writable_schema=ON")
        target.execute("UPDATE sqlite_schema SET rootpage = 3 WHERE name = 'events'")
        target.execute("PRAGMA schema_version=99")

    monkeypatch.setattr(type(journal._database), "copy_to", torn)
    with pytest.raises(AgentError):
        journal.back_up(outside / "copy")
    assert list(outside.iterdir()) == []


def copies(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / BACKUPS_FOLDER).iterdir())


def test_a_copy_is_made_each_day_and_the_newest_are_kept(journal: Journal, clock: ManualClock, tmp_path: Path) -> None:
    journal.keep_house()
    journal.keep_house()
    assert copies(tmp_path) == ["journal-20261122T093000Z.sqlite3"]
    mine = tmp_path / BACKUPS_FOLDER / "before-the-sale.sqlite3"
    mine.write_text("the operator's own")
    for _ in range(KEPT_COPIES + 3):
        clock.advance(timedelta(days=1).total_seconds())
        journal.keep_house()
    kept = copies(tmp_path)
    assert kept[0] == mine.name
    assert len(kept) == 1 + KEPT_COPIES
    assert kept[-1] == "journal-20261202T093000Z.sqlite3"
    assert stat.S_IMODE((tmp_path / BACKUPS_FOLDER).stat().st_mode) == 0o700


def test_a_clock_set_back_does_not_end_the_daily_copies(journal: Journal, clock: ManualClock, tmp_path: Path) -> None:
    clock.advance(timedelta(days=400).total_seconds())
    journal.keep_house()
    clock.advance(-timedelta(days=400).total_seconds())
    journal.keep_house()
    assert len(copies(tmp_path)) == 2


def test_the_daily_copy_gives_way_on_a_disk_without_room(small_disk: Path) -> None:
    journal = Journal(small_disk, "till-1", "IRR", ManualClock(), CountedIds(), Space(small_disk))
    film = fill(small_disk, leave=2 << 20)
    journal.keep_house()
    assert not (small_disk / BACKUPS_FOLDER).exists()
    os.unlink(film)
    journal.keep_house()
    assert len(copies(small_disk)) == 1
    journal.close()


def test_a_copy_can_be_opened_as_a_journal(open_journal: OpenJournal, outside: Path) -> None:
    journal = open_journal()
    record(journal, 1, 3)
    journal.back_up(outside / JOURNAL_FILE)
    opened = Journal(outside, "till-1", "IRR", ManualClock(), CountedIds(500))
    assert opened.position() == 3
    assert opened.events.install_epoch != journal.events.install_epoch
    opened.close()
