"""What a dump tells of a MIFARE Classic 1K: its 64 blocks, byte by byte known or not, and how it answers. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from drivers.mifare_classic import (
    BLOCK_COUNT,
    BLOCK_SIZE,
    KEY_SIZE,
    KeyType,
    trailer_of,
    uid_of_manufacturer_block,
)

Block = tuple[int | None, ...]
"""The 16 bytes of a block; None for a byte that is not known."""
UNKNOWN_BLOCK: Block = (None,) * BLOCK_SIZE


class DumpInvalid(Exception):
    """A file that is no dump of a 1K card. Names the line or block, never what stands there: it may be a key."""


@dataclass(frozen=True)
class CardDump:
    """What a dump tells of a card. Its repr shows no block: trailers hold keys.

    ``uid`` is None where the dump does not tell it. ``atqa`` and ``sak`` are the card's answers at selection, ``atqa``
    as sent: least significant byte first. Made with :func:`card_dump`.
    """

    blocks: tuple[Block, ...] = field(repr=False)
    uid: bytes | None
    atqa: bytes
    sak: int

    @property
    def unknown_blocks(self) -> list[int]:
        """The blocks of which a byte or more is not known."""
        return [number for number, block in enumerate(self.blocks) if None in block]

    def block(self, number: int) -> bytes | None:
        """The 16 bytes of a block, or None unless all are known."""
        return whole(self.blocks[number])

    def key(self, sector: int, key_type: KeyType) -> bytes | None:
        """The key of a sector, or None unless the dump knows it."""
        trailer = self.blocks[trailer_of(sector)]
        return whole(trailer[:KEY_SIZE] if key_type is KeyType.A else trailer[-KEY_SIZE:])


def whole(part: Block) -> bytes | None:
    """The bytes of a block or a part of one, or None unless all are known."""
    known = [byte for byte in part if byte is not None]
    return bytes(known) if len(known) == len(part) else None


def card_dump(
    blocks: Iterable[Block], uid: bytes | None = None, atqa: bytes | None = None, sak: int | None = None
) -> CardDump:
    """A dump of 64 blocks. What is not told is taken from block 0 (UID) and from what a 1K card answers (ATQA, SAK).

    A card need not answer with what stands in its block 0 (MIFARE Classic EV1 may use another UID, some chips another
    SAK), so the two are not held against each other.
    """
    blocks = tuple(blocks)
    if len(blocks) != BLOCK_COUNT or any(len(block) != BLOCK_SIZE for block in blocks):
        raise ValueError(f"a 1K card has {BLOCK_COUNT} blocks of {BLOCK_SIZE} bytes")
    first = whole(blocks[0])
    if uid is None and first is not None:
        uid = uid_of_manufacturer_block(first)
    of_seven_bytes = uid is not None and len(uid) == 7
    return CardDump(blocks, uid, atqa or bytes([0x44 if of_seven_bytes else 0x04, 0]), 0x08 if sak is None else sak)
