"""PN53x chips through nfcpy: a PN532 on a serial line, a PN53x or an ACR122U on USB. The only file that imports nfc.

Of nfcpy we use the chips' commands, and neither its ContactlessFrontend nor its tags. They know no MIFARE Classic; its
``sense()`` takes the field away at every look and switches the receiver's CRC check off; its paths know no pts; and its
way to open a serial line asks a shell, and leaves the chip at 921600 baud when the process is killed.
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
import re
import struct
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from nfc.clf import device as nfc_device
from nfc.clf import pn53x, pn532, transport

from drivers.base import ReaderInfo, ReaderState
from drivers.chip_card import ExchangeFailed, Target
from drivers.chip_reader import ChipReader
from drivers.errors import NoReader, ReaderBusy, ReaderError, ReaderLost
from drivers.serial_line import PATIENCE_S, SerialLine, open_line
from drivers.usb_devices import held_by_kernel, interface_driver, may_open, product_name

# nfcpy writes every frame, keys and all, and each failure, to its own log. What matters is told by errors here.
logging.getLogger("nfc").setLevel(logging.CRITICAL + 1)
_quiet = logging.getLogger("nfc.clf.pn53x")

_EXCHANGE_S = 0.5
_LIST_S = 1.0
_IN_LIST_PASSIVE_TARGET = 0x4A
_ISO_14443_A_106 = 0
_RX_CRC = 0x80
_TROUBLE = (OSError, termios.error, IndexError, struct.error, transport.libusb.USBError, pn53x.Chipset.Error)
"""What nfcpy raises when the line breaks, carries noise, or the chip does not understand."""

NORMAL_BAUD = 115200
# The speed after power-up is left alone: then a killed process leaves nothing behind. Other programs do leave a chip at
# another speed (nfcpy: 921600). A busy machine may need a second round; the last try is for adapters that hold their
# first bytes back (nfcpy: 1.5 s on a Raspberry Pi).
_SPEEDS = (NORMAL_BAUD, 921600, 460800, 230400)
_HUNT = [*((speed, patience_s) for patience_s in (0.1, 0.4) for speed in _SPEEDS), (NORMAL_BAUD, 1.5)]
_WAKE_UP = bytes(10)
_GET_FIRMWARE_VERSION = bytes.fromhex("0000ff02fed4022a00")
_FIRMWARE_VERSION = bytes.fromhex("0000ff06fad50332")

_NO_CRYPTO1 = {"rcs380"}


class Pn53xChip:
    """A chip on an open line: what :class:`drivers.chip_reader.ReaderChip` asks for."""

    def __init__(self, device: Any, name: str) -> None:
        self.name = name
        self._device = device
        self._chipset = device.chipset
        self._line = device.chipset.transport
        self._lost = False
        self._at_most = self._chipset.in_list_passive_target_max_target
        # Sensing with nfcpy, in whatever program, leaves the receiver's CRC check off.
        mode = self._chipset.read_register("CIU_RxMode")
        self._chipset.write_register("CIU_RxMode", mode | _RX_CRC)

    def look(self) -> list[bytes]:
        targets = self._list(self._at_most)
        self.field_off()
        return [target.uid for target in targets]

    def select(self) -> Target | None:
        targets = self._list(1)
        if not targets:
            self.field_off()  # a card that was halted answers only after it lost its power
            targets = self._list(1)
        return targets[0] if targets else None

    def exchange(self, command: bytes) -> bytes:
        with self._line_watched("talking to the card"):
            try:
                answer, _more = self._chipset.in_data_exchange(bytearray(command), _EXCHANGE_S)
            except pn53x.Chipset.Error as error:
                raise ExchangeFailed(error.errno, error.strerr) from None
        return bytes(answer)

    def field_off(self) -> None:
        with self._line_watched("switching the field off"):
            self._device.mute()

    def close(self) -> None:
        if not self._lost:
            with suppress(*_TROUBLE):
                self._device.close()
        self._line.close()  # nfcpy's own way stops half-way when the cable is out

    def _list(self, at_most: int) -> list[Target]:
        with self._line_watched("looking for a card"):
            request = bytearray([at_most, _ISO_14443_A_106])
            try:
                return _targets(bytes(self._chipset.command(_IN_LIST_PASSIVE_TARGET, request, _LIST_S)))
            except pn53x.Chipset.Error:
                if at_most == 1:
                    raise
        self._at_most = 1  # a clone that holds one card only, whatever its firmware's number says
        return self._list(1)

    @contextmanager
    def _line_watched(self, doing: str) -> Iterator[None]:
        """A line that failed once is not used again: what comes from it may answer an older question."""
        if self._lost:
            raise ReaderLost("the reader is gone")
        try:
            yield
        except _TROUBLE as error:
            self._lost = True
            raise ReaderLost(f"the reader is gone while {doing}: {type(error).__name__} {error}") from error


def _targets(answer: bytes) -> list[Target]:
    """The cards in an answer to InListPassiveTarget: number, ATQA (2), SAK, length and UID of each."""
    targets, rest = [], answer[1:]
    for _ in range(answer[0]):
        sak, length = rest[3], rest[4]
        targets.append(Target(rest[5 : 5 + length], sak))
        rest = rest[5 + length :]
    return targets


def _problem(kind: type[ReaderError], what: str, hint: str) -> ReaderError:
    problem = kind(what)
    problem.hint = hint
    return problem


# A PN532 on a serial line.


def serial_reader(path: str) -> ChipReader:
    """The PN532 on the serial line ``path``: a device, a symbolic link to one, a pseudo-terminal."""
    if not path:
        raise _problem(NoReader, "pn532: needs a path", "Name the serial line, as in pn532:/dev/ttyUSB0")
    return ChipReader(f"pn532:{path}", lambda: f"serial {os.path.realpath(path)}", lambda: _open_serial(path))


def _open_serial(path: str) -> Pn53xChip:
    line = open_line(path)
    try:
        _find_speed(line, path)
        chipset = pn532.Chipset(line, _quiet)
        chipset.sam_configuration("normal")
        device = pn532.Device(chipset, _quiet)
        return Pn53xChip(device, f"{device.chipset_name} at {path}")
    except _TROUBLE as error:
        line.close()
        raise _problem(NoReader, f"the PN532 on {path} answers badly: {error}", NoReader.hint) from error
    except ReaderError:
        line.close()
        raise


def _find_speed(line: SerialLine, path: str) -> None:
    """Wake the chip up and bring it to the normal speed, whatever speed it was left at. Raises :class:`NoReader`."""
    for speed, line.patience_s in _HUNT:
        with suppress(*_TROUBLE, ValueError):  # ValueError: a speed that this adapter does not know
            line.baudrate = speed
            if _answers(line):
                line.patience_s = PATIENCE_S
                if speed != NORMAL_BAUD:
                    pn532.Chipset(line, _quiet).set_serial_baudrate(NORMAL_BAUD)
                    line.baudrate = NORMAL_BAUD
                return
    hint = "Check its wires and that its switches say HSU (serial); then unplug it and plug it in again"
    raise _problem(NoReader, f"no PN532 answers on {path}", hint)


def _answers(line: SerialLine) -> bool:
    line.write(_WAKE_UP + pn532.Chipset.ACK)  # ends a command that a killed program left under way
    time.sleep(0.005)
    line.write(_WAKE_UP + _GET_FIRMWARE_VERSION)
    return line.read(0) == pn532.Chipset.ACK and bytes(line.read(0)).startswith(_FIRMWARE_VERSION)


# A PN53x or an ACR122U on USB.

_USB_PLACE = re.compile(r"([0-9a-fA-F]{4}):([0-9a-fA-F]{4})")


def usb_reader(place: str) -> ChipReader:
    """The first reader on USB with this vendor and product, in hex: ``072f:2200`` is an ACR122U."""
    match = _USB_PLACE.fullmatch(place)
    if match is None:
        raise _problem(NoReader, f"{place!r} is no USB device", "Name vendor and product as lsusb does: usb:072f:2200")
    vendor, product = (int(number, 16) for number in match.groups())
    if (vendor, product) not in _usb_drivers():
        known = ", ".join(f"usb:{v:04x}:{p:04x}" for v, p in sorted(_usb_drivers()))
        raise _problem(NoReader, f"nfcpy drives no MIFARE Classic reader {place}", f"It drives {known}")
    name = f"{vendor:04x}:{product:04x}"
    return ChipReader(f"usb:{name}", lambda: f"usb {name}", lambda: _open_usb(vendor, product))


def _usb_drivers() -> dict[tuple[int, int], str]:
    return {ids: driver for ids, driver in nfc_device.usb_device_map.items() if driver not in _NO_CRYPTO1}


def _open_usb(vendor: int, product: int) -> Pn53xChip:
    name = f"{vendor:04x}:{product:04x}"
    found = _usb_devices(f"usb:{name}")
    if not found:
        raise _problem(NoReader, f"there is no USB device {name}", "Plug the reader in, then look for it with: lsusb")
    _, _, bus, address = found[0]
    line = None
    try:
        line = transport.USB(bus, address)
        driver = importlib.import_module(f"nfc.clf.{_usb_drivers()[vendor, product]}")
        device = driver.init(line)
        return Pn53xChip(device, f"{device.vendor_name or ''} {device.product_name or ''}".strip() or name)
    except _TROUBLE as error:
        if line is not None:
            line.close()
        raise _usb_problem(name, bus, address, error) from error


def _usb_devices(path: str) -> list[tuple[int, int, int, int]]:
    """Vendor, product, bus and address of the USB devices that fit; none where there is no USB at all."""
    try:
        return list(transport.USB.find(path) or [])
    except transport.libusb.USBError:
        return []


def _usb_problem(name: str, bus: int, address: int, error: Exception) -> ReaderError:
    """Why a device that is there does not open: kernel, rights or another program."""
    code = getattr(error, "errno", None)
    driver = interface_driver(bus, address)
    if driver is not None and driver != "usbfs":
        return held_by_kernel(name, driver)
    if code == errno.EBUSY:
        hint = "Use it as pcsc:, or stop the service that has it: sudo systemctl stop pcscd.socket pcscd"
        return _problem(ReaderBusy, f"another program holds the reader {name}", hint)
    if code in (errno.EACCES, errno.EPERM):
        hint = "Install libnfc's rules (apt-get install libnfc6) and join its group: sudo usermod -aG plugdev USER"
        return _problem(NoReader, f"this user may not open the USB reader {name}", hint)
    return _problem(NoReader, f"the USB reader {name} does not answer: {error}", "Unplug it and plug it in again")


def list_readers() -> list[ReaderInfo]:
    """The USB readers nfcpy can drive, none of them opened, each with what would keep it from opening."""
    return [
        _seen(f"{vendor:04x}:{product:04x}", bus, address)
        for vendor, product, bus, address in _usb_devices("usb")
        if (vendor, product) in _usb_drivers()
    ]


def _seen(name: str, bus: int, address: int) -> ReaderInfo:
    url, product = f"usb:{name}", product_name(bus, address) or f"usb:{name}"
    if interface_driver(bus, address):
        expected = errno.EBUSY
    elif not may_open(bus, address):
        expected = errno.EACCES
    else:
        return ReaderInfo(url, product, ReaderState.EMPTY)
    problem = _usb_problem(name, bus, address, OSError(expected, os.strerror(expected)))
    return ReaderInfo.with_problem(url, product, problem)
