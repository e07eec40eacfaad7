"""A copy that is put back gets a new install epoch, whoever made it and however; nothing minted before changes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from terminal_agent.errors import AgentError
from terminal_agent.journal import Journal
from terminal_agent.journal.alarms import AlarmCode
from terminal_agent.journal.events import OutboxState
from terminal_agent.journal.mark import MARK_FILE, SLOT_BYTES, Mark, Tally
from terminal_agent.journal.opening import Found, Past, judge
from tests.journal.support import event, event_id

OpenJournal = Callable[..., Journal]
MANY_BYTES = 1 << 20


def sell(journal: Journal, *numbers: int) -> None:
    for number in numbers:
        with journal.transaction():
            journal.events.append(event(number))


def sold(open_journal: OpenJournal, *numbers: int) -> str:
    """Open, sell, close; gives the install epoch."""
    journal = open_journal()
    sell(journal, *numbers)
    journal.close()
    return journal.events.install_epoch


def put_back(copy: Path, file: Path) -> None:
    for old in file.parent.glob(f"{file.name}*"):
        old.unlink()
    shutil.copy(copy, file)


def codes(journal: Journal) -> list[AlarmCode]:
    return [alarm.code for alarm in journal.alarms.standing()]


def test_a_backup_that_is_put_back_goes_on_under_a_new_epoch(
    open_journal: OpenJournal, file: Path, tmp_path: Path
) -> None:
    journal = open_journal()
    sell(journal, 1, 2)
    epoch = journal.events.install_epoch
    minted = [(e.event_id, e.sequence, e.body) for e in journal.events.entries(None, 10)]
    copy = tmp_path / "copy.sqlite3"
    journal.back_up(copy)
    journal.close()
    put_back(copy, file)
    journal = open_journal()
    assert codes(journal) == [AlarmCode.RESTORED]
    assert "2026-11-22T09:30:00.000Z" in journal.alarms.standing()[0].detail
    assert journal.knowledge_lost
    assert journal.events.install_epoch != epoch
    assert [(e.event_id, e.sequence, e.body) for e in journal.events.entries(None, 10)] == minted
    sell(journal, 3)
    assert [(e.install_epoch, e.sequence) for e in journal.events.next_batch(10, MANY_BYTES)] == [
        (epoch, 1),
        (epoch, 2),
    ]
    with journal.transaction():
        for number in (1, 2):
            journal.events.settle(event_id(number), OutboxState.ACKNOWLEDGED, None)
    assert [e.sequence for e in journal.events.next_batch(10, MANY_BYTES)] == [1]
    assert journal.events.broken_link() is None
    after = journal.events.install_epoch
    journal.close()
    assert open_journal().events.install_epoch == after, "once is enough"


@pytest.mark.parametrize("sold_since", [(), (3, 4)])
def test_an_old_file_copied_back_by_hand_is_told_by_its_mark(
    open_journal: OpenJournal, file: Path, tmp_path: Path, sold_since: tuple[int, ...]
) -> None:
    """Also where nothing was sold since: the hotlist may have changed."""
    epoch = sold(open_journal, 1, 2)
    shutil.copy(file, tmp_path / "copy")
    journal = open_journal()
    with journal.transaction():
        journal.knowledge.set_hotlist("1", True, None)
    sell(journal, *sold_since)
    journal.close()
    put_back(tmp_path / "copy", file)
    journal = open_journal()
    assert codes(journal) == [AlarmCode.RESTORED]
    assert journal.events.install_epoch != epoch
    assert journal.knowledge_lost


def test_a_copy_of_the_files_in_use_is_told_by_the_events_it_lacks(
    open_journal: OpenJournal, file: Path, tmp_path: Path
) -> None:
    """Copied and put back within one run, with its write-ahead log: the count of openings is the same."""
    journal = open_journal()
    sell(journal, 1, 2)
    for part in ("", "-wal"):
        shutil.copy(f"{file}{part}", tmp_path / f"copy{part}")
    sell(journal, 3)
    epoch = journal.events.install_epoch
    journal.close()
    put_back(tmp_path / "copy", file)
    shutil.copy(tmp_path / "copy-wal", f"{file}-wal")
    journal = open_journal()
    assert journal.position() == 2
    assert codes(journal) == [AlarmCode.RESTORED]
    assert journal.events.install_epoch != epoch


def test_an_old_file_under_a_newer_log_never_goes_on_as_if_nothing_was(
    open_journal: OpenJournal, file: Path, tmp_path: Path
) -> None:
    """The log's pages on an older database: SQLite takes it for one file, and it may even pass its check."""
    sold(open_journal, *range(1, 40))
    shutil.copy(file, tmp_path / "copy")
    journal = open_journal()
    sell(journal, *range(40, 80))
    journal._database.shrink_log()
    sell(journal, 80)
    epoch, log = journal.events.install_epoch, Path(f"{file}-wal").read_bytes()
    journal.close()
    put_back(tmp_path / "copy", file)
    Path(f"{file}-wal").write_bytes(log)
    journal = open_journal()
    told = set(codes(journal)) - {AlarmCode.INDEXES_REBUILT}
    assert told in ({AlarmCode.RESTORED}, {AlarmCode.STARTED_OVER})
    assert journal.events.install_epoch != epoch


