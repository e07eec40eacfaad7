"""Whole sales a second, each on disk before it is told, beside queues that only store; and what a power cut costs each.

Everything is at its best here: no reader's time (the card answers at once), one process, sale after sale.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from importlib.util import find_spec
from itertools import count, cycle
from pathlib import Path
from typing import Any

from bench.measure import Figure, Samples
from bench.rig import Left, Rig
from drivers.base import ClassicConnection
from drivers.errors import AuthenticationFailed
from drivers.mifare_classic import BLOCK_SIZE, KeyType, sector_of, trailer_of
from drivers.simulator import SimulatedChip, SimulatedConnection
from terminal_agent.desk.issue import IssueRequest, issue
from terminal_agent.ports import SystemClock, SystemIds
from terminal_agent.taps import Terminal
from terminal_agent.till.checkout import PurchaseRequest, purchase
from tests.power_cut.campaign import Report, plan
from tests.power_cut.campaign import run as cut_power
from tests.power_cut.queue_child import PUTS, power_cut_loss
from tests.power_cut.recorder import CannotRecord
from tests.power_cut.shop_witness import ShopWitness
from tests.power_cut.story import day_of_a_daemon
from tests.workbench import Workbench, blank

ROUNDS = 15
PER_ROUND = 60
CARDS = 40
CUTS = 400
TARGET_RATIO = 0.4
ROW = "x" * 361
"""As long as the JSON that the queues' own benches store."""


class InstantCard(ClassicConnection):
    """The 1024 bytes of a card without a chip's checks of access bits: what is measured is not the card."""

    def __init__(self, content: bytearray) -> None:
        self._content = content
        self._uid = bytes(content[:4])

    @property
    def uid(self) -> bytes:
        return self._uid

    def authenticate(self, block: int, key_type: KeyType, key: bytes) -> None:
        trailer = self.read_block(trailer_of(sector_of(block)))
        if key != (trailer[:6] if key_type is KeyType.A else trailer[10:]):
            raise AuthenticationFailed(block, key_type)

    def read_block(self, block: int) -> bytes:
        return bytes(self._content[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE])

    def write_block(self, block: int, data: bytes) -> None:
        self._content[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE] = data

    def close(self) -> None:
        pass


class Till:
    """A shop with many cards, the journal on disk."""

    def __init__(self, folder: Path) -> None:
        self._bench = Workbench(folder)
        self._terminal = Terminal(
            self._bench.journal, self._bench.keys, SystemClock(), SystemIds(), "bench", "IRR", programme_id=None
        )
        self._cards = cycle([self._issued(number) for number in range(CARDS)])
        self._receipts = count(1)

    def _issued(self, number: int) -> bytearray:
        image = blank(bytes([0x1A, 0x2B, 0x3C, number]))
        with SimulatedConnection(SimulatedChip(image)) as connection:
            issue(self._terminal, connection, IssueRequest())
        return image.content

    def sell(self) -> None:
        request = PurchaseRequest(f"R-{next(self._receipts)}", 250_000)
        answer = purchase(self._terminal, InstantCard(next(self._cards)), request, lambda *_asked: None)
        if answer["state"] != "done":
            raise RuntimeError(f"a sale that is not done: {answer}")

    def close(self) -> None:
        self._bench.close()


