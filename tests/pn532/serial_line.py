"""A PN532 on a serial line that is a pseudo-terminal: any program can open it, with the baud rates a real one minds.

By hand, with libnfc to judge it:

    python -m tests.pn532.serial_line --image card.mfd --link /tmp/pn532
    LIBNFC_DEVICE=pn532_uart:/tmp/pn532 nfc-list
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import sys
import termios
import threading
import tty
from collections import Counter
from pathlib import Path

from drivers.mifare_classic import blank_card
from drivers.simulator import FileImage
from tests.pn532.chip import BAUD_RATES, FieldCard, Pn53xChip, SyntaxProblem
from tests.pn532.frames import ACK_FRAME, SYNTAX_ERROR_FRAME, FrameReader, Link, frame

_SPEED = {getattr(termios, f"B{rate}"): rate for rate in BAUD_RATES if hasattr(termios, f"B{rate}")}
WAKE_UP_BYTES = 5
"""A sleeping chip needs some bytes before a frame (UM0701-02 section 7.2.11)."""


class SerialPn532:
    """Plugs a PN532 into a pseudo-terminal. ``link`` is a stable name for it, as udev gives one."""

    def __init__(self, link: Path | None = None) -> None:
        self.chip = Pn53xChip()
        self.link = link
        self.path = ""
        self.answers = True
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.plug()

    def plug(self) -> None:
        """A new terminal appears; the chip starts afresh, the cards stay where they are."""
        cards, self.chip = self.chip.cards, Pn53xChip()
        self.chip.cards = cards
        # Our own end of the host's side stays open: without it, reading ends with the first host that hangs up.
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        if self.link is not None:
            self.link.unlink(missing_ok=True)
            self.link.symlink_to(self.path)
        self._ending, self._end = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def say(self, noise: bytes) -> None:
        """Bytes on the line that nobody asked for."""
        os.write(self._master, noise)

    def unplug(self) -> None:
        """The cable is pulled: whoever has the terminal open gets an error."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        os.write(self._end, b"x")
        thread.join(5)
        for descriptor in (self._master, self._slave, self._ending, self._end):
            os.close(descriptor)
        if self.link is not None:
            self.link.unlink(missing_ok=True)

    @property
    def counts(self) -> Counter[str]:
        """Commands by code, and card operations by kind (auth, read, write), as the chip saw them."""
        return self.chip.counts

    @property
    def host_baudrate(self) -> int:
        """The speed the host has set; a terminal's two ends share it."""
        return _SPEED.get(termios.tcgetattr(self._master)[5], 0)

    def lay(self, *cards: FieldCard) -> None:
        """These cards, and no other, are in the field."""
        with self._lock:
            self.chip.cards = list(cards)

    def lift(self) -> None:
        self.lay()

    def _serve(self) -> None:
        frames = FrameReader()
        while True:
            ready, _, _ = select.select([self._master, self._ending], [], [])
            if self._ending in ready:
                return
            with contextlib.suppress(OSError):
                self._receive(frames, os.read(self._master, 4096))

    def _receive(self, frames: FrameReader, data: bytes) -> None:
        with self._lock:
            if self.host_baudrate == self.chip.next_baudrate:
                self.chip.abort()  # the ACK that makes it change was sent at the old speed; a terminal forgets that
            if self.host_baudrate != self.chip.baudrate or not self.answers:
                return  # framing errors at the wrong speed: nothing arrives
            for found in frames.feed(data):
                if self.chip.asleep and frames.bytes_before_frame < WAKE_UP_BYTES:
                    continue
                self.chip.asleep = False
                if found is Link.ACK:
                    self.chip.abort()
                elif isinstance(found, bytes):
                    os.write(self._master, ACK_FRAME + self._answer(found))

    def _answer(self, payload: bytes) -> bytes:
        try:
            return frame(self.chip.command(payload))
        except SyntaxProblem:
            return SYNTAX_ERROR_FRAME


def main() -> None:
    """Keep a card in a file on an emulated PN532; Enter takes it away and puts it back."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--image", type=Path, required=True, help="the card's .mfd file; created blank if absent")
    parser.add_argument("--link", type=Path, required=True, help="the path to open, made as a symbolic link")
    options = parser.parse_args()
    if not options.image.exists():
        options.image.write_bytes(blank_card(bytes.fromhex("5EEDCA4D")))
    reader = SerialPn532(options.link)
    with contextlib.suppress(KeyboardInterrupt, EOFError):
        while True:
            if reader.chip.cards:
                reader.lift()
            else:
                reader.lay(FieldCard(FileImage(options.image)))
            state = "on" if reader.chip.cards else "off"
            sys.stderr.write(f"card {state} the reader; {dict(reader.counts)}; Enter to change, Ctrl-C to end\n")
            input()
    reader.unplug()


if __name__ == "__main__":
    main()
