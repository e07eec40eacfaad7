"""From a reader URL to a reader. A reader's library is imported only when that reader is chosen."""

from __future__ import annotations

import importlib
from types import ModuleType

from drivers.base import Reader, ReaderInfo
from drivers.errors import NoReader, ServiceUnavailable

SCHEMES = ("sim", "pcsc")


def open_reader(url: str) -> Reader:
    """The reader a URL names: ``sim:FILE.mfd``, ``sim:DIR/``, ``pcsc:`` or ``pcsc:PART-OF-NAME``.

    Raises :class:`NoReader` for a URL that names none, :class:`ServiceUnavailable` when its library is missing.
    """
    scheme, colon, rest = url.partition(":")
    if not colon or scheme not in SCHEMES:
        problem = NoReader(f"{url!r} is not a reader URL")
        problem.hint = "Use pcsc:, pcsc:PART-OF-NAME, sim:FILE.mfd or sim:DIR/"
        raise problem
    if scheme == "sim":
        from drivers.simulator import SimulatedReader

        return SimulatedReader(rest)
    reader: Reader = _pcsc_module().PcscReader(rest)
    return reader


def list_readers() -> list[ReaderInfo]:
    """Every reader of this machine that can be used. Raises :class:`ServiceUnavailable` when none can be asked."""
    readers: list[ReaderInfo] = _pcsc_module().list_readers()
    return readers


def _pcsc_module() -> ModuleType:
    try:
        return importlib.import_module("drivers.pcsc")
    except ImportError as error:
        problem = ServiceUnavailable(f"the PC/SC library is not installed: {error}")
        problem.hint = "Install it: pip install pyscard"
        raise problem from error
