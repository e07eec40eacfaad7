"""The mark beside the database file: how many commits the database had counted when it was last written.

A database that counts fewer than its mark, or has lost its mark, was put back from a backup.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

FILE_NAME = "crm.mark"
_DIGITS = 20


class Mark:
    """A number in a file. It may lag behind the database, after a crash, but is never ahead of it."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE_NAME

    def begin(self) -> None:
        """Makes the mark of a database that is about to be made, on disk before it; an older mark stays. OSError."""
        with suppress(FileExistsError):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.write(descriptor, _line(0))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def read(self) -> int | None:
        """The count; None when there is no mark, or none that can be read."""
        try:
            return int(self._path.read_bytes())
        except (OSError, ValueError):
            return None

    def write(self, commits: int) -> None:
        """Keeps the count of a commit that is on disk already.

        One short write in place, without waiting for the disk: it outlives this process, and what a power cut takes
        of it only lets the mark lag. For the same reason a failure is no failure of the commit.
        """
        with suppress(OSError):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.pwrite(descriptor, _line(commits), 0)
            finally:
                os.close(descriptor)


def _line(commits: int) -> bytes:
    return b"%0*d\n" % (_DIGITS, commits)
