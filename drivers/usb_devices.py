"""What Linux says of its USB devices, read from sysfs. No device is opened."""

from __future__ import annotations

from pathlib import Path

DEVICES = Path("/sys/bus/usb/devices")


def interface_driver(bus: int, address: int) -> str | None:
    """What holds the device's first interface: a kernel module, ``usbfs`` for a program; None when it is free."""
    folder = _folder(bus, address)
    interfaces = sorted(DEVICES.glob(f"{folder.name}:*")) if folder else []
    for link in (interface / "driver" for interface in interfaces[:1]):
        if link.is_symlink():
            return link.readlink().name
    return None


def product_name(bus: int, address: int) -> str:
    """The name the device gives itself, or nothing."""
    folder = _folder(bus, address)
    return _text(folder / "product") if folder else ""


def _folder(bus: int, address: int) -> Path | None:
    wanted = (str(bus), str(address))
    folders = sorted(DEVICES.glob("*")) if DEVICES.is_dir() else []
    return next((f for f in folders if (_text(f / "busnum"), _text(f / "devnum")) == wanted), None)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
