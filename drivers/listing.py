"""Every reader of this machine that can be seen, also one that cannot be used: then with the reason and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from drivers import serial_ports, usb_devices
from drivers.base import ReaderInfo, ReaderState
from drivers.errors import DriverError, NoReader, ServiceUnavailable
from drivers.registry import pcsc_module, pn53x_module

PN53X_ON_USB = ("072f:2200", "04e6:5591", "04e6:5593", "04cc:2533", "054c:0193", "04cc:0531", "054c:02e1")
"""What nfcpy drives, known without it: readers to name where it is not installed."""
_NO_DRIVER_HINT = (
    "Install its driver: sudo apt-get install libccid libacsccid1; then: sudo systemctl restart pcscd.socket"
)


def list_readers() -> list[ReaderInfo]:
    """All that can be seen without opening one. No way to look keeps another one from being shown; never raises."""
    on_pcsc = _told(_on_pcsc, "pcsc:")
    has_pcsc = any(info.problem is None for info in on_pcsc)
    return [*_told(lambda: _on_usb(has_pcsc), "usb:"), *on_pcsc, *_told(_on_serial_lines, "pn532:")]


def _told(look: Callable[[], list[ReaderInfo]], url: str) -> list[ReaderInfo]:
    try:
        return look()
    except DriverError as problem:
        return [ReaderInfo.with_problem(url, "", problem)]
    except OSError as error:  # what Linux says of its devices changes while it is read
        return [ReaderInfo.with_problem(url, "", ServiceUnavailable(f"the readers cannot be listed: {error}"))]


def _on_pcsc() -> list[ReaderInfo]:
    found: list[ReaderInfo] = pcsc_module().list_readers()
    return found or [_not_driven(device) for device in usb_devices.plugged_in() if device.is_smart_card_reader]


def _not_driven(device: usb_devices.UsbDevice) -> ReaderInfo:
    """A smart-card reader on USB, where pcscd answers and has no reader at all."""
    if device.driver is not None and device.driver != "usbfs":
        problem = usb_devices.held_by_kernel(device.ids, device.driver)
    else:
        problem = NoReader(f"the smart-card service does not drive {device.ids}")
        problem.hint = _NO_DRIVER_HINT
    return ReaderInfo.with_problem("pcsc:", device.name, problem)


def _on_usb(has_pcsc: bool) -> list[ReaderInfo]:
    """Without nfcpy its readers are named only where PC/SC has none: there they work."""
    try:
        found: list[ReaderInfo] = pn53x_module().list_readers()
    except ServiceUnavailable as missing:
        seen = [] if has_pcsc else [device for device in usb_devices.plugged_in() if device.ids in PN53X_ON_USB]
        return [ReaderInfo.with_problem(f"usb:{device.ids}", device.name, missing) for device in seen]
    return found


def _on_serial_lines() -> list[ReaderInfo]:
    lines = serial_ports.list_lines()
    try:
        pn53x_module()
    except ServiceUnavailable as missing:
        return [_without_library(line, missing) for line in lines]
    return lines


def _without_library(line: ReaderInfo, missing: ServiceUnavailable) -> ReaderInfo:
    """What is wrong with the line itself comes first: its remedy takes a new login."""
    return replace(line, problem=str(missing), hint=missing.hint) if line.state is ReaderState.UNTRIED else line
