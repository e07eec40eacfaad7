"""Readers that are seen and cannot be used are listed with the reason, and hide no other."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from drivers import ReaderInfo, ReaderState, list_readers, pn53x, serial_ports, usb_devices
from drivers.listing import PN53X_ON_USB
from tests.pcsc.service import PcscService
from tests.pn532.usb import ADDRESS, BUS, Acr122u, hold, plug_in

pytestmark = [pytest.mark.nfcpy, pytest.mark.pcsc]
NOBODY = 65534
ACR1252U = (0x072F, 0x223B)


@pytest.fixture(autouse=True)
def _needs_both_libraries(nfcpy: None, pcsc_service: PcscService) -> None:
    """Every test here."""


@pytest.fixture
def dev(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A /dev of our own, which every user may look into."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        monkeypatch.setattr(serial_ports, "DEV", Path(folder) / "dev")
        (Path(folder) / "dev").mkdir()
        yield Path(folder) / "dev"


def listed(scheme: str) -> list[ReaderInfo]:
    return [info for info in list_readers() if info.url.startswith(f"{scheme}:")]


def as_nobody(look: Callable[[], list[ReaderInfo]]) -> list[ReaderInfo]:
    """What a user without rights finds; asked in a process of its own."""

    def ask(pipe: Connection) -> None:
        if os.geteuid() == 0:
            os.setresuid(NOBODY, NOBODY, NOBODY)
        pipe.send(look())

    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    process = fork.Process(target=ask, args=(theirs,))
    process.start()
    theirs.close()
    found: list[ReaderInfo] = ours.recv()
    process.join()
    return found


def test_a_serial_line_is_named_and_not_tried(dev: Path) -> None:
    (dev / "ttyUSB0").touch()
    (dev / "ttyACM1").touch()
    (dev / "ttyS0").touch()
    (dev / "serial" / "by-id").mkdir(parents=True)
    (dev / "serial" / "by-id" / "usb-1a86_USB_Serial-if00-port0").symlink_to("../../ttyUSB0")
    usb, acm = listed("pn532")
    assert (usb.url, usb.name) == (f"pn532:{dev}/ttyUSB0", "usb-1a86_USB_Serial-if00-port0")
    assert (acm.url, acm.name) == (f"pn532:{dev}/ttyACM1", f"{dev}/ttyACM1")
    assert usb.state is acm.state is ReaderState.UNTRIED
    assert f"terminal-agent reader test --reader {usb.url}" in (usb.hint or "")


def test_a_serial_line_this_user_may_not_open_says_which_group_may(dev: Path) -> None:
    line = dev / "ttyUSB0"
    line.touch(mode=0o600)
    if os.geteuid() == 0:
        os.chown(line, 0, 20)  # dialout, on Debian
    else:
        line.chmod(0)
    (info,) = as_nobody(serial_ports.list_lines)
    assert (info.state, info.problem) == (ReaderState.UNUSABLE, f"this user may not open {line}")
    assert "usermod -aG " in (info.hint or "")
    if os.geteuid() == 0:
        assert "-aG dialout " in (info.hint or "")


def test_a_usb_reader_this_user_may_not_open_says_what_to_install(dev: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, Acr122u())
    hold(dev.parent / "sysfs", monkeypatch, None)
    node = dev / f"{BUS:03d}" / f"{ADDRESS:03d}"
    node.parent.mkdir()
    node.touch()
    node.chmod(0o600 if os.geteuid() == 0 else 0)
    monkeypatch.setattr(usb_devices, "NODES", dev)
    (info,) = as_nobody(pn53x.list_readers)
    assert (info.state, info.problem) == (ReaderState.UNUSABLE, "this user may not open the USB reader 072f:2200")
    assert "plugdev" in (info.hint or "")
    node.chmod(0o666)
    (info,) = as_nobody(pn53x.list_readers)
    assert (info.state, info.problem) == (ReaderState.EMPTY, None)


def test_without_nfcpy_a_serial_line_says_how_to_install_it(dev: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (dev / "ttyUSB0").touch()
    monkeypatch.setitem(sys.modules, "drivers.pn53x", None)
    (info,) = listed("pn532")
    assert "pip install nfcpy" in (info.hint or "")


def test_without_nfcpy_its_usb_readers_are_named_where_pcsc_has_none(
    pcsc_service: PcscService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(tmp_path, monkeypatch, None)
    monkeypatch.setitem(sys.modules, "drivers.pn53x", None)
    assert not listed("usb"), "they work through PC/SC"
    monkeypatch.setitem(sys.modules, "drivers.pcsc", None)
    (info,) = listed("usb")
    assert (info.url, info.state) == ("usb:072f:2200", ReaderState.UNUSABLE)
    assert "pip install nfcpy" in (info.hint or "")


def test_the_readers_known_without_nfcpy_are_those_it_drives() -> None:
    driven = {f"{vendor:04x}:{product:04x}" for vendor, product in pn53x._usb_drivers()}
    assert set(PN53X_ON_USB) == driven


@pytest.mark.parametrize(
    ("driver", "problem", "hint"),
    [
        (None, "does not drive 072f:223b", "libacsccid1"),
        ("usbfs", "does not drive 072f:223b", "libacsccid1"),
        ("pn533_usb", "the kernel's module pn533_usb holds", "modprobe -r pn533_usb"),
    ],
)
def test_a_smart_card_reader_that_pcscd_does_not_drive_is_named(
    pcsc_service: PcscService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    driver: str | None,
    problem: str,
    hint: str,
) -> None:
    hold(tmp_path, monkeypatch, driver, ACR1252U)
    assert all(info.problem is None for info in listed("pcsc")), "while it drives any, none is suspected"
    pcsc_service.kill()
    pcsc_service.start(readers=False)
    try:
        (info,) = listed("pcsc")
    finally:
        pcsc_service.kill()
        pcsc_service.start()
    assert (info.url, info.state) == ("pcsc:", ReaderState.UNUSABLE)
    assert problem in (info.problem or "")
    assert hint in (info.hint or "")


def test_no_way_to_look_hides_another(dev: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (dev / "ttyUSB0").touch()

    def broken() -> list[ReaderInfo]:
        raise OSError("no such device")

    monkeypatch.setattr(pn53x, "list_readers", broken)
    schemes = [info.url.partition(":")[0] for info in list_readers()]
    assert schemes == ["usb", "pcsc", "pcsc", "pn532"]
