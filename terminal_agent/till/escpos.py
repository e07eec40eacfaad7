"""ESC/POS for a picture of one bit per dot: what nearly every receipt printer prints, whatever its code pages.

Printers lay text out letter by letter and cannot join Persian, so a receipt goes to them as a picture. The commands are
those of Epson's "ESC/POS Command Reference": ESC @, GS v 0, ESC d, GS V.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

INITIALIZE = b"\x1b@"
RASTER = b"\x1dv0\x00"
"""GS v 0, each dot as it is; width in bytes and height in dots follow, both 16 bits, low byte first."""
FEED = b"\x1bd\x03"
"""ESC d: three lines, so that the last one is past the tear bar of a printer that has no cutter."""
CUT = b"\x1dVB\x00"
"""GS V B: up to the cutter and cut; a printer without one ignores it."""
BAND_DOTS = 128
"""Rows in one command: small printers have small buffers and drop what does not fit."""


@dataclass(frozen=True)
class Bitmap:
    """A picture of ``width`` by ``height`` dots. ``dots`` row by row, the first dot in the highest bit, 1 is black; a
    width is a multiple of 8."""

    width: int
    height: int
    dots: bytes

    def __post_init__(self) -> None:
        if self.width % 8 or len(self.dots) != self.width // 8 * self.height:
            raise ValueError(f"{len(self.dots)} bytes are no picture of {self.width} by {self.height} dots")


def encode(picture: Bitmap) -> bytes:
    """The bytes to send to a printer: the picture in bands, then the paper fed and cut."""
    return b"".join([INITIALIZE, *_bands(picture), FEED, CUT])


def _bands(picture: Bitmap) -> Iterator[bytes]:
    row = picture.width // 8
    for top in range(0, picture.height, BAND_DOTS):
        height = min(BAND_DOTS, picture.height - top)
        yield RASTER + row.to_bytes(2, "little") + height.to_bytes(2, "little")
        yield picture.dots[top * row : (top + height) * row]
