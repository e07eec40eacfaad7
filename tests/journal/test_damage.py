"""A damaged journal is moved aside, never deleted, and selling goes on; what is merely out of reach is left alone."""

from __future__ import annotations

import errno
import os
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.alarms import AlarmCode
from terminal_agent.journal.events import OutboxState
from terminal_agent.journal.intents import CheckoutState
from terminal_agent.journal.journal import JOURNAL_FILE, SALVAGE_DUE
from terminal_agent.journal.wal import HEADER_BYTES
from tests.journal.damage import MANY_BYTES, PAGE, OpenJournal, checkout, overwrite, used, without_audit
from tests.journal.support import ManualClock, event, event_id


def not_a_database(file: Path) -> None:
    file.write_bytes(b"these are the takings of last year\n" * 100)


def without_header(file: Path) -> None:
    overwrite(file, 0, os.urandom(100))


def without_first_page(file: Path) -> None:
    overwrite(file, 0, bytes(PAGE))


def with_garbage_pages(file: Path) -> None:
    for page in range(2, file.stat().st_size // PAGE, 3):
        overwrite(file, page * PAGE, os.urandom(PAGE))


def cut_off(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2 + 17)


def of_another_program(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as other, other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")


DAMAGES = [not_a_database, without_header, without_first_page, with_garbage_pages, cut_off, of_another_program]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_journal_is_moved_aside_and_selling_goes_on_under_a_new_epoch(
    open_journal: OpenJournal, file: Path, damage: Callable[[Path], None]
) -> None:
    epoch = used(open_journal)
    damage(file)
    damaged = file.read_bytes()
    journal = open_journal()
    (aside,) = file.parent.glob("damaged-*")
    assert (aside / JOURNAL_FILE).read_bytes() == damaged, "the evidence is as it was found"
    assert journal.events.install_epoch != epoch
    with journal.transaction():
        assert journal.events.append(event(500)) == 1
    (alarm,) = journal.alarms.standing()
    assert alarm.code is AlarmCode.STARTED_OVER
    assert str(aside) in alarm.detail
    assert journal.knowledge_lost
    audited = journal._database.query("SELECT detail FROM audit WHERE action = 'journal.started_over'")
    assert str(aside) in audited[0]["detail"]
    assert journal.events.broken_link() is None


def test_the_alarm_stands_until_it_is_acknowledged(open_journal: OpenJournal, file: Path) -> None:
    used(open_journal)
    without_header(file)
    open_journal().close()
    journal = open_journal()
    assert journal.health()["state"] == "started_over"
    assert [alarm["code"] for alarm in journal.health()["alarms"]] == ["started_over"]
    assert journal.acknowledge_alarms() == 1
    assert journal.health()["state"] == "ok"
    journal.close()
    assert open_journal().alarms.standing() == []


def test_a_second_damage_gets_a_folder_of_its_own(open_journal: OpenJournal, file: Path) -> None:
    used(open_journal)
    for _ in range(3):
        without_header(file)
        open_journal().close()
    assert len(list(file.parent.glob(f"damaged-*/{JOURNAL_FILE}"))) == 3


def test_the_newest_damage_is_salvaged_though_the_clock_is_behind(
    open_journal: OpenJournal, file: Path, clock: ManualClock
) -> None:
    """An empty battery, and the PC starts years ago; the folders of a version before were not numbered."""
    (file.parent / "damaged-20261121T093000Z-2").mkdir()
    open_journal().close()
    for days_back, sold in ((0, 10), (9000, 20), (3, 30)):
        journal = open_journal()
        with journal.transaction():
            for number in range(1, sold + 1):
                journal.events.append(event(1000 * sold + number, note="x" * 300))
            journal.checkouts.begin(checkout(sold))
        journal.close()
        without_header(file)
        clock.advance(-days_back * 86400)
    journal = open_journal()
    assert journal.events.count(OutboxState.PENDING) == 10 + 20 + 30


def test_a_journal_that_is_gone_is_told_too(open_journal: OpenJournal, file: Path) -> None:
    epoch = used(open_journal)
    file.unlink()
    journal = open_journal()
    (alarm,) = journal.alarms.standing()
    assert "was gone" in alarm.detail
    assert journal.events.install_epoch != epoch


def test_a_crash_after_moving_aside_does_not_hide_what_happened(open_journal: OpenJournal, file: Path) -> None:
    """Between moving the old file and beginning the new one nothing is on disk but the folder and the mark."""
    used(open_journal)
    (file.parent / "damaged-20261122T093000Z").mkdir()
    file.rename(file.parent / "damaged-20261122T093000Z" / JOURNAL_FILE)
    journal = open_journal()
    assert [alarm.code for alarm in journal.alarms.standing()] == [AlarmCode.STARTED_OVER]
    assert journal.events.count(OutboxState.PENDING) == 40, "and what it held is salvaged all the same"


@pytest.mark.parametrize("damage", [without_header, without_first_page, with_garbage_pages])
def test_unsent_events_that_are_still_sound_go_back_into_the_queue_byte_for_byte(
    open_journal: OpenJournal, file: Path, damage: Callable[[Path], None]
) -> None:
    epoch = used(open_journal)
    journal = open_journal()
    before = {e.event_id: (e.install_epoch, e.sequence, e.body) for e in journal.events.entries(None, 1000)}
    journal.close()
    damage(file)
    journal = open_journal()
    batch = journal.events.next_batch(1000, MANY_BYTES)
    salvaged = {e.event_id: (e.install_epoch, e.sequence, e.body) for e in batch}
    unsent = {name: bytes_ for name, bytes_ in salvaged.items() if name in before}
    assert unsent
    assert unsent == {name: before[name] for name in unsent}
    assert {e.install_epoch for e in batch} == {epoch}
    assert [e.sequence for e in batch] == sorted(e.sequence for e in batch)
    assert journal.events.unsound(batch) == []
    assert journal.events.broken_link() is None
    assert f"{len(batch)} of its events" in journal.alarms.standing()[0].detail


def test_where_the_outbox_can_be_read_only_what_was_not_acknowledged_is_sent_again(
    open_journal: OpenJournal, file: Path
) -> None:
    used(open_journal, events=400, acknowledged=390)
    without_audit(file)
    journal = open_journal()
    assert [e.sequence for e in journal.events.next_batch(1000, MANY_BYTES)] == list(range(391, 401))
    assert "1 sales in doubt" in journal.alarms.standing()[0].detail


def test_receipts_of_a_damaged_journal_are_known_again(open_journal: OpenJournal, file: Path) -> None:
    used(open_journal)
    without_audit(file)
    journal = open_journal()
    known = journal.checkouts.by_receipt("purchase", "R-7")
    assert known is not None
    assert (known.state, known.result["points_earned"]) == (CheckoutState.DONE, 5)
    assert journal.checkouts.by_receipt("purchase", "R-1000") is None, "one in doubt stays where it can be examined"
    assert journal.checkouts.redeemed_offline_today() == 60 * 3, "the day's limit still counts"


def test_an_event_whose_bytes_were_changed_is_not_salvaged(open_journal: OpenJournal, file: Path) -> None:
    used(open_journal)
    content = file.read_bytes()
    at = content.rindex(b'"earned":5', 0, content.index(b'"id":"%b"' % event_id(30).encode()))
    overwrite(file, at, b'"earned":9')
    without_first_page(file)
    journal = open_journal()
    salvaged = [entry.sequence for entry in journal.events.next_batch(1000, MANY_BYTES)]
    assert 30 not in salvaged
    assert {29, 31} <= set(salvaged)


def test_salvaging_gives_way_to_selling_where_there_is_no_room(
    open_journal: OpenJournal, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from terminal_agent.journal import start
    from terminal_agent.journal.database import Database

    used(open_journal, events=300, acknowledged=0)
    without_header(file)

    class Cramped(Database):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self.query(f"PRAGMA max_page_count={self.query('PRAGMA page_count')[0][0] + 20}")

    monkeypatch.setattr(start, "Database", Cramped)
    journal = open_journal()
    assert "no room" in journal.alarms.standing()[0].detail
    assert journal.events.count(OutboxState.PENDING) == 0
    with journal.transaction():
        assert journal.events.append(event(900)) == 1
    journal.close()
    monkeypatch.undo()
    assert open_journal().events.count(OutboxState.PENDING) == 301, "put back at the next start, when there is room"
    assert open_journal().events.count(OutboxState.PENDING) == 301


@pytest.mark.parametrize("unread", ["FROM outbox", "FROM events", "FROM checkouts"])
def test_what_could_not_be_read_for_a_moment_is_salvaged_at_the_next_start(
    open_journal: OpenJournal, file: Path, monkeypatch: pytest.MonkeyPatch, unread: str
) -> None:
    used(open_journal, events=30, acknowledged=10)
    without_audit(file)
    plain = sqlite3.connect

    class Failing(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if "damaged-" in self.execute_plainly("PRAGMA database_list").fetchone()[2] and unread in sql:
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR
                raise error
            return super().execute(sql, parameters)

        def execute_plainly(self, sql: str) -> sqlite3.Cursor:
            return super().execute(sql)

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *values, **options: plain(*values, factory=Failing, **options))
        open_journal().close()
    assert list(file.parent.glob("damaged-*"))
    journal = open_journal()
    waiting = {entry.event_id for entry in journal.events.next_batch(1000, MANY_BYTES)}
    assert {event_id(number) for number in range(11, 31)} <= waiting
    assert journal.checkouts.by_receipt("purchase", "R-7") is not None
    assert journal.meta(SALVAGE_DUE) is None


def test_a_journal_that_is_locked_is_not_damaged(open_journal: OpenJournal, file: Path) -> None:
    used(open_journal)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("CREATE TABLE mine (x)")
        with pytest.raises(AgentError, match="locked") as told:
            open_journal()
    assert told.value.code is ErrorCode.JOURNAL_FAILED
    assert file.exists()
    assert list(file.parent.glob("damaged-*")) == []


def test_a_path_that_cannot_be_opened_is_not_damaged(open_journal: OpenJournal, file: Path) -> None:
    file.mkdir()
    with pytest.raises(AgentError) as told:
        open_journal()
    assert told.value.code is ErrorCode.JOURNAL_FAILED
    assert file.is_dir()
    assert list(file.parent.glob("damaged-*")) == []


def test_a_journal_of_a_newer_version_is_not_damaged(open_journal: OpenJournal, file: Path) -> None:
    used(open_journal)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DROP TABLE outbox")  # a later version may keep it elsewhere
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) "
            "VALUES ('terminal_agent.journal', 'm999_later', '')"
        )
    with pytest.raises(AgentError, match="newer version"):
        open_journal()
    assert list(file.parent.glob("damaged-*")) == []


def test_damage_that_shows_only_when_the_file_is_opened_for_writing_is_moved_aside_too(
    open_journal: OpenJournal, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every start would fail in the same way."""
    from terminal_agent.journal import database

    used(open_journal)
    migrate, failures = database._migrate, [sqlite3.DatabaseError("malformed")]
    failures[0].sqlite_errorcode = sqlite3.SQLITE_CORRUPT

    def failing_once(connection: sqlite3.Connection) -> None:
        if failures:
            raise failures.pop()
        migrate(connection)

    monkeypatch.setattr(database, "_migrate", failing_once)
    journal = open_journal()
    assert [alarm.code for alarm in journal.alarms.standing()] == [AlarmCode.STARTED_OVER]
    assert len(list(file.parent.glob(f"damaged-*/{JOURNAL_FILE}"))) == 1


def test_damage_that_shows_while_the_journal_is_in_use_is_reported_and_found_at_the_next_start(
    open_journal: OpenJournal, file: Path
) -> None:
    used(open_journal)
    journal = open_journal()
    reported: list[AgentError] = []
    journal.when_damaged(reported.append)
    with_garbage_pages(file)
    with pytest.raises(AgentError, match="damaged") as told:
        journal._database.query("SELECT body FROM events ORDER BY rowid")
    assert told.value.code is ErrorCode.JOURNAL_FAILED
    assert "again" in told.value.hint
    assert reported == [told.value]
    journal.close()
    assert [alarm.code for alarm in open_journal().alarms.standing()] == [AlarmCode.STARTED_OVER]


def test_a_journal_whose_first_page_was_not_finished_is_begun_anew(
    tmp_path: Path, file: Path, open_journal: OpenJournal
) -> None:
    """What a power cut leaves while a journal is made: its first page, the rollback journal that undoes it, a log."""
    model = tmp_path / "model"
    with closing(sqlite3.connect(model)) as making:
        making.execute("PRAGMA journal_mode=WAL")
        making.execute("CREATE TABLE t (n)")
        making.commit()
        log = model.with_name("model-wal").read_bytes()
        file.write_bytes(model.read_bytes()[:PAGE])
        file.with_name(file.name + "-wal").write_bytes(log[:HEADER_BYTES])
    undo_to_nothing = struct.pack(">8s5I", bytes.fromhex("D9D505F920A163D7"), 0, 1, 0, 512, PAGE)
    file.with_name(file.name + "-journal").write_bytes(undo_to_nothing.ljust(512, b"\0"))
    journal = open_journal()
    assert journal.alarms.standing() == []
    assert not list(tmp_path.glob("damaged-*"))
    with journal.transaction():
        assert journal.events.append(event(1)) == 1


def test_the_disk_that_damaged_the_journal_may_fail_while_it_is_salvaged(
    open_journal: OpenJournal, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used(open_journal, events=600, acknowledged=0)
    without_header(file)
    an_event = file.read_bytes().index(b'{"data":', 100 * PAGE)
    first_bad, plain = an_event - an_event % PAGE, os.pread

    def failing(handle: int, size: int, at: int) -> bytes:
        """Like a bad sector: what stands before it is read, then nothing."""
        if at <= first_bad < at + size and "damaged-" in os.readlink(f"/proc/self/fd/{handle}"):
            if at == first_bad:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            size = first_bad - at
        return plain(handle, size, at)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", failing)
        journal = open_journal()
        assert 580 <= journal.events.count(OutboxState.PENDING) < 600, "all but what the bad page held"
        assert journal.meta(SALVAGE_DUE) is not None
        journal.close()
    journal = open_journal()
    assert journal.events.count(OutboxState.PENDING) == 600, "and that too once it can be read"
    assert journal.meta(SALVAGE_DUE) is None


def test_a_damaged_file_that_cannot_even_be_opened_stops_no_start(
    open_journal: OpenJournal, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used(open_journal)
    without_header(file)
    plain = Path.open

    def failing(self: Path, *values: Any, **options: Any) -> Any:
        if "damaged-" in str(self):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return plain(self, *values, **options)

    monkeypatch.setattr(Path, "open", failing)
    journal = open_journal()
    assert [alarm.code for alarm in journal.alarms.standing()] == [AlarmCode.STARTED_OVER]
    assert journal.meta(SALVAGE_DUE) is not None, "tried again at the next start"
