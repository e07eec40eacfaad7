"""From a reader URL to a reader. A reader's library is imported only when that reader is chosen."""

from __future__ import annotations

import importlib
from types import ModuleType

from drivers.base import Reader
from drivers.errors import NoReader, ServiceUnavailable

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
        reader = pcsc_module().PcscReader(rest)
    elif scheme == "pn532":
        reader = pn53x_module().serial_reader(rest)
    else:
        reader = pn53x_module().usb_reader(rest)
    return reader


def pcsc_module() -> ModuleType:
    """``drivers.pcsc``. Raises :class:`ServiceUnavailable` where its library is missing."""
    return _module("drivers.pcsc", "the PC/SC library", "pip install pyscard")


def pn53x_module() -> ModuleType:
    """``drivers.pn53x``. Raises :class:`ServiceUnavailable` where its library is missing."""
    return _module("drivers.pn53x", "nfcpy", "pip install nfcpy; it needs libusb: apt-get install libusb-1.0-0")


def _module(name: str, library: str, install: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:  # OSError: libusb itself is missing
        problem = ServiceUnavailable(f"{library} is not installed: {error}")
        problem.hint = f"Install it: {install}"
        raise problem from error
