"""From a reader URL to a reader. A reader's library is imported only when that reader is chosen."""

from __future__ import annotations

import importlib
import logging
from types import ModuleType

from drivers.base import Reader, ReaderInfo
from drivers.errors import DriverError, NoReader, ServiceUnavailable

log = logging.getLogger(__name__)

SCHEMES = ("sim", "pcsc", "pn532", "usb")
URL_FORMS = "pcsc:, pcsc:PART-OF-NAME, pn532:PATH, usb:VID:PID, sim:FILE.mfd or sim:DIR/"
"""Every form of a reader URL, as people are told them."""


def open_reader(url: str) -> Reader:
    """The reader a URL names, in one of the ``URL_FORMS``.

    Raises :class:`NoReader` for a URL that names none, :class:`ServiceUnavailable` when its library is missing.
    """
    scheme, colon, rest = url.partition(":")
    if not colon or scheme not in SCHEMES:
        problem = NoReader(f"{url!r} is not a reader URL")
        problem.hint = f"Use {URL_FORMS}"
        raise problem
    reader: Reader
    if scheme == "sim":
        from drivers.simulator import SimulatedReader

        reader = SimulatedReader(rest)
    elif scheme == "pcsc":
        reader = _pcsc().PcscReader(rest)
    elif scheme == "pn532":
        reader = _pn53x().serial_reader(rest)
    else:
        reader = _pn53x().usb_reader(rest)
    return reader


def list_readers() -> list[ReaderInfo]:
    """Every reader of this machine that can be seen without opening one.

    Raises :class:`ServiceUnavailable` when there is none and PC/SC could not be asked.
    """
    found: list[ReaderInfo] = []
    try:
        found += _pn53x().list_readers()
    except DriverError as error:
        log.debug("readers on USB are not listed: %s", error)
    try:
        found += _pcsc().list_readers()
    except DriverError:
        if not found:
            raise
    return found


def _pcsc() -> ModuleType:
    return _module("drivers.pcsc", "the PC/SC library", "pip install pyscard")


def _pn53x() -> ModuleType:
    return _module("drivers.pn53x", "nfcpy", "pip install nfcpy; it needs libusb: apt-get install libusb-1.0-0")


def _module(name: str, library: str, install: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:  # OSError: libusb itself is missing
        problem = ServiceUnavailable(f"{library} is not installed: {error}")
        problem.hint = f"Install it: {install}"
        raise problem from error
