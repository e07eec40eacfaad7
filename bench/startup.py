"""What a person waits for: --help, and a purchase from the command line through the daemon."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from itertools import count

from bench.measure import Figure, in_turns
from bench.purchase import READER
from bench.rig import PROGRAM, Rig

STARTS = 20
PURCHASES = 30
HELP_TARGET_S = 0.25


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def run_help(rig: Rig) -> Iterator[Figure]:
    import_click = [sys.executable, "-c", "import click"]
    for command in ([*PROGRAM, "--help"], import_click):
        _run(command)  # bytecode and pages are there from now on
    ours, theirs = in_turns(STARTS, partial(_run, [*PROGRAM, "--help"]), partial(_run, import_click))
    yield Figure("help", "terminal-agent --help", "ms", ours, theirs, "python -c 'import click'", HELP_TARGET_S * 1000)


def run_tap(rig: Rig) -> Iterator[Figure]:
    receipts = count(1)
    with rig.card():
        shop = rig.shop("cli", READER)

        def buy() -> None:
            _run(shop.command("purchase", "250000", "--receipt", str(next(receipts))))

        with shop.daemon():
            buy()
            ours, theirs = in_turns(PURCHASES, buy, partial(_run, [*PROGRAM, "--help"]))
    yield Figure("tap", "terminal-agent purchase, through the daemon", "ms", ours, theirs, "terminal-agent --help")
