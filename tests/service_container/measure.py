"""Figures of the packaged service: ``python -m tests.service_container.measure --package dist/FILE.deb [--taps N]``.

On Debian 12 and 13, each in a container: boot to ready, stop, crash to ready, memory when ready and after a day's taps.
Prints one JSON object per Debian.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tests.cli.shop import wait_until
from tests.service_container.machine import Machine, installed

SUITES = ("bookworm", "trixie")
ROUNDS = 5
# A day in one process, as POS software has it: the daemon is what is measured, not the start of a command.
DAY = """
import pathlib, sys
from terminal_agent.service import control
for number in range(int(sys.argv[1])):
    line = control.connect(pathlib.Path("/run/terminal-agent"))
    control.call(line, "purchase", {"amount": 250000, "receipt_no": f"day-{number}", "redeem": 0, "coupon": None,
                                    "lines": [], "reader": None, "wait_s": 10}, print)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, required=True, help="the .deb to measure")
    parser.add_argument("--taps", type=int, default=500, help="taps of a day (default 500)")
    options = parser.parse_args()
    for suite in SUITES:
        with tempfile.TemporaryDirectory() as folder, installed(suite, Path(folder), options.package) as machine:
            figures = measure(machine, Path(folder) / "card.mfd", options.taps)
        size = options.package.stat().st_size
        sys.stdout.write(json.dumps({"suite": suite, "package_mb": round(size / 1e6, 1), **figures}) + "\n")
        sys.stdout.flush()


def measure(machine: Machine, card: Path, taps: int) -> dict[str, float]:
    machine.ta("keys", "generate", "--activate")
    machine.power_off()
    machine.boot()
    machine.wait_for("ActiveState", "active")
    figures = {"boot_to_ready_s": _seconds(machine, "ActiveEnterTimestampMonotonic")}
    starts, stops, crashes = zip(*(_one_round(machine) for _ in range(ROUNDS)), strict=True)
    figures |= {"start_s": median(starts), "stop_s": median(stops), "crash_to_ready_s": median(crashes)}
    figures["rss_ready_mb"] = _rss_mb(machine)
    holder = machine.lay_card(card)
    machine.ta("card", "issue", "--wait-s", "20")
    begun = time.monotonic()
    day = machine.enter("/opt/terminal-agent/current/bin/python", "-c", DAY, str(taps))
    subprocess.run(day, check=True, stdout=subprocess.DEVNULL)
    figures["tap_ms"] = (time.monotonic() - begun) / taps * 1000
    figures["rss_after_taps_mb"] = _rss_mb(machine)
    assert machine.ta("card", "show")["points"] == 25 * taps
    machine.take(holder)
    return {name: round(value, 2) for name, value in figures.items()}


def _one_round(machine: Machine) -> tuple[float, float, float]:
    """Seconds to stop, to start, and from a crash to ready."""
    begun = time.monotonic()
    machine.run("systemctl", "stop", "terminal-agent")
    stopped = time.monotonic()
    machine.run("systemctl", "start", "terminal-agent")
    started = time.monotonic()
    before = machine.property("NRestarts")
    machine.run("systemctl", "kill", "--signal=KILL", "--kill-who=main", "terminal-agent")
    wait_until(lambda: machine.property("NRestarts") != before and machine.property("ActiveState") == "active")
    return started - stopped, stopped - begun, time.monotonic() - started


def _seconds(machine: Machine, moment: str) -> float:
    """A moment of this boot, since the container's systemd began."""
    begun = machine.run("systemctl", "show", "--value", "--property", "UserspaceTimestampMonotonic").strip()
    return (int(machine.property(moment)) - int(begun)) / 1e6


def _rss_mb(machine: Machine) -> float:
    status = machine.run("cat", f"/proc/{machine.property('MainPID')}/status")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
