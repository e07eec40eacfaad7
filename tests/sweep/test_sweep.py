"""The sweep itself: it sees code that is broken, and counts every port. What is swept is in the files beside this."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sweep.broken import BREAKS, Break
from tests.sweep.ports import Port
from tests.sweep.scenarios import SCENARIOS
from tests.sweep.sweep import Sweep, Ways, sweep

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


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
