"""Room on the disk: a reserve kept for sales, given back to the disk when it runs full."""

from __future__ import annotations

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

RESERVE_FILE = "reserve"
RESERVE_BYTES = 16 * 1024 * 1024
"""About 5 000 sales of 3 kB each: docs/journal.md has the measurement."""
LEAST_RESERVE_BYTES = 128 * 1024
PART_OF_DISK = 8
PART_OF_FREE = 4
LOW_PART = 4


class Space:
    """``DIR/reserve``, a file of zeros. It is there: all is well. It is empty: its room was given to the sales, and the
    disk is short of space until there is plenty again.

    The size is right for the disk: at most an eighth of it, and a quarter of what was free.
    """

    def __init__(self, folder: Path, reserve_bytes: int = RESERVE_BYTES) -> None:
        self._folder = folder
        self._path = folder / RESERVE_FILE
        disk = os.statvfs(folder)
        self._wanted = min(reserve_bytes, disk.f_blocks * disk.f_frsize // PART_OF_DISK)
        self.reserve_bytes = self._path.stat().st_size if self._path.exists() else 0

    @property
    def short(self) -> bool:
        """Whether sales live on the reserve, or are about to."""
        return self.reserve_bytes == 0 or self.is_low()

    def free_bytes(self) -> int:
        """What an ordinary process may still write."""
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize

    def is_low(self) -> bool:
        """Whether the reserve is about to be needed."""
        return self.free_bytes() < self._wanted // LOW_PART

    def has_room_for(self, size: int) -> bool:
        """Whether a file of ``size`` bytes may be written without coming near the reserve."""
        return self.free_bytes() - size >= PART_OF_FREE * self._wanted

    def release(self) -> bool:
        """Give the reserve to the sales; whether there was one."""
        if not self.reserve_bytes:
            return False
        try:
            os.truncate(self._path, 0)
        except OSError as error:  # the disk takes nothing any more: room is not what it lacks
            log.error("journal=no_reserve it cannot be given to the sales: %s", error)
            return False
        self.reserve_bytes = 0
        log.error(
            "journal=short_of_space the disk of %s is almost full: redemptions are refused, sales go on from a reserve",
            self._folder,
        )
        return True

    def restore(self) -> bool:
        """Set the reserve aside if it is not there and the disk has plenty; whether that was done."""
        size = 0 if self.reserve_bytes else self._affordable()
        if size < LEAST_RESERVE_BYTES:
            return False
        try:
            self._set_aside(size)
        except OSError as error:
            log.warning("no reserve can be set aside on this disk: %s", error)
            return False
        self.reserve_bytes = size
        return True

    def _set_aside(self, size: int) -> None:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(handle, 0, size)
        except OSError:
            os.ftruncate(handle, 0)
            raise
        finally:
            os.close(handle)

    def _affordable(self) -> int:
        """How much may be set aside now. Once given away, the whole of it must fit, else it would come and go."""
        affordable = min(self._wanted, self.free_bytes() // PART_OF_FREE)
        return 0 if self._path.exists() and affordable < self._wanted else affordable
