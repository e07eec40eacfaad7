"""The lock on a data directory."""

from __future__ import annotations

from pathlib import Path

from terminal_agent.service.lock import LOCK_FILE, DataDirLock
from tests.small_disk import fill


def test_the_lock_holds_on_a_disk_without_room_for_its_owners_name(small_disk: Path) -> None:
    (small_disk / LOCK_FILE).touch()
    fill(small_disk)
    lock, other = DataDirLock(small_disk), DataDirLock(small_disk)
    assert lock.acquire()
    assert not other.acquire()
    assert other.owner() == "?"
    lock.release()
    assert other.acquire()
    other.release()
