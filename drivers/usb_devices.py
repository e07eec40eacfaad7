"""What Linux says of its USB devices, read from sysfs. No device is opened."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from drivers.errors import NoReader

DEVICES = Path("/sys/bus/usb/devices")
NODES = Path("/dev/bus/usb")
_SMART_CARD_CLASS = "0b"


@dataclass(frozen=True)
class UsbDevice:
    """A device that is plugged in. ``ids`` as ``lsusb`` writes them, ``driver`` as :func:`interface_driver` says.

    ``is_smart_card_reader``: it calls itself one (USB device class 0B, CCID)."""

    ids: str
    name: str
    driver: str | None
    is_smart_card_reader: bool


def plugged_in() -> list[UsbDevice]:
    """Every device."""
    return [_device(folder) for folder in _folders() if _text(folder / "idVendor")]


def _device(folder: Path) -> UsbDevice:
    ids = f"{_text(folder / 'idVendor')}:{_text(folder / 'idProduct')}"
    classes = [_text(interface / "bInterfaceClass") for interface in _interfaces(folder)]
    name = _text(folder / "product") or ids
    return UsbDevice(ids, name, _driver(folder), _SMART_CARD_CLASS in classes)


def interface_driver(bus: int, address: int) -> str | None:
    """What holds the device's first interface: a kernel module, ``usbfs`` for a program; None when it is free."""
    folder = _folder(bus, address)
    return _driver(folder) if folder else None


def product_name(bus: int, address: int) -> str:
    """The name the device gives itself, or nothing."""
    folder = _folder(bus, address)
    return _text(folder / "product") if folder else ""


def may_open(bus: int, address: int) -> bool:
    """Whether this user has the rights to the device; True where there is no node to ask."""
    node = NODES / f"{bus:03d}" / f"{address:03d}"
    return not node.exists() or os.access(node, os.R_OK | os.W_OK, effective_ids=True)


def held_by_kernel(ids: str, module: str) -> NoReader:
    """Linux has a module of its own for the reader, and no program gets it: how to put that aside."""
    problem = NoReader(f"the kernel's module {module} holds the reader {ids}")
    problem.hint = (
        f"sudo modprobe -r {module}; for good: echo blacklist {module} | sudo tee /etc/modprobe.d/nfc-reader.conf"
    )
    return problem


def _driver(folder: Path) -> str | None:
    for link in (interface / "driver" for interface in _interfaces(folder)[:1]):
        if link.is_symlink():
            return link.readlink().name
    return None


def _interfaces(folder: Path) -> list[Path]:
    return sorted(DEVICES.glob(f"{folder.name}:*"))


def _folder(bus: int, address: int) -> Path | None:
    wanted = (str(bus), str(address))
    return next((f for f in _folders() if (_text(f / "busnum"), _text(f / "devnum")) == wanted), None)


def _folders() -> list[Path]:
    return sorted(DEVICES.glob("*")) if DEVICES.is_dir() else []


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