def test_a_journal_that_came_without_its_mark_is_a_copy(open_journal: OpenJournal, file: Path) -> None:
    epoch = sold(open_journal, 1)
    (file.parent / MARK_FILE).unlink()
    journal = open_journal()
    assert codes(journal) == [AlarmCode.RESTORED]
    assert journal.events.install_epoch != epoch


def test_a_journal_in_which_nothing_was_recorded_needs_no_alarm(open_journal: OpenJournal, file: Path) -> None:
    """As after a crash between the very first commit and its mark."""
    open_journal().close()
    (file.parent / MARK_FILE).unlink()
    assert open_journal().standing_alarms() == []


def test_opening_and_closing_is_no_alarm(open_journal: OpenJournal) -> None:
    epochs = {sold(open_journal, number) for number in range(1, 6)}
    assert len(epochs) == 1
    assert codes(open_journal()) == []


def test_a_crash_between_a_commit_and_its_mark_is_no_alarm(
    open_journal: OpenJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch = sold(open_journal, 1)
    with monkeypatch.context() as patched:
        patched.setattr(Mark, "write", lambda *_: None)
        assert sold(open_journal, 2) == epoch
    journal = open_journal()
    assert codes(journal) == []
    assert journal.events.install_epoch == epoch


@pytest.mark.parametrize("torn_slot", [0, 1])
@pytest.mark.parametrize("torn", [b"\xff\xff", b"9"], ids=["garbage", "another number"])
def test_a_torn_mark_is_no_alarm(open_journal: OpenJournal, file: Path, torn_slot: int, torn: bytes) -> None:
    epoch = sold(open_journal, 1, 2, 3)
    mark = file.parent / MARK_FILE
    with mark.open("r+b") as opened:
        opened.seek(torn_slot * SLOT_BYTES)
        opened.write(torn)
    journal = open_journal()
    assert codes(journal) == []
    assert journal.events.install_epoch == epoch


def test_a_mark_that_cannot_be_written_stops_no_sale(open_journal: OpenJournal, file: Path) -> None:
    (file.parent / MARK_FILE).mkdir()
    journal = open_journal()
    sell(journal, 1)
    assert journal.position() == 1


def test_a_rolled_back_sale_does_not_move_the_mark(open_journal: OpenJournal, file: Path) -> None:
    journal = open_journal()
    sell(journal, 1)
    with pytest.raises(ZeroDivisionError), journal.transaction():  # noqa: PT012
        journal.events.append(event(2))
        raise ZeroDivisionError
    with journal.transaction():
        journal.audit("nothing")
    assert Mark(file.parent).tally == Tally(1, 1)


def test_a_commit_that_fails_does_not_move_the_mark(open_journal: OpenJournal, file: Path) -> None:
    """Else the next start would take the journal for an older copy."""
    journal = open_journal()
    sell(journal, 1)
    with pytest.raises(AgentError), journal.transaction():  # noqa: PT012
        journal.events.append(event(2))
        journal._database.execute("PRAGMA defer_foreign_keys=ON")
        journal._database.execute("INSERT INTO outbox VALUES ('no event', 99, 'pending', NULL, 0, '', 0, NULL, NULL)")
    assert Mark(file.parent).tally == Tally(1, 1)


def test_the_mark_survives_any_number_of_changes(tmp_path: Path) -> None:
    mark = Mark(tmp_path)
    assert mark.tally is None
    for position in (1, 2, 99, 100, 123_456_789):
        mark.write(Tally(1, position))
        assert Mark(tmp_path).tally == Tally(1, position)


@pytest.mark.parametrize(
    ("found", "mark", "any_aside", "past"),
    [
        (Found(), None, False, Past.NEW),
        (Found(), Tally(1, 0), False, Past.STARTED_OVER),
        (Found(), None, True, Past.STARTED_OVER),
        (Found("e", Tally(3, 9)), Tally(3, 9), False, Past.CONTINUED),
        (Found("e", Tally(3, 9)), Tally(3, 9), True, Past.CONTINUED),
        (Found("e", Tally(4, 9)), Tally(3, 12), False, Past.CONTINUED),
        (Found("e", Tally(3, 8)), Tally(3, 9), False, Past.RESTORED),
        (Found("e", Tally(2, 9)), Tally(3, 9), False, Past.RESTORED),
        (Found("e", Tally(9, 9), copied_at="2026"), Tally(3, 9), False, Past.RESTORED),
        (Found("e", Tally(1, 5)), None, False, Past.RESTORED),
        (Found("e", Tally(1, 0)), None, False, Past.NEW),
    ],
)
def test_what_a_file_and_its_mark_tell_together(found: Found, mark: Tally | None, any_aside: bool, past: Past) -> None:
    assert judge(found, mark, any_aside=any_aside) is past
