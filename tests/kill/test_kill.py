"""P9 and P2 in real processes: whoever is killed, whenever, every sale ends done, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kill import campaign

SEED = 20261122


def nothing_lost_or_doubled(folder: Path, kills: int, seed: int) -> None:
    report = campaign.run(folder, kills, seed)
    assert not report.problems, "\n".join([*report.problems, f"python -m tests.kill --kills {kills} --seed {seed}"])
    assert report.kills.total() == kills
    assert report.interrupted > 0, "the kills met nobody at work"
    assert len(report.finished) >= campaign.CASHIERS


def test_a_shop_whose_processes_are_killed_loses_and_doubles_nothing(tmp_path: Path) -> None:
    nothing_lost_or_doubled(tmp_path, 15, SEED)


def test_the_campaign_sees_sales_that_were_told_before_they_were_kept(tmp_path: Path) -> None:
    """Who dies when is a matter of chance, so there is more than one try."""
    for number in range(8):
        folder = tmp_path / str(number)
        folder.mkdir()
        if campaign.run(folder, 6, SEED + number, broken="late-commit").problems:
            return
    pytest.fail("sales told too early were never missed")


@pytest.mark.slow
def test_a_hundred_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    nothing_lost_or_doubled(tmp_path, 100, SEED + 1)
