"""A file system of its own, small enough to be filled: needs the right to mount."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WITHOUT_MOUNT = "TERMINAL_AGENT_WITHOUT_MOUNT"
BLOCK = bytes(64 * 1024)


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[Path]:
    """A tmpfs of ``size`` bytes on ``folder``. Raises CalledProcessError where mounting is not permitted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Somebody's film on the shop's disk, up to its last byte but ``leave``; gives the file."""
    film = disk / "film.mp4"
    with film.open("ab", buffering=0) as file:
        try:
            while file.write(BLOCK) == len(BLOCK):
                pass
        except OSError:
            pass
        size = file.tell()
    os.truncate(film, size - leave)
    return film
