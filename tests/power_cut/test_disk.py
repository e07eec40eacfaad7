"""The model itself: it keeps what was synced, nothing more, and says of SQLite what SQLite's documentation says."""

from __future__ import annotations

from random import Random

import pytest

from tests.power_cut.disk import Disk, Fate, Snapshot
from tests.power_cut.queue_child import BARE, PUTS, power_cut_loss
from tests.power_cut.trace import Open, Operation, Rename, SyncAsked, SyncDone, TraceReader, Truncate, Unlink, Write

OLD, NEW = b"o" * 2048, b"n" * 2048
EMPTY = Snapshot({}, frozenset())


def synced(path: str, number: int = 1) -> list[Operation]:
    return [SyncAsked(path, number), SyncDone(number)]


def left(operations: list[Operation], fate: Fate, start: Snapshot = EMPTY, seed: int = 0) -> dict[str, bytes]:
    disk = Disk(start)
    for operation in operations:
        disk.apply(operation)
    return disk.after_cut(fate, Random(seed)).files


def luck(operations: list[Operation], start: Snapshot = EMPTY) -> list[dict[str, bytes]]:
    """What a hundred different cuts leave."""
    return [left(operations, Fate.CHANCE, start, seed) for seed in range(100)]


def test_a_write_is_certain_after_a_sync_of_its_file() -> None:
    file = Snapshot({"f": OLD}, frozenset())
    assert left([Write("f", 0, NEW)], Fate.DROPPED, file) == {"f": OLD}
    assert left([Write("f", 0, NEW)], Fate.KEPT, file) == {"f": NEW}
    assert left([Write("f", 0, NEW), *synced("f")], Fate.DROPPED, file) == {"f": NEW}
    assert left([Write("f", 0, NEW), *synced("other")], Fate.DROPPED, file) == {"f": OLD}


def test_a_sync_covers_what_was_written_before_it_was_asked_for() -> None:
    file = Snapshot({"f": OLD}, frozenset())
    meanwhile: list[Operation] = [SyncAsked("f", 1), Write("f", 0, NEW), SyncDone(1)]
    assert left(meanwhile, Fate.DROPPED, file) == {"f": OLD}
    assert left([Write("f", 0, NEW), SyncAsked("f", 1)], Fate.DROPPED, file) == {"f": OLD}


def test_an_unsynced_write_may_be_kept_in_part_sector_by_sector() -> None:
    results = luck([Write("f", 0, NEW)], Snapshot({"f": OLD}, frozenset()))
    seen = {result["f"] for result in results}
    assert {OLD, NEW} < seen
    assert all(len(set(content[n : n + 512])) == 1 for content in seen for n in range(0, 2048, 512))


def test_of_two_unsynced_writes_the_later_may_be_kept_alone() -> None:
    seen = {
        result["f"]
        for result in luck([Write("f", 0, b"1" * 512), Write("f", 512, b"2" * 512)], Snapshot({"f": b""}, frozenset()))
    }
    assert bytes(512) + b"2" * 512 in seen


def test_a_new_name_is_certain_after_a_sync_of_its_folder() -> None:
    made: list[Operation] = [Open("d", folder=True), Open("d/f"), Write("d/f", 0, NEW), *synced("d/f")]
    assert left(made, Fate.DROPPED) == {}
    assert left([*made, *synced("d", 2)], Fate.DROPPED) == {}, "the folder's own name is not certain yet"
    assert left([*made, *synced("d", 2), *synced(".", 3)], Fate.DROPPED) == {"d/f": NEW}


def test_a_rename_is_old_or_new_and_never_both() -> None:
    start = Snapshot({"f": OLD, "g": NEW}, frozenset())
    results = luck([Rename("g", "f")], start)
    assert {"f": NEW} in results
    assert start.files in results
    assert all(result in ({"f": NEW}, start.files) for result in results)
    assert left([Rename("g", "f"), *synced(".")], Fate.DROPPED, start) == {"f": NEW}


def test_a_removed_name_may_come_back() -> None:
    start = Snapshot({"f": OLD}, frozenset())
    assert left([Unlink("f")], Fate.DROPPED, start) == start.files
    assert left([Unlink("f"), *synced(".")], Fate.DROPPED, start) == {}
    assert left([Unlink("f"), Open("f"), Write("f", 0, NEW)], Fate.KEPT, start) == {"f": NEW}


def test_truncation_is_a_change_like_any_other() -> None:
    start = Snapshot({"f": OLD}, frozenset())
    assert left([Truncate("f", 3)], Fate.DROPPED, start) == {"f": OLD}
    assert left([Truncate("f", 3), *synced("f")], Fate.DROPPED, start) == {"f": b"ooo"}


def test_shared_memory_is_noise() -> None:
    operations = [Open("f-shm"), Write("f-shm", 0, NEW), *synced("f-shm"), *synced(".", 2)]
    assert left(operations, Fate.DROPPED)["f-shm"] != NEW


def test_a_card_is_no_disk() -> None:
    disk = Disk(Snapshot({"cards/1": OLD}, frozenset({"cards"})), lambda path: path.startswith("cards/"))
    disk.apply(Write("cards/1", 0, NEW))
    assert disk.after_cut(Fate.DROPPED, Random(0)).files == {"cards/1": NEW}


def test_threads_calls_are_put_together_again() -> None:
    log = [
        '10    openat(AT_FDCWD<\\x2f>, "\\x2f\\x72\\x2f\\x66", O_RDWR|O_CREAT, 0600) = 3<\\x2f\\x72\\x2f\\x66>\n',
        "10    fdatasync(3<\\x2f\\x72\\x2f\\x66> <unfinished ...>\n",
        '11    pwrite64(3<\\x2f\\x72\\x2f\\x66>, "\\x61", 1, 7) = 1\n',
        "11    --- SIGTERM {si_signo=SIGTERM} ---\n",
        "10    <... fdatasync resumed>)            = 0\n",
        '11    rename("\\x2f\\x72\\x2f\\x66", "\\x2f\\x72\\x2f\\x67") = -1 ENOENT (No such file or directory)\n',
        '11    unlinkat(4<\\x2f\\x72>, "\\x66", 0) = 0\n',
    ]
    read = list(TraceReader("/r").read(iter(log)))
    number = next(operation.number for operation in read if isinstance(operation, SyncAsked))
    assert read == [Open("f"), SyncAsked("f", number), Write("f", 7, b"a"), SyncDone(number), Unlink("f")]


@pytest.mark.parametrize(
    ("journal_mode", "synchronous", "worst_loss"),
    [("WAL", "FULL", 0), ("WAL", "NORMAL", PUTS), ("DELETE", "FULL", 1), ("DELETE", "EXTRA", 0)],
)
def test_the_model_says_of_sqlite_what_sqlite_says(journal_mode: str, synchronous: str, worst_loss: int) -> None:
    """NORMAL loses what is not checkpointed; DELETE with FULL leaves the folder unsynced, and the last commit with it.

    https://www.sqlite.org/pragma.html#pragma_synchronous
    """
    child = ["-c", BARE, "{folder}", journal_mode, synchronous, str(PUTS)]
    report = power_cut_loss(child, "queue.sqlite3", "queue", 400)
    assert report.worst_loss == worst_loss
    assert (report.cuts_with_loss > 0) == (worst_loss > 0)
