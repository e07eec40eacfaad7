"""Cards issued, wiped and re-keyed, with each port call failing, and the power gone before and after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sweep.each import each, in_all_other_ways, in_the_usual_ways, of_every_day
from tests.sweep.scenarios import CARDS, Scenario
from tests.sweep.sweep import Report


@of_every_day(CARDS)
def test_whatever_call_fails_nothing_is_lost_or_doubled(
    scenario: Scenario, folder: Path, reports: list[Report]
) -> None:
    in_the_usual_ways(scenario, folder, reports)


@pytest.mark.slow
@each(CARDS)
def test_in_whatever_other_way_a_call_fails_nothing_is_lost_or_doubled(
    scenario: Scenario, folder: Path, reports: list[Report]
) -> None:
    in_all_other_ways(scenario, folder, reports)
