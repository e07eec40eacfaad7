"""Forty puts into a queue, each told on stdout once it returned; and the witness who counts what is left of them."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.power_cut.campaign import LOST, Report, Violation, plan, run
from tests.power_cut.recorder import Recorder, record
from tests.power_cut.trace import Operation, Said

PUTS = 40
BARE = """
import sqlite3, sys
folder, journal_mode, synchronous, puts = sys.argv[1:]
database = sqlite3.connect(folder + "/queue.sqlite3", isolation_level=None)
database.execute("PRAGMA journal_mode=" + journal_mode).fetchall()
database.execute("PRAGMA synchronous=" + synchronous)
database.execute("CREATE TABLE queue (body TEXT NOT NULL) STRICT")
for number in range(int(puts)):
    database.execute("INSERT INTO queue VALUES (?)", ("x" * 361,))
    sys.stdout.write("told\\n")
    sys.stdout.flush()
"""
"""A child in plain sqlite3; its words are folder, journal mode, synchronous and the number of puts."""


class QueueWitness:
    """Counts puts that returned, and rows that are left."""

    def __init__(self, file: str, table: str) -> None:
        self._file = file
        self._table = table
        self._told = 0

    def hear(self, operation: Operation) -> None:
        if isinstance(operation, Said) and operation.to == "1":
            self._told += operation.data.count(b"told")

    @property
    def at_stake(self) -> int:
        return self._told

    def check(self, root: Path) -> Iterator[Violation]:
        rows = 0
        try:
            with closing(sqlite3.connect(root / self._file)) as database:
                (rows,) = database.execute(f"SELECT count(*) FROM {self._table}").fetchone()
                if database.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
                    yield Violation("corrupt", "the integrity check fails")
        except sqlite3.OperationalError:
            pass  # no file, no table: no rows
        except sqlite3.DatabaseError as error:
            yield Violation("corrupt", str(error))
        yield from [Violation(LOST, "a put that returned is gone")] * (self._told - rows)

    def go_on(self, root: Path) -> Iterator[Violation]:
        yield from ()


def power_cut_loss(child: list[str], file: str, table: str, cuts: int, seed: int = 1) -> Report:
    """Record ``python CHILD…``, where ``{folder}`` stands for a folder of its own, and cut its power ``cuts`` times."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "queue"
        folder.mkdir()

        def act(recorder: Recorder) -> None:
            exit_code, _, err = recorder.run([word.replace("{folder}", str(folder)) for word in child])
            if exit_code:
                raise RuntimeError(err)

        recording = record(Path(place), act)
    return run(recording, plan(recording, cuts, seed), QueueWitness(f"queue/{file}", table), go_on_each=0)
