"""One way to lay cards on whatever reader a driver under test has."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path

from drivers import ClassicConnection, Reader, ReaderState, open_reader
from drivers.errors import CardRemoved
from drivers.mifare_classic import BLOCK_SIZE, blank_card
from drivers.simulator import Fault, MemoryImage, SimulatedReader
from tests.pcsc.virtual_reader import CLASSIC_4K_ATR, Personality, VirtualCard, VirtualReader
from tests.pn532.chip import SAK_4K, FieldCard, Pn53xChip

UID = bytes.fromhex("1A2B3C4D")
UID_7 = bytes.fromhex("04A1B2C3D4E5F6")

ARRIVAL_S = 20.0


class Rig(ABC):
    """A driver's reader, and the hand that lays cards on it."""

    reader: Reader

    @abstractmethod
    def lay(self, uid: bytes = UID, fault: Fault | None = None, *, open_block_0: bool = False) -> None:
        """Put a blank card on the reader; ``fault`` pulls it away during one operation. ``open_block_0``: a copy that
        lets anybody read block 0."""

    @abstractmethod
    def lay_another_kind(self) -> None:
        """Put a 4K card on the reader."""

    @abstractmethod
    def lay_same_card_again(self) -> None:
        """Bring back a card that was torn away."""

    @abstractmethod
    def content(self) -> bytes:
        """The card's memory, past every access right."""

    @abstractmethod
    def close(self) -> None: ...

    def connect(self) -> ClassicConnection:
        """Open the card just laid down; as every caller of a driver must, try again while it is still arriving."""
        deadline = time.monotonic() + ARRIVAL_S
        while True:
            try:
                return self.reader.connect()
            except CardRemoved:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def block(self, number: int) -> bytes:
        return self.content()[number * BLOCK_SIZE : (number + 1) * BLOCK_SIZE]


class SimulatorRig(Rig):
    def __init__(self, folder: Path) -> None:
        self._path = folder / "card.mfd"
        self.reader: SimulatedReader = SimulatedReader(str(self._path))

    def lay(self, uid: bytes = UID, fault: Fault | None = None, *, open_block_0: bool = False) -> None:
        self.reader.open_block_0 = open_block_0
        self._path.write_bytes(blank_card(uid))
        self.reader.fault = fault

    def lay_another_kind(self) -> None:
        self._path.write_bytes(bytes(4096))

    def lay_same_card_again(self) -> None:
        self.reader.fault = None

    def content(self) -> bytes:
        return self._path.read_bytes()

    def close(self) -> None:
        self.reader.close()


class PcscRig(Rig):
    """Changes cards by swapping where it can: pcscd looks for a plugged or pulled card only each 0.4 s."""

    def __init__(self, virtual: VirtualReader, personality: Personality, profile: str = "") -> None:
        self.virtual = virtual
        virtual.use(personality)
        self.reader = open_reader(f"pcsc:virtual pcd 00 00{profile}")
        self._card = VirtualCard.blank(UID)

    def lay(self, uid: bytes = UID, fault: Fault | None = None, *, open_block_0: bool = False) -> None:
        self._place(replace(VirtualCard.blank(uid, fault), open_block_0=open_block_0))

    def lay_another_kind(self) -> None:
        self.virtual.remove()
        self.reader.wait_for_change(ReaderState.CARD, 3)
        self._place(VirtualCard(atr=CLASSIC_4K_ATR))

    def lay_same_card_again(self) -> None:
        self._card.fault = None
        self.virtual.remove()  # the torn card may still be on its way out
        self._place(self._card)

    def content(self) -> bytes:
        assert isinstance(self._card.image, MemoryImage)
        return bytes(self._card.image.content)

    def close(self) -> None:
        self.reader.close()

    def _place(self, card: VirtualCard) -> None:
        self._card = card
        if self.virtual.holds_card and self.virtual.atr == card.atr:
            self.virtual.swap(card)
            return
        self.virtual.remove()
        assert self.reader.wait_for_change(ReaderState.CARD, 3) is ReaderState.EMPTY
        self.virtual.insert(card)
        assert self.reader.wait_for_change(ReaderState.EMPTY, 3) is ReaderState.CARD


class ChipRig(Rig):
    """A PN53x on whatever cable; ``chip`` is its field and firmware."""

    def __init__(self, url: str, chip: Pn53xChip) -> None:
        self._chip = chip
        self._card = FieldCard.blank(UID)
        self.reader = open_reader(url)

    def lay(self, uid: bytes = UID, fault: Fault | None = None, *, open_block_0: bool = False) -> None:
        self._place(replace(FieldCard.blank(uid, fault), open_block_0=open_block_0))

    def lay_another_kind(self) -> None:
        self._place(FieldCard.blank(UID, sak=SAK_4K))

    def lay_same_card_again(self) -> None:
        self._place(FieldCard(self._card.image))

    def content(self) -> bytes:
        assert isinstance(self._card.image, MemoryImage)
        return bytes(self._card.image.content)

    def close(self) -> None:
        self.reader.close()

    def _place(self, card: FieldCard) -> None:
        self._card = card
        self._chip.cards = [card]
