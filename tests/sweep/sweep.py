"""The sweep: a scenario is run once and its port calls counted, N; then it is run again for each of them, failing it.

This is how SQLite tests its own error paths (test/ioerr.test). A run goes: fault, answer, the answer is held against
the disk, people do the step again, the rest of the scenario, a last power cut, an exchange with head office, the books.
It must end as the run without a fault does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from terminal_agent.errors import AgentError
from tests.sweep import books
from tests.sweep.books import Answer, Broken, require
from tests.sweep.ports import AFTERWARDS, POWER_CUT, Call, Fault, PowerCut
from tests.sweep.scenarios import Scenario
from tests.sweep.shop import Moment, Shop
from tests.sweep.steps import Step
from tests.sweep.tables import Tables

EVERYDAY = frozenset(
    {
        *(POWER_CUT, "power_cut_garbage", "power_cut_halfway", "power_cut_unheard"),
        *("io_error", "disk_full", "committed_io_error", "no_space"),
        *("removed", "removed_written", "removed_garbage"),
        *("no_connection", "line_down", "reply_lost", "reply_reset"),
    }
)
"""The other ways differ from these by little more than the error's words."""


class Ways(StrEnum):
    """Which of the ways in which a call may fail; the two halves are a whole."""

    EVERYDAY = "everyday"
    OTHERS = "others"
    ALL = "all"

    def __contains__(self, way: object) -> bool:
        return self is Ways.ALL or (way in EVERYDAY) == (self is Ways.EVERYDAY)


@dataclass(frozen=True)
class Stage:
    """One step of a scenario in the run without faults: the world before it, and the calls it made."""

    number: int
    step: Step
    before: Moment
    journal_before: Tables
    calls: tuple[Call, ...]

    def faults(self, ways: Ways) -> Iterator[Fault]:
        """Every call, every way: a power cut before each and after the last, and whatever else that call may meet."""
        for number, call in enumerate((*self.calls, AFTERWARDS), 1):
            yield from (Fault(way, number) for way in (POWER_CUT, *call.ways) if way in ways)

    def name_of(self, fault: Fault) -> str:
        what = (*self.calls, AFTERWARDS)[fault.at - 1]
        return f"--step {self.number} --at {fault.at} --way {fault.way}  # {self.step.name}, {what}"


class Sweep:
    """One scenario on one shop."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self._scenario = scenario
        self._shop = Shop(folder)
        self._ends: dict[tuple[int, str], dict[str, Any]] = {}

    @contextmanager
    def prepared(self) -> Iterator[list[Stage]]:
        """The stages of the run without faults, in which something can fail."""
        shop = self._shop
        with shop.open():
            shop.furnish() if self._scenario.furnished else shop.data_dir.mkdir()
            for step in self._scenario.prepare:
                step.act(shop)
            stages = [self._stage(number, step) for number, step in enumerate(self._scenario.steps, 1)]
            self._expected = self._end_from(len(stages))
            yield [stage for stage in stages if stage.step.swept]

    def _stage(self, number: int, step: Step) -> Stage:
        shop = self._shop
        shop.stop()
        before, journal = shop.moment(), shop.journal()
        shop.put_back(before)  # looking leaves an index of the log beside the journal
        if not step.cold:
            shop.start()
        shop.ports.watch()
        _must(shop, step)
        calls = tuple(shop.ports.calls)
        shop.ports.heal()
        return Stage(number, step, before, journal, calls)

    def run(self, stage: Stage, fault: Fault) -> None:
        """The scenario from this stage on, with this fault. Raises :class:`Broken`."""
        shop = self._shop
        shop.put_back(stage.before)
        if not stage.step.cold:
            shop.start()
        shop.ports.watch(fault)
        answer = _answer(lambda: stage.step.act(shop))
        require(shop.ports.struck or fault.at > len(stage.calls), "the same run makes other calls", shop.ports.calls)
        if answer is not None:
            books.check_answer(shop, answer, stage.journal_before, stage.step.receipt_no)
        if answer is None or answer.error is None:  # who was told "done" is told the same after a power cut
            shop.power_goes()
        shop.ports.heal()
        if answer is not None and answer.disk_failed:
            shop.keep_house()
        _again(shop, stage.step, answer)
        end = self._end_from(stage.number)
        require(end == self._expected, "it ends otherwise than without the fault", _difference(self._expected, end))

    def _end_from(self, number: int) -> dict[str, Any]:
        """The rest of the scenario, all is mended, the power goes once more, what waits is sent, the books.

        From a world that is the same but for its ids it goes the same way: each is followed to its end once.
        """
        shop = self._shop
        world = number, books.world(shop)
        if world not in self._ends:
            for step in self._scenario.steps[number:]:
                _must(shop, step)
            shop.mend()
            shop.power_goes()
            here = books.check_here(shop, self._scenario.alarms)
            shop.do("sync")
            self._ends[world] = {**here, **books.check_there(shop)}
        return self._ends[world]


def _answer(act: Callable[[], Any]) -> Answer | None:
    """What the cashier is told; None when the power went before. Any other exception is no answer at all."""
    try:
        result = act()
    except AgentError as error:
        return Answer(error=error)
    except PowerCut:
        return None
    except Exception as error:
        raise Broken(f"no answer but {type(error).__name__}: {error}") from error
    return Answer(result if isinstance(result, dict) else {})


def _must(shop: Shop, step: Step) -> None:
    answer = _answer(lambda: step.act(shop))
    require(answer is not None and answer.error is None, "a step fails that no fault struck", (step.name, str(answer)))


def _again(shop: Shop, step: Step, answer: Answer | None) -> None:
    """People do it again, and now it is done; who was told so before is told the same."""
    again = _answer(lambda: step.repeat(shop))
    assert again is not None
    if again.error is not None:
        require(again.error.code in step.settled_by, "doing it again does not help", f"{answer}, then {again}")
    if answer is not None and answer.result is not None and again.result is not None:
        first, second = ({**each, "replayed": None} for each in (answer.result, again.result))
        require("checkout_id" not in first or first == second, "the answer changed", (first, second))


def _difference(expected: dict[str, Any], found: dict[str, Any]) -> str:
    parts = [f"{key}: {found[key]!r} instead of {expected[key]!r}" for key in expected if expected[key] != found[key]]
    return "; ".join(parts)


@dataclass
class Report:
    """What a sweep did; ``broken`` says what was not kept, and how to see it again."""

    scenario: str
    calls: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    broken: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        by_port = ", ".join(f"{port} {n}" for port, n in sorted(self.calls.items()))
        return f"{self.scenario:<46} {self.runs:>5} runs for {self.calls.total():>4} calls ({by_port})"


def sweep(scenario: Scenario, folder: Path, ways: Ways, *, until_broken: bool = False) -> Report:
    """Every fault of a scenario; with ``until_broken`` from the last one back, until one breaks a promise."""
    report = Report(scenario.name)
    one = Sweep(scenario, folder)
    with one.prepared() as stages:
        for stage in stages:
            report.calls.update(call.port.value for call in stage.calls)
            faults = list(stage.faults(ways))
            for fault in reversed(faults) if until_broken else faults:
                report.runs += 1
                try:
                    one.run(stage, fault)
                except Broken as broken:
                    report.broken.append(f"python -m tests.sweep {scenario.name!r} {stage.name_of(fault)}: {broken}")
                    if until_broken:
                        return report
    return report
