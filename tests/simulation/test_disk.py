"""The disk that loses power: what SQLite synced stays, what it did not is gone, in part or whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.simulation.disk import Disk, install, uninstall

ROWS = 40


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path)
    install(disk)
    yield disk
    uninstall(disk)


def opened(disk: Disk, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(disk.folder / "file.sqlite3", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL").fetchall()
    connection.execute(f"PRAGMA synchronous={synchronous}")
    return connection


def cut_after_commits(disk: Disk, synchronous: str, keep: float) -> int:
    """Commit ``ROWS`` rows, cut the power, and count what is there."""
    connection = opened(disk, "FULL")
    connection.execute("CREATE TABLE t (n INTEGER)")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.execute(f"PRAGMA synchronous={synchronous}")
    for number in range(ROWS):
        connection.execute("INSERT INTO t VALUES (?)", (number,))
    disk.dead = True
    connection.close()
    disk.lose_power(Random(1), keep)
    connection = opened(disk, "FULL")
    assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    (count,) = connection.execute("SELECT count(*) FROM t").fetchone()
    connection.close()
    return int(count)


def test_full_keeps_every_commit_through_a_power_cut(disk: Disk) -> None:
    assert cut_after_commits(disk, "FULL", keep=0.0) == ROWS


def test_normal_loses_commits_at_a_power_cut(disk: Disk) -> None:
    assert cut_after_commits(disk, "NORMAL", keep=0.0) < ROWS


def test_unsynced_writes_may_survive_in_part(disk: Disk) -> None:
    assert 0 < cut_after_commits(disk, "NORMAL", keep=0.9) < ROWS


def test_a_full_disk_fails_the_commit_and_keeps_what_was_there(disk: Disk) -> None:
    connection = opened(disk, "FULL")
    connection.execute("CREATE TABLE t (n INTEGER)")
    disk.full = True
    with pytest.raises(sqlite3.OperationalError, match="full"):
        connection.execute("INSERT INTO t VALUES (1)")
    disk.full = False
    connection.execute("INSERT INTO t VALUES (2)")
    assert connection.execute("SELECT n FROM t").fetchall() == [(2,)]
    connection.close()


def test_a_dead_disk_takes_nothing(disk: Disk) -> None:
    connection = opened(disk, "FULL")
    connection.execute("CREATE TABLE t (n INTEGER)")
    disk.dead = True
    with pytest.raises(sqlite3.OperationalError, match="I/O"):
        connection.execute("INSERT INTO t VALUES (1)")
    connection.close()
