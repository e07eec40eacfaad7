"""The drivers that the contract suite runs against."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.rig import PcscRig, Rig, SimulatorRig
from tests.pcsc.virtual_reader import PERSONALITIES


@pytest.fixture(
    params=["sim", pytest.param("pcsc-acs", marks=pytest.mark.pcsc), pytest.param("pcsc-part3", marks=pytest.mark.pcsc)]
)
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """Each driver in turn, with the means to lay cards on its reader."""
    if request.param == "sim":
        rig: Rig = SimulatorRig(tmp_path)
    else:
        personality = PERSONALITIES[request.param.removeprefix("pcsc-")]
        rig = PcscRig(request.getfixturevalue("shared_virtual_reader"), personality)
    yield rig
    rig.close()
