"""Reading a card whole, with every key at hand, into a dump that says what could not be read."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from drivers.base import ClassicConnection
from drivers.card_dump import UNKNOWN_BLOCK, Block, CardDump, DumpInvalid, card_dump
from drivers.dumps import DumpFormat, encode_dump, format_of, parse_dump
from drivers.errors import AccessDenied
from drivers.mifare_classic import (
    BLOCK_COUNT,
    KEY_SIZE,
    MAD_KEY_A,
    SECTOR_COUNT,
    TRANSPORT_KEY,
    AccessBits,
    KeyType,
    trailer_of,
)
from terminal_agent.card.problems import not_our_card
from terminal_agent.card.session import opens_with
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.taps import Terminal

UNTOUCHED = "Nothing was written to the card"

KeySource = Callable[[int, KeyType], bytes | None]
"""The key that a sector would have if the card were of this kind."""

# The maker's, the application directory's A and B, the NFC Forum's; zeros, where a tool knew no key and wrote none.
PUBLIC_KEYS = (
    TRANSPORT_KEY,
    MAD_KEY_A,
    bytes.fromhex("B0B1B2B3B4B5"),
    bytes.fromhex("D3F7D3F7D3F7"),
    bytes(KEY_SIZE),
)


class KeyRing:
    """Every key at hand. The kind that opened the last sector is tried first: most cards are of one kind."""

    def __init__(self, *sources: KeySource) -> None:
        self._sources = [*sources, *(_always(key) for key in PUBLIC_KEYS)]

    @classmethod
    def of(cls, terminal: Terminal, uid: bytes, *dumps: CardDump | None) -> KeyRing:
        """The keys in these dumps, then this card's under every key set of ours, then the public ones."""
        ours = (terminal.keys.card_keys(version, uid) for version in terminal.keys.versions())
        return cls(*(dump.key for dump in dumps if dump), *(keys.sector_key for keys in ours))

    def find(self, connection: ClassicConnection, sector: int, key_type: KeyType) -> bytes | None:
        """The key of this type that opens the sector, which stays open; None when none at hand does."""
        refused: set[bytes] = set()
        for source in list(self._sources):
            key = source(sector, key_type)
            if key is None or key in refused:
                continue
            if opens_with(connection, trailer_of(sector), key, key_type):
                self._sources.remove(source)
                self._sources.insert(0, source)
                return key
            refused.add(key)
        return None


def _always(key: bytes) -> KeySource:
    return lambda _sector, _key_type: key


@dataclass
class Sector:
    """What the keys at hand show of a sector: ``conditions`` are bytes 6 to 9 of its trailer. Its repr shows no key."""

    number: int
    keys: dict[KeyType, bytes] = field(default_factory=dict, repr=False)
    conditions: bytes | None = None
    data: dict[int, bytes] = field(default_factory=dict, repr=False)

    @property
    def access(self) -> AccessBits | None:
        """None where they could not be read, or contradict themselves: the card blocks such a sector."""
        try:
            return None if self.conditions is None else AccessBits.parse(self.conditions[:3])
        except ValueError:
            return None

    def blocks(self) -> Iterator[tuple[int, Block]]:
        """Number and content of all four blocks, with what is not known left open."""
        for block in range(self.number * 4, trailer_of(self.number)):
            yield block, tuple(self.data.get(block, UNKNOWN_BLOCK))
        parts = (self.keys.get(KeyType.A), self.conditions, self.keys.get(KeyType.B))
        known = ((None,) * size if part is None else part for part, size in zip(parts, (6, 4, 6), strict=True))
        yield trailer_of(self.number), tuple(byte for part in known for byte in part)


def read_sector(connection: ClassicConnection, ring: KeyRing, number: int) -> Sector:
    """Everything of a sector that the keys at hand open. Raises what the driver raises for card or reader gone."""
    sector = Sector(number)
    for key_type in KeyType:
        if key_type in sector.keys:  # key B that could be read: data, it opens nothing
            continue
        key = ring.find(connection, number, key_type)
        if key is not None:
            sector.keys[key_type] = key
            _read_with(connection, sector, key_type)
    return sector


