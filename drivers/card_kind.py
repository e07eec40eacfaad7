"""What kind of card a reader says it sees. Never evidence of a genuine chip. No I/O."""

from __future__ import annotations

from enum import StrEnum


class CardKind(StrEnum):
    """The value is how to name it to a person."""

    CLASSIC_1K = "a MIFARE Classic 1K"
    CLASSIC_4K = "a MIFARE Classic 4K"
    CLASSIC_MINI = "a MIFARE Classic Mini"
    ULTRALIGHT = "an Ultralight or NTAG"
    PLUS_SL1 = "a MIFARE Plus in security level 1"
    PLUS_SL2 = "a MIFARE Plus in security level 2"
    ISO_14443_4 = "an ISO 14443-4 card (a bank card, DESFire or phone)"
    OTHER_STORAGE = "a storage card of another standard"
    UNNAMED_STORAGE = "a storage card that the reader gives no name"
    UNKNOWN = "a card that is no contactless storage card"


_CLASSIC_BITS = 0x19
_CLASSICS = {0x08: CardKind.CLASSIC_1K, 0x18: CardKind.CLASSIC_4K, 0x09: CardKind.CLASSIC_MINI}
_OTHERS = {
    0x00: CardKind.ULTRALIGHT,
    0x10: CardKind.PLUS_SL2,
    0x11: CardKind.PLUS_SL2,
    0x20: CardKind.ISO_14443_4,
}


def classic_of_sak(sak: int) -> CardKind | None:
    """Which MIFARE Classic a SAK announces; None for any other card.

    NXP's AN10833 tests bits: 88 is Infineon's 1K, 28 a SmartMX that plays one.
    """
    return _CLASSICS.get(sak & _CLASSIC_BITS)


def kind_of_sak(sak: int) -> CardKind:
    """What a card's SAK (select acknowledge, ISO/IEC 14443-3) announces."""
    return classic_of_sak(sak) or _OTHERS.get(sak, CardKind.UNKNOWN)
