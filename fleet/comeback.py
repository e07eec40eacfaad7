"""The moment the line is back: every shop's own schedule decides when it speaks; what comes of it is counted."""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet.shops import Shop
from terminal_agent.sync.adapters.native import NativeCrm

LOOK_S = 0.5


@dataclass
class Traffic:
    """Requests of the whole chain; counted by the shops, in the second they began."""

    by_second: Counter[int] = field(default_factory=Counter)
    at_once: int = 0
    most_at_once: int = 0
    requests: int = 0
    failed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def one(self) -> Iterator[None]:
        with self._lock:
            self.requests += 1
            self.at_once += 1
            self.by_second[int(time.monotonic())] += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            yield
        except Exception:
            with self._lock:
                self.failed += 1
            raise
        finally:
            with self._lock:
                self.at_once -= 1


class CountedCrm(NativeCrm):
    """The terminal's own client, with each call counted."""

    traffic: Traffic

    def call(self, *arguments: Any, **named: Any) -> dict[str, Any]:
        with self.traffic.one():
            return super().call(*arguments, **named)


@dataclass(frozen=True)
class Moment:
    """The chain at one moment: seconds since the line came back, events that wait, memory of the CRM in MB."""

    at_s: float
    waiting: int
    crm_mb: float


class Comeback:
    """Runs the turns of all shops, each when its own schedule says, on a few threads."""

    def __init__(self, shops: list[Shop], threads: int, crm_pids: Callable[[], list[int]]) -> None:
        self._shops = shops
        self._threads = threads
        self._crm_pids = crm_pids
        self._due: list[tuple[float, int]] = []
        self._waiting = {number: shop.waiting for number, shop in enumerate(shops)}
        self._lock = threading.Lock()
        self.moments: list[Moment] = []

    def run(self, limit_s: float, show: Callable[[int], None]) -> float:
        """Until nothing waits; gives the seconds it took. Raises TimeoutError."""
        begun = time.monotonic()
        for number, shop in enumerate(self._shops):
            shop.worker.spread_first_contact()
            heapq.heappush(self._due, (begun + shop.worker.due_in_s(), number))
        with ThreadPoolExecutor(self._threads) as pool:
            running: set[Future[None]] = set()
            looked = 0.0
            while (left := sum(self._waiting.values())) or running:
                now = time.monotonic()
                if now - begun > limit_s:
                    raise TimeoutError(f"{left} events still wait after {limit_s:.0f} s")
                if now - looked >= LOOK_S:
                    looked = now
                    self.moments.append(Moment(now - begun, left, _memory_mb(self._crm_pids())))
                    show(left)
                running = {future for future in running if not _ended(future)}
                while self._due and self._due[0][0] <= now and len(running) < self._threads:
                    running.add(pool.submit(self._turn, heapq.heappop(self._due)[1]))
                time.sleep(0.005)
        took = time.monotonic() - begun
        self.moments.append(Moment(took, 0, _memory_mb(self._crm_pids())))
        show(0)
        return took

    def _turn(self, number: int) -> None:
        shop = self._shops[number]
        pause_s = shop.worker.turn()
        with self._lock:
            self._waiting[number] = shop.waiting
            if self._waiting[number]:
                heapq.heappush(self._due, (time.monotonic() + pause_s, number))


def _ended(future: Future[None]) -> bool:
    if future.done():
        future.result()
    return future.done()


def _memory_mb(pids: list[int]) -> float:
    """Resident memory of processes and their children."""
    total = 0
    for pid in pids:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in (pid, *map(int, children)):
            pages = int(Path(f"/proc/{one}/statm").read_text().split()[1])
            total += pages * 4096
    return total / 1e6
