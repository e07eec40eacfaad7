"""Making names on disk survive a power cut, and knowing a disk that takes nothing any more."""

from __future__ import annotations

import os
from pathlib import Path

READ_ONLY_HINT = (
    "sudo dmesg | tail says why (Linux makes a failing disk read-only); then: sudo mount -o remount,rw "
    '"$(findmnt -no TARGET -T {folder})"; where that is refused, start the machine anew: it then checks the disk'
)
_MOUNTS = Path("/proc/self/mountinfo")
_STOPPED = "emergency_ro"
"""ext4's word for a file system that met an error; it still calls itself writable."""


def is_read_only(folder: Path) -> bool:
    """Whether nothing can be written on the disk of ``folder``, by nobody."""
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return True
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    lines = (line.split() for line in _MOUNTS.read_text().splitlines()) if _MOUNTS.exists() else ()
    return any(words[2] == number and _STOPPED in words[-1].split(",") for words in lines)


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed or removed in ``folder`` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
