"""The commands of PC/SC part 3 for contactless storage cards ("pseudo-APDUs"), their status words, and ATRs. No I/O.

The reader answers these itself; nothing here reaches the card as it stands. Source: PC/SC Workgroup specification
2.01.14 part 3, sections 3.1.3.2.3 (ATR of a storage card) and 3.2.2 (storage card commands), and its supplemental
document (standards and card names). Where readers differ, see :mod:`drivers.reader_profiles`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType

from drivers.card_kind import CardKind, classic_of_sak
from drivers.mifare_classic import BLOCK_SIZE, KEY_SIZE, KeyType, ValueOperation, is_trailer

CLA_STORAGE_CARD = 0xFF
INS_LOAD_KEYS = 0x82
INS_GENERAL_AUTHENTICATE = 0x86
INS_READ_BINARY = 0xB0
INS_GET_DATA = 0xCA
INS_UPDATE_BINARY = 0xD6
# Not in part 3, and not the same everywhere: FF D7 writes a whole sector on Identiv's. Sent by a reader's profile only.
INS_ACS_VALUE = 0xD7
INS_HID_INCREMENT, INS_HID_DECREMENT = 0xD4, 0xD8

_KEY_TYPES = {KeyType.A: 0x60, KeyType.B: 0x61}


class StatusWord(IntEnum):
    """SW1 SW2 as part 3 section 3.2.2 names them. ACS readers know only the first, 6300 and 6A81."""

    OK = 0x9000
    END_OF_DATA = 0x6282
    FAILED = 0x6300
    MEMORY_FAILURE = 0x6581
    WRONG_LENGTH = 0x6700
    CLASS_NOT_SUPPORTED = 0x6800
    COMMAND_INCOMPATIBLE = 0x6981
    SECURITY_STATUS_NOT_SATISFIED = 0x6982
    AUTHENTICATION_METHOD_BLOCKED = 0x6983
    SECURED_TRANSMISSION_NOT_SUPPORTED = 0x6985
    COMMAND_NOT_ALLOWED = 0x6986
    NO_NON_VOLATILE_MEMORY = 0x6987
    KEY_NUMBER_NOT_VALID = 0x6988
    KEY_LENGTH_NOT_CORRECT = 0x6989
    WRONG_DATA = 0x6A80
    FUNCTION_NOT_SUPPORTED = 0x6A81
    ADDRESS_INVALID = 0x6A82
    WRONG_PARAMETERS = 0x6B00
    INSTRUCTION_NOT_SUPPORTED = 0x6D00
    CLASS_UNKNOWN = 0x6E00
    ABORTED = 0x6F00


def describe_status(sw: int) -> str:
    """A status word for people: ``6982 security status not satisfied``."""
    try:
        return f"{sw:04X} {StatusWord(sw).name.replace('_', ' ').lower()}"
    except ValueError:
        return f"{sw:04X}"


def get_uid() -> bytes:
    """GET DATA, P1 = 00: the UID (part 3 section 3.2.2.1.3)."""
    return bytes([CLA_STORAGE_CARD, INS_GET_DATA, 0x00, 0x00, 0x00])


def load_key(p1: int, slot: int, key: bytes) -> bytes:
    """LOAD KEYS (section 3.2.2.1.4). P1 bit 5 (0x20) asks for non-volatile memory; 00 is a volatile reader key."""
    if len(key) != KEY_SIZE:
        raise ValueError(f"a sector key is {KEY_SIZE} bytes, not {len(key)}")
    return bytes([CLA_STORAGE_CARD, INS_LOAD_KEYS, p1, slot, KEY_SIZE]) + key


def authenticate(block: int, key_type: KeyType, slot: int) -> bytes:
    """GENERAL AUTHENTICATE, version 1 (section 3.2.2.1.6): opens the sector of ``block`` with the key in ``slot``."""
    return bytes([CLA_STORAGE_CARD, INS_GENERAL_AUTHENTICATE, 0, 0, 5, 1, 0, block, _KEY_TYPES[key_type], slot])


def read_block(block: int, length: int = BLOCK_SIZE) -> bytes:
    """READ BINARY (section 3.2.2.1.8). More than one block at once only where the reader's profile says so."""
    return bytes([CLA_STORAGE_CARD, INS_READ_BINARY, 0x00, block, length])


def update_block(block: int, data: bytes) -> bytes:
    """UPDATE BINARY (section 3.2.2.1.9): exactly one block on a MIFARE Classic."""
    if len(data) != BLOCK_SIZE:
        raise ValueError(f"a block is {BLOCK_SIZE} bytes, not {len(data)}")
    return bytes([CLA_STORAGE_CARD, INS_UPDATE_BINARY, 0x00, block, len(data)]) + data


