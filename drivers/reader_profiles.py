"""What differs between reader models behind PC/SC part 3. Data only, from the makers' manuals; no I/O.

A profile is chosen by the reader's PC/SC name, or forced: ``pcsc:Virtual PCD 00 00?profile=acr122u``.
Keys are diversified per card, so they are loaded into volatile slots only: writing EEPROM slots at every tap wears
them out and leaves keys in a reader that can be carried away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from drivers.card_kind import CardKind
from drivers.mifare_classic import BLOCK_SIZE
from drivers.pseudo_apdu import CARD_NAMES


@dataclass(frozen=True)
class KeySlot:
    """Where LOAD KEYS puts a key: its P1 and the key number."""

    p1: int
    number: int


VOLATILE_0 = KeySlot(0x00, 0x00)
SESSION_KEY = KeySlot(0x00, 0x20)


class ValueFamily(StrEnum):
    """Whose commands for value blocks a reader takes; they contradict each other, so none is ever tried."""

    ACS = "acs"
    HID = "hid"


@dataclass(frozen=True)
class ReaderProfile:
    """One family of readers. ``key_slots`` are tried in order until LOAD KEYS is accepted."""

    name: str
    models: str
    matches: re.Pattern[str]
    key_slots: tuple[KeySlot, ...] = (VOLATILE_0, SESSION_KEY)
    max_read_bytes: int = BLOCK_SIZE
    card_names: Mapping[int, CardKind] = field(default_factory=lambda: CARD_NAMES)
    value_family: ValueFamily | None = None


def _named(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


GENERIC = ReaderProfile("generic", "any reader that keeps to PC/SC part 3", _named(""))

ACS = ValueFamily.ACS
PROFILES = (
    # ACR122U/T manual: P1 = 00, slots 00-01, volatile; 16 bytes per read.
    ReaderProfile("acr122u", "ACS ACR122U, ACR122T", _named(r"ACR122"), (VOLATILE_0,), value_family=ACS),
    # ACM1252U-Y3 manual v1.03 p. 34 and 38: slots 00-01; up to 3 consecutive data blocks per read on a 1K.
    ReaderProfile(
        "acr1252u",
        "ACS ACR1252U, ACM1252U",
        _named(r"AC[RM]1252"),
        (VOLATILE_0,),
        3 * BLOCK_SIZE,
        value_family=ACS,
    ),
    # ACR1281U, ACR1283L and ACR128 manuals: slots 00-1F are EEPROM, key number 20 is the one volatile session key.
    ReaderProfile(
        "acr1281u",
        "ACS ACR1281U, ACR1283L, ACR128",
        _named(r"AC[RM]12(81|83|8U|8 )"),
        (SESSION_KEY,),
        value_family=ACS,
    ),
    # HID's sample code for the AViatoR family: FF D4 and FF D8, little-endian; key slots are found by trying.
    ReaderProfile(
        "omnikey",
        "HID OMNIKEY 5022, 5122, 5422, 5427",
        _named(r"OMNIKEY\D*5(022|122|422|427)"),
        value_family=ValueFamily.HID,
    ),
    # ATR110/210 manual p. 35: its card names are one off from PC/SC part 3.
    ReaderProfile(
        "access-is",
        "Access-IS ATR110, ATR210",
        _named(r"Access.?IS|ATR[12]10"),
        card_names={0x0003: CardKind.CLASSIC_1K, 0x0004: CardKind.CLASSIC_4K, 0x0005: CardKind.ULTRALIGHT},
    ),
)

_BY_NAME = {profile.name: profile for profile in (*PROFILES, GENERIC)}
_OPTION = "?profile="


def profile_of(reader_name: str) -> ReaderProfile:
    """The profile of a reader by its PC/SC name; the generic one when nothing special is known of it."""
    return next((profile for profile in PROFILES if profile.matches.search(reader_name)), GENERIC)


def parse_place(place: str) -> tuple[str, ReaderProfile | None]:
    """``NAME?profile=acr122u`` as the name and the forced profile. Raises ValueError for one that is not known."""
    name, option, wanted = place.partition(_OPTION)
    if not option:
        return name, None
    if wanted not in _BY_NAME:
        raise ValueError(f"there is no reader profile {wanted!r}; known: {', '.join(sorted(_BY_NAME))}")
    return name, _BY_NAME[wanted]


def choose_reader(names: list[str], wanted: str) -> str | None:
    """The first reader whose name contains ``wanted``, whatever its case; a full name wins over a part.

    A slot for SAM or contact cards (dual readers announce several) is taken only when nothing else fits.
    """
    if wanted in names:
        return wanted
    fitting = [name for name in names if wanted.lower() in name.lower()]
    contactless = [name for name in fitting if not _CONTACT_SLOT.search(name)]
    return next(iter(contactless or fitting), None)


_CONTACT_SLOT = _named(r"\b(SAM|ICC|contact)\b")
