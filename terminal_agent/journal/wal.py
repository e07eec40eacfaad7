"""SQLite's write-ahead log as bytes: whether all that was committed to it can still be reached.

SQLite reads a log as far as each frame's checksum follows from the one before, and takes the rest for never written,
without a word. With ``synchronous=FULL`` a commit is on disk before the next one begins, so a power cut can tear the
last commit alone; anything else that cannot be reached was lost by the disk.
https://www.sqlite.org/fileformat2.html#wal_file_format
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
MOST_COMMITS_TORN = 1
_WORD_ORDER = {bytes.fromhex("377F0682"): "<", bytes.fromhex("377F0683"): ">"}


class OutOfReach(NamedTuple):
    """What stands behind the last commit that SQLite reaches: frames, and commits of this very log among them."""

    frames: int = 0
    commits: int = 0


class _Header(NamedTuple):
    order: str
    page_bytes: int
    salts: bytes
    checksum: bytes


def is_readable(wal: Path) -> bool:
    """Whether a log begins as SQLite begins one, or is empty, or not there."""
    try:
        with wal.open("rb") as file:
            return not file.read(1) or _header(file) is not None
    except FileNotFoundError:
        return True


def out_of_reach(wal: Path) -> OutOfReach:
    """Follow a readable log frame by frame, as SQLite does, and then on to its end."""
    with wal.open("rb") as file:
        header = _header(file)
        if header is None:
            return OutOfReach()
        before, sound, rest = header.checksum, True, OutOfReach()
        while frame := file.read(FRAME_HEADER_BYTES + header.page_bytes):
            ours, commits = frame[8:16] == header.salts, any(frame[4:8])
            sound = sound and ours and frame[16:24] == _checksum(header.order, before, frame[:8] + frame[24:])
            before = frame[16:24]
            rest = OutOfReach() if sound and commits else OutOfReach(rest.frames + 1, rest.commits + (ours and commits))
        return rest


def _header(file: BinaryIO) -> _Header | None:
    file.seek(0)
    raw = file.read(HEADER_BYTES)
    order = _WORD_ORDER.get(raw[:4])
    if order is None or len(raw) < HEADER_BYTES or raw[24:] != _checksum(order, bytes(8), raw[:24]):
        return None
    return _Header(order, int.from_bytes(raw[8:12], "big"), raw[16:24], raw[24:])


def _checksum(order: str, before: bytes, content: bytes) -> bytes:
    """SQLite's running checksum: of ``content``, behind what has the checksum ``before``."""
    first, second = struct.unpack(">2I", before)
    words = struct.unpack(f"{order}{len(content) // 4}I", content[: len(content) // 4 * 4])
    for even, odd in zip(words[::2], words[1::2], strict=False):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return struct.pack(">2I", first, second)
