"""A serial line that carries a PN53x chip's frames: opened for one process alone, read frame by frame."""

from __future__ import annotations

import errno
import os
import select
import termios
import time

from serial import Serial

from drivers.errors import NoReader, ReaderBusy, ReaderError
from drivers.serial_ports import may_not_open

PATIENCE_S = 1.0
_SHARING_TRIES, _SHARING_PAUSE_S = 10, 0.1
_START = b"\x00\x00\xff"
_ACK_LENGTH = b"\x00\xff"
_EXTENDED = b"\xff\xff"


class SerialLine:
    """What nfcpy's chips ask of a transport, in place of its own: any path will do, a busy machine or a slow adapter
    has longer than 100 ms to acknowledge, noise between frames is passed over, ``close`` works with the cable out."""

    TYPE = "TTY"

    def __init__(self, path: str) -> None:
        self.patience_s = PATIENCE_S
        self._port = Serial(path, 115200, timeout=0, write_timeout=PATIENCE_S)
        self._buffer = bytearray()

    def claim(self) -> None:
        """Raises OSError when another process that does the same has it.

        By flock, not by TIOCEXCL: that outlives a killed process wherever somebody else holds the line open.
        """
        self._port.exclusive = True

    @property
    def baudrate(self) -> int:
        return int(self._port.baudrate)

    @baudrate.setter
    def baudrate(self, speed: int) -> None:
        self._port.baudrate = speed

    def write(self, frame: bytes) -> None:
        """Send a frame; what came before is no answer to it. Raises OSError."""
        self._buffer.clear()
        try:
            self._port.reset_input_buffer()
        except termios.error as error:
            raise OSError(*error.args) from error
        self._port.write(frame)

    def read(self, timeout: float) -> bytearray:
        """The next frame, within ``timeout`` ms or our patience. Raises OSError."""
        deadline = time.monotonic() + max(timeout / 1000, self.patience_s)
        while True:
            frame = self._take_frame()
            if frame is not None:
                return frame
            self._receive(deadline)

    def _receive(self, deadline: float) -> None:
        ready, _, _ = select.select([self._port.fd], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        received = os.read(self._port.fd, 1024)
        if not received:
            raise OSError(errno.EIO, "the line was hung up")
        self._buffer += received

    def _take_frame(self) -> bytearray | None:
        """A whole frame at the front of the buffer, with its checks still to be made."""
        start = self._buffer.find(_START)
        head = self._buffer[start + 3 : start + 8]
        if start < 0 or len(head) < 3 or (head[:2] == _EXTENDED and len(head) < 5):
            return None
        if head[:2] == _ACK_LENGTH:
            end = start + 6
        elif head[:2] == _EXTENDED:
            end = start + 8 + (head[2] << 8 | head[3]) + 2
        else:
            end = start + 5 + head[0] + 2
        if len(self._buffer) < end:
            return None
        frame = self._buffer[start:end]
        del self._buffer[:end]
        return frame

    def close(self) -> None:
        self._port.close()


def open_line(path: str) -> SerialLine:
    """The line at ``path``, for us alone; a short-lived program that has it is waited for.

    Raises :class:`NoReader` or :class:`ReaderBusy`.
    """
    try:
        line = SerialLine(path)
    except (OSError, termios.error) as error:
        raise not_a_line(path, error) from error
    for _ in range(_SHARING_TRIES):
        try:
            line.claim()
            return line
        except OSError:
            time.sleep(_SHARING_PAUSE_S)
    line.close()
    raise _in_use(path)


def not_a_line(path: str, error: Exception) -> ReaderError:
    """Why a path does not open, and what to do."""
    code = getattr(error, "errno", None)
    if code in (errno.EACCES, errno.EPERM):
        return may_not_open(path)
    if code == errno.EBUSY:
        return _in_use(path)
    if not os.path.exists(path):
        return _problem(NoReader(f"there is no {path}"), "Plug the reader in; its name is in: ls -l /dev/serial/by-id")
    return _problem(NoReader(f"{path} is no serial line: {error}"), "Name the reader's port, as in pn532:/dev/ttyUSB0")


def _in_use(path: str) -> ReaderError:
    return _problem(ReaderBusy(f"another program is using {path}"), f"Stop it; who it is, tells: fuser -v {path}")


def _problem(problem: ReaderError, hint: str) -> ReaderError:
    problem.hint = hint
    return problem
