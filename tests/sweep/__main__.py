"""The sweep by hand; with ``--at`` one fault of one scenario, as a failing test prints it."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.sweep.ports import POWER_CUT, Fault
from tests.sweep.scenarios import SCENARIOS, Scenario
from tests.sweep.sweep import Report, Sweep, Ways, sweep
from tests.sweep.tables import memory


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sweep", description=__doc__)
    parser.add_argument("name", nargs="?", default="", help="the scenarios whose name begins so")
    parser.add_argument("--thorough", action="store_true", help="every scenario, every way in which a call may fail")
    parser.add_argument("--step", type=int, default=1, help="this step of the scenario [default: 1]")
    parser.add_argument("--at", type=int, help="this call of the step alone")
    parser.add_argument("--way", default=POWER_CUT, help="fails this way [default: power_cut]")
    asked = parser.parse_args()
    scenarios = [s for s in SCENARIOS if s.name.startswith(asked.name) and (s.everyday or asked.thorough or asked.name)]
    begun, reports = time.process_time(), []
    for scenario in scenarios:
        with tempfile.TemporaryDirectory(dir=memory()) as folder:
            if asked.at:
                _run_one(scenario, Path(folder), asked.step, Fault(asked.way, asked.at))
            else:
                reports.append(sweep(scenario, Path(folder), Ways.ALL if asked.thorough else Ways.EVERYDAY))
                _say(reports[-1])
    calls, runs = sum(report.calls.total() for report in reports), sum(report.runs for report in reports)
    sys.stdout.write(f"{runs} runs for {calls} calls, {time.process_time() - begun:.0f} s of processor time\n")
    return int(any(report.broken for report in reports))


def _run_one(scenario: Scenario, folder: Path, step: int, fault: Fault) -> None:
    one = Sweep(scenario, folder)
    with one.prepared() as stages:
        one.run(next(stage for stage in stages if stage.number == step), fault)


def _say(report: Report) -> None:
    sys.stdout.write("\n    ".join([str(report), *report.broken]) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
