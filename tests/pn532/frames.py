"""The frames a PN53x speaks with its host (UM0701-02 section 6.2): taken apart and put together. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

START = b"\x00\xff"
ACK_FRAME = b"\x00\x00\xff\x00\xff\x00"
SYNTAX_ERROR_FRAME = b"\x00\x00\xff\x01\xff\x7f\x81\x00"
HOST_TO_CHIP, CHIP_TO_HOST = 0xD4, 0xD5


class Link(Enum):
    """A frame that is no command."""

    ACK = "ack"
    NACK = "nack"


def frame(payload: bytes) -> bytes:
    """A normal frame, or an extended one where 255 bytes do not suffice; one 00 before the start code."""
    if len(payload) < 256:
        head = bytes([len(payload), -len(payload) & 0xFF])
    else:
        high, low = len(payload) >> 8, len(payload) & 0xFF
        head = bytes([0xFF, 0xFF, high, low, -(high + low) & 0xFF])
    return b"\x00" + START + head + payload + bytes([-sum(payload) & 0xFF, 0x00])


class FrameReader:
    """Finds frames in a stream of bytes; whatever is none (wake-up bytes, noise, damaged frames) is passed over."""

    def __init__(self) -> None:
        self._buffer = b""
        self.bytes_before_frame = 0

    def feed(self, data: bytes) -> Iterator[bytes | Link]:
        """Every whole frame by now: the payload of a command (D4 …), or an acknowledgement."""
        self._buffer += data
        while True:
            start = self._buffer.find(START)
            if start < 0:
                self._skip(max(0, len(self._buffer) - 1))
                return
            self._skip(start)
            found = self._take_frame()
            if found is None:
                return
            if found is not False:
                yield found
                self.bytes_before_frame = 0

    def _skip(self, count: int) -> None:
        self.bytes_before_frame += count
        self._buffer = self._buffer[count:]

    def _take_frame(self) -> bytes | Link | None | bool:
        """The frame at the front; None when more bytes are needed, False for what turned out to be none."""
        rest = self._buffer[len(START) :]
        if len(rest) < 2:
            return None
        links = {b"\x00\xff": Link.ACK, b"\xff\x00": Link.NACK}
        if rest[:2] in links:
            self._buffer = rest[2:]
            return links[rest[:2]]
        if rest[:2] == b"\xff\xff":
            if len(rest) < 5:
                return None
            head, length, sound = 5, rest[2] << 8 | rest[3], sum(rest[2:5]) & 0xFF == 0
        else:
            head, length, sound = 2, rest[0], sum(rest[:2]) & 0xFF == 0
        if not sound:
            self._skip(1)
            return False
        if len(rest) < head + length + 1:
            return None
        payload, check = rest[head : head + length], rest[head + length]
        self._buffer = rest[head + length + 1 :]
        return payload if (sum(payload) + check) & 0xFF == 0 and payload[:1] == bytes([HOST_TO_CHIP]) else False
