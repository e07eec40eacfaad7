"""``python -m bench [NAME…] [--json]``: run the benches and tell."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing

from rich.console import Console
from rich.table import Table

from bench import api, crm, daemon, desk, drain, drivers, durability, keys, purchase, startup, sync, till
from bench.measure import Figure, Samples
from bench.rig import Left, Rig

Bench = Callable[[Rig], Iterator[Figure]]
BENCHES: dict[str, Bench] = {
    "purchase": purchase.run,
    "help": startup.run_help,
    "daemon": daemon.run,
    "tap": startup.run_tap,
    "sync": sync.run,
    "drain": drain.run,
    "crm": crm.run,
    "durability": durability.run,
    "drivers": drivers.run,
    "till": till.run,
    "keys": keys.run,
    "checkouts": api.run,
    "desk": desk.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Our figures beside a yardstick's.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these: {', '.join(BENCHES)}")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    options = parser.parse_args()
    unknown = set(options.names) - set(BENCHES)
    if unknown:
        parser.error(f"no bench is called {', '.join(sorted(unknown))}")
    figures, left = _run(options.names or list(BENCHES))
    if options.json:
        json.dump({"figures": [figure.to_json() for figure in figures], "left_out": left}, sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        _show(figures, left)


def _run(names: list[str]) -> tuple[list[Figure], dict[str, str]]:
    figures: list[Figure] = []
    left: dict[str, str] = {}
    with closing(Rig()) as rig:
        for name in names:
            sys.stderr.write(f"{name} …\n")
            try:
                figures.extend(BENCHES[name](rig))
            except Left as reason:
                left[name] = str(reason)
    return figures, left


def _show(figures: list[Figure], left: dict[str, str]) -> None:
    console = Console()
    table = Table("bench", "what", "ours", "yardstick", "ratio", "target", "n")
    for figure in figures:
        table.add_row(
            figure.bench,
            figure.what,
            _told(figure.ours, figure.unit),
            _told(figure.yardstick, figure.unit) if figure.yardstick else "",
            f"{figure.ratio:.2f}" if figure.ratio else "",
            _target(figure),
            str(figure.ours.count),
        )
    console.print(table)
    for figure in figures:
        if figure.details:
            console.print(f"{figure.bench}, {figure.what}: {json.dumps(figure.details)}", highlight=False)
    for name, reason in left.items():
        console.print(f"{name} was left out: {reason}", highlight=False)


def _told(samples: Samples, unit: str) -> str:
    told = f"{samples.median:,.2f} {unit}"
    return told if samples.count == 1 else f"{told} (p95 {samples.p95:,.2f})"


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    bound = f"{'≥' if figure.target_is_least else '≤'} {figure.target:g}" + (
        "×" if figure.target_is_ratio else f" {figure.unit}"
    )
    return f"{bound} {'met' if figure.met else 'MISSED'}"


if __name__ == "__main__":
    main()
