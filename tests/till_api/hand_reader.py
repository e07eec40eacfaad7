"""A reader whose cards are laid on and lifted by the test's hand, behind the real lane and the real till."""

from __future__ import annotations

import threading
from collections.abc import Callable

from drivers.base import ClassicConnection, Reader, ReaderState
from drivers.errors import CardRemoved
from drivers.simulator import Fault, MemoryImage, SimulatedChip, SimulatedConnection


class HandReader(Reader):
    """Many may open it, as a PC/SC reader: each sees the same card."""

    url = "sim:by-hand"
    name = "By hand"

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._image: MemoryImage | None = None
        self._fault: Fault | None = None
        self._lost = False
        self._interrupts = 0
        self._waiting: list[ReaderState] = []
        self.wrap: Callable[[ClassicConnection], ClassicConnection] = lambda connection: connection
        """What stands between the agent and the card."""

    def lay(self, image: MemoryImage, fault: Fault | None = None) -> None:
        with self._changed:
            self._image, self._fault = image, fault
            self._changed.notify_all()

    def lift(self) -> None:
        with self._changed:
            self._image = None
            self._changed.notify_all()

    def unplug(self, lost: bool = True) -> None:
        with self._changed:
            self._lost = lost
            self._changed.notify_all()

    def _state(self) -> ReaderState:
        return ReaderState.LOST if self._lost else ReaderState.CARD if self._image else ReaderState.EMPTY

    def wait_for_change(self, known: ReaderState, timeout_s: float) -> ReaderState:
        with self._changed:
            before = self._interrupts
            self._waiting.append(known)
            self._changed.wait_for(lambda: self._state() is not known or self._interrupts > before, timeout_s)
            self._waiting.remove(known)
            return self._state()

    def waiting(self, known: ReaderState) -> int:
        """How many wait for another state than this one, which they have seen."""
        with self._changed:
            return self._waiting.count(known)

    def connect(self) -> ClassicConnection:
        with self._changed:
            if self._image is None:
                raise CardRemoved("no card")
            fault, self._fault = self._fault, None
            return self.wrap(SimulatedConnection(SimulatedChip(self._image, fault)))

    def interrupt(self) -> None:
        with self._changed:
            self._interrupts += 1
            self._changed.notify_all()

    def close(self) -> None:
        self.interrupt()
