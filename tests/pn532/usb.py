"""Readers on a USB that is not there: a PN533 stick and an ACR122U behind nfcpy's own USB code.

nfcpy, its chip drivers and its CCID framing are real; of libusb only the list of devices and the bulk pipes are played.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import usb1
from nfc.clf import transport

from drivers import usb_devices
from tests.pn532.chip import FieldCard, Pn53xChip, SyntaxProblem
from tests.pn532.frames import ACK_FRAME, SYNTAX_ERROR_FRAME, FrameReader, Link, frame

BUS, ADDRESS = 3, 7
PN533_ID, ACR122U_ID, RC_S380_ID = (0x04E6, 0x5591), (0x072F, 0x2200), (0x054C, 0x06C3)


class UsbReader:
    """One device with its two bulk pipes; this one answers nothing, its kinds below do.

    ``claim_error`` is what claiming it answers.
    """

    product = "PN533 stick"

    def __init__(self, ids: tuple[int, int], chip: Pn53xChip) -> None:
        self.ids = ids
        self.chip = chip
        self.plugged = True
        self.claim_error: usb1.USBError | None = None
        self._answers: deque[bytes] = deque()
        self._lock = threading.Lock()

    @property
    def counts(self) -> Counter[str]:
        return self.chip.counts

    def lay(self, *cards: FieldCard) -> None:
        with self._lock:
            self.chip.cards = list(cards)

    def lift(self) -> None:
        self.lay()

    def receive(self, data: bytes) -> Iterator[bytes]:
        """The packets that answer what the host wrote."""
        return iter(())

    # What usb1 asks of a device …
    def getVendorID(self) -> int:
        return self.ids[0]

    def getProductID(self) -> int:
        return self.ids[1]

    def getBusNumber(self) -> int:
        return BUS

    def getDeviceAddress(self) -> int:
        return ADDRESS

    def getManufacturer(self) -> str:
        return "ACS"

    def getProduct(self) -> str:
        return self.product

    def iterSettings(self) -> Iterator[UsbReader]:
        yield self

    def iterEndpoints(self) -> Iterator[Endpoint]:
        yield Endpoint(usb1.ENDPOINT_IN | 1)
        yield Endpoint(usb1.ENDPOINT_OUT | 2)

    # … and of an open one.
    def open(self) -> UsbReader:
        return self

    def claimInterface(self, _number: int) -> None:
        if self.claim_error is not None:
            raise self.claim_error
        self._answers.clear()

    def bulkWrite(self, _endpoint: int, data: bytes, _timeout: int) -> None:
        self._check_plugged()
        if data:
            with self._lock:
                self._answers.extend(self.receive(bytes(data)))

    def bulkRead(self, _endpoint: int, _length: int, _timeout: int) -> bytes:
        self._check_plugged()
        if not self._answers:
            raise usb1.USBErrorTimeout
        return self._answers.popleft()

    def close(self) -> None:
        self._answers.clear()

    def _check_plugged(self) -> None:
        if not self.plugged:
            raise usb1.USBErrorNoDevice


class Pn533Stick(UsbReader):
    """An SCL3711: the chip's own frames, one in each packet."""

    def __init__(self) -> None:
        super().__init__(PN533_ID, Pn53xChip(b"\x33\x02\x07\x07", max_targets=1, register_status=True))
        self._frames = FrameReader()

    def receive(self, data: bytes) -> Iterator[bytes]:
        for found in self._frames.feed(data):
            if not isinstance(found, Link):
                yield ACK_FRAME
                yield self._answer(found)

    def _answer(self, payload: bytes) -> bytes:
        try:
            return frame(self.chip.command(payload))
        except SyntaxProblem:
            return SYNTAX_ERROR_FRAME


class Acr122u(UsbReader):
    """An ACR122U: a PN532 behind CCID, reached with the reader's "direct transmit" (ACR122U API, section 3)."""

    product = "ACR122U PICC Interface"

    def __init__(self) -> None:
        super().__init__(ACR122U_ID, Pn53xChip())

    def receive(self, data: bytes) -> Iterator[bytes]:
        kind, length = data[0], int.from_bytes(data[1:5], "little")
        answer = self._command(data[10 : 10 + length]) if kind == 0x6F else b"\x3b\x00"
        yield b"\x80" + len(answer).to_bytes(4, "little") + bytes(5) + answer

    def _command(self, apdu: bytes) -> bytes:
        if apdu[:2] != b"\xff\x00":
            return b"\x63\x00"
        if apdu[2] == 0x48:
            return b"ACR122U215"
        if apdu[2:4] != b"\x00\x00":
            return b"\x90\x00"  # lights, buzzer, polling
        try:
            return self.chip.command(apdu[5 : 5 + apdu[4]]) + b"\x90\x00"
        except SyntaxProblem:
            return b"\x63\x00"


class Endpoint:
    def __init__(self, address: int) -> None:
        self._address = address

    def getAddress(self) -> int:
        return self._address

    def getAttributes(self) -> int:
        return int(usb1.TRANSFER_TYPE_BULK)

    def getMaxPacketSize(self) -> int:
        return 64


class Usb:
    """What is plugged in. Stands in for ``usb1.USBContext``."""

    def __init__(self, *readers: UsbReader) -> None:
        self.readers = list(readers)

    def __enter__(self) -> Usb:
        return self

    def __exit__(self, *_: object) -> None: ...

    def exit(self) -> None: ...

    def getDeviceList(self, *, skip_on_error: bool) -> list[UsbReader]:
        assert skip_on_error
        return [reader for reader in self.readers if reader.plugged]


def plug_in(monkeypatch: pytest.MonkeyPatch, *readers: UsbReader) -> None:
    """These readers, and no other, are on USB."""
    libusb: Any = transport.libusb
    monkeypatch.setattr(libusb, "USBContext", lambda: Usb(*readers))


def hold(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    driver: str | None,
    ids: tuple[int, int] = ACR122U_ID,
    interface_class: str = "0b",
) -> None:
    """What sysfs says of the reader, its first interface held by ``driver``."""
    device = folder / "3-1"
    interface = folder / "3-1:1.0"
    device.mkdir(parents=True)
    interface.mkdir()
    vendor, product = (f"{number:04x}" for number in ids)
    for name, text in (
        ("busnum", BUS),
        ("devnum", ADDRESS),
        ("idVendor", vendor),
        ("idProduct", product),
        ("product", "ACR122U PICC Interface"),
    ):
        (device / name).write_text(f"{text}\n")
    (interface / "bInterfaceClass").write_text(f"{interface_class}\n")
    if driver:
        (interface / "driver").symlink_to(f"../../../../bus/usb/drivers/{driver}")
    monkeypatch.setattr(usb_devices, "DEVICES", folder)
