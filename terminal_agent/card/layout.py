"""Card format 1, byte for byte; docs/card-format.md is the same map with worked vectors.

A sealed block is one AES block that holds its own redundancy: a fixed tag that the right key alone brings back
(encode-then-encipher, Bellare and Rogaway, ASIACRYPT 2000). All numbers are big-endian.

| block        | content                                                                                       |
|--------------|-----------------------------------------------------------------------------------------------|
| 0            | manufacturer                                                                                  |
| 1, 2         | free (the MIFARE application directory, where wanted)                                         |
| sectors 1, 7 | the two homes: one holds identity and two state slots, sealed; the other is free              |
| sectors 2..6 | history ring, 15 sealed entries: sequence s at ring place s mod 15                            |
| sectors 8..15| free                                                                                          |

A block is sealed under the key set whose key B opens its sector.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum, IntFlag
from hashlib import sha256

from drivers.mifare_classic import BLOCK_SIZE, BLOCKS_PER_SECTOR, AccessBits, data_blocks, encode_mad
from terminal_agent.card.card_number import is_card_number
from terminal_agent.card.keys import CardKeys, aes_decrypt_block, aes_encrypt_block

FORMAT = 1


@dataclass(frozen=True)
class Home:
    """A sector that can hold the live content: the identity, then two state slots.

    There are two, so that new keys are written to the sector the card does not live in: a trailer torn into garbage
    is the end of its sector.
    """

    sector: int

    @property
    def identity_block(self) -> int:
        return self.sector * BLOCKS_PER_SECTOR

    @property
    def state_blocks(self) -> tuple[int, int]:
        """Even sequences in the first, odd ones in the second."""
        return self.identity_block + 1, self.identity_block + 2

    @property
    def blocks(self) -> tuple[int, int, int]:
        """The identity's, then both slots'."""
        return self.identity_block, *self.state_blocks

    @property
    def other(self) -> Home:
        return HOMES[1 - HOMES.index(self)]


HOMES = (Home(1), Home(7))


def home_of(key_set_version: int) -> Home:
    """Where a card under this key set lives: odd versions in sector 1, even ones in sector 7.

    So the next version lives in the other sector, and one authentication finds either. Where that sector is dead the
    card lives in the other one.
    """
    return HOMES[(key_set_version - 1) % len(HOMES)]


HISTORY_SECTORS = range(2, 7)
HISTORY_BLOCKS = tuple(block for sector in HISTORY_SECTORS for block in data_blocks(sector))

ISSUED_ACCESS = AccessBits((0b100, 0b100, 0b100, 0b011))
"""Data: read with key A or B, write with B. Trailer: keys and access bits written with B alone."""

APPLICATION_ID = 0x4C59
"""What an application directory (on request) calls our sectors; not registered with NXP."""
DIRECTORY = encode_mad(dict.fromkeys((*(home.sector for home in HOMES), *HISTORY_SECTORS), APPLICATION_ID))

IDENTITY_TAG = b"LID1"
STATE_TAG = b"LST1"
ARRIVING_TAG = b"LAR1"
HISTORY_TAG = b"L1"
HISTORY_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

MAX_SEQUENCE = 2**24 - 1
MAX_BALANCE = 2**31 - 1
MIN_BALANCE = -(2**31)
MAX_ADJUSTMENT = 2**16 - 1
MAX_REDEEMED_OFFLINE = 2**16 - 1


class SealBroken(Exception):
    """A block that our key did not seal, or that holds what cannot be: edited, torn, or never written."""


class CardFlags(IntFlag):
    """Low nibble of the state's last byte; the high nibble is the tier."""

    NONE = 0
    BLOCKED = 1


def _require_fit(*limits: tuple[int, int, int, str]) -> None:
    for value, low, high, name in limits:
        if not low <= value <= high:
            raise ValueError(f"{name} {int(value)} does not fit on the card ({low}..{high})")


@dataclass(frozen=True)
class Identity:
    """Who the card is: key-set version 0..255, programme code 0..65535 (0 = not joined yet), 16-digit number."""

    key_set_version: int
    programme: int
    card_no: str

    def __post_init__(self) -> None:
        _require_fit((self.key_set_version, 0, 255, "key_set_version"), (self.programme, 0, 2**16 - 1, "programme"))
        if not is_card_number(self.card_no):
            raise ValueError(f"card_no {self.card_no} does not fit on the card (16 digits, the last a check digit)")