def _read_with(connection: ClassicConnection, sector: Sector, key_type: KeyType) -> None:
    """What the key of this type, which has just opened the sector, adds."""
    if sector.conditions is None:
        trailer = _read(connection, sector, key_type, trailer_of(sector.number))
        if trailer is None:
            return
        sector.conditions = trailer[6:10]
        if key_type is KeyType.A and sector.access is not None and sector.access.key_b_is_readable:
            sector.keys[KeyType.B] = trailer[10:]
    if sector.access is None:
        return
    for block in range(sector.number * 4, trailer_of(sector.number)):
        if block not in sector.data and key_type in sector.access.data(block % 4).read:
            content = _read(connection, sector, key_type, block)
            if content is not None:
                sector.data[block] = content


def _read(connection: ClassicConnection, sector: Sector, key_type: KeyType, block: int) -> bytes | None:
    """A block, or None when the card refuses it; the sector is open again then."""
    try:
        return connection.read_block(block)
    except AccessDenied:
        connection.authenticate(block, key_type, sector.keys[key_type])
        return None


def read_card(connection: ClassicConnection, ring: KeyRing) -> CardDump:
    """All 64 blocks, as far as the keys at hand open them."""
    sectors = (read_sector(connection, ring, number) for number in range(SECTOR_COUNT))
    return card_dump((block for sector in sectors for _, block in sector.blocks()), connection.uid)


def format_for_output(file_name: str) -> DumpFormat:
    """The format to write, by the file's suffix. Raises AgentError ``invalid_input``."""
    try:
        return format_of(file_name)
    except DumpInvalid as error:
        raise AgentError(ErrorCode.INVALID_INPUT, str(error), hint="As in --output card.mfd") from error


@dataclass(frozen=True)
class DumpFile:
    """A dump that came as a file."""

    dump: CardDump
    format: DumpFormat

    @classmethod
    def of(cls, sent: dict[str, str]) -> DumpFile:
        """From its ``{name, content}``, content in base64. Raises AgentError ``dump_invalid``."""
        try:
            kind = format_of(sent["name"])
            return cls(parse_dump(b64decode(sent["content"]), kind), kind)
        except DumpInvalid as error:
            raise AgentError(
                ErrorCode.DUMP_INVALID,
                f"this is no dump of a 1K card: {error}",
                hint=f"Check the file, or dump the card anew. {UNTOUCHED}",
            ) from error


def dump(
    terminal: Terminal, connection: ClassicConnection, kind: DumpFormat, keys_from: CardDump | None = None
) -> dict[str, Any]:
    """Read the card whole, changing nothing; ``content`` is the file, in base64, and holds the card's keys.

    Raises AgentError ``not_our_card`` when no key at hand opens any sector, ``key_rejected`` when some block cannot
    be read and the format cannot say so.
    """
    found = read_card(connection, KeyRing.of(terminal, connection.uid, keys_from))
    unknown = found.unknown_blocks
    if set(found.blocks) == {UNKNOWN_BLOCK}:
        raise not_our_card()
    if unknown and not kind.can_say_unknown:
        sectors = ", ".join(str(number) for number in sorted({block // 4 for block in unknown}))
        raise AgentError(
            ErrorCode.KEY_REJECTED,
            f"not every key or block can be read (sectors {sectors}), and a .{kind} file cannot say so",
            hint="Write a .mct, .nfc or .json file instead: they can say what is not known",
        )
    answer = {
        "uid": connection.uid.hex(),
        "format": kind.value,
        "blocks_read": BLOCK_COUNT - len(unknown),
        "blocks_unknown": len(unknown),
    }
    with terminal.journal.transaction():
        terminal.journal.audit("card.dumped", **answer)
    return {**answer, "content": b64encode(encode_dump(found, kind)).decode()}
