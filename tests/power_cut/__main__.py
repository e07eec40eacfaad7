"""``python -m tests.power_cut``: record a day of the real program, cut the power many times, say what was lost."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from secrets import randbelow

from tests.power_cut import campaign
from tests.power_cut.campaign import Cut, Report, Witness
from tests.power_cut.crm_day import CrmWitness, day_of_a_crm
from tests.power_cut.recorder import Recording
from tests.power_cut.shop_witness import ShopWitness
from tests.power_cut.story import day_of_a_daemon, day_of_commands
from tests.program import BREAKS

Day = Callable[[Path, argparse.Namespace], Recording]
DAYS: dict[str, Day] = {
    "daemon": lambda folder, o: day_of_a_daemon(folder, o.sales, o.seed, broken=o.broken),
    "commands": lambda folder, o: day_of_commands(folder, o.sales, o.seed),
    "crm": lambda folder, o: day_of_a_crm(folder, o.sales, broken=o.broken),
}


def main() -> int:
    options = _options()
    logging.disable(logging.WARNING)  # what a broken day's journals say of themselves, a thousand times
    recording = campaign.load(options.recording) if options.recording else _record(options)
    cuts = [options.cut] if options.cut else campaign.plan(recording, options.cuts, options.seed)
    witness: Witness = CrmWitness() if options.day == "crm" else ShopWitness(recording)
    report = campaign.run(recording, cuts, witness, 1 if options.cut else campaign.GO_ON_EACH)
    _tell(report)
    if report.kinds and not options.recording:
        kept = Path(tempfile.gettempdir()) / f"power-cut-{options.day}-{options.seed}.recording"
        campaign.save(recording, kept)
        first = min(cut for cut, _ in report.first.values())
        _say(f"again: python -m tests.power_cut --day {options.day} --recording {kept} --cut {first}")
    return 1 if report.kinds else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.power_cut", description=__doc__)
    parser.add_argument("--day", choices=list(DAYS), default="daemon", help="who works [%(default)s]")
    parser.add_argument("--sales", type=int, default=40, help="sales in that day [%(default)s]")
    parser.add_argument("--cuts", type=int, default=2000, help="how many power cuts [%(default)s]")
    parser.add_argument("--seed", type=int, default=randbelow(10**6), help="of the day and of the cuts [by chance]")
    parser.add_argument("--broken", choices=list(BREAKS), default="", help="break a promise on purpose")
    parser.add_argument("--synchronous", choices=["FULL", "NORMAL"], default="FULL", help="the journal's setting")
    parser.add_argument("--recording", type=Path, help="use this recording")
    parser.add_argument("--cut", type=Cut.parse, metavar="PLACE:FATE:SEED", help="only this cut")
    options = parser.parse_args()
    if options.synchronous == "NORMAL":
        options.broken = "normal"
    return options


def _record(options: argparse.Namespace) -> Recording:
    _say(f"recording {options.sales} sales of a day with: {options.day}, seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="power-cut-") as folder:
        return DAYS[options.day](Path(folder), options)


def _tell(report: Report) -> None:
    _say(
        f"{report.cuts} cuts, after {report.gone_on} of them the program went on, in {report.elapsed_s:.1f} s\n"
        f"at most {report.most_at_stake} told when the power went, {report.at_stake} over all cuts\n"
        f"{report.cuts_with_loss} cuts lost something told, at worst {report.worst_loss} things\n"
        f"what was found: {dict(report.kinds) or 'nothing'}"
    )
    if report.kinds:
        _say(report.told)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
