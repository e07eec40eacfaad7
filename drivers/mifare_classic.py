"""MIFARE Classic 1K as the data sheet describes it: geometry, keys, access bits, sector trailers. No I/O.

Source: NXP MF1S50yyX/V1 data sheet rev 3.2, sections 8.6 (memory), 8.7 (access conditions, tables 6 to 8).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

BLOCK_SIZE = 16
BLOCK_COUNT = 64
SECTOR_COUNT = 16
BLOCKS_PER_SECTOR = 4
CARD_SIZE = BLOCK_SIZE * BLOCK_COUNT
KEY_SIZE = 6

TRANSPORT_KEY = b"\xff" * KEY_SIZE


class KeyType(StrEnum):
    A = "A"
    B = "B"


def sector_of(block: int) -> int:
    """The sector (0..15) that holds ``block`` (0..63)."""
    if not 0 <= block < BLOCK_COUNT:
        raise ValueError(f"block {block} is not on a 1K card (0..{BLOCK_COUNT - 1})")
    return block // BLOCKS_PER_SECTOR


def trailer_of(sector: int) -> int:
    """The block number of a sector's trailer."""
    return sector * BLOCKS_PER_SECTOR + BLOCKS_PER_SECTOR - 1


def is_trailer(block: int) -> bool:
    """Whether ``block`` holds keys and access bits."""
    return block % BLOCKS_PER_SECTOR == BLOCKS_PER_SECTOR - 1


def data_blocks(sector: int) -> list[int]:
    """Block numbers of a sector that may hold data; block 0 is the manufacturer's."""
    first = sector * BLOCKS_PER_SECTOR
    return [b for b in range(first, first + BLOCKS_PER_SECTOR - 1) if b != 0]


A, B, AB, NEVER = frozenset("A"), frozenset("B"), frozenset("AB"), frozenset[str]()


@dataclass(frozen=True)
class DataRights:
    """Which keys may do what to a data block (data sheet table 8). ``decrement`` covers transfer and restore too."""

    read: frozenset[str]
    write: frozenset[str]
    increment: frozenset[str]
    decrement: frozenset[str]


@dataclass(frozen=True)
class TrailerRights:
    """Which keys may do what to a trailer (data sheet table 7). Key A can never be read."""

    write_key_a: frozenset[str]
    read_access_bits: frozenset[str]
    write_access_bits: frozenset[str]
    read_key_b: frozenset[str]
    write_key_b: frozenset[str]


# Indexed by the three bits C1 C2 C3 read as a number.
DATA_RIGHTS = {
    0b000: DataRights(AB, AB, AB, AB),
    0b010: DataRights(AB, NEVER, NEVER, NEVER),
    0b100: DataRights(AB, B, NEVER, NEVER),
    0b110: DataRights(AB, B, B, AB),
    0b001: DataRights(AB, NEVER, NEVER, AB),
    0b011: DataRights(B, B, NEVER, NEVER),
    0b101: DataRights(B, NEVER, NEVER, NEVER),
    0b111: DataRights(NEVER, NEVER, NEVER, NEVER),
}
TRAILER_RIGHTS = {
    0b000: TrailerRights(A, A, NEVER, A, A),
    0b010: TrailerRights(NEVER, A, NEVER, A, NEVER),
    0b100: TrailerRights(B, AB, NEVER, NEVER, B),
    0b110: TrailerRights(NEVER, AB, NEVER, NEVER, NEVER),
    0b001: TrailerRights(A, A, A, A, A),
    0b011: TrailerRights(B, AB, B, NEVER, B),
    0b101: TrailerRights(NEVER, AB, B, NEVER, NEVER),
    0b111: TrailerRights(NEVER, AB, NEVER, NEVER, NEVER),
}


