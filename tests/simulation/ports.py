"""Time, chance and death as ports: virtual clocks, seeded ids, and a fuse that cuts the power at the n-th port call."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from drivers.base import ClassicConnection
from drivers.mifare_classic import KeyType
from terminal_agent.ports import uuid7

START = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)
DAY_S = 86_400.0


class PowerCut(BaseException):
    """The process is dead. No ``except Exception`` of the code under test may keep it alive."""


@dataclass
class Timeline:
    """The one true time, in seconds since the start; it passes only when somebody waits."""

    now: float = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += max(0.0, seconds)


@dataclass
class VirtualClock:
    """A machine's clock: the true time, and how far it is off."""

    timeline: Timeline
    off_s: float = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=round(self.timeline.now + self.off_s, 3))

    def monotonic(self) -> float:
        return self.timeline.now


class SeededIds:
    """Ids and chance of one machine, the same in every run of a seed."""

    def __init__(self, timeline: Timeline, chance: Random) -> None:
        self._timeline = timeline
        self._chance = chance

    def uuid(self) -> str:
        milliseconds = int((START + timedelta(seconds=self._timeline.now)).timestamp() * 1000)
        return str(uuid7(milliseconds, self._chance.getrandbits(74)))

    def card_digits(self) -> str:
        return str(self._chance.randrange(10**14, 10**15))

    def uniform(self, low: float, high: float) -> float:
        return self._chance.uniform(low, high)


class Fuse:
    """Counts port calls of one process; burns through at a chosen one, and from then on at every one."""

    def __init__(self) -> None:
        self._left: int | None = None
        self.blown = False
        self.calls = 0

    def set(self, calls: int) -> None:
        """Die at the ``calls``-th port call from now."""
        self._left = calls

    def clear(self) -> None:
        self._left = None

    def touch(self) -> None:
        """One port call. Raises :class:`PowerCut`."""
        self.calls += 1
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self.blown = True
        if self.blown:
            raise PowerCut


class CutConnection:
    """The journal's SQLite connection, with the fuse before each statement and after each commit.

    ``between`` is run between the statements of a transaction: what other processes do to the file meanwhile.
    """

    def __init__(self, inner: sqlite3.Connection, fuse: Fuse, between: Callable[[], None]) -> None:
        self._inner = inner
        self._fuse = fuse
        self._between = between

    def execute(self, sql: str, values: Any = ()) -> sqlite3.Cursor:
        self._fuse.touch()
        if self._inner.in_transaction:
            self._between()
        cursor = self._inner.execute(sql, values)
        if sql == "COMMIT":
            self._fuse.touch()
        return cursor

    @property
    def in_transaction(self) -> bool:
        return self._inner.in_transaction and not self._fuse.blown

    def close(self) -> None:
        self._inner.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class CutCard(ClassicConnection):
    """An open card, with the fuse before and after each operation: power may go while the card is written."""

    def __init__(self, inner: ClassicConnection, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse
        self.calls = 0

    @property
    def uid(self) -> bytes:
        return self._inner.uid

    def authenticate(self, block: int, key_type: KeyType, key: bytes) -> None:
        self._touch()
        self._inner.authenticate(block, key_type, key)

    def read_block(self, block: int) -> bytes:
        self._touch()
        return self._inner.read_block(block)

    def write_block(self, block: int, data: bytes) -> None:
        self._touch()
        self._inner.write_block(block, data)
        self._fuse.touch()

    def _touch(self) -> None:
        self.calls += 1
        self._fuse.touch()

    def close(self) -> None:
        self._inner.close()
