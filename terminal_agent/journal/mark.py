"""A mark beside the database that says how far it had come.

A database that is behind its mark is an older copy that somebody put back, or has lost its end. The mark is written
after each commit, so it may lag, and is never ahead of what a commit put on disk: a crash between the two is no alarm.
"""

from __future__ import annotations

import logging
import os
import re
import zlib
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from terminal_agent.journal.files import sync_folder

log = logging.getLogger(__name__)

MARK_FILE = "journal.mark"
SLOT_BYTES = 512
"""One disk sector each; the two are written in turn, so that a torn write leaves the older one."""
_SLOT = re.compile(rb"(\d{1,18}) (\d{1,18}) ([0-9a-f]{8})\n")


class Tally(NamedTuple):
    """How far a journal has come: how often it was opened for writing, then the position of its newest event."""

    opened: int
    position: int


class Mark:
    """``DIR/journal.mark``. ``tally`` is what it says, None when there is none that can be read."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / MARK_FILE
        self._is_durable = False
        slots = _read(self._path)
        self.tally = max((slot for slot in slots if slot is not None), default=None)
        self._next = 1 - slots.index(self.tally) if self.tally is not None else 0

    def write(self, tally: Tally) -> None:
        """Note ``tally``; on disk when this returns the first time, later in passing. A mark that lags does no harm, so
        a disk that refuses it stops nothing."""
        try:
            self._write(_encode(tally), SLOT_BYTES * self._next)
        except OSError as error:
            log.warning("the mark of the journal cannot be written: %s", error)
            return
        self.tally, self._next = tally, 1 - self._next

    def _write(self, slot: bytes, at: int) -> None:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(handle, slot, at)
            if not self._is_durable:
                os.fsync(handle)
                sync_folder(self._path.parent)
                self._is_durable = True
        finally:
            os.close(handle)


def _encode(tally: Tally) -> bytes:
    text = b"%d %d" % tally
    return b"%b %08x\n" % (text, zlib.crc32(text))


def _read(path: Path) -> list[Tally | None]:
    """Both slots; None for one that is empty or torn."""
    content = b""
    with suppress(OSError):
        content = path.read_bytes()
    return [_decode(content[start : start + SLOT_BYTES]) for start in (0, SLOT_BYTES)]


def _decode(slot: bytes) -> Tally | None:
    match = _SLOT.match(slot)
    if match is None or zlib.crc32(slot[: match.end(2)]) != int(match[3], 16):
        return None
    return Tally(int(match[1]), int(match[2]))
