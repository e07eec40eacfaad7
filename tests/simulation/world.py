"""The world: shops, cards and one CRM in one virtual time, driven by one seed.

Everything that happens is one line of the trace, and the trace's hash is the run's name.
"""

from __future__ import annotations

import hashlib
import heapq
import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from drivers.mifare_classic import blank_card
from drivers.simulator import MemoryImage
from terminal_agent.errors import AgentError
from tests.simulation import checks
from tests.simulation.book import Book, Broken, Card, require
from tests.simulation.crm import CrmHouse
from tests.simulation.faults import Faults
from tests.simulation.network import WATCHED_S, Line
from tests.simulation.ports import DAY_S, PowerCut, Timeline
from tests.simulation.shop import MASTERS, Shop

LONGEST_FUSE = 45
"""Port calls to live, at most: a purchase makes about thirty."""
IDLE_S = (600.0, 3600.0)
"""The feed of an idle shop is read less often than the minute it is due in: a busy machine, and a faster world."""
WOKEN_S = (0.05, 2.0, 60.0, 600.0)
"""How long the woken loop may take to get going; then several sales go up at once."""
HOUSEKEEPING_S = 300.0
STRANGERS = 4


@dataclass(frozen=True)
class Size:
    """How big a world is. ``visits`` are tries to buy something, per card and day."""

    days: float = 1.0
    shops: int = 3
    cards: int = 10
    visits: float = 60.0