@dataclass(frozen=True)
class AccessBits:
    """The access conditions of one sector: ``conditions[i]`` is C1 C2 C3 of block i (3 is the trailer)."""

    conditions: tuple[int, int, int, int]

    @classmethod
    def parse(cls, raw: bytes) -> AccessBits:
        """From bytes 6..8 of a trailer. Raises ValueError when the inverse copies disagree (a blocked sector)."""
        if len(raw) != 3:
            raise ValueError(f"access bits are 3 bytes, not {len(raw)}")
        c1, c2, c3 = raw[1] >> 4, raw[2] & 0xF, raw[2] >> 4
        if (raw[0] & 0xF, raw[0] >> 4, raw[1] & 0xF) != (c1 ^ 0xF, c2 ^ 0xF, c3 ^ 0xF):
            raise ValueError(f"access bits {raw.hex()} contradict themselves; the card would block the sector")
        parts = [(c1 >> i & 1) << 2 | (c2 >> i & 1) << 1 | (c3 >> i & 1) for i in range(4)]
        return cls((parts[0], parts[1], parts[2], parts[3]))

    def encode(self) -> bytes:
        """Bytes 6..8 of a trailer."""
        c1, c2, c3 = (
            sum((condition >> shift & 1) << i for i, condition in enumerate(self.conditions)) for shift in (2, 1, 0)
        )
        return bytes([(c2 ^ 0xF) << 4 | c1 ^ 0xF, c1 << 4 | c3 ^ 0xF, c3 << 4 | c2])

    def data(self, index: int) -> DataRights:
        """Rights on data block ``index`` (0..2) of the sector; key B grants none where it is readable."""
        rights = DATA_RIGHTS[self.conditions[index]]
        if not self.key_b_is_readable:
            return rights
        return DataRights(rights.read - B, rights.write - B, rights.increment - B, rights.decrement - B)

    @property
    def trailer(self) -> TrailerRights:
        return TRAILER_RIGHTS[self.conditions[3]]

    @property
    def key_b_is_readable(self) -> bool:
        """Where key B can be read it is data, and cannot open anything (footnote to table 8)."""
        return bool(self.trailer.read_key_b)


TRANSPORT_ACCESS = AccessBits((0b000, 0b000, 0b000, 0b001))
TRANSPORT_GENERAL_PURPOSE_BYTE = 0x69


@dataclass(frozen=True)
class SectorTrailer:
    """Key A (6) | access bits (3) | general purpose byte (1) | key B (6). Its repr shows no key."""

    key_a: bytes = field(repr=False)
    access: AccessBits
    key_b: bytes = field(repr=False)
    general_purpose_byte: int = TRANSPORT_GENERAL_PURPOSE_BYTE

    @classmethod
    def parse(cls, raw: bytes) -> SectorTrailer:
        """From the 16 bytes of a trailer block. Raises ValueError for a wrong length or blocked access bits."""
        if len(raw) != BLOCK_SIZE:
            raise ValueError(f"a trailer is {BLOCK_SIZE} bytes, not {len(raw)}")
        return cls(raw[:6], AccessBits.parse(raw[6:9]), raw[10:], raw[9])

    def encode(self) -> bytes:
        """The 16 bytes to write."""
        if len(self.key_a) != KEY_SIZE or len(self.key_b) != KEY_SIZE:
            raise ValueError("a sector key is 6 bytes")
        return self.key_a + self.access.encode() + bytes([self.general_purpose_byte]) + self.key_b


TRANSPORT_TRAILER = SectorTrailer(TRANSPORT_KEY, TRANSPORT_ACCESS, TRANSPORT_KEY)


LOWEST_VALUE, HIGHEST_VALUE = -(2**31), 2**31 - 1


class ValueOperation(IntEnum):
    """What a card can do with a value block on its way to the transfer buffer; the number is the card's command."""

    DECREMENT = 0xC0
    INCREMENT = 0xC1
    RESTORE = 0xC2


@dataclass(frozen=True)
class ValueBlock:
    """A block that the card itself can count in (data sheet section 8.6.2.1): the value three times, once inverted, and
    a free byte (``address``) four times, twice inverted. The card's arithmetic leaves the address as it is."""

    value: int
    address: int = 0

    @classmethod
    def parse(cls, raw: bytes) -> ValueBlock:
        """From the 16 bytes of a block. Raises ValueError for a wrong length, or copies that disagree."""
        if len(raw) != BLOCK_SIZE:
            raise ValueError(f"a block is {BLOCK_SIZE} bytes, not {len(raw)}")
        block = cls(int.from_bytes(raw[:4], "little", signed=True), raw[12])
        if block.encode() != raw:
            raise ValueError("this is no value block: its copies disagree")
        return block

    def encode(self) -> bytes:
        """The 16 bytes to write. Raises ValueError for a value that does not fit in 32 bits with a sign."""
        if not LOWEST_VALUE <= self.value <= HIGHEST_VALUE:
            raise ValueError(f"a value block cannot hold {self.value}")
        value, inverse = (number.to_bytes(4, "little", signed=True) for number in (self.value, ~self.value))
        return value + inverse + value + bytes([self.address, self.address ^ 0xFF] * 2)


