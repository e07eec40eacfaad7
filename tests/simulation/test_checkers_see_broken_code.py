"""A checker that cannot fail proves nothing: each of these breaks of production code must turn a world red."""

from __future__ import annotations

import pytest

from tests.simulation.broken import BREAKS, Break, broken
from tests.simulation.faults import Faults
from tests.simulation.run import run
from tests.simulation.world import Size

SMALL = Size(days=0.2, shops=2, cards=5, visits=60)
SEEDS = range(1, 7)


@pytest.mark.parametrize("which", BREAKS, ids=lambda which: which.name)
def test_a_world_goes_red_when_the_code_is_broken(which: Break) -> None:
    with broken(which):
        reports = (run(seed, SMALL, Faults(dict(which.rates))) for seed in SEEDS)
        assert any(report.broken for report in reports), which.name


def test_the_same_faults_leave_the_code_as_it_is_green() -> None:
    rates = {kind: rate for which in BREAKS for kind, rate in which.rates.items()}
    assert run(SEEDS[0], SMALL, Faults(rates)).broken is None
