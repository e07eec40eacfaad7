"""The command line: which seeds, how big, which faults; prints a report, and a one-line replay for what failed."""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.faults import KINDS, draw, parse
from tests.simulation.run import Report, run
from tests.simulation.world import Size

DEFAULT = Size()


def main(arguments: list[str] | None = None) -> int:
    """0 when every promise held in every world, 1 otherwise."""
    options = _parser().parse_args(arguments)
    size = Size(options.days, options.shops, options.cards, options.visits)
    parse(options.faults)
    first = secrets.randbelow(10**9) if options.seed is None else options.seed
    reports = []
    for report in _reports(first, options, size):
        reports.append(report)
        if report.broken:
            _show_failure(report, size, options)
            if not options.keep_going:
                break
    _show(reports)
    return 1 if any(report.broken for report in reports) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="the first seed; without it a fresh one, which is printed")
    parser.add_argument("--days", type=float, default=DEFAULT.days, help="virtual days of each world")
    parser.add_argument("--shops", type=int, default=DEFAULT.shops)
    parser.add_argument("--cards", type=int, default=DEFAULT.cards)
    parser.add_argument("--visits", type=float, default=DEFAULT.visits, help="visits per card and day")
    parser.add_argument("--faults", default="swarm", help=f"all, none, swarm, or of: {', '.join(KINDS)}")
    parser.add_argument("--always", action="store_true", help="every named fault, not a random subset of them")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, counting up")
    parser.add_argument("--minutes", type=float, help="stop beginning new seeds after this time")
    parser.add_argument("--jobs", type=int, default=1, help="worlds at once")
    parser.add_argument("--keep-going", action="store_true", help="go on after a failure")
    return parser


def _reports(first: int, options: argparse.Namespace, size: Size) -> Iterator[Report]:
    deadline = time.monotonic() + 60 * options.minutes if options.minutes else None
    seeds = range(first, first + options.seeds) if not deadline or options.seeds > 1 else range(first, first + 10**9)
    if options.jobs == 1:
        for seed in seeds:
            if deadline and time.monotonic() > deadline:
                return
            yield run(seed, size, draw(seed, options.faults, always=options.always))
        return
    with ProcessPoolExecutor(options.jobs) as pool:
        waiting = []
        for seed in seeds:
            if deadline and time.monotonic() > deadline:
                break
            waiting.append(pool.submit(run, seed, size, draw(seed, options.faults, always=options.always)))
            if len(waiting) > options.jobs:
                yield waiting.pop(0).result()
        for left in waiting:
            yield left.result()


def replay(seed: int, size: Size, faults: str, *, always: bool = False) -> str:
    """The one line that lives this world again."""
    parts = [f"python -m tests.simulation --seed {seed} --days {size.days:g} --faults {faults}"]
    for name in ("shops", "cards", "visits"):
        if getattr(size, name) != getattr(DEFAULT, name):
            parts.append(f"--{name} {getattr(size, name):g}")
    return " ".join([*parts, "--always"] if always else parts)


def _show_failure(report: Report, size: Size, options: argparse.Namespace) -> None:
    _say("\n".join(report.tail))
    _say(f"BROKEN {report.broken}")
    _say(f"replay: {replay(report.seed, size, options.faults, always=options.always)}")


def _show(reports: list[Report]) -> None:
    taps, seconds = sum(r.taps for r in reports), sum(r.seconds for r in reports)
    injected: Counter[str] = Counter()
    for report in reports:
        injected.update(report.injected)
    if len(reports) == 1:
        _say(f"seed {reports[0].seed}  trace {reports[0].trace_hash}")
    answers = sum(r.answers for r in reports)
    _say(f"worlds {len(reports)}  taps {taps}  answers {answers}  {taps / max(seconds, 1e-9):.0f} taps/s")
    _say("injected: " + (", ".join(f"{name} {count}" for name, count in sorted(injected.items())) or "nothing"))
    if any(report.lost_points for report in reports):
        _say(f"lost to copied cards, within the bound: {sum(r.lost_points for r in reports)} points")
    _say(f"broken: {sum(1 for r in reports if r.broken)}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