_ATQA_4, _ATQA_7 = b"\x04\x00", b"\x44\x00"  # as stored: least significant byte first


def uid_of_manufacturer_block(block: bytes) -> bytes:
    """The UID in block 0: 4 bytes where the check byte (XOR) fits, else 7 (data sheet section 8.6.1).

    One 7-byte UID in 256 fits the check by chance; there the ATQA (44 00 after SAK) tells.
    """
    four = block[:4]
    fits = four[0] ^ four[1] ^ four[2] ^ four[3] == block[4]
    says_seven = block[8:10] == _ATQA_7 and block[6:8] != _ATQA_4
    return four if fits and not says_seven else block[:7]


def manufacturer_block(uid: bytes, maker_data: bytes = b"") -> bytes:
    """Block 0 of a 1K card with this UID (4 or 7 bytes): UID, check byte, SAK 08, ATQA, maker's data."""
    if len(uid) not in (4, 7):
        raise ValueError(f"a UID is 4 or 7 bytes, not {len(uid)}")
    check = bytes([uid[0] ^ uid[1] ^ uid[2] ^ uid[3]]) if len(uid) == 4 else b""
    atqa = _ATQA_4 if len(uid) == 4 else _ATQA_7
    head = uid + check + b"\x08" + atqa
    return head + maker_data[: BLOCK_SIZE - len(head)].ljust(BLOCK_SIZE - len(head), b"\0")


def blank_card(uid: bytes) -> bytearray:
    """1024 bytes of a card in the transport state (data sheet section 8.6.3), as the maker delivers it."""
    image = bytearray(CARD_SIZE)
    image[:BLOCK_SIZE] = manufacturer_block(uid)
    for sector in range(SECTOR_COUNT):
        start = trailer_of(sector) * BLOCK_SIZE
        image[start : start + BLOCK_SIZE] = TRANSPORT_TRAILER.encode()
    return image


# The MIFARE application directory, version 1 (NXP AN10787): which application each of the sectors 1..15 belongs to.
MAD_KEY_A = bytes.fromhex("A0A1A2A3A4A5")
MAD_GENERAL_PURPOSE_BYTE = 0xC1
"""Directory there (bit 7), several applications (bit 6), version 1."""
MAD_BLOCKS = (1, 2)
_MAD_CRC_PRESET, _MAD_CRC_POLYNOMIAL = 0xC7, 0x1D


def mad_crc(content: bytes) -> int:
    """CRC-8 over the info byte and the 15 application ids; the preset is AN10787's 0xE3 with its bits mirrored."""
    crc = _MAD_CRC_PRESET
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ _MAD_CRC_POLYNOMIAL if crc & 0x80 else crc << 1) & 0xFF
    return crc


def encode_mad(applications: dict[int, int], publisher_sector: int = 0) -> bytes:
    """The 32 bytes of blocks 1 and 2: ``applications`` gives the 16-bit id of a sector (1..15), others are free (0).

    Raises ValueError, also for a ``publisher_sector`` that this version does not cover (0: none).
    """
    if not set(applications) <= set(range(1, SECTOR_COUNT)) or publisher_sector not in range(SECTOR_COUNT):
        raise ValueError("an application directory covers the sectors 1 to 15")
    if not set(applications.values()) <= set(range(0x10000)):
        raise ValueError("the id of an application is 16 bits")
    ids = [applications.get(sector, 0) for sector in range(1, SECTOR_COUNT)]
    content = bytes([publisher_sector]) + b"".join(number.to_bytes(2, "little") for number in ids)
    return bytes([mad_crc(content)]) + content


def decode_mad(raw: bytes) -> dict[int, int]:
    """The application id of every sector that has one. Raises ValueError for a wrong length or check sum."""
    if len(raw) != len(MAD_BLOCKS) * BLOCK_SIZE:
        raise ValueError(f"an application directory is 32 bytes, not {len(raw)}")
    if mad_crc(raw[1:]) != raw[0]:
        raise ValueError("the check sum of the application directory is wrong")
    ids = {sector: int.from_bytes(raw[2 * sector : 2 * sector + 2], "little") for sector in range(1, SECTOR_COUNT)}
    return {sector: number for sector, number in ids.items() if number}