@dataclass(frozen=True)
class CardState:
    """What a tap changes. Points are integers; ``adjustments_through`` is the number of the last one applied."""

    sequence: int
    balance: int
    adjustments_through: int = 0
    redeemed_offline: int = 0
    tier: int = 0
    flags: CardFlags = CardFlags.NONE

    def __post_init__(self) -> None:
        _require_fit(
            (self.sequence, 0, MAX_SEQUENCE, "sequence"),
            (self.balance, MIN_BALANCE, MAX_BALANCE, "balance"),
            (self.adjustments_through, 0, MAX_ADJUSTMENT, "adjustments_through"),
            (self.redeemed_offline, 0, MAX_REDEEMED_OFFLINE, "redeemed_offline"),
            (self.tier, 0, 15, "tier"),
            (self.flags, 0, 15, "flags"),
        )

    @property
    def slot(self) -> int:
        """The slot this state belongs in, 0 or 1; a tap so always overwrites the older one."""
        return self.sequence % 2

    def to_json(self) -> dict[str, int]:
        """Plain numbers, for the journal."""
        return {name: int(value) for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, document: dict[str, int]) -> CardState:
        """The inverse of :meth:`to_json`."""
        numbers = {name: number for name, number in document.items() if name != "flags"}
        return cls(**numbers, flags=CardFlags(document["flags"]))


class HistoryKind(IntEnum):
    """What a history entry tells of."""

    ISSUE = 0
    PURCHASE = 1
    REVERSAL = 2
    ADJUSTMENT = 3


@dataclass(frozen=True)
class HistoryEntry:
    """One line of the card's own history. ``amount`` in the currency's smallest unit, ``time`` to the
    minute; ``terminal`` is :func:`short_code` of the terminal's id."""

    kind: HistoryKind
    sequence: int
    time: datetime
    amount: int
    points: int
    terminal: int

    @property
    def block(self) -> int:
        """Where the ring keeps it."""
        return history_block(self.sequence)


def history_block(sequence: int) -> int:
    """The block of the history ring that belongs to ``sequence``."""
    return HISTORY_BLOCKS[sequence % len(HISTORY_BLOCKS)]


def short_code(name: str) -> int:
    """16 bits that stand for a programme or terminal id on the card: the head of its SHA-256, never 0."""
    return int.from_bytes(sha256(name.encode()).digest()[:2], "big") or 1


def _seal(key: bytes, tag: bytes, body: bytes) -> bytes:
    return aes_encrypt_block(key, body + tag)


def _open(key: bytes, tag: bytes, block: bytes) -> bytes:
    if len(block) != BLOCK_SIZE:
        raise SealBroken(f"a block is {BLOCK_SIZE} bytes, not {len(block)}")
    plain = aes_decrypt_block(key, block)
    if plain[-len(tag) :] != tag:
        raise SealBroken("the seal does not open with this card's key")
    return plain[: -len(tag)]


def _bears(key: bytes, block: bytes, *tags: bytes) -> bool:
    return aes_decrypt_block(key, block)[-4:] in tags


def is_sealed_for_a_home(keys: CardKeys, block: bytes) -> bool:
    """Whether this is an identity, a state or an arrival of the card whose keys these are, wherever it stands."""
    return _bears(keys.identity_key, block, IDENTITY_TAG) or _bears(keys.state_key, block, STATE_TAG, ARRIVING_TAG)


def bears_arrival(key: bytes, block: bytes) -> bool:
    """Whether this is the mark of a home that the card is only moving to."""
    return _bears(key, block, ARRIVING_TAG)


def encode_identity(key: bytes, identity: Identity) -> bytes:
    """Block 4: format(1) key-set version(1) programme(2) card number(8) tag(4), sealed."""
    body = bytes([FORMAT, identity.key_set_version]) + identity.programme.to_bytes(2, "big")
    return _seal(key, IDENTITY_TAG, body + int(identity.card_no).to_bytes(8, "big"))


