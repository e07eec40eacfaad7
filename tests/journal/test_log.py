"""One bad sector in the write-ahead log: SQLite stops there without a word, and would write over what stands behind."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from terminal_agent.journal import Journal, wal
from terminal_agent.journal.alarms import AlarmCode
from terminal_agent.journal.events import OutboxState
from terminal_agent.journal.journal import JOURNAL_FILE
from terminal_agent.journal.mark import MARK_FILE, Mark, Tally
from terminal_agent.journal.opening import log_of
from tests.journal.support import event, event_id

OpenJournal = Callable[..., Journal]
SALES = 60
SECTOR = 512
FRAME = wal.FRAME_HEADER_BYTES + 4096
REPOSITORY = Path(__file__).parents[2]
KILLED = """
import os, signal, sys
from pathlib import Path
from terminal_agent.journal import Journal
from tests.journal.support import CountedIds, ManualClock, event
journal = Journal(Path(sys.argv[1]), "till-1", "IRR", ManualClock(), CountedIds(1000))
for number in range(1, int(sys.argv[2]) + 1):
    with journal.transaction():
        journal.events.append(event(number, note="x" * 300))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """60 sales in the log of a process that was killed."""
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(SALES)], cwd=REPOSITORY)
    assert ended.returncode == -signal.SIGKILL
    return log_of(tmp_path / JOURNAL_FILE)


def frames_of(log: Path) -> int:
    return (log.stat().st_size - wal.HEADER_BYTES) // FRAME


def spoil(log: Path, at: int, size: int = SECTOR) -> None:
    with log.open("r+b") as opened:
        opened.seek(at)
        opened.write(os.urandom(size))


def last_commits(log: Path) -> list[int]:
    """Where the frames begin that end a commit."""
    content = log.read_bytes()
    starts = range(wal.HEADER_BYTES, len(content), FRAME)
    return [at for at in starts if any(content[at + 4 : at + 8])]


def waiting(journal: Journal) -> set[str]:
    return {entry.event_id for entry in journal.events.entries(OutboxState.PENDING, 1000)}


@pytest.mark.parametrize("eighth", range(8))
def test_the_sales_behind_a_bad_sector_of_the_log_are_kept(open_journal: OpenJournal, log: Path, eighth: int) -> None:
    spoil(log, log.stat().st_size * eighth // 8 // SECTOR * SECTOR)
    evidence = log.read_bytes()
    journal = open_journal()
    for number in range(100, 100 + SALES):
        with journal.transaction():
            journal.events.append(event(number, note="x" * 300))
    known = sum(event_id(number) in waiting(journal) for number in range(1, SALES + 1))
    assert known >= SALES - 1, "one, where the only copy of its page is what was lost"
    (aside,) = log.parent.glob("damaged-*")
    assert (aside / log.name).read_bytes() == evidence
    assert [alarm.code for alarm in journal.alarms.standing()] == [AlarmCode.STARTED_OVER]


def test_a_power_cut_that_took_the_mark_with_it_hides_no_damage(open_journal: OpenJournal, log: Path) -> None:
    """The mark is written in passing, and may lag by many sales after a power cut."""
    spoil(log, log.stat().st_size // 2)
    (log.parent / MARK_FILE).unlink()
    Mark(log.parent).write(Tally(1, 1))
    assert len(waiting(open_journal())) >= SALES - 1


def test_the_one_commit_that_a_power_cut_tore_is_no_damage(open_journal: OpenJournal, log: Path) -> None:
    """It was never told, so the mark does not know of it either."""
    (log.parent / MARK_FILE).unlink()
    Mark(log.parent).write(Tally(1, SALES - 1))
    spoil(log, last_commits(log)[-2] + FRAME)
    journal = open_journal()
    assert journal.standing_alarms() == []
    assert journal.position() == SALES - 1


def test_a_log_of_which_the_mark_knows_more_is_moved_aside(open_journal: OpenJournal, log: Path) -> None:
    spoil(log, last_commits(log)[-1], wal.FRAME_HEADER_BYTES)
    journal = open_journal()
    assert [alarm.code for alarm in journal.alarms.standing()] == [AlarmCode.STARTED_OVER]
    assert len(waiting(journal)) == SALES, "the frame's own header was lost, and what it holds was not"


def test_commits_out_of_reach_are_those_that_sqlite_does_not_show(tmp_path: Path, log: Path) -> None:
    commits, content = last_commits(log), log.read_bytes()
    assert wal.out_of_reach(log) == wal.OutOfReach()
    for frame in range(0, frames_of(log), 53):
        begins = wal.HEADER_BYTES + frame * FRAME
        for at in (begins, begins + 16, begins + wal.FRAME_HEADER_BYTES + 2000):
            spoiled = bytearray(content)
            spoiled[at] ^= 1
            copy = tmp_path / "copy"
            shutil.copy(tmp_path / JOURNAL_FILE, copy)
            log_of(copy).write_bytes(spoiled)
            rest = wal.out_of_reach(log_of(copy))
            with closing(sqlite3.connect(f"file:{copy}?mode=ro", uri=True)) as connection:
                connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
                pages = connection.execute("PRAGMA page_count").fetchone()[0]
            reached = commits[len(commits) - rest.commits - 1] if rest.commits < len(commits) else None
            assert rest.commits == sum(commit >= begins for commit in commits)
            assert reached is None or pages == int.from_bytes(content[reached + 4 : reached + 8], "big")
            log_of(copy).unlink()
            copy.with_name("copy-shm").unlink(missing_ok=True)


def test_what_an_older_log_left_behind_the_end_is_no_damage(open_journal: OpenJournal, log: Path) -> None:
    """A log that begins again keeps its length, and behind its end the frames of before."""
    journal = open_journal()
    journal._database.query("PRAGMA wal_checkpoint(RESTART)")
    with journal.transaction():
        journal.events.append(event(200))
    begun_again = log.read_bytes()
    assert wal.out_of_reach(log).frames > 0
    assert wal.out_of_reach(log).commits == 0
    journal.close()
    log.write_bytes(begun_again)
    journal = open_journal()
    assert journal.standing_alarms() == []
    assert journal.position() == SALES + 1
