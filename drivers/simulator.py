"""A MIFARE Classic 1K card and its reader in this process, with faults on request.

``SimulatedChip`` obeys the data sheet (keys, access bits, read-only manufacturer block, silence after a refused key).
Its memory is a ``CardImage``: a file that outlives the process, or bytes. ``Fault`` pulls the card away at one call.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from drivers.base import ClassicConnection, Reader, ReaderState, ValueCommands
from drivers.errors import AccessDenied, AuthenticationFailed, CardRemoved, NoReader, UnsupportedCard
from drivers.mifare_classic import (
    BLOCK_SIZE,
    CARD_SIZE,
    AccessBits,
    DataRights,
    KeyType,
    SectorTrailer,
    ValueBlock,
    ValueOperation,
    blank_card,
    is_trailer,
    sector_of,
    trailer_of,
    uid_of_manufacturer_block,
)


class CardImage(Protocol):
    """The 1024 bytes of a card, a block at a time."""

    def read(self, block: int) -> bytes: ...
    def write(self, block: int, data: bytes) -> None: ...


class MemoryImage:
    """A card that lives as long as this object."""

    def __init__(self, content: bytes | None = None) -> None:
        self.content = bytearray(content if content is not None else blank_card(secrets.token_bytes(4)))

    def read(self, block: int) -> bytes:
        return bytes(self.content[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE])

    def write(self, block: int, data: bytes) -> None:
        self.content[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE] = data


class FileImage:
    """A card kept in an .mfd file; each block is written through at once, like EEPROM."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def read(self, block: int) -> bytes:
        return os.pread(self._file, BLOCK_SIZE, block * BLOCK_SIZE)

    def write(self, block: int, data: bytes) -> None:
        os.pwrite(self._file, data, block * BLOCK_SIZE)

    def close(self) -> None:
        os.close(self._file)


class Torn(StrEnum):
    """What a block holds after the card was pulled away during its write."""

    OLD = "old"
    NEW = "new"
    GARBAGE = "garbage"


@dataclass(frozen=True)
class Fault:
    """The card leaves at its ``call``-th operation since selection (1-based: authenticate, read and write count)."""

    call: int
    outcome: Torn = Torn.OLD


class ChipRefused(Exception):
    """The chip answered NAK, or kept silent. ``gone`` tells a card out of the field from one that said no."""

    def __init__(self, gone: bool = False) -> None:
        super().__init__("gone" if gone else "refused")
        self.gone = gone


