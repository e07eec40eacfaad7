"""What a driver costs beside bare calls of its library, and how soon a card laid down is seen."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from multiprocessing.connection import Connection
from typing import Any, Protocol

from bench.measure import Figure, Samples, in_turns, time_ms
from bench.purchase import READER
from bench.rig import UID, Left, Rig
from drivers import KeyType, Reader, ReaderState, open_reader, pseudo_apdu
from drivers.base import ClassicConnection
from drivers.errors import CardRemoved
from drivers.mifare_classic import TRANSPORT_KEY, blank_card
from tests.pn532.chip import FieldCard
from tests.pn532.serial_line import SerialPn532

ROUNDS, TURN = 400, 20
DELAYS_S = [0.05 + number * 0.0125 for number in range(40)]
"""After a wait has begun, a card is laid down: spread over more than a poll of pcscd (0.4 s)."""
TARGET_RATIO = 1.3
SEEN_WITHIN_S = 5.0
_DATA = bytes(range(16))
_WORK = "authenticate, read, write, verify"


class Hand(Protocol):
    """Who lays the card down and takes it away; each gives the moment on the clock all processes share."""

    def lay(self) -> float: ...
    def lift(self) -> float: ...


def run(rig: Rig) -> Iterator[Figure]:
    yield from _simulated(rig)
    with_nfcpy = find_spec("nfc") is not None
    if with_nfcpy:
        yield from _pn532()
    yield from _pcsc(rig)
    if not with_nfcpy:
        raise Left("nfcpy is not installed, so nothing was measured on a PN532; run: pip install '.[nfcpy]'")


def work(card: ClassicConnection) -> None:
    """What is measured on each driver."""
    card.authenticate(4, KeyType.A, TRANSPORT_KEY)
    card.read_block(4)
    card.write_block(5, _DATA)
    if card.read_block(5) != _DATA:
        raise RuntimeError("the card does not hold what was written")


def _simulated(rig: Rig) -> Iterator[Figure]:
    image = rig.folder / "drivers.mfd"
    image.write_bytes(blank_card(UID))
    with open_reader(f"sim:{image}") as reader, reader.connect() as card:
        yield Figure("drivers", f"sim: {_WORK}", "ms", *in_turns(ROUNDS, lambda: work(card)))


def _pcsc(rig: Rig) -> Iterator[Figure]:
    with rig.card() as hand:
        ours: list[float] = []
        bare: list[float] = []
        with open_reader(READER) as reader, closing(BarePcsc()) as script:
            for _ in range(ROUNDS // TURN):  # the card has one owner at a time
                with _arrived(reader) as card:
                    ours += _times(partial(work, card))
                with script.card() as handle:
                    bare += _times(partial(script.work, handle))
        yield _beside(f"pcsc: {_WORK}", Samples.of(ours), Samples.of(bare), "the same commands by SCardTransmit")
        yield from _pcsc_arrivals(hand)


def _times(action: Callable[[], None]) -> list[float]:
    """A turn; the first, which loads the key, belongs to opening the card."""
    action()
    return [time_ms(action) for _ in range(TURN)]


def _beside(what: str, ours: Samples, bare: Samples, bare_is: str) -> Figure:
    return Figure("drivers", what, "ms", ours, bare, bare_is, TARGET_RATIO, target_is_ratio=True)


@contextmanager
def _arrived(reader: Reader) -> Iterator[ClassicConnection]:
    deadline = time.monotonic() + SEEN_WITHIN_S
    card = None
    while card is None:
        with suppress(CardRemoved):
            card = reader.connect()
        if time.monotonic() > deadline:
            raise Left("the card did not arrive")
    with card:
        yield card


class BarePcsc:
    """Nothing but calls of pyscard's C layer."""

    def __init__(self) -> None:
        from smartcard import scard

        self._scard = scard
        self._context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)[1]
        self.name = scard.SCardListReaders(self._context, [])[1][0]

    @contextmanager
    def card(self) -> Iterator[Any]:
        scard = self._scard
        handle = scard.SCardConnect(self._context, self.name, scard.SCARD_SHARE_EXCLUSIVE, scard.SCARD_PROTOCOL_T1)[1]
        self._send(handle, pseudo_apdu.get_uid())
        self._send(handle, pseudo_apdu.load_key(0, 0, TRANSPORT_KEY))
        yield handle
        scard.SCardDisconnect(handle, scard.SCARD_RESET_CARD)

    def _send(self, handle: Any, apdu: bytes) -> bytes:
        answer = bytes(self._scard.SCardTransmit(handle, self._scard.SCARD_PCI_T1, list(apdu))[1])
        if answer[-2:] != b"\x90\x00":
            raise RuntimeError(f"the reader said {answer.hex()}")
        return answer[:-2]

    def work(self, handle: Any) -> None:
        self._send(handle, pseudo_apdu.authenticate(4, KeyType.A, 0))
        self._send(handle, pseudo_apdu.read_block(4))
        self._send(handle, pseudo_apdu.update_block(5, _DATA))
        if self._send(handle, pseudo_apdu.read_block(5)) != _DATA:
            raise RuntimeError("the card does not hold what was written")

    def wait(self, *, present: bool) -> None:
        """The loop of PC/SC's own documentation."""
        known = self._scard.SCARD_STATE_UNAWARE
        while True:
            [(_, flags, _)] = self._scard.SCardGetStatusChange(self._context, 1000, [(self.name, known)])[1]
            if bool(flags & self._scard.SCARD_STATE_PRESENT) is present:
                return
            known = flags & ~self._scard.SCARD_STATE_CHANGED

    def close(self) -> None:
        self._scard.SCardReleaseContext(self._context)


