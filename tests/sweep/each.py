"""What each file of the sweep does with its scenarios; several files, so that several processes can carry them out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.sweep.scenarios import Scenario
from tests.sweep.sweep import Report, Ways, sweep


def each(scenarios: Iterable[Scenario]) -> pytest.MarkDecorator:
    """A test for each scenario, named as it is."""
    return pytest.mark.parametrize("scenario", list(scenarios), ids=lambda scenario: scenario.name)


def of_every_day(scenarios: Iterable[Scenario]) -> pytest.MarkDecorator:
    return each(scenario for scenario in scenarios if scenario.everyday)


def in_the_usual_ways(scenario: Scenario, folder: Path, reports: list[Report]) -> None:
    """Each port call fails in the ways that differ most."""
    _nothing_is_lost_or_doubled(scenario, folder, reports, Ways.EVERYDAY)


def in_all_other_ways(scenario: Scenario, folder: Path, reports: list[Report]) -> None:
    """Each port call fails in the ways that :func:`in_the_usual_ways` left out."""
    _nothing_is_lost_or_doubled(scenario, folder, reports, Ways.OTHERS if scenario.everyday else Ways.ALL)


def _nothing_is_lost_or_doubled(scenario: Scenario, folder: Path, reports: list[Report], ways: Ways) -> None:
    reports.append(sweep(scenario, folder, ways))
    assert not reports[-1].broken, "\n".join(reports[-1].broken)
