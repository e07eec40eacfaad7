"""``python -m tests.kill``: kill daemon, commands and CRM of a busy shop, many times; say what was lost or doubled."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from secrets import randbelow

from tests.kill import campaign
from tests.program import BREAKS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="how many [%(default)s]")
    parser.add_argument("--seed", type=int, default=randbelow(10**6), help="of who dies and when [by chance]")
    parser.add_argument("--broken", choices=list(BREAKS), default="", help="break a promise on purpose")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kill-") as folder:
        report = campaign.run(Path(folder), options.kills, options.seed, broken=options.broken)
    lines = [
        f"seed {options.seed}: {report.kills.total()} kills {dict(report.kills)}, {len(report.finished)} sales",
        f"{report.interrupted} requests without an answer, {report.replayed} sales were on disk when asked again",
        f"problems: {len(report.problems)}",
        *report.problems,
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