def _pcsc_arrivals(hand: Hand) -> Iterator[Figure]:
    with open_reader(READER) as reader, closing(BarePcsc()) as script:
        ours: list[float] = []
        bare: list[float] = []
        for delay_s in DELAYS_S:
            ours.append(_arrival_ms(hand, delay_s, lambda present: _wait(reader, present)))
            bare.append(_arrival_ms(hand, delay_s, lambda present: script.wait(present=present)))
    bare_is = "a bare SCardGetStatusChange loop"
    yield Figure("drivers", "pcsc: a card laid down is seen", "ms", Samples.of(ours), Samples.of(bare), bare_is)


def _wait(reader: Reader, present: bool) -> None:
    known, wanted = (ReaderState.EMPTY, ReaderState.CARD) if present else (ReaderState.CARD, ReaderState.EMPTY)
    while reader.wait_for_change(known, 1.0) is not wanted:
        pass


def _arrival_ms(hand: Hand, delay_s: float, wait: Callable[[bool], None]) -> float:
    """From laying the card down, in the middle of a wait, to the end of that wait."""
    hand.lift()
    wait(False)
    laid: list[float] = []
    later = threading.Timer(delay_s, lambda: laid.append(hand.lay()))
    later.start()
    wait(True)
    seen = time.monotonic()
    later.join()
    return (seen - laid[0]) * 1000


class Emulator:
    """Two PN532 on lines of their own, one for us and one for the yardstick, in a process of their own."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_play_pn532, args=(theirs,), daemon=True)
        self._process.start()
        self.paths: list[str] = self._pipe.recv()

    def lay(self) -> float:
        return self._do("lay")

    def lift(self) -> float:
        return self._do("lift")

    def _do(self, what: str) -> float:
        self._pipe.send(what)
        moment: float = self._pipe.recv()
        return moment

    def close(self) -> None:
        self._pipe.send("end")
        self._process.join(5)


def _play_pn532(pipe: Connection) -> None:
    lines = [SerialPn532(), SerialPn532()]
    pipe.send([line.path for line in lines])
    while (asked := pipe.recv()) != "end":
        moment = time.monotonic()
        for line in lines:
            line.lay(*([FieldCard.blank(UID)] if asked == "lay" else []))
        pipe.send(moment)
    for line in lines:
        line.unplug()


class BareNfcpy:
    """Nothing but nfcpy: its way to open the line, and its chipset's calls."""

    def __init__(self, path: str) -> None:
        from nfc.clf import pn532, transport

        self._device = pn532.init(transport.TTY(path))
        self._chipset = self._device.chipset

    def select(self) -> None:
        if self._chipset.in_list_passive_target(1, 0, b"") is None:
            raise RuntimeError("there is no card")

    def work(self) -> None:
        exchange = self._chipset.in_data_exchange
        exchange(b"\x60\x04" + TRANSPORT_KEY + UID, 0.5)
        exchange(b"\x30\x04", 0.5)
        exchange(b"\xa0\x05" + _DATA, 0.5)
        if exchange(b"\x30\x05", 0.5)[0] != _DATA:
            raise RuntimeError("the card does not hold what was written")

    def close(self) -> None:
        self._device.close()


def _pn532() -> Iterator[Figure]:
    with closing(Emulator()) as emulator, open_reader(f"pn532:{emulator.paths[0]}") as reader:
        with closing(BareNfcpy(emulator.paths[1])) as script:
            emulator.lay()
            script.select()
            with _arrived(reader) as card:
                work(card)
                ours, bare = in_turns(ROUNDS, lambda: work(card), script.work)
            yield _beside(f"pn532: {_WORK}", ours, bare, "the same commands by nfcpy's chipset calls")
        seen = [_arrival_ms(emulator, delay_s, lambda present: _wait(reader, present)) for delay_s in DELAYS_S]
        yield Figure("drivers", "pn532: a card laid down is seen", "ms", Samples.of(seen))
