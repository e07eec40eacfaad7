"""Each port call of each scenario fails, and the power goes before and after it: nothing is lost, nothing doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sweep.broken import BREAKS, Break
from tests.sweep.ports import Port
from tests.sweep.scenarios import SCENARIOS, Scenario
from tests.sweep.sweep import Report, Sweep, Ways, sweep

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
EVERYDAY = [scenario for scenario in SCENARIOS if scenario.everyday]


@pytest.mark.parametrize("scenario", EVERYDAY, ids=lambda scenario: scenario.name)
def test_whatever_call_fails_nothing_is_lost_or_doubled(
    scenario: Scenario, folder: Path, reports: list[Report]
) -> None:
    reports.append(sweep(scenario, folder, Ways.EVERYDAY))
    assert not reports[-1].broken, "\n".join(reports[-1].broken)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_in_whatever_other_way_a_call_fails_nothing_is_lost_or_doubled(
    scenario: Scenario, folder: Path, reports: list[Report]
) -> None:
    reports.append(sweep(scenario, folder, Ways.OTHERS if scenario.everyday else Ways.ALL))
    assert not reports[-1].broken, "\n".join(reports[-1].broken)


@pytest.mark.parametrize("which", BREAKS, ids=lambda which: which.name)
def test_a_sweep_sees_that_the_code_is_broken(which: Break, folder: Path) -> None:
    with which.apply():
        assert sweep(BY_NAME[which.scenario], folder, Ways.EVERYDAY, until_broken=True).broken


def test_every_port_is_counted(folder: Path) -> None:
    """A port that slips past the counting would not be missed by anything else here."""
    counted = set()
    for name in ("join", "purchase"):
        with Sweep(BY_NAME[name], folder / name).prepared() as stages:
            counted |= {call.port for stage in stages for call in stage.calls}
    assert counted == set(Port)
