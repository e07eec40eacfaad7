"""The drivers that the contract suite runs against."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.rig import ChipRig, PcscRig, Rig, SimulatorRig
from tests.pcsc.virtual_reader import PERSONALITIES
from tests.pn532.serial_line import SerialPn532

DRIVERS = [
    "sim",
    pytest.param("pcsc-acs", marks=pytest.mark.pcsc),
    pytest.param("pcsc-part3", marks=pytest.mark.pcsc),
    pytest.param("pn532", marks=pytest.mark.nfcpy),
    pytest.param("usb-pn533", marks=pytest.mark.nfcpy),
    pytest.param("usb-acr122u", marks=pytest.mark.nfcpy),
]


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """Each driver in turn, with the means to lay cards on its reader."""
    kind, _, model = request.param.partition("-")
    if kind == "sim":
        rig: Rig = SimulatorRig(tmp_path)
    elif kind == "pcsc":
        rig = PcscRig(request.getfixturevalue("shared_virtual_reader"), PERSONALITIES[model])
    elif kind == "pn532":
        line: SerialPn532 = request.getfixturevalue("pn532")
        rig = ChipRig(f"pn532:{line.link}", line.chip)
    else:
        rig = _usb_rig(request, model)
    yield rig
    rig.close()


def _usb_rig(request: pytest.FixtureRequest, model: str) -> Rig:
    request.getfixturevalue("nfcpy")
    from tests.pn532.usb import Acr122u, Pn533Stick, plug_in

    reader = Acr122u() if model == "acr122u" else Pn533Stick()
    plug_in(request.getfixturevalue("monkeypatch"), reader)
    return ChipRig("usb:{:04x}:{:04x}".format(*reader.ids), reader.chip)
