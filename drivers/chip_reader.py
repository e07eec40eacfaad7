"""A reader whose chip does only what it is told: here cards are looked for, and the chip is shared within the process.

A serial line has one owner, and a process opens a reader more than once (the daemon's watch and its lane). So a place
has one ``SharedChip`` per process. Whoever asks, the chip looks for cards ten times a second at most, and never while
a card is open: looking takes the field away, and with it the sector a job has opened.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Protocol

from drivers.base import ClassicConnection, Reader, ReaderState
from drivers.card_kind import CardKind, kind_of_sak
from drivers.chip_card import CardChip, ChipConnection
from drivers.errors import CardRemoved, DriverError, MultipleCards, ReaderBusy, ReaderError, ReaderLost, UnsupportedCard

log = logging.getLogger(__name__)

POLL_S = 0.1
REOPEN_S = 0.5
_SHARING_S = 0.4


class ReaderChip(CardChip, Protocol):
    """A chip and its line. Each method raises :class:`ReaderLost` once the line breaks, and stays so."""

    name: str

    def look(self) -> list[bytes]:
        """The UIDs of the cards in the field, two at most, each freshly powered. The field is off afterwards."""

    def field_off(self) -> None:
        """Take the field away: every card forgets what was opened."""

    def close(self) -> None:
        """Let go of the line. Never raises."""


class _Sighting(NamedTuple):
    state: ReaderState
    uids: tuple[bytes, ...] = ()


class SharedChip:
    """The chip at one place, for all readers of this process that name it. ``changed`` guards everything here."""

    def __init__(self, open_chip: Callable[[], ReaderChip]) -> None:
        self.changed = threading.Condition()
        self.users = 0
        self.name = ""
        self._open_chip = open_chip
        self._chip: ReaderChip | None = None
        self._holder: Reader | None = None
        self._held_uid = b""
        self._seen = _Sighting(ReaderState.LOST)
        self._look_again_at = 0.0

    def open(self) -> ReaderChip:
        """The chip, opened unless it is open. Raises a :class:`ReaderError`."""
        with self.changed:
            if self._chip is None:
                self._chip = self._open_chip()
                self.name = self._chip.name
                self._look_again_at = 0.0
            return self._chip

    def look(self, reader: Reader) -> _Sighting:
        """What is on the reader: as it is now, or was a moment ago."""
        with self.changed:
            if self._holder is not None:
                state = ReaderState.CARD if self._holder is reader else ReaderState.IN_USE
                return _Sighting(state, (self._held_uid,))
            if time.monotonic() >= self._look_again_at:
                self._seen = self._ask()
                lost = self._seen.state is ReaderState.LOST
                self._look_again_at = time.monotonic() + (REOPEN_S if lost else POLL_S)
            return self._seen

    def _ask(self) -> _Sighting:
        try:
            uids = self.open().look()
        except ReaderError as error:
            log.debug("the reader is lost: %s", error)
            self.give_up()
            return _Sighting(ReaderState.LOST)
        return _Sighting(ReaderState.CARD if uids else ReaderState.EMPTY, tuple(uids))

    def open_card(self, reader: Reader) -> ChipConnection:
        """Select the card in the field and hold it for ``reader``. Raises as :meth:`Reader.connect` says."""
        with self.changed:
            if not self.changed.wait_for(lambda: self._holder is None, _SHARING_S):
                raise ReaderBusy("another part of this program is using the card")
            seen = self.look(reader)
            if len(seen.uids) > 1:  # a moment ago: nobody is refused for what was
                self._look_again_at = 0.0
                seen = self.look(reader)
            if len(seen.uids) > 1:
                raise MultipleCards("there is more than one card on the reader")
            if self._chip is None:
                raise ReaderLost("the reader is gone")
            try:
                connection = self._select(self._chip)
            except ReaderLost:
                self.give_up()
                raise
            self._holder, self._held_uid = reader, connection.uid
            self.changed.notify_all()
            return connection

    def _select(self, chip: ReaderChip) -> ChipConnection:
        target = chip.select()
        if target is not None:
            kind = kind_of_sak(target.sak)
            if kind is CardKind.CLASSIC_1K and len(target.uid) in (4, 7):
                return ChipConnection(chip, target.uid, self._card_closed)
        chip.field_off()
        self._look_again_at = 0.0
        if target is None:
            raise CardRemoved("there is no card on the reader")
        raise UnsupportedCard(f"{kind} with a UID of {len(target.uid)} bytes" if kind is CardKind.CLASSIC_1K else kind)

    def _card_closed(self) -> None:
        """The field goes off, or the sector left open would be open to whoever comes next."""
        with self.changed:
            self._holder = None
            self._look_again_at = 0.0
            if self._chip is not None:
                with suppress(ReaderLost):  # the next look will find out
                    self._chip.field_off()
            self.changed.notify_all()

    def give_up(self) -> None:
        """The line is broken, or nobody needs it any more; opened anew when somebody does."""
        with self.changed:
            chip, self._chip = self._chip, None
            self._seen = _Sighting(ReaderState.LOST)
            if chip is not None:
                chip.close()


_shared: dict[str, SharedChip] = {}
_shared_lock = threading.Lock()


def _join(place: str, open_chip: Callable[[], ReaderChip]) -> SharedChip:
    with _shared_lock:
        chip = _shared.setdefault(place, SharedChip(open_chip))
        chip.users += 1
        return chip


def _leave(place: str, chip: SharedChip) -> None:
    with _shared_lock:
        chip.users -= 1
        if chip.users:
            return
        del _shared[place]
    chip.give_up()


class ChipReader(Reader):
    """One reader on the chip at ``place``, shared with every other reader of this process there.

    ``place`` is asked anew at each look: what a link leads to changes when a reader is plugged in again.
    """

    def __init__(self, url: str, place: Callable[[], str], open_chip: Callable[[], ReaderChip]) -> None:
        self.url = url
        self._find_place = place
        self._open_chip = open_chip
        self._place = place()
        self._interrupted = threading.Event()
        self._connection: ChipConnection | None = None
        self._uids: tuple[bytes, ...] = ()
        self._chip: SharedChip | None = _join(self._place, open_chip)
        try:
            self._chip.open()
        except DriverError:
            self.close()
            raise
        self.name = self._chip.name

    @property
    def _shared_chip(self) -> SharedChip:
        if self._chip is None:
            raise ReaderLost("the reader was closed")
        place = self._find_place()
        if place != self._place:
            left_place, left_chip = self._place, self._chip
            self._place, self._chip = place, _join(place, self._open_chip)
            _leave(left_place, left_chip)
        return self._chip

    def wait_for_change(self, known: ReaderState, timeout_s: float) -> ReaderState:
        deadline = time.monotonic() + timeout_s
        while True:
            chip = self._shared_chip
            state, uids = chip.look(self)
            if state is known is ReaderState.CARD and self._uids and uids != self._uids:
                state = ReaderState.EMPTY  # another card in its place: it left, whether we saw that or not
            self._uids = uids
            left_s = deadline - time.monotonic()
            if state is not known or left_s <= 0 or self._interrupted.is_set():
                self._interrupted.clear()
                return state
            with chip.changed:
                chip.changed.wait(min(left_s, POLL_S))

    def connect(self) -> ClassicConnection:
        self._connection = self._shared_chip.open_card(self)
        return self._connection

    def interrupt(self) -> None:
        self._interrupted.set()
        chip = self._chip
        if chip is not None:
            with chip.changed:
                chip.changed.notify_all()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        chip, self._chip = self._chip, None
        if chip is not None:
            _leave(self._place, chip)
