"""A file system of its own, small enough to be filled, or to be broken: needs the right to mount."""

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


@contextmanager
def mounted_ext4(folder: Path, size: int) -> Iterator[Path]:
    """An ext4 file system of ``size`` bytes on ``folder``, kept in a file beside it. Raises CalledProcessError."""
    folder.mkdir()
    image = folder.with_suffix(".ext4")
    with image.open("wb") as file:
        file.truncate(size)
    for command in (
        ["mkfs.ext4", "-q", str(image)],
        ["mount", "-o", "loop,errors=remount-ro", str(image), str(folder)],
    ):
        subprocess.run(command, check=True, capture_output=True, text=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def break_down(disk: Path) -> None:
    """What ext4 does on an error of the disk: it takes no write any more, of open files neither (ext4(5), errors)."""
    found = subprocess.run(["findmnt", "-no", "SOURCE", str(disk)], check=True, capture_output=True, text=True)
    Path(f"/sys/fs/ext4/{Path(found.stdout.strip()).name}/trigger_fs_error").write_text("1")


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
