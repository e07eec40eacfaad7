"""What is in the journal when a transaction returned is on disk, and nothing else is."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path, PosixPath
from typing import Any

import pytest
from sqlite_utils import Database as SqliteUtils

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal import Journal
from terminal_agent.journal.database import Database
from terminal_agent.journal.events import OutboxState
from terminal_agent.journal.journal import JOURNAL_FILE
from terminal_agent.journal.migrations import migrations
from terminal_agent.journal.opening import APPLICATION_ID
from tests.journal.support import event

OpenJournal = Callable[..., Journal]


def rows_on_disk(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """What another process would read now."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


@pytest.fixture
def database(tmp_path: Path) -> Any:
    opened = Database(tmp_path / JOURNAL_FILE)
    yield opened
    opened.close()


def set_meta(database: Database, key: str, value: str = "x") -> None:
    database.execute("INSERT INTO meta VALUES (?, ?)", key, value)


def keys(database: Database) -> list[str]:
    return [row["key"] for row in database.query("SELECT key FROM meta ORDER BY key")]


def test_the_journal_writes_ahead_and_waits_for_the_disk_at_every_commit(database: Database) -> None:
    assert database.query("PRAGMA journal_mode")[0][0] == "wal"
    assert database.query("PRAGMA synchronous")[0][0] == 2, "NORMAL loses acknowledged rows at a power cut"
    assert database.query("PRAGMA foreign_keys")[0][0] == 1
    assert database.query("PRAGMA mmap_size")[0][0] == 0


def test_a_disk_that_cannot_write_ahead_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AgentError, match="journal_mode=memory") as refused:
        Database(_NoFile("journal.sqlite3"))
    assert refused.value.code is ErrorCode.JOURNAL_FAILED


class _NoFile(PosixPath):
    """SQLite in memory knows no write-ahead log, as some network disks do not."""

    def exists(self) -> bool:
        return True

    def __fspath__(self) -> str:
        return ":memory:"


