"""The calls by which the program touches the world, counted, and what goes wrong at one of them.

Every port hands its calls to one :class:`Ports`, each with the ways in which that call may fail in reality. Between two
calls the program only thinks: so cutting the power before call n + 1 is cutting it after call n.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NoReturn

from tests.workbench import CountingIds, FixedClock

Do = Callable[[], Any]
Ways = Mapping[str, Callable[[Do], Any]]
"""By its name, what a call does instead of what it was asked; it is given what it was asked."""

POWER_CUT = "power_cut"
"""The way every call may end: the process is gone before it happens."""


class PowerCut(BaseException):
    """The process is dead. No ``except Exception`` of the code under test may keep it alive."""


class Port(StrEnum):
    STORE = "store"
    CARD = "card"
    HTTP = "http"
    FILES = "files"
    CLOCK = "clock"
    IDS = "ids"


@dataclass(frozen=True)
class Call:
    """One call of a run without faults, and the ways it may fail besides a power cut."""

    port: Port
    what: str
    ways: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.port} {self.what}"


AFTERWARDS = Call(Port.CLOCK, "after the last call", ())


@dataclass(frozen=True)
class Fault:
    """What goes wrong at the ``at``-th call, counted from 1; or, without a number, at the first that is so named."""

    way: str
    at: int = 0
    what: str = "-"

    def strikes(self, number: int, what: str) -> bool:
        return number == self.at or what.startswith(self.what)


class Ports:
    """Counts while :meth:`watch` is on. ``on_death`` is called at the very moment the power goes."""

    def __init__(self, on_death: Callable[[], None]) -> None:
        self._on_death = on_death
        self._fault: Fault | None = None
        self._watching = False
        self._broken: dict[str, Callable[[], Exception]] = {}
        self.calls: list[Call] = []
        self.dead = False
        self.struck = False

    def watch(self, fault: Fault | None = None) -> None:
        """Count from here; ``fault`` strikes when its call comes."""
        self.calls, self.struck, self._fault, self._watching = [], False, fault, True

    def heal(self) -> None:
        """Nothing is broken any more, nothing is counted; a new process may use the ports."""
        self.dead = self._watching = False
        self._broken = {}

    def call(self, port: Port, what: str, do: Do, ways: Ways = {}) -> Any:  # noqa: B006 - never changed
        """``do()``, or what goes wrong instead."""
        if self.dead:
            raise PowerCut
        if not self._watching:
            return do()
        self.calls.append(Call(port, what, tuple(ways)))
        for way in self._broken.keys() & ways.keys():
            raise self._broken[way]()
        if self.struck or self._fault is None or not self._fault.strikes(len(self.calls), what):
            return do()
        self.struck = True
        return self.die() if self._fault.way == POWER_CUT else ways[self._fault.way](do)

    def die(self) -> NoReturn:
        """The power goes now: from here on the process can touch nothing."""
        self.struck = self.dead = True
        self._on_death()
        raise PowerCut

    def break_down(self, way: str, error: Callable[[], Exception]) -> NoReturn:
        """The call fails, and so do all that follow and may fail this way, until somebody mends it."""
        self._broken[way] = error
        raise error()


def after(do: Do, error: Callable[[], Exception]) -> NoReturn:
    """It happened, and the answer says that it did not."""
    do()
    raise error()


class CountedClock(FixedClock):
    """A clock that stands still. It cannot fail; the power may go before it is read."""

    def __init__(self, ports: Ports) -> None:
        super().__init__()
        self._ports = ports

    def now(self) -> Any:
        return self._ports.call(Port.CLOCK, "now", super().now)

    def monotonic(self) -> float:
        return float(self._ports.call(Port.CLOCK, "monotonic", super().monotonic))


class CountedIds(CountingIds):
    """The same ids in every run; like chance itself they go on where they were when the process starts again."""

    def __init__(self, ports: Ports) -> None:
        super().__init__()
        self._ports = ports

    def uuid(self) -> str:
        return str(self._ports.call(Port.IDS, "uuid", super().uuid))

    def card_digits(self) -> str:
        return str(self._ports.call(Port.IDS, "card_digits", super().card_digits))

    def uniform(self, low: float, high: float) -> float:
        return float(self._ports.call(Port.IDS, "uniform", lambda: super(CountedIds, self).uniform(low, high)))
