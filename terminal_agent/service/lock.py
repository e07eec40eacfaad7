"""One process owns a data directory. The kernel lets go of the lock when the process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

LOCK_FILE = "lock"


class DataDirLock:
    """An exclusive flock on ``DIR/lock``."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / LOCK_FILE
        self._handle: int | None = None

    def acquire(self) -> bool:
        """Take the lock if it is free; whether we hold it now."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        with suppress(OSError):  # on a full disk the lock holds all the same; only its owner is not named
            os.ftruncate(handle, 0)
            os.write(handle, f"{os.getpid()}\n".encode())
        self._handle = handle
        return True

    def owner(self) -> str:
        """The process id that wrote the lock file last, for messages."""
        return self._path.read_text().strip() or "?"

    def release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
