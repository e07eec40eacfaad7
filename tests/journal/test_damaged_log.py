"""A write-ahead log that is torn, garbage, or without its database: what stands in it is not lost unseen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from terminal_agent.journal.alarms import AlarmCode
from terminal_agent.journal.events import OutboxState
from terminal_agent.journal.journal import JOURNAL_FILE
from terminal_agent.journal.wal import is_readable
from tests.journal.damage import MANY_BYTES, PAGE, OpenJournal, killed, overwrite, used, wal_of, without_audit


@pytest.fixture
def epoch_of_killed(file: Path) -> str:
    """A process recorded 20 events and was killed: they stand in the write-ahead log alone. Gives their epoch."""
    return killed(file)


def test_the_log_of_a_killed_process_is_read_and_nothing_is_alarmed(
    open_journal: OpenJournal, file: Path, epoch_of_killed: str
) -> None:
    assert is_readable(wal_of(file))
    journal = open_journal()
    assert journal.events.install_epoch == epoch_of_killed
    assert journal.position() == 20
    assert journal.standing_alarms() == []


def test_a_log_of_garbage_with_sales_in_it_is_moved_aside_with_its_database(
    open_journal: OpenJournal, file: Path, epoch_of_killed: str
) -> None:
    garbage = os.urandom(wal_of(file).stat().st_size)
    wal_of(file).write_bytes(garbage)
    journal = open_journal()
    (aside,) = file.parent.glob("damaged-*")
    assert wal_of(aside / JOURNAL_FILE).read_bytes() == garbage, "the evidence is as it was found"
    assert [alarm.code for alarm in journal.alarms.standing()] == [AlarmCode.STARTED_OVER]
    assert "write-ahead log" in journal.alarms.standing()[0].detail
    assert journal.events.install_epoch != epoch_of_killed


def test_a_log_whose_end_is_garbage_has_lost_sales_and_is_moved_aside(
    open_journal: OpenJournal, file: Path, epoch_of_killed: str
) -> None:
    size = wal_of(file).stat().st_size
    overwrite(wal_of(file), size // 2, os.urandom(size // 2))
    log = wal_of(file).read_bytes()
    journal = open_journal()
    (aside,) = file.parent.glob("damaged-*")
    assert wal_of(aside / JOURNAL_FILE).read_bytes() == log, "the evidence is as it was found"
    assert 0 < journal.events.count(OutboxState.PENDING) < 20
    assert [alarm.code for alarm in journal.alarms.standing()] == [AlarmCode.STARTED_OVER]
    assert journal.events.install_epoch != epoch_of_killed, "the sequences that were lost are not given out again"


def test_a_log_that_never_came_to_hold_a_sale_is_no_damage(open_journal: OpenJournal, file: Path) -> None:
    """A power cut can leave a log of zeros, made for a commit that was never acknowledged."""
    epoch = used(open_journal)
    wal_of(file).write_bytes(bytes(PAGE))
    journal = open_journal()
    assert journal.events.install_epoch == epoch
    assert journal.standing_alarms() == []


def test_a_log_without_its_database_is_kept(open_journal: OpenJournal, file: Path, epoch_of_killed: str) -> None:
    log = wal_of(file).read_bytes()
    file.unlink()
    journal = open_journal()
    (aside,) = file.parent.glob("damaged-*")
    assert wal_of(aside / JOURNAL_FILE).read_bytes() == log
    assert [alarm.code for alarm in journal.alarms.standing()] == [AlarmCode.STARTED_OVER]


def test_a_database_whose_pages_all_stand_in_its_log_has_lost_nothing(
    open_journal: OpenJournal, file: Path, epoch_of_killed: str
) -> None:
    overwrite(file, 0, os.urandom(file.stat().st_size))
    journal = open_journal()
    assert journal.events.install_epoch == epoch_of_killed
    assert journal.position() == 20
    assert journal.standing_alarms() == []


def test_a_damaged_database_is_moved_aside_together_with_its_log(open_journal: OpenJournal, file: Path) -> None:
    epoch = killed(file, folded_after=15)
    log = wal_of(file).read_bytes()
    without_audit(file)
    damaged = file.read_bytes()
    journal = open_journal()
    (aside,) = file.parent.glob("damaged-*")
    assert (aside / JOURNAL_FILE).read_bytes() == damaged
    assert wal_of(aside / JOURNAL_FILE).read_bytes() == log
    batch = journal.events.next_batch(100, MANY_BYTES)
    assert [(e.install_epoch, e.sequence) for e in batch] == [(epoch, n) for n in range(1, 21)]
