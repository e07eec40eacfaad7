"""A receipt printer that shares no code with ours: ESC/POS bytes in, what is on the paper out."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Paper:
    """What came out: rows of dots, True where black, as wide as the printer; how often it was cut."""

    width: int
    rows: list[list[bool]] = field(default_factory=list)
    bands: int = 0
    lines_fed: int = 0
    cuts: int = 0


def print_out(data: bytes, width: int, buffer_bytes: int = 16 * 1024) -> Paper:
    """Carry the bytes out as a printer of ``width`` dots does. Any command it does not know fails the test, and so do
    a picture that is wider than the paper, one larger than the buffer, and text."""
    paper = Paper(width)
    at = 0
    while at < len(data):
        if data[at : at + 2] == b"\x1b\x40":
            at += 2
        elif data[at : at + 3] == b"\x1d\x76\x30":
            mode, x_low, x_high, y_low, y_high = data[at + 3 : at + 8]
            across, down = x_low + 256 * x_high, y_low + 256 * y_high
            at += 8
            assert mode == 0, "dots are doubled"
            assert 0 < across * 8 <= width, "the picture is wider than the paper"
            assert across * down <= buffer_bytes, "the buffer overflows"
            for _ in range(down):
                row = data[at : at + across]
                assert len(row) == across, "the picture ends too soon"
                dots = [bool(byte & 128 >> bit) for byte in row for bit in range(8)]
                paper.rows.append(dots + [False] * (width - len(dots)))
                at += across
            paper.bands += 1
        elif data[at : at + 2] == b"\x1b\x64":
            paper.lines_fed += data[at + 2]
            at += 3
        elif data[at : at + 3] == b"\x1d\x56\x42":
            paper.cuts += 1
            at += 4
        else:
            raise AssertionError(f"the printer would print or not know {data[at : at + 4]!r}")
    return paper