class Unforeseen(logging.Handler):
    """Collects what production code logs as an error: its loops swallow exceptions, the world must not."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.records.append(f"{record.getMessage()} ({type(error).__name__}: {error})")


class World:
    """State and time. What people and faults do is in ``people`` and ``mishaps``."""

    def __init__(self, seed: int, size: Size, faults: Faults) -> None:
        self.seed = seed
        self.size = size
        self.chance = Random(f"{seed}:world")
        self.faults = faults
        self.timeline = Timeline()
        self.book = Book()
        self.trace: list[str] = []
        self.taps = 0
        self.lost_points = 0
        """What copies of cards cost, in points."""
        self.closing = False
        self._hash = hashlib.sha256()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._planned = 0
        self._turns: dict[str, int] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="world-", dir=_fast_folder()))
        self.crm = CrmHouse(self._folder / "crm", self.timeline, Random(f"{seed}:crm"))
        self.watcher = checks.Watcher(self.crm, self.book)
        self.unforeseen = Unforeseen()
        self.disk_troubles: set[str] = set()
        """Shops whose disk is full now, or was while this step ran."""
        self.masters = MASTERS if faults.has("keys") else MASTERS[:1]
        self.shops = [self._new_shop(number) for number in range(1, size.shops + 1)]
        self.cards = [self.new_card(number, f"0912{number:07d}") for number in range(1, size.cards + 1)]
        self.strangers = [self._stranger(number) for number in range(1, STRANGERS + 1)] if faults.has("phones") else []
        """Who has no card: each stands for their phone alone."""

    def _new_shop(self, number: int) -> Shop:
        name = f"shop-{number}"
        chance = Random(f"{self.seed}:{name}")
        line = Line(self.crm, self.timeline, self.faults, chance, self.later, self.report)
        return Shop(name, self._folder / name, self.timeline, line, chance, self.masters)

    def new_card(self, number: int, phone: str) -> Card:
        """A blank one for whoever has this phone."""
        uid = bytes([0x10 + number % 0x60]) + self.chance.randbytes(3)
        image = MemoryImage(bytes(blank_card(uid)))
        return Card(f"card-{number}", uid, phone, image, self.masters)

    def _stranger(self, number: int) -> Card:
        return Card(f"stranger-{number}", b"", f"0935{number:07d}", MemoryImage(bytes(1024)), self.masters)

    def nobody_is_told_of(self, person: Card) -> None:
        checks.nobody_is_told_of(self._folder, person)

    def throw_away(self) -> None:
        for shop in self.shops:
            shop.throw_away()
        self.crm.close()
        for path in sorted(self._folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        self._folder.rmdir()

    # Time.

    def later(self, delay_s: float, job: Callable[[], None]) -> None:
        """Do ``job`` after ``delay_s`` seconds."""
        self._planned += 1
        heapq.heappush(self._heap, (self.timeline.now + delay_s, self._planned, job))

    def run_until(self, end: float) -> None:
        """Let everything planned before ``end`` happen."""
        while self._heap and self._heap[0][0] < end:
            moment, _, job = heapq.heappop(self._heap)
            self.timeline.now = max(self.timeline.now, moment)
            job()
        self.timeline.now = max(self.timeline.now, end)

    def exponential(self, per_day: float) -> float:
        """Seconds until the next of something that happens ``per_day`` times a day."""
        return self.chance.expovariate(per_day / DAY_S)

    def say(self, line: str) -> None:
        """One line of the trace."""
        line = f"{self.timeline.now:.3f} {line}"
        self._hash.update(line.encode() + b"\n")
        self.trace.append(line)

    @property
    def trace_hash(self) -> str:
        return self._hash.hexdigest()

    def report(self, problem: str) -> None:
        """Something failed that nobody made fail."""
        self.unforeseen.records.append(problem)

    # Processes.

    def open_shop(self, shop: Shop) -> None:
        shop.open()
        self.say(f"{shop.name} opens")
        alarms = [text for text in self.unforeseen.records if text.startswith("journal=restored")]
        self.unforeseen.records = [text for text in self.unforeseen.records if text not in alarms]
        noticed = bool(alarms) if shop.must_notice else not alarms or shop.restored_at >= 0
        require(noticed, "P9 restored", f"{shop.name}: {alarms}, {shop.must_notice}")
        shop.must_notice = False
        mine = [sale for sale in self.book.sales if sale.shop == shop.name]
        checks.answers_are_on_disk(shop, mine)
        self.watcher.minted_events_never_change(shop)
        self.wake(shop)
        self._housekeeping(shop, self._turns[shop.name])

    def step(self, shop: Shop, job: Callable[[], Any]) -> Any:
        """Run ``job`` in the shop's process: its answer, the AgentError it gave, or None when the process died."""
        power = self.chance.random() < self.faults.rate("power")
        if power or self.chance.random() < self.faults.rate("crashes"):
            shop.fuse.set(self.chance.randint(1, LONGEST_FUSE))
        try:
            answer = job()
        except PowerCut:
            self.die(shop, power=power)
            return None
        except AgentError as error:
            answer = error
        except Exception as error:
            raise Broken("P6 foreseen", f"{shop.name}: {type(error).__name__}: {error}") from error
        shop.fuse.clear()
        self._nothing_unforeseen(shop)
        return answer

    def _nothing_unforeseen(self, shop: Shop) -> None:
        records, self.unforeseen.records = self.unforeseen.records, []
        if records and shop.name not in self.disk_troubles:
            raise Broken("P6 foreseen", f"{shop.name}: {records[0]}")

    def die(self, shop: Shop, *, power: bool) -> None:
        """The shop's process ends; somebody starts it again within an hour."""
        lost = shop.die(power=power)
        self._turns[shop.name] = self._turns.get(shop.name, 0) + 1
        self.unforeseen.records.clear()  # last words of a process that was dying
        self.faults.count("power_cut" if power else "crash")
        self.say(f"{shop.name} dies power={power} lost={lost}")
        self.later(self.chance.uniform(20, 3600 if not self.closing else 60), lambda: self._reopen(shop))

    def die_in_order(self, shop: Shop, job: Callable[[], None]) -> None:
        """The shop's process is ended, ``job`` is done to its files, and it starts again."""
        self._turns[shop.name] = self._turns.get(shop.name, 0) + 1
        job()
        self.later(self.chance.uniform(20, 600), lambda: self._reopen(shop))

    def _reopen(self, shop: Shop) -> None:
        if not shop.is_open:
            self.open_shop(shop)

    def wake(self, shop: Shop) -> None:
        """``SyncWorker.wake``: its loop takes a turn now instead of when it would have."""
        turn = self._turns[shop.name] = self._turns.get(shop.name, 0) + 1
        self.later(self.chance.choice(WOKEN_S), lambda: self._turn(shop, turn))

    def _turn(self, shop: Shop, turn: int) -> None:
        """One turn of the sync loop, then the next when it says so."""
        if not shop.is_open or self._turns[shop.name] != turn:
            return
        began, due = self.timeline.now, shop.sync_is_due()
        waits = self.step(shop, shop.sync_turn)
        if waits is None:
            return
        if isinstance(waits, AgentError):
            raise Broken("P6 foreseen", f"{shop.name}: the sync loop ended: {waits}")
        state = shop.agent.journal.meta("crm_state") or "unknown"
        self.say(f"{shop.name} exchange {state} waits {waits:.3f}")
        if due and state == "up" and shop.name not in self.disk_troubles:  # else what is noted may be of before
            shop.heard_at = began
        self.watcher.nothing_is_acknowledged_that_the_crm_has_not(shop)
        long_out = not shop.line.up and self.timeline.now - shop.line.since > WATCHED_S
        if state == "up" or long_out:
            waits = max(waits, self.chance.uniform(*IDLE_S))
        self.later(max(waits, 0.01), lambda: self._turn(shop, turn))

    def _housekeeping(self, shop: Shop, born: int) -> None:
        """Overdue sales and the journal, looked after as the daemon does; one loop for each life of the process."""
        life = shop.fuse

        def keep() -> None:
            if not shop.is_open or shop.fuse is not life:
                return
            closed = self.step(shop, shop.keep_house)
            if isinstance(closed, int) and closed:
                self.faults.count("closed_without_card")
                self.say(f"{shop.name} closes {closed} overdue")
                self.wake(shop)
            if closed is not None:
                self.later(HOUSEKEEPING_S, keep)

        self.later(HOUSEKEEPING_S, keep)

    def look(self) -> None:
        """Every check that may be asked at any time."""
        self.watcher.ledger_sums_to_nothing()
        self.watcher.points_without_a_card_are_kept()
        self.watcher.no_event_counts_twice()
        self.watcher.no_receipt_counts_twice()
        for shop in self.shops:
            if shop.is_open:
                checks.terminal_cap_holds(shop)
                checks.copies_share_a_cap(shop)
                self.watcher.minted_events_never_change(shop)
                self.watcher.sequences_have_no_gap(shop)
                mine = [sale for sale in self.book.sales if sale.shop == shop.name]
                checks.answers_are_on_disk(shop, mine)
                checks.offline_is_counted(shop, mine)
        for card in self.cards:
            if not card.twins:
                checks.card_cap_holds(self.book, card)


def _fast_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - memory, where there is some