class Bare:
    """sqlite3 and nothing else: one row for each commit, WAL and ``synchronous=FULL``."""

    def __init__(self, file: Path) -> None:
        self._database = sqlite3.connect(file, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL").fetchall()
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.execute("CREATE TABLE queue (id INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT")

    def put(self) -> None:
        self._database.execute("INSERT INTO queue (body) VALUES (?)", (ROW,))

    def put_twice(self) -> None:
        self.put()
        self.put()

    def close(self) -> None:
        self._database.close()


PERSIST_QUEUE = """
import sys
from persistqueue import SQLiteAckQueue
queue = SQLiteAckQueue(sys.argv[1])
for number in range(int(sys.argv[2])):
    queue.put("x" * 361)
    sys.stdout.write("told\\n")
    sys.stdout.flush()
"""
LITEQUEUE = """
import sys
from litequeue import LiteQueue
queue = LiteQueue(sys.argv[1] + "/queue.sqlite3")
for number in range(int(sys.argv[2])):
    queue.put("x" * 361)
    sys.stdout.write("told\\n")
    sys.stdout.flush()
"""


def run(rig: Rig) -> Iterator[Figure]:
    for library in ("persistqueue", "litequeue"):
        if find_spec(library) is None:
            raise Left(f"{library} is not installed: scripts/bench does that")
    from litequeue import LiteQueue
    from persistqueue import SQLiteAckQueue

    with ExitStack() as stack:
        (rig.folder / "till").mkdir()
        till = stack.enter_context(closing(Till(rig.folder / "till")))
        bare = stack.enter_context(closing(Bare(rig.folder / "bare.sqlite3")))
        twice = stack.enter_context(closing(Bare(rig.folder / "twice.sqlite3")))
        acks = stack.enter_context(closing(SQLiteAckQueue(str(rig.folder / "acks"))))
        lite = LiteQueue(str(rig.folder / "lite.sqlite3"))
        stack.callback(lite.conn.close)
        puts = (till.sell, bare.put, twice.put_twice, lambda: acks.put(ROW), lambda: lite.put(ROW))
        ours, one, two, persist, light = _rates(*puts)
        cpu_ms = _cpu_ms(till.sell)
    loss = {"power_cut_loss": _told(_our_loss)}
    what = "whole sale, beside"
    yield _figure(f"{what} one row and commit in sqlite3", ours, one, {"cpu_ms_per_sale": cpu_ms, **loss}, TARGET_RATIO)
    yield _figure(f"{what} two rows and commits in sqlite3", ours, two, {})
    theirs = _told(lambda: power_cut_loss(_child(PERSIST_QUEUE), "data.db", "ack_queue_default", CUTS))
    yield _figure(f"{what} one put into persist-queue's SQLiteAckQueue", ours, persist, {"its_power_cut_loss": theirs})
    theirs = _told(lambda: power_cut_loss(_child(LITEQUEUE), "queue.sqlite3", "Queue", CUTS))
    yield _figure(f"{what} one put into litequeue", ours, light, {"its_power_cut_loss": theirs})


def _rates(*actions: Callable[[], Any]) -> list[Samples]:
    """How often a second, in rounds that take turns: the cost of a checkpoint falls on whoever causes it."""
    rates: list[list[float]] = [[] for _ in actions]
    for action in actions:
        action()
    for _ in range(ROUNDS):
        for found, action in zip(rates, actions, strict=True):
            started = time.perf_counter()
            for _ in range(PER_ROUND):
                action()
            found.append(PER_ROUND / (time.perf_counter() - started))
    return [Samples.of(found) for found in rates]


def _cpu_ms(action: Callable[[], Any]) -> float:
    started = time.process_time()
    for _ in range(PER_ROUND):
        action()
    return round((time.process_time() - started) / PER_ROUND * 1000, 3)


def _figure(what: str, ours: Samples, theirs: Samples, details: dict[str, Any], target: float | None = None) -> Figure:
    return Figure(
        "durability",
        what,
        "per s",
        ours,
        theirs,
        target=target,
        target_is_ratio=target is not None,
        target_is_least=target is not None,
        details=details,
    )


def _child(script: str) -> list[str]:
    return ["-c", script, "{folder}", str(PUTS)]


def _our_loss() -> Report:
    with tempfile.TemporaryDirectory() as folder:
        recording = day_of_a_daemon(Path(folder), 12, os.getpid())
    return cut_power(recording, plan(recording, CUTS, 1), ShopWitness(recording))


def _told(measure: Callable[[], Report]) -> str:
    try:
        report = measure()
    except CannotRecord as reason:
        return f"not measured: {reason}"
    return f"{report.cuts_with_loss} of {report.cuts} cuts, at worst {report.worst_loss} of {report.most_at_stake} told"
