"""The database: durable settings, private files, refusal of what a newer version wrote."""

from __future__ import annotations

import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from terminal_agent.crm import ledger, sqlite
from terminal_agent.crm.schema import SCHEMA_VERSION, cards, entries, feed, meta
from terminal_agent.crm.store import Store, open_store
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.ports import SystemClock, SystemIds
from tests.crm.world import CARD, Crm, Terminal


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """These tests are about the file."""
    return tmp_path / "crm"


def reopen(data_dir: Path, *, create: bool = True) -> Store:
    return open_store(data_dir, SystemClock(), SystemIds(), create=create)


def test_every_connection_is_durable(store: Store) -> None:
    with store.reading() as first, store.reading() as second:
        for connection in (first, second):
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "delete"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 3


def test_nobody_else_can_read_the_data(store: Store, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "crm").stat().st_mode) == 0o700
    assert stat.S_IMODE(sqlite.database_file(tmp_path / "crm").stat().st_mode) == 0o600


def test_a_database_of_a_newer_version_is_refused_and_left_alone(store: Store, tmp_path: Path) -> None:
    newer = str(SCHEMA_VERSION + 1)
    with store.writing() as connection:
        connection.execute(update(meta).where(meta.c.key == "schema_version").values(value=newer))
    before = sqlite.database_file(tmp_path / "crm").read_bytes()
    with pytest.raises(AgentError, match=f"schema {newer}") as refused:
        reopen(tmp_path / "crm")
    assert refused.value.code is ErrorCode.CONFIG_INVALID
    assert sqlite.database_file(tmp_path / "crm").read_bytes() == before


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    sqlite.database_file(tmp_path).write_bytes(b"not a database" * 100)
    with pytest.raises(AgentError) as refused:
        reopen(tmp_path)
    assert refused.value.code is ErrorCode.CONFIG_INVALID


def test_looking_at_a_crm_that_is_not_there_makes_none(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="no CRM"):
        reopen(tmp_path / "nowhere", create=False)
    assert not (tmp_path / "nowhere").exists()


def test_a_data_directory_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AgentError) as refused:
        reopen(tmp_path / "file" / "crm")
    assert refused.value.code is ErrorCode.CONFIG_INVALID


def test_opening_a_crm_again_does_not_drop_the_locks_of_who_writes(store: Store, tmp_path: Path) -> None:
    # POSIX drops all locks of a process on a file when it closes any descriptor of it.
    program = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
    with store.writing():
        sqlite.prepare_file(tmp_path / "crm")
        command = [sys.executable, "-c", program, str(sqlite.database_file(tmp_path / "crm"))]
        assert "locked" in subprocess.run(command, capture_output=True, text=True, check=False).stderr


def test_whoever_opens_a_fresh_crm_at_the_same_time_finds_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(reopen, [tmp_path / "crm"] * 4))
    with stores[0].reading() as connection:
        assert len(connection.execute(select(feed)).all()) == 1
    for opened in stores:
        opened.close()


def test_a_writer_sees_all_that_was_committed_before_it_began(store: Store, tmp_path: Path) -> None:
    # Two stores on one file, like the server and an administration command.
    other = reopen(tmp_path / "crm")

    def add(opened: Store) -> None:
        for _ in range(20):
            with opened.writing() as connection:
                value = int(connection.execute(select(meta.c.value).where(meta.c.key == "schema_version")).scalar_one())
                connection.execute(update(meta).values(value=str(value + 1)))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(add, [store, other]))
    with store.reading() as connection:
        assert connection.execute(select(meta.c.value)).scalars().first() == str(SCHEMA_VERSION + 40)
    other.close()


def test_an_error_inside_a_transaction_keeps_nothing_of_it(store: Store) -> None:
    with pytest.raises(OperationalError):
        book_then_fail(store)
    with store.reading() as connection:
        assert connection.execute(select(entries)).all() == []


def book_then_fail(store: Store) -> None:
    card = ledger.card_account(CARD)
    with store.writing() as connection:
        ledger.transfer(connection, source="a", target=card, points=5, kind="test", reference="1", now="now")
        connection.exec_driver_sql("SELECT * FROM no_such_table")


def test_the_cached_balance_is_the_ledgers(crm: Crm, terminal: Terminal, store: Store) -> None:
    terminal.post(*(terminal.purchase(counter, earned=counter, redeemed=3) for counter in range(1, 9)))
    with store.reading() as connection:
        cached = connection.execute(select(cards.c.balance)).scalar_one()
    assert cached == crm.ledger()[f"card:{CARD}"] == 36 - 24
