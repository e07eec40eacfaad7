"""One seed from the first visit to the last check, and what it came to."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

from tests.simulation.book import Broken
from tests.simulation.callers import Callers
from tests.simulation.crm import endpoints_inline
from tests.simulation.faults import Faults
from tests.simulation.heal import heal
from tests.simulation.mishaps import Mishaps
from tests.simulation.people import People
from tests.simulation.ports import DAY_S
from tests.simulation.thieves import Thieves
from tests.simulation.world import Size, World

LOOKS_PER_DAY = 4
TRACE_SHOWN = 30


@dataclass
class Report:
    """What a run came to. ``broken`` is the promise that did not hold, in words; None when all held."""

    seed: int
    trace_hash: str
    taps: int
    answers: int
    seconds: float
    injected: dict[str, int]
    lost_points: int
    broken: str | None = None
    tail: list[str] = field(default_factory=list)


def run(seed: int, size: Size, faults: Faults) -> Report:
    """Live one world. Nothing of it is left behind."""
    started = time.perf_counter()
    with endpoints_inline():
        world = World(seed, size, faults)
        production = logging.getLogger("terminal_agent")
        production.addHandler(world.unforeseen)
        propagated, production.propagate = production.propagate, False
        broken = None
        try:
            _live(world)
        except Broken as problem:
            broken = str(problem)
            world.say(f"BROKEN {broken}")
        finally:
            production.removeHandler(world.unforeseen)
            production.propagate = propagated
            world.throw_away()
    return Report(
        seed=seed,
        trace_hash=world.trace_hash,
        taps=world.taps,
        answers=world.book.answers,
        seconds=time.perf_counter() - started,
        injected=dict(sorted(world.faults.injected.items())),
        lost_points=world.lost_points,
        broken=broken,
        tail=world.trace[-TRACE_SHOWN:],
    )


def _live(world: World) -> None:
    for shop in world.shops:
        shop.open()
        shop.join(world.crm.enrolment_code())
        shop.close()
        world.open_shop(shop)
    mishaps, people = Mishaps(world), People(world)
    mishaps.begin()
    people.arrive()
    Thieves(world, people).begin()
    Callers(world, people).begin()
    looks = max(1, round(world.size.days * LOOKS_PER_DAY))
    for number in range(1, looks + 1):
        world.run_until(world.size.days * DAY_S * number / looks)
        world.look()
    heal(world, mishaps)
