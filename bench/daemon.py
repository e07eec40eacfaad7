"""What the daemon takes while nobody buys: memory and CPU from /proc, beside the least that could do its job."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.measure import Figure, Samples
from bench.purchase import READER
from bench.rig import Rig

SETTLE_S = 3.0
IDLE_S = 30.0
MEMORY_TARGET_MB = 90.0
CPU_TARGET_PERCENT = 1.0

_LIBRARIES = (
    "import click, cryptography.hazmat.primitives.cmac, pydantic, requests, sqlite_utils, tenacity, smartcard.scard"
)
_SLEEPER = f"{_LIBRARIES}\nimport time\ntime.sleep(3600)"
_WATCHER = """
from smartcard.scard import *
_, context = SCardEstablishContext(SCARD_SCOPE_SYSTEM)
_, names = SCardListReaders(context, [])
known = SCARD_STATE_UNAWARE
while True:
    _, [(_, flags, _)] = SCardGetStatusChange(context, 1000, [(names[0], known)])
    known = flags & ~SCARD_STATE_CHANGED
"""


@contextmanager
def _python(script: str) -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def resident_mb(pid: int) -> float:
    """What a process holds in memory, in millions of bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * 1024 / 1e6


def _cpu_s(pid: int) -> float:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def _cpu_percent(pids: list[int]) -> list[float]:
    before, started = [_cpu_s(pid) for pid in pids], time.monotonic()
    time.sleep(IDLE_S)
    elapsed = time.monotonic() - started
    return [(_cpu_s(pid) - spent) / elapsed * 100 for pid, spent in zip(pids, before, strict=True)]


def run(rig: Rig) -> Iterator[Figure]:
    """All at the same time; each daemon has sold once before, so that nothing is left to be loaded."""
    with ExitStack() as stack:
        stack.enter_context(rig.card())
        shops = {"PC/SC reader": rig.shop("daemon", READER), "simulator": rig.simulated("daemon-sim")}
        pids = []
        for shop in shops.values():
            pids.append(stack.enter_context(shop.daemon()))
            shop.done("purchase", "250000", "--receipt", "1")
        pids += [stack.enter_context(_python(script)) for script in (_SLEEPER, _WATCHER)]
        time.sleep(SETTLE_S)
        cpu = [Samples.one(percent) for percent in _cpu_percent(pids)]
        memory = [Samples.one(resident_mb(pid)) for pid in pids]
    for reader, mb in zip(shops, memory, strict=False):
        yield Figure(
            "daemon", f"memory, {reader}", "MB", mb, memory[2], "python with the same libraries", MEMORY_TARGET_MB
        )
    for reader, percent in zip(shops, cpu, strict=False):
        yield Figure(
            "daemon", f"idle CPU, {reader}", "%", percent, cpu[3], "a SCardGetStatusChange loop", CPU_TARGET_PERCENT
        )