def decode_identity(key: bytes, block: bytes) -> Identity:
    """The inverse of :func:`encode_identity`. Raises :class:`SealBroken`, also for a format of the future."""
    body = _open(key, IDENTITY_TAG, block)
    if body[0] != FORMAT:
        raise SealBroken(f"card format {body[0]} is not known here")
    try:
        return Identity(body[1], int.from_bytes(body[2:4], "big"), f"{int.from_bytes(body[4:], 'big'):016d}")
    except ValueError as error:
        raise SealBroken(str(error)) from error


def _state_body(state: CardState) -> bytes:
    return (
        state.sequence.to_bytes(3, "big")
        + state.balance.to_bytes(4, "big", signed=True)
        + state.adjustments_through.to_bytes(2, "big")
        + state.redeemed_offline.to_bytes(2, "big")
        + bytes([state.tier << 4 | state.flags])
    )


def _state_of(body: bytes) -> CardState:
    return CardState(
        sequence=int.from_bytes(body[:3], "big"),
        balance=int.from_bytes(body[3:7], "big", signed=True),
        adjustments_through=int.from_bytes(body[7:9], "big"),
        redeemed_offline=int.from_bytes(body[9:11], "big"),
        tier=body[11] >> 4,
        flags=CardFlags(body[11] & 0xF),
    )


def encode_state(key: bytes, state: CardState) -> bytes:
    """A slot: sequence(3) balance(4, signed) adjustments(2) redeemed offline(2) tier<<4|flags(1) tag(4), sealed."""
    return _seal(key, STATE_TAG, _state_body(state))


def decode_state(key: bytes, block: bytes, slot: int) -> CardState:
    """The inverse of :func:`encode_state`; a state out of its slot (0 or 1) is refused. Raises :class:`SealBroken`."""
    state = _state_of(_open(key, STATE_TAG, block))
    if state.slot != slot:
        raise SealBroken(f"the state in slot {slot} belongs in slot {state.slot}")
    return state


def encode_arrival(key: bytes, older: CardState) -> bytes:
    """The mark in the older slot of a home that the card is only moving to; it carries the state that belongs there."""
    return _seal(key, ARRIVING_TAG, _state_body(older))


def decode_arrival(key: bytes, block: bytes) -> CardState:
    """The inverse of :func:`encode_arrival`. Raises :class:`SealBroken`."""
    return _state_of(_open(key, ARRIVING_TAG, block))


def encode_history(key: bytes, entry: HistoryEntry) -> bytes:
    """A ring entry: sequence's low byte(1) minutes since 2026(3) kind<<36|amount(5) points(3, signed) terminal(2)
    tag(2), sealed. Amounts and points beyond the field are clipped: history informs, it never decides."""
    minutes = int((entry.time - HISTORY_EPOCH).total_seconds() // 60)
    body = (
        bytes([entry.sequence & 0xFF])
        + _clip(minutes, 0, 2**24 - 1).to_bytes(3, "big")
        + (entry.kind << 36 | _clip(entry.amount, 0, 2**36 - 1)).to_bytes(5, "big")
        + _clip(entry.points, -(2**23), 2**23 - 1).to_bytes(3, "big", signed=True)
        + entry.terminal.to_bytes(2, "big")
    )
    return _seal(key, HISTORY_TAG, body)


def decode_history(key: bytes, block: bytes, block_number: int, newest_sequence: int) -> HistoryEntry | None:
    """The entry in a ring block, or None where an older lap or nothing stands. Raises :class:`SealBroken`."""
    body = _open(key, HISTORY_TAG, block)
    sequence = newest_sequence - (newest_sequence - body[0]) % 256
    if sequence < 0 or newest_sequence - sequence >= len(HISTORY_BLOCKS) or history_block(sequence) != block_number:
        return None
    packed = int.from_bytes(body[4:9], "big")
    return HistoryEntry(
        kind=HistoryKind(packed >> 36 & 0b11),
        sequence=sequence,
        time=HISTORY_EPOCH + timedelta(minutes=int.from_bytes(body[1:4], "big")),
        amount=packed & (1 << 36) - 1,
        points=int.from_bytes(body[9:12], "big", signed=True),
        terminal=int.from_bytes(body[12:14], "big"),
    )


def reseal_history(old_key: bytes, new_key: bytes, block: bytes) -> bytes:
    """The same entry under another key, as it stands. Raises :class:`SealBroken`."""
    return _seal(new_key, HISTORY_TAG, _open(old_key, HISTORY_TAG, block))


def _clip(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))