class SimulatedChip:
    """The card's side of the air interface: select, authenticate, read, write.

    ``open_block_0``: a copy of the kind that lets anybody read block 0.
    """

    def __init__(self, image: CardImage, fault: Fault | None = None, *, open_block_0: bool = False) -> None:
        self._image = image
        self._open_block_0 = open_block_0
        self._fault = fault
        self._calls = 0
        self._open_sector: int | None = None
        self._open_key = KeyType.A
        self._selected = False
        self._gone = False
        self._transfer_buffer = b""

    def select(self) -> bytes:
        """The UID; any open sector is closed. Raises :class:`ChipRefused`."""
        if self._gone:
            raise ChipRefused(gone=True)
        self._selected, self._open_sector, self._transfer_buffer = True, None, b""
        return uid_of_manufacturer_block(self._image.read(0))

    def authenticate(self, block: int, key_type: KeyType, key: bytes) -> None:
        self._count()
        self._open_sector, self._transfer_buffer = None, b""
        trailer = self._image.read(trailer_of(sector_of(block)))
        if key != (trailer[:6] if key_type is KeyType.A else trailer[10:]):
            self._selected = False
            raise ChipRefused
        self._open_sector, self._open_key = sector_of(block), key_type

    def read(self, block: int) -> bytes:
        self._count()
        if block == 0 and self._open_block_0 and self._open_sector is None:
            return self._image.read(block)
        access = self._access(block)
        if not is_trailer(block):
            self._require(self._open_key in access.data(block % 4).read)
            return self._image.read(block)
        self._require(self._open_key in access.trailer.read_access_bits)
        trailer = bytearray(self._image.read(block))
        trailer[:6] = bytes(6)
        if self._open_key not in access.trailer.read_key_b:
            trailer[10:] = bytes(6)
        return bytes(trailer)

    def write(self, block: int, data: bytes) -> None:
        access = self._access(block)
        new = self._merge_trailer(block, data, access) if is_trailer(block) else data
        if not is_trailer(block):
            self._require(block != 0 and self._open_key in access.data(block % 4).write)
        self._program(block, new)

    def _program(self, block: int, new: bytes) -> None:
        torn = self._count(during_write=True)
        if torn is not None:
            self._image.write(block, {Torn.OLD: self._image.read(block), Torn.NEW: new}.get(torn, _garbage(new)))
            raise ChipRefused(gone=True)
        self._image.write(block, new)

    def load(self, operation: ValueOperation, block: int, amount: int) -> None:
        """A block's value, changed, into the transfer buffer: nothing in memory changes."""
        self._count()
        rights = self._value_rights(block)
        self._require(self._open_key in (rights.increment if operation is _INCREMENT else rights.decrement))
        try:
            held = ValueBlock.parse(self._image.read(block))
            self._transfer_buffer = ValueBlock(held.value + _SIGN[operation] * amount, held.address).encode()
        except ValueError:
            self._require(False)

    def transfer(self, block: int) -> None:
        """The transfer buffer into a block of the open sector."""
        self._require(self._open_key in self._value_rights(block).decrement and bool(self._transfer_buffer))
        self._program(block, self._transfer_buffer)

    def _value_rights(self, block: int) -> DataRights:
        access = self._access(block)
        self._require(not is_trailer(block) and block != 0)
        return access.data(block % 4)

    def _merge_trailer(self, block: int, data: bytes, access: AccessBits) -> bytes:
        rights = access.trailer
        allowed = (rights.write_key_a, rights.write_access_bits, rights.write_key_b)
        self._require(any(self._open_key in keys for keys in allowed))
        old = self._image.read(block)
        key_a, bits, key_b = (self._open_key in keys for keys in allowed)
        return (
            (data[:6] if key_a else old[:6]) + (data[6:10] if bits else old[6:10]) + (data[10:] if key_b else old[10:])
        )

    def _access(self, block: int) -> AccessBits:
        if self._gone:
            raise ChipRefused(gone=True)
        self._require(self._selected and self._open_sector == sector_of(block))
        try:
            return SectorTrailer.parse(self._image.read(trailer_of(sector_of(block)))).access
        except ValueError as error:
            raise ChipRefused from error

    def _require(self, allowed: bool) -> None:
        if not allowed:
            self._open_sector, self._selected = None, False
            raise ChipRefused

    def _count(self, *, during_write: bool = False) -> Torn | None:
        if self._gone or not self._selected:
            raise ChipRefused(gone=self._gone)
        self._calls += 1
        if self._fault is None or self._calls != self._fault.call:
            return None
        self._gone = True
        if during_write:
            return self._fault.outcome
        raise ChipRefused(gone=True)


_INCREMENT = ValueOperation.INCREMENT
_SIGN = {ValueOperation.INCREMENT: 1, ValueOperation.DECREMENT: -1, ValueOperation.RESTORE: 0}


def _garbage(data: bytes) -> bytes:
    """Neither old nor new: what a half-programmed EEPROM page may hold."""
    return bytes(b ^ 0xA5 for b in data)


