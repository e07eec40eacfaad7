"""A reader of card format 1 made from docs/card-format.md alone. It shares no code with the product, on purpose."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


@lru_cache(maxsize=10_000)
def derive(master: bytes, message: bytes) -> bytes:
    """Section 2, steps 2 to 5."""
    k0 = int.from_bytes(_ecb(master, bytes(16)), "big")
    k1 = _doubled(k0)
    whole = b"\x01" + message
    subkey = k1
    if len(whole) < 32:
        whole = (whole + b"\x80" + bytes(32))[:32]
        subkey = _doubled(k1)
    tail = int.from_bytes(whole[16:], "big") ^ subkey
    cbc = Cipher(algorithms.AES(master), modes.CBC(bytes(16))).encryptor()
    return (cbc.update(whole[:16] + tail.to_bytes(16, "big")) + cbc.finalize())[16:]


def _doubled(number: int) -> int:
    shifted = number << 1
    return (shifted & (2**128 - 1)) ^ 0x87 if shifted >> 128 else shifted


def _ecb(key: bytes, block: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - one block
    return encryptor.update(block) + encryptor.finalize()


def _unsealed(key: bytes, block: bytes, tag: bytes) -> bytes | None:
    decryptor = Cipher(algorithms.AES(key), modes.ECB()).decryptor()  # noqa: S305 - one block
    plain = decryptor.update(block) + decryptor.finalize()
    return plain[: -len(tag)] if plain.endswith(tag) else None


def card_key(master: bytes, uid: bytes, label: bytes) -> bytes:
    """Section 2, step 1."""
    return derive(master, bytes([len(uid)]) + uid + b"LOYALTY1" + label)


def sector_keys(master: bytes, uid: bytes, sector: int) -> tuple[bytes, bytes]:
    """Keys A and B of a sector."""
    a, b = (card_key(master, uid, label + bytes([sector]))[:6] for label in (b"SKA", b"SKB"))
    return a, b


def uid_of(image: bytes) -> bytes:
    """Section 1, block 0."""
    says_seven = image[8:10] == b"\x44\x00" and image[6:8] != b"\x04\x00"
    is_four = image[4] == image[0] ^ image[1] ^ image[2] ^ image[3]
    return image[:4] if is_four and not says_seven else image[:7]


def open_identity(key: bytes, block: bytes) -> dict[str, Any] | None:
    """Section 4.1."""
    body = _unsealed(key, block, b"LID1")
    if body is None or body[0] != 1:
        return None
    return {
        "key_set_version": body[1],
        "programme": int.from_bytes(body[2:4], "big"),
        "card_no": str(int.from_bytes(body[4:12], "big")),
    }


def open_state(key: bytes, block: bytes, slot: int, tag: bytes = b"LST1") -> dict[str, int] | None:
    """Section 4.2."""
    body = _unsealed(key, block, tag)
    if body is None:
        return None
    sequence = int.from_bytes(body[0:3], "big")
    if tag == b"LST1" and slot != sequence % 2:
        return None
    return {
        "sequence": sequence,
        "balance": int.from_bytes(body[3:7], "big", signed=True),
        "adjustments_through": int.from_bytes(body[7:9], "big"),
        "redeemed_offline": int.from_bytes(body[9:11], "big"),
        "tier": body[11] // 16,
        "flags": body[11] % 16,
    }


HOMES = [1, 7]
RING = [8, 9, 10, 12, 13, 14, 16, 17, 18, 20, 21, 22, 24, 25, 26]


def open_history(key: bytes, block: bytes, number: int, newest: int) -> dict[str, Any] | None:
    """Section 4.4."""
    body = _unsealed(key, block, b"L1")
    if body is None:
        return None
    sequence = newest - (newest - body[0]) % 256
    if sequence < 0 or newest - sequence >= 15 or RING[sequence % 15] != number:
        return None
    minutes, packed = int.from_bytes(body[1:4], "big"), int.from_bytes(body[4:9], "big")
    time = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    return {
        "sequence": sequence,
        "time": time.strftime("%Y-%m-%dT%H:%MZ"),
        "kind": packed // 2**36,
        "amount": packed % 2**36,
        "points": int.from_bytes(body[9:12], "big", signed=True),
        "terminal": int.from_bytes(body[12:14], "big"),
    }


@dataclass
class Card:
    """What an image says; ``home`` is the sector it lives in, ``conditions`` what both homes are."""

    uid: bytes
    home: int | None = None
    conditions: list[str] = field(default_factory=list)
    identity: dict[str, Any] | None = None
    slots: list[dict[str, int] | None] = field(default_factory=lambda: [None, None])
    state: dict[str, int] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    foreign_trailers: list[int] = field(default_factory=list)
    free_blocks_in_use: list[int] = field(default_factory=list)


@dataclass
class Sector:
    """A home as section 4 tells them apart: ``settled``, ``arriving``, ``empty``, or ``shut`` to these masters."""

    number: int
    condition: str
    identity: dict[str, Any] | None = None
    slots: list[dict[str, int] | None] = field(default_factory=lambda: [None, None])


def read_home(four: list[bytes], masters: tuple[bytes, ...], uid: bytes, number: int) -> Sector:
    """Section 4.3, for the four blocks of a home."""
    master = master_of(four[3], masters, uid, number)
    if master is None:
        return Sector(number, "shut")
    identity = open_identity(card_key(master, uid, b"IDENTITY"), four[0])
    key = card_key(master, uid, b"STATE")
    slots = [open_state(key, block, slot) for slot, block in enumerate(four[1:3])]
    if identity is None or slots == [None, None]:
        return Sector(number, "empty")
    marked = any(open_state(key, block, slot, b"LAR1") for slot, block in enumerate(four[1:3]))
    return Sector(number, "arriving" if marked else "settled", identity, slots)


def master_of(trailer: bytes, masters: tuple[bytes, ...], uid: bytes, sector: int) -> bytes | None:
    """Section 2: the set whose key B opens the sector; access bits that contradict themselves shut it."""
    fits = (master for master in masters if sector_keys(master, uid, sector)[1] == trailer[10:])
    return next(fits, None) if trailer[6:9] == bytes.fromhex("787788") else None


def home_that_counts(homes: list[Sector]) -> Sector | None:
    """Section 4.3, the rule."""
    conditions = [home.condition for home in homes]
    if "settled" in conditions:
        return homes[conditions.index("settled")]
    if sorted(conditions) == ["arriving", "empty"]:
        return homes[conditions.index("arriving")]
    return None


def read_card(image: bytes, *masters: bytes) -> Card:
    """A 1K .mfd image under the master keys that a reader holds."""
    blocks = [image[at : at + 16] for at in range(0, 1024, 16)]
    uid = uid_of(image)
    card = Card(uid)
    homes = [read_home(blocks[4 * n : 4 * n + 4], masters, uid, n) for n in HOMES]
    card.conditions, home = [sector.condition for sector in homes], home_that_counts(homes)
    if home is not None:
        valid = sorted((slot for slot in home.slots if slot), key=lambda slot: slot["sequence"])
        card.home, card.identity, card.slots, card.state = home.number, home.identity, home.slots, valid[-1]
        card.history = _history(blocks, masters, uid, valid[-1]["sequence"])
    trailers = {(s, trailer(master, uid, s)) for master in masters for s in range(16)}
    card.foreign_trailers = [s for s in range(16) if (s, blocks[4 * s + 3]) not in trailers]
    used = {0, *RING, *range(4 * (card.home or 1), 4 * (card.home or 1) + 3)}
    free = [number for number in range(64) if number % 4 != 3 and number not in used]
    card.free_blocks_in_use = [number for number in free if any(blocks[number])]
    return card


def _history(blocks: list[bytes], masters: tuple[bytes, ...], uid: bytes, newest: int) -> list[dict[str, Any]]:
    entries = []
    for number in RING:
        master = master_of(blocks[number // 4 * 4 + 3], masters, uid, number // 4)
        if master is not None:
            entries.append(open_history(card_key(master, uid, b"HISTORY"), blocks[number], number, newest))
    return sorted((e for e in entries if e), key=lambda entry: -entry["sequence"])


def trailer(master: bytes, uid: bytes, sector: int) -> bytes:
    """Section 3."""
    a, b = sector_keys(master, uid, sector)
    return a + bytes.fromhex("78778869") + b
