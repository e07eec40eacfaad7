"""Events of the till, told to everybody who listens; the newest are kept for those who come back."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

KEPT = 1000


class EventName(StrEnum):
    """What an event is about; its data is the new state, whole."""

    READER_CHANGED = "reader.changed"
    CARD_PRESENTED = "card.presented"
    CARD_REMOVED = "card.removed"
    CARD_PROBLEM = "card.problem"
    CHECKOUT_CHANGED = "checkout.changed"
    SYNC_CHANGED = "sync.changed"


@dataclass(frozen=True)
class TillEvent:
    """One event; ``event_id`` is ``BOOT-N``, so that an id of an earlier run of the daemon is never taken for ours."""

    event_id: str
    name: EventName
    data: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"id": self.event_id, "event": self.name.value, "data": self.data}


class Hub:
    """A ring of events. Publishing never waits for a listener: each reads on from where it is, at its own pace."""

    def __init__(self, boot: str) -> None:
        self._boot = boot
        self._lock = threading.Lock()
        self._ring: deque[TillEvent] = deque(maxlen=KEPT)
        self._count = 0
        self._closed = False
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    @property
    def closed(self) -> bool:
        return self._closed

    def publish(self, name: EventName, data: dict[str, Any]) -> None:
        """From any thread."""
        with self._lock:
            self._count += 1
            self._ring.append(TillEvent(f"{self._boot}-{self._count}", name, data))
        self._wake()

    def close(self) -> None:
        """Everybody who waits is let go."""
        self._closed = True
        self._wake()

    def now(self) -> str:
        """The id after which everything is new."""
        with self._lock:
            return f"{self._boot}-{self._count}"

    def after(self, event_id: str) -> list[TillEvent]:
        """What came after the event with this id; all that is kept when the id is not one of this run."""
        boot, _, number = event_id.rpartition("-")
        with self._lock:
            seen = int(number) if boot == self._boot and number.isascii() and number.isdigit() else 0
            new = self._count - seen
            return list(self._ring)[-new:] if 0 < new <= len(self._ring) else [] if new <= 0 else list(self._ring)

    async def wait(self, event_id: str, timeout_s: float) -> list[TillEvent]:
        """Like :meth:`after`, waiting for the first one up to ``timeout_s`` seconds."""
        woken = asyncio.Event()
        place = (asyncio.get_running_loop(), woken)
        self._waiting.add(place)
        try:
            found = self.after(event_id)
            if not found and not self._closed:
                async with asyncio.timeout(timeout_s):
                    await woken.wait()
                found = self.after(event_id)
            return found
        except TimeoutError:
            return []
        finally:
            self._waiting.discard(place)

    def _wake(self) -> None:
        for loop, woken in self._waiting.copy():
            try:
                loop.call_soon_threadsafe(woken.set)
            except RuntimeError:  # its loop has just ended
                self._waiting.discard((loop, woken))