class SimulatedConnection(ClassicConnection):
    """An open simulated card."""

    def __init__(self, chip: SimulatedChip, on_close: Callable[[], None] = lambda: None) -> None:
        self._chip = chip
        self._on_close = on_close
        self._uid = self._select()

    @property
    def uid(self) -> bytes:
        return self._uid

    def authenticate(self, block: int, key_type: KeyType, key: bytes) -> None:
        try:
            self._chip.authenticate(block, key_type, key)
        except ChipRefused as refused:
            self._reselect(refused)
            raise AuthenticationFailed(block, key_type) from refused

    def read_block(self, block: int) -> bytes:
        with self._refusal_of("read", block):
            return self._chip.read(block)

    def write_block(self, block: int, data: bytes) -> None:
        if len(data) != BLOCK_SIZE:
            raise ValueError(f"a block is {BLOCK_SIZE} bytes, not {len(data)}")
        with self._refusal_of("write", block):
            self._chip.write(block, data)

    @property
    def value_commands(self) -> ValueCommands:
        return self

    def increment(self, block: int, amount: int) -> None:
        with self._refusal_of("increment", block):
            self._chip.load(ValueOperation.INCREMENT, block, amount)
            self._chip.transfer(block)

    def decrement(self, block: int, amount: int) -> None:
        with self._refusal_of("decrement", block):
            self._chip.load(ValueOperation.DECREMENT, block, amount)
            self._chip.transfer(block)

    def restore(self, source: int, target: int) -> None:
        with self._refusal_of("restore", source):
            self._chip.load(ValueOperation.RESTORE, source, 0)
            self._chip.transfer(target)

    @contextmanager
    def _refusal_of(self, action: str, block: int) -> Iterator[None]:
        try:
            yield
        except ChipRefused as refused:
            self._reselect(refused)
            raise AccessDenied(block, action) from refused

    def close(self) -> None:
        self._on_close()

    def _select(self) -> bytes:
        try:
            return self._chip.select()
        except ChipRefused as refused:
            raise CardRemoved("the card left the reader") from refused

    def _reselect(self, refused: ChipRefused) -> None:
        if refused.gone:
            raise CardRemoved("the card left the reader") from refused
        self._select()


class SimulatedReader(Reader):
    """``sim:FILE`` keeps one card lying on the reader; ``sim:DIR/`` feeds a new card for each one asked for."""

    def __init__(self, place: str) -> None:
        if not place:
            raise NoReader("sim: needs a file or a folder, as in sim:card.mfd or sim:cards/")
        self.url = f"sim:{place}"
        self.name = f"Simulator {place}"
        self.fault: Fault | None = None
        self.open_block_0 = False
        self._feeds = place.endswith("/")
        self._path = Path(place)
        folder = self._path if self._feeds else self._path.parent
        if not folder.is_dir():
            problem = NoReader(f"the simulator finds no folder {folder}")
            problem.hint = f"Create it: mkdir -p {folder}"
            raise problem
        self._woken = threading.Event()

    def wait_for_change(self, known: ReaderState, timeout_s: float) -> ReaderState:
        if known is ReaderState.CARD:
            self._woken.wait(timeout_s)
            self._woken.clear()
        return ReaderState.CARD

    def connect(self) -> ClassicConnection:
        path = self._next_card() if self._feeds else self._path
        if path.is_dir():
            problem = NoReader(f"{path} is a folder, not a card")
            problem.hint = f"For a new card each time write sim:{path}/"
            raise problem
        _create_blank(path)
        size = path.stat().st_size
        if size != CARD_SIZE:
            raise UnsupportedCard(f"{path.name} holds {size} bytes, a 1K card {CARD_SIZE}")
        image = FileImage(path)
        chip = SimulatedChip(image, self.fault, open_block_0=self.open_block_0)
        self.fault = None
        return SimulatedConnection(chip, image.close)

    def interrupt(self) -> None:
        self._woken.set()

    def close(self) -> None:
        self.interrupt()

    def _next_card(self) -> Path:
        """One past the last card fed from this folder, also by an earlier process: the pile only shrinks.

        The mark is replaced in one step: a process may be killed at any moment.
        """
        marker = self._path / ".last-fed"
        last = int(marker.read_text()) if marker.exists() else 0
        following = marker.with_name(f"{marker.name}.{secrets.token_hex(4)}")
        following.write_text(str(last + 1))
        following.replace(marker)
        return self._path / f"{last + 1:04d}.mfd"


_NOT_A_NUID = re.compile(rb"[\x08\x88]")


def _create_blank(path: Path) -> None:
    if path.exists():
        return
    uid = secrets.token_bytes(4)
    while _NOT_A_NUID.match(uid):  # 08 marks a random id, 88 a cascade: ISO/IEC 14443-3 section 6.5.4
        uid = secrets.token_bytes(4)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    partial.write_bytes(blank_card(uid))
    os.link(partial, path)
    partial.unlink()