def acs_value(block: int, operation: ValueOperation, amount: int) -> bytes:
    """ACS's value block operation, TRANSFER included (ACR122T manual v2.02 p. 20, ACM1252U-Y3 p. 40): big-endian."""
    code = {ValueOperation.INCREMENT: 1, ValueOperation.DECREMENT: 2}[operation]
    return bytes([CLA_STORAGE_CARD, INS_ACS_VALUE, 0x00, block, 5, code]) + amount.to_bytes(4)


def acs_restore(source: int, target: int) -> bytes:
    """ACS's copy of a value block within its sector (the same manuals)."""
    return bytes([CLA_STORAGE_CARD, INS_ACS_VALUE, 0x00, source, 2, 3, target])


def hid_value(block: int, operation: ValueOperation, amount: int) -> bytes:
    """HID's increment and decrement (sample code of the OMNIKEY 5x22 family): little-endian, as on the card."""
    ins = {ValueOperation.INCREMENT: INS_HID_INCREMENT, ValueOperation.DECREMENT: INS_HID_DECREMENT}[operation]
    return bytes([CLA_STORAGE_CARD, ins, 0x00, block, 4]) + amount.to_bytes(4, "little")


def command_for_log(apdu: bytes) -> str:
    """Hex for the wire log; keys are masked (LOAD KEYS, and both keys in a trailer being written)."""
    if apdu[1] == INS_LOAD_KEYS:
        return f"{apdu[:5].hex(' ')} (key masked)"
    if apdu[1] == INS_UPDATE_BINARY and is_trailer(apdu[3]):
        return f"{apdu[:5].hex(' ')} (key masked) {apdu[11:15].hex(' ')} (key masked)"
    return apdu.hex(" ")


def answer_for_log(apdu: bytes, data: bytes) -> str:
    """Hex of what the reader gave to ``apdu``; key B of a trailer is masked, a transport card shows it."""
    if apdu[1] == INS_READ_BINARY and is_trailer(apdu[3]):
        return f"{data[:10].hex(' ')} (key masked)"
    return data.hex(" ")


STORAGE_CARD_RID = bytes.fromhex("A000000306")
_STORAGE_PREFIX = bytes.fromhex("804F0C") + STORAGE_CARD_RID
_NO_STANDARD_NAMED = 0x00
_ISO_14443_A_3 = 0x03

CARD_NAMES: Mapping[int, CardKind] = MappingProxyType(
    {
        0x0001: CardKind.CLASSIC_1K,
        0x0002: CardKind.CLASSIC_4K,
        0x0003: CardKind.ULTRALIGHT,
        0x0026: CardKind.CLASSIC_MINI,
        0x0036: CardKind.PLUS_SL1,
        0x0037: CardKind.PLUS_SL1,
        0x0038: CardKind.PLUS_SL2,
        0x0039: CardKind.PLUS_SL2,
        0x003A: CardKind.ULTRALIGHT,
    }
)
_SAK_NAME = 0xFF


def storage_card_atr(name: int, standard: int = _ISO_14443_A_3) -> bytes:
    """The ATR that part 3 section 3.1.3.2.3.2 gives a storage card with this name."""
    head = bytes.fromhex("3B8F8001") + _STORAGE_PREFIX + bytes([standard]) + name.to_bytes(2) + bytes(4)
    check = 0
    for byte in head[1:]:
        check ^= byte
    return head + bytes([check])


def classify_atr(atr: bytes, names: Mapping[int, CardKind] = CARD_NAMES) -> CardKind:
    """What kind of card an ATR announces; ``names`` lets a reader with names of its own be understood."""
    if atr[:1] != b"\x3b" or atr[2:4] != b"\x80\x01":
        return CardKind.UNKNOWN
    history = atr[4 : 4 + (atr[1] & 0x0F)]
    if not history.startswith(_STORAGE_PREFIX) or len(history) < len(_STORAGE_PREFIX) + 3:
        return CardKind.ISO_14443_4
    standard, name = history[8], int.from_bytes(history[9:11])
    if standard not in (_NO_STANDARD_NAMED, _ISO_14443_A_3):
        return CardKind.OTHER_STORAGE
    if name in names:
        return names[name]
    if name >> 8 == _SAK_NAME:  # ACS names an unlisted card by its SAK: FF88 is Infineon's Classic 1K, FF28 SmartMX
        return classic_of_sak(name & 0xFF) or CardKind.UNNAMED_STORAGE
    return CardKind.OTHER_STORAGE if name >> 8 == 0xF0 else CardKind.UNNAMED_STORAGE
