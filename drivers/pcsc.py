"""MIFARE Classic cards on PC/SC readers, through pcscd. The only file that imports pyscard (``smartcard``).

Works on pyscard's plain functions and not on its CardMonitor and CardConnection: the monitor's thread dies without a
word when pcscd restarts, and the connection gives every card a context of its own and powers the card off at the end.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from smartcard import scard

from drivers import pcsc_patience, pseudo_apdu
from drivers.base import ClassicConnection, Reader, ReaderInfo, ReaderState
from drivers.card_kind import CardKind
from drivers.errors import (
    CardRemoved,
    DriverError,
    NoReader,
    ReaderBusy,
    ReaderError,
    ReaderLost,
    ServiceUnavailable,
    UnsupportedCard,
)
from drivers.reader_profiles import choose_reader, parse_place, profile_of
from drivers.storage_card import Answer, StorageCardConnection

TRAFFIC = 5
log = logging.getLogger(__name__)
_ask = pcsc_patience.ask
_lines = pcsc_patience.LineOpener()

_ANY_READER_CHANGE = "\\\\?PnP?\\Notification"
_PROTOCOLS = scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1
# SCardCancel is lost when it comes just before the wait begins; the wait is cut so that an interrupt is seen anyway.
_LONGEST_WAIT_S = 1.0
_SHARING_TRIES, _SHARING_PAUSE_S = 8, 0.05
_POLL_S = 0.5  # pcscd looks at a reader each 0.4 s

_SERVICE_GONE = {
    scard.SCARD_E_NO_SERVICE,
    scard.SCARD_E_SERVICE_STOPPED,
    scard.SCARD_F_COMM_ERROR,
    scard.SCARD_E_INVALID_HANDLE,  # a context of a pcscd that has gone; SCardIsValidContext calls it valid
}
_READER_GONE = {
    scard.SCARD_E_UNKNOWN_READER,
    scard.SCARD_E_READER_UNAVAILABLE,
    scard.SCARD_E_NO_READERS_AVAILABLE,
}
_CARD_GONE = {
    scard.SCARD_W_REMOVED_CARD,
    scard.SCARD_E_NO_SMARTCARD,
    scard.SCARD_W_UNRESPONSIVE_CARD,
    scard.SCARD_W_UNPOWERED_CARD,
    scard.SCARD_W_RESET_CARD,  # someone reset it: the open sector is closed, the caller must begin again
    scard.SCARD_E_NOT_TRANSACTED,  # the card or the cable went during the exchange; the next wait tells which
}


def _raise_for(code: int, doing: str) -> NoReturn:
    """Turn a PC/SC return code into our error (what the numbers mean: pcsclite.h)."""
    code &= 0xFFFFFFFF
    what = f"{doing}: PC/SC answered 0x{code:08X}"
    if code in _CARD_GONE:
        raise CardRemoved(f"the card left the reader while {what}")
    if code in _READER_GONE:
        raise ReaderLost(f"the reader is gone while {what}")
    if code == scard.SCARD_E_SHARING_VIOLATION:
        raise ReaderBusy(f"another program is using the card while {what}")
    if code in _SERVICE_GONE:
        raise ServiceUnavailable(f"the smart-card service is not there while {what}")
    if code == scard.SCARD_W_SECURITY_VIOLATION:
        problem = ServiceUnavailable(f"the smart-card service turns this user away while {what}")
        problem.hint = "Allow access_pcsc and access_card for this user with a polkit rule"
        raise problem
    raise ReaderError(f"unexpected trouble while {what}")


def _check(code: int, doing: str) -> None:
    if code != scard.SCARD_S_SUCCESS:
        _raise_for(code, doing)


def _establish() -> tuple[int, Any]:
    code, handle = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
    return code, handle


def _forget(established: tuple[int, Any]) -> None:
    code, handle = established
    if code == scard.SCARD_S_SUCCESS:
        scard.SCardReleaseContext(handle)


class Context:
    """One PC/SC resource manager context, made again after pcscd went away."""

    def __init__(self) -> None:
        self._handle: Any = None

    @property
    def handle(self) -> Any:
        if self._handle is None:
            code, handle = _lines.open(_establish, _forget)
            _check(code, "asking for the smart-card service")
            self._handle = handle
        return self._handle

    @contextmanager
    def watched(self) -> Iterator[Any]:
        """The handle; forgotten for good when the service turns out to have gone."""
        try:
            yield self.handle
        except ServiceUnavailable:
            self.release()
            raise

    def reader_names(self) -> list[str]:
        with self.watched() as handle:
            code, names = _ask(scard.SCardListReaders, handle, [])
            if code & 0xFFFFFFFF in _READER_GONE:
                return []
            _check(code, "listing the readers")
            return list(names)

    def states(self, known: dict[str, int], timeout_s: float) -> dict[str, int] | None:
        """The event state of each reader in ``known``; None when the time is over or the wait was cancelled."""
        with self.watched() as handle:
            wait_ms = max(0, int(timeout_s * 1000))
            code, states = _ask(scard.SCardGetStatusChange, handle, wait_ms, list(known.items()))
            if code in (scard.SCARD_E_TIMEOUT, scard.SCARD_E_CANCELLED):
                return None
            if code & 0xFFFFFFFF in _READER_GONE:
                return dict.fromkeys(known, scard.SCARD_STATE_UNKNOWN)
            _check(code, "watching the readers")
            return {name: state for name, state, _ in states}

    def cancel(self) -> None:
        if self._handle is not None:
            with suppress(ServiceUnavailable):
                _ask(scard.SCardCancel, self._handle)

    def release(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            with suppress(ServiceUnavailable):
                _ask(scard.SCardReleaseContext, handle)


def _reader_state(flags: int) -> ReaderState:
    if flags & (scard.SCARD_STATE_UNKNOWN | scard.SCARD_STATE_UNAVAILABLE | scard.SCARD_STATE_IGNORE):
        return ReaderState.LOST
    if not flags & scard.SCARD_STATE_PRESENT:
        return ReaderState.EMPTY
    in_use = flags & (scard.SCARD_STATE_EXCLUSIVE | scard.SCARD_STATE_INUSE)
    return ReaderState.IN_USE if in_use else ReaderState.CARD


def list_readers() -> list[ReaderInfo]:
    """Every PC/SC reader, with what is on it. Raises :class:`ServiceUnavailable` without pcscd."""
    context = Context()
    try:
        names = context.reader_names()
        states = context.states(dict.fromkeys(names, scard.SCARD_STATE_UNAWARE), 0) if names else {}
        return [_seen(name, _reader_state((states or {}).get(name, 0))) for name in names]
    finally:
        context.release()


def _seen(name: str, state: ReaderState) -> ReaderInfo:
    url = f"pcsc:{name}"
    if state is ReaderState.LOST:
        return ReaderInfo.with_problem(url, name, ReaderLost("the reader is gone"))
    if state is ReaderState.IN_USE:
        return ReaderInfo.with_problem(url, name, ReaderBusy("another program is using the card on it"))
    return ReaderInfo(url, name, state)


class PcscChannel:
    """One exclusive PC/SC connection to the card in the field: commands in, answers out."""

    def __init__(self, context: Context, reader_name: str) -> None:
        self._context = context
        with context.watched() as handle:
            code, card, protocol = self._connect(handle, reader_name)
            _check(code, f"opening the card on {reader_name}")
        self._card: Any = card
        self._reader_name = reader_name
        self._card_left = False
        self.reset_met_nobody: float | None = None
        """When the reset at the end found that the card had left, in seconds of the monotonic clock."""
        self._request = scard.SCARD_PCI_T0 if protocol == scard.SCARD_PROTOCOL_T0 else scard.SCARD_PCI_T1

    @staticmethod
    def _connect(handle: Any, reader_name: str) -> tuple[int, Any, int]:
        """Exclusive: a reset by another program would close our sector between two commands.

        Desktop programs look at each new card for some tens of milliseconds, so a refusal is tried again.
        """
        for attempt in range(_SHARING_TRIES):
            code, card, protocol = _ask(
                scard.SCardConnect, handle, reader_name, scard.SCARD_SHARE_EXCLUSIVE, _PROTOCOLS
            )
            if code != scard.SCARD_E_SHARING_VIOLATION or attempt == _SHARING_TRIES - 1:
                break
            time.sleep(_SHARING_PAUSE_S)
        return code, card, protocol

    @property
    def is_open(self) -> bool:
        return self._card is not None

    @contextmanager
    def _on_the_card(self) -> Iterator[None]:
        try:
            with self._context.watched():
                yield
        except CardRemoved:
            self._card_left = True
            raise

    def atr(self) -> bytes:
        with self._context.watched():
            code, _, _, _, atr = _ask(scard.SCardStatus, self._card)
            _check(code, "asking what card it is")
            return bytes(atr)

    def send(self, apdu: bytes) -> Answer:
        """One exchange. Raises :class:`CardRemoved` when no answer came."""
        code, raw = _ask(scard.SCardTransmit, self._card, self._request, list(apdu))
        if log.isEnabledFor(TRAFFIC):
            log.log(TRAFFIC, "> %s", pseudo_apdu.command_for_log(apdu))
        answer = bytes(raw)
        if code != scard.SCARD_S_SUCCESS or len(answer) < 2:
            with self._on_the_card():
                _check(code, "talking to the card")
                # pcscd's first word about a card that left: success, and nothing
                raise CardRemoved("the card left the reader: no answer")
        if log.isEnabledFor(TRAFFIC):
            log.log(TRAFFIC, "< %s %s", pseudo_apdu.answer_for_log(apdu, answer[:-2]), answer[-2:].hex())
        return Answer(answer[:-2], int.from_bytes(answer[-2:]))

    def reset(self) -> None:
        """Take the card out of the field electrically and select it anew; every sector is closed."""
        with self._on_the_card():
            code, _ = _ask(
                scard.SCardReconnect, self._card, scard.SCARD_SHARE_EXCLUSIVE, _PROTOCOLS, scard.SCARD_RESET_CARD
            )
            _check(code, "selecting the card again")

    def close(self) -> None:
        """Reset at the end, not leave: a sector left open would be open to the next local program, and the next
        connection starts from a freshly selected card. The till has its answer by then, so the time is free.

        A card that left must not be reset: pcscd then notes an empty reader behind its own polling thread's back, and
        does not see a card that comes back before the next poll (0.4 s) until it is lifted once more. Where the card
        left in this very moment, it is too late for that, and the reader has to look again itself: ``wake``.
        """
        card, self._card = self._card, None
        if card is None:
            return
        with suppress(DriverError):
            _ask(scard.SCardDisconnect, card, scard.SCARD_LEAVE_CARD if self._card_left else scard.SCARD_RESET_CARD)
            if not self._card_left:
                states = self._context.states({self._reader_name: scard.SCARD_STATE_UNAWARE}, 0) or {}
                if _reader_state(states.get(self._reader_name, 0)) is ReaderState.EMPTY:
                    self.reset_met_nobody = time.monotonic()

    def wake(self) -> None:
        """Power the reader that pcscd holds for empty: a card on it becomes known, an empty one stays empty."""
        with suppress(DriverError), self._context.watched() as handle:
            code, card, _ = _ask(scard.SCardConnect, handle, self._reader_name, scard.SCARD_SHARE_DIRECT, 0)
            if code == scard.SCARD_S_SUCCESS:
                _ask(scard.SCardReconnect, card, scard.SCARD_SHARE_EXCLUSIVE, _PROTOCOLS, scard.SCARD_RESET_CARD)
                _ask(scard.SCardDisconnect, card, scard.SCARD_LEAVE_CARD)


class PcscReader(Reader):
    """``pcsc:`` is the first reader, ``pcsc:PART-OF-NAME`` one by name; ``?profile=`` forces a profile."""

    def __init__(self, place: str) -> None:
        self.url = f"pcsc:{place}"
        self.name = ""
        try:
            self._wanted, self._forced_profile = parse_place(place)
        except ValueError as error:
            raise NoReader(str(error)) from error
        self._context = Context()
        self._interrupted = threading.Event()
        self._channel: PcscChannel | None = None
        self._present = False
        self._plug_flags = scard.SCARD_STATE_UNAWARE
        self._comings: int | None = None
        try:
            self._find()
        except DriverError:
            self._context.release()
            raise

    def wait_for_change(self, known: ReaderState, timeout_s: float) -> ReaderState:
        deadline = time.monotonic() + timeout_s
        while True:
            state, flags = self._look()
            if state is ReaderState.EMPTY and self._wake():
                state, flags = self._look()
            comings = _comings_and_goings(flags)
            if state is known is ReaderState.CARD and self._comings not in (None, comings):
                state = ReaderState.EMPTY  # another card in its place, or the same one put down again
            self._comings = comings
            left_s = deadline - time.monotonic()
            if state is not known or left_s <= 0 or self._interrupted.is_set():
                self._interrupted.clear()
                return state
            self._sleep_until_change(flags, min(left_s, _LONGEST_WAIT_S))

    def connect(self) -> ClassicConnection:
        if not self._present:
            self._find()
        try:
            channel = PcscChannel(self._context, self.name)
        except ReaderLost:
            self._present = False
            raise
        self._channel = channel
        try:
            kind = pseudo_apdu.classify_atr(channel.atr(), self._profile.card_names)
            # A storage card without a known name is let through: readers err in naming, and a card that is no
            # Classic refuses the first authentication, before anything is written.
            if kind not in (CardKind.CLASSIC_1K, CardKind.UNNAMED_STORAGE):
                raise UnsupportedCard(kind)
            return StorageCardConnection(channel, self._profile, self._slots)
        except DriverError:
            channel.close()
            raise

    def interrupt(self) -> None:
        self._interrupted.set()
        self._context.cancel()

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
        self._context.release()

    def _find(self) -> None:
        """Settle which reader is meant. Raises :class:`NoReader`."""
        names = self._context.reader_names()
        name = choose_reader(names, self._wanted)
        if name is None:
            wanted = f"with {self._wanted!r} in its name" if self._wanted else "at all"
            raise NoReader(f"there is no reader {wanted}; found: {', '.join(names) or 'none'}")
        self._profile = self._forced_profile or profile_of(name)
        self._slots = list(self._profile.key_slots)
        self.name, self._present = name, True

    def _look(self) -> tuple[ReaderState, int]:
        """The state now, without waiting, and its PC/SC flags."""
        if not self._present:
            try:
                self._find()
            except NoReader:
                return ReaderState.LOST, scard.SCARD_STATE_UNKNOWN
        states = self._context.states({self.name: scard.SCARD_STATE_UNAWARE}, 0)
        flags = scard.SCARD_STATE_UNKNOWN if states is None else states[self.name]
        state = _reader_state(flags)
        self._present = state is not ReaderState.LOST
        if state is ReaderState.IN_USE and self._channel is not None and self._channel.is_open:
            state = ReaderState.CARD  # it is our own connection that uses it
        return state, flags

    def _wake(self) -> bool:
        """Whether it was time to look for a card that our last reset may have hidden from pcscd: once, a poll later."""
        channel = self._channel
        if channel is None or (since := channel.reset_met_nobody) is None or time.monotonic() < since + _POLL_S:
            return False
        channel.reset_met_nobody = None
        channel.wake()
        return True

    def _sleep_until_change(self, flags: int, timeout_s: float) -> None:
        known = {_ANY_READER_CHANGE: self._plug_flags}
        if self._present:
            known[self.name] = flags & ~scard.SCARD_STATE_CHANGED
        states = self._context.states(known, timeout_s)
        if states is not None:
            self._plug_flags = states[_ANY_READER_CHANGE] & ~scard.SCARD_STATE_CHANGED


def _comings_and_goings(flags: int) -> int:
    """pcscd counts the cards that came and went in the upper half of the flags."""
    return flags >> 16