def test_the_journal_is_a_private_file_whatever_the_umask(database: Database, tmp_path: Path) -> None:
    with database.transaction():
        set_meta(database, "a")
    files = sorted(tmp_path.glob(JOURNAL_FILE + "*"))
    assert [file.name for file in files] == [JOURNAL_FILE, JOURNAL_FILE + "-shm", JOURNAL_FILE + "-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_write_outside_of_a_transaction_is_refused(database: Database) -> None:
    with pytest.raises(RuntimeError, match="outside of a transaction"):
        set_meta(database, "a")
    assert keys(database) == []


def test_a_write_of_one_thread_never_slips_into_the_transaction_of_another(database: Database) -> None:
    problems: list[BaseException] = []

    def intrude() -> None:
        try:
            set_meta(database, "intruder")
        except RuntimeError as problem:
            problems.append(problem)

    intruder = threading.Thread(target=intrude)
    with database.transaction():
        intruder.start()
        intruder.join(0.2)
        set_meta(database, "mine")
    intruder.join()
    assert keys(database) == ["mine"]
    assert len(problems) == 1


def test_a_transaction_is_on_disk_when_it_returns(database: Database) -> None:
    with database.transaction():
        set_meta(database, "a")
        assert rows_on_disk(database.path, "SELECT key FROM meta") == []
    assert rows_on_disk(database.path, "SELECT key FROM meta") == [("a",)]


def test_a_transaction_that_raises_leaves_nothing(database: Database) -> None:
    with pytest.raises(KeyError), database.transaction():  # noqa: PT012 - the write before is what this is about
        set_meta(database, "a")
        raise KeyError
    with database.transaction():
        set_meta(database, "b")
    assert keys(database) == ["b"]


def test_a_transaction_inside_another_joins_it(database: Database) -> None:
    with pytest.raises(KeyError), database.transaction():  # noqa: PT012
        with database.transaction():
            set_meta(database, "inner")
        assert rows_on_disk(database.path, "SELECT key FROM meta") == []
        raise KeyError
    assert keys(database) == []


def test_a_transaction_takes_the_write_lock_when_it_begins(database: Database) -> None:
    with (
        closing(sqlite3.connect(database.path, timeout=0, isolation_level=None)) as other,
        database.transaction(),
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        other.execute("BEGIN IMMEDIATE")


def test_a_commit_that_fails_leaves_no_transaction_open(database: Database) -> None:
    """Otherwise every later transaction would join the dead one and never reach the disk."""
    with pytest.raises(AgentError), database.transaction():  # noqa: PT012
        database.execute("PRAGMA defer_foreign_keys=ON")
        database.execute("INSERT INTO outbox VALUES ('no such event', 1, 'pending', NULL, 0, '', 0, NULL, NULL)")
    with database.transaction():
        set_meta(database, "after")
    assert rows_on_disk(database.path, "SELECT key FROM meta") == [("after",)]
    assert database.query("SELECT * FROM outbox") == []


def test_a_full_disk_is_told_and_loses_nothing_recorded_before(journal: Journal) -> None:
    with journal.transaction():
        journal.events.append(event(0))
    database = journal._database
    database._connection.execute(f"PRAGMA max_page_count={database.query('PRAGMA page_count')[0][0] + 2}")
    recorded = 1
    with pytest.raises(AgentError) as told:  # noqa: PT012
        for number in range(1, 100):
            with journal.transaction():
                journal.events.append(event(number, note="x" * 1000))
            recorded += 1
    assert told.value.code is ErrorCode.DISK_FULL
    assert "df -h" in told.value.hint
    assert journal.events.count(OutboxState.PENDING) == recorded
    assert journal.events.broken_link() is None
    database._connection.execute("PRAGMA max_page_count=1000000")
    with journal.transaction():
        assert journal.events.append(event(500)) == recorded + 1, "freed space is enough to go on"


def test_a_journal_of_a_newer_version_is_refused_and_not_touched(open_journal: OpenJournal, tmp_path: Path) -> None:
    journal = open_journal()
    with journal.transaction():
        journal.events.append(event(1))
    journal.close()
    path = tmp_path / JOURNAL_FILE
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES (?, 'm999_later', '')",
            (migrations.name,),
        )
    before = path.read_bytes()
    with pytest.raises(AgentError, match="newer version") as refused:
        open_journal()
    assert refused.value.code is ErrorCode.CONFIG_INVALID
    assert path.read_bytes() == before


def test_migrations_make_the_whole_schema_once_and_mark_the_file_as_ours(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL_FILE
    schemas = []
    for _ in range(2):
        with closing(Database(path)) as database:
            schemas.append([tuple(row) for row in database.query("SELECT type, name, sql FROM sqlite_schema")])
            assert database.query("PRAGMA application_id")[0][0] == APPLICATION_ID
            assert migrations.pending(SqliteUtils(database._connection)) == []
    assert schemas[0] == schemas[1]
    assert rows_on_disk(path, "SELECT count(*) FROM _sqlite_migrations") == [(len(migrations._migrations),)]


def test_a_migration_that_stops_half_way_leaves_nothing_and_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from terminal_agent.journal import migrations as module

    path = tmp_path / JOURNAL_FILE
    with monkeypatch.context() as patched:
        patched.setattr(module, "_FIRST_TAP", (*module._FIRST_TAP[:3], "CREATE TABLE meta (again TEXT)"))
        with pytest.raises(AgentError):
            Database(path)
    assert rows_on_disk(path, "SELECT name FROM sqlite_schema WHERE name = 'meta'") == []
    Database(path).close()
    assert rows_on_disk(path, "SELECT name FROM sqlite_schema WHERE name = 'meta'") == [("meta",)]


def test_every_table_refuses_text_where_a_number_belongs(database: Database) -> None:
    tables = database.query("SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table'")
    ours = {row["name"]: row["strict"] for row in tables if not row["name"].startswith(("sqlite_", "_sqlite_"))}
    assert {"meta", "events", "outbox", "intents", "checkouts", "adjustments"} <= ours.keys()
    assert set(ours.values()) == {1}
    with pytest.raises(AgentError, match="cannot store TEXT"), database.transaction():
        database.execute("INSERT INTO adjustments VALUES ('1', '12x', 5, NULL)")
