"""A loyalty card of ours, open on a reader: found by its keys, read as states, written a slot at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from drivers.base import ClassicConnection
from drivers.errors import AccessDenied, AuthenticationFailed
from drivers.mifare_classic import BLOCKS_PER_SECTOR, TRANSPORT_KEY, KeyType, data_blocks, sector_of
from terminal_agent.card.keys import CardKeys, KeyProvider, key_sets
from terminal_agent.card.layout import (
    HISTORY_SECTORS,
    HOMES,
    CardState,
    HistoryEntry,
    Home,
    Identity,
    SealBroken,
    bears_arrival,
    decode_arrival,
    decode_history,
    decode_identity,
    decode_state,
    encode_history,
    encode_state,
    home_of,
)
from terminal_agent.card.problems import between_key_sets, blank_card, data_corrupt, key_rejected, not_our_card
from terminal_agent.errors import AgentError


class WriteNotVerified(Exception):
    """The card answered yes to a write and then read back as something else: what it holds is in doubt."""


@dataclass(frozen=True)
class LiveSector:
    """A home that holds a card's content: who the card is, and both slots (None where a slot is invalid).

    ``arriving`` marks a home that the card is only moving to; it is the state that the older slot will get.
    """

    home: Home
    keys: CardKeys
    identity: Identity
    slots: tuple[CardState | None, CardState | None]
    arriving: CardState | None = None

    @property
    def newest(self) -> CardState:
        """The valid state with the highest sequence; there is one."""
        return max((slot for slot in self.slots if slot is not None), key=lambda state: state.sequence)

    @property
    def settled(self) -> bool:
        return self.arriving is None

    @property
    def torn(self) -> bool:
        """Whether a slot is invalid: a write was cut short, and the other slot kept the state before it."""
        return None in self.slots and self.settled


@dataclass(frozen=True)
class OpenedHome:
    """A home that opens with our keys: what it holds, or None and what is wrong with it. ``raw``: its three blocks."""

    home: Home
    keys: CardKeys
    raw: tuple[bytes, ...]
    live: LiveSector | None
    problem: str = ""


def look(connection: ClassicConnection, provider: KeyProvider) -> list[OpenedHome]:
    """The homes that open, likeliest first, up to the settled one: there is never a second.

    One authentication and three reads for a card under the active set in its own home. Raises what the driver raises.
    """
    found: list[OpenedHome] = []
    for keys, home in _ways_in(key_sets(provider, connection.uid)):
        if any(opened.home == home for opened in found):
            continue
        try:
            connection.authenticate(home.identity_block, KeyType.B, keys.sector_key(home.sector, KeyType.B))
            opened = read_home(connection, home, keys)
        except (AuthenticationFailed, AccessDenied):
            continue  # other keys, or a trailer that was torn into garbage
        found.append(opened)
        if opened.live is not None and opened.live.settled:
            break
    return found


def _ways_in(sets: list[CardKeys]) -> Iterator[tuple[CardKeys, Home]]:
    """Every set in its own home, then every set in the other."""
    yield from ((keys, home_of(keys.version)) for keys in sets)
    yield from ((keys, home_of(keys.version).other) for keys in sets)


def read_home(connection: ClassicConnection, home: Home, keys: CardKeys) -> OpenedHome:
    """Three reads of a home that ``keys`` have opened."""
    raw = tuple(connection.read_block(block) for block in home.blocks)
    try:
        return OpenedHome(home, keys, raw, _live_sector(home, keys, raw))
    except SealBroken as error:
        return OpenedHome(home, keys, raw, None, str(error))


def _live_sector(home: Home, keys: CardKeys, raw: tuple[bytes, ...]) -> LiveSector:
    try:
        identity = decode_identity(keys.identity_key, raw[0])
    except SealBroken as error:
        raise SealBroken(f"its identity ({error})") from error
    slots = _slot(keys, raw[1], 0), _slot(keys, raw[2], 1)
    if slots == (None, None):
        raise SealBroken("neither of its two states can be read")
    invalid = [block for block, slot in zip(raw[1:], slots, strict=True) if slot is None]
    marks = [decode_arrival(keys.state_key, block) for block in invalid if bears_arrival(keys.state_key, block)]
    return LiveSector(home, keys, identity, slots, next(iter(marks), None))


def _slot(keys: CardKeys, block: bytes, slot: int) -> CardState | None:
    try:
        return decode_state(keys.state_key, block, slot)
    except SealBroken:
        return None


def authoritative(found: list[OpenedHome]) -> LiveSector | None:
    """The home that counts: the settled one; else the one the card was moving to, if the other is seen to be given up.

    A home that does not open is not seen: then nothing counts, and nothing may be written.
    """
    live = [opened.live for opened in found if opened.live is not None]
    settled = [sector for sector in live if sector.settled]
    if settled:
        return settled[0]
    return live[0] if len(found) == len(HOMES) and len(live) == 1 else None


def home_it_had(found: list[OpenedHome]) -> Home:
    """Of a card that lives no more: the home that does not open, or else the one that is not zeros."""
    if len(found) == 1:
        return found[0].home.other
    return max(found, key=lambda opened: any(opened.raw[0])).home


def refusal(connection: ClassicConnection, found: list[OpenedHome], *, known: bool) -> AgentError:
    """Why a card on which nothing counts is refused; ``known`` says that its UID was issued here."""
    if any(opened.live is not None for opened in found):
        return between_key_sets()
    closed = [home for home in HOMES if home not in {opened.home for opened in found}]
    if not closed:
        had = home_it_had(found)
        return data_corrupt(next(opened.problem for opened in found if opened.home == had))
    if all(opens_with_transport_key(connection, home.identity_block) for home in closed):
        return blank_card()
    return key_rejected() if found or known else not_our_card()


class CardSession:
    """Our card. After :meth:`open` it is read, and its home is open for reading and writing (key B).

    ``is_moving``: a re-key was cut short while the card moved from one home to the other. ``is_mixed``: a sector opened
    since is under another set than the home.
    """

    def __init__(
        self, connection: ClassicConnection, sets: list[CardKeys], live: LiveSector, *, is_moving: bool
    ) -> None:
        self._connection = connection
        self._sets = in_order(live.keys, sets)
        # A settled home is the last that was looked at, so it is still open.
        self._open: tuple[int, CardKeys] | None = (live.home.sector, live.keys) if live.settled else None
        self.live = live
        self.is_moving = is_moving
        self.is_mixed = False
        self.keys = live.keys
        self.uid = connection.uid

    @classmethod
    def open(cls, connection: ClassicConnection, provider: KeyProvider, *, known: bool = False) -> CardSession:
        """Find the card's home and read it: one authentication and three reads for a card under the active set.

        ``known`` says that this UID was issued here. Raises AgentError (blank, not ours, key rejected, damaged) or
        what the driver raises.
        """
        found = look(connection, provider)
        live = authoritative(found)
        if live is None:
            raise refusal(connection, found, known=known)
        is_moving = any(opened.live is not None and not opened.live.settled for opened in found)
        return cls(connection, key_sets(provider, connection.uid), live, is_moving=is_moving)

    def write_state(self, state: CardState) -> None:
        """Write the slot ``state`` belongs in and read it back: the commit point of a tap.

        Raises :class:`WriteNotVerified`, or what the driver raises; then the card's state is in doubt.
        """
        home = self.live.home
        self._use_sector(home.sector)
        self._write_verified(home.state_blocks[state.slot], encode_state(self.keys.state_key, state))

    def write_history(self, entry: HistoryEntry) -> None:
        """One authentication and one write, not read back: history informs, it never decides."""
        keys = self._use_sector(sector_of(entry.block))
        self._connection.write_block(entry.block, encode_history(keys.history_key, entry))

    def read_history(self, newest_sequence: int) -> list[HistoryEntry]:
        """The ring, newest first; damaged or empty places, and sectors that do not open, are left out."""
        entries: list[HistoryEntry] = []
        for sector in HISTORY_SECTORS:
            try:
                entries += self._read_ring(sector, newest_sequence)
            except (AuthenticationFailed, AccessDenied):
                self._open = None
        return sorted(entries, key=lambda entry: entry.sequence, reverse=True)

    def _read_ring(self, sector: int, newest_sequence: int) -> Iterator[HistoryEntry]:
        keys = self._use_sector(sector)
        for block in data_blocks(sector):
            raw = self._connection.read_block(block)
            try:
                entry = decode_history(keys.history_key, raw, block, newest_sequence)
            except SealBroken:
                continue
            if entry is not None:
                yield entry

    def _write_verified(self, block: int, data: bytes) -> None:
        self._connection.write_block(block, data)
        if self._connection.read_block(block) != data:
            raise WriteNotVerified(f"block {block} reads back as something else")

    def _use_sector(self, sector: int) -> CardKeys:
        """Open a sector with whichever key set it is under: a card may be part way to new keys."""
        if self._open is None or self._open[0] != sector:
            self._open = None
            keys = open_sector(self._connection, sector, self._sets)
            self._open = (sector, keys)
            self.is_mixed = self.is_mixed or keys.version != self.keys.version
        return self._open[1]


def in_order(first: CardKeys, sets: Iterable[CardKeys]) -> list[CardKeys]:
    """All sets, the likeliest first."""
    return [first, *(keys for keys in sets if keys.version != first.version)]


def open_sector(connection: ClassicConnection, sector: int, sets: Iterable[CardKeys]) -> CardKeys:
    """Open a sector with key B of the first set that fits; blocks in it are sealed under that set.

    Raises AuthenticationFailed where none fits.
    """
    block = sector * BLOCKS_PER_SECTOR
    for keys in sets:
        if opens_with(connection, block, keys.sector_key(sector, KeyType.B), KeyType.B):
            return keys
    raise AuthenticationFailed(block, KeyType.B)


def opens_with_transport_key(connection: ClassicConnection, block: int) -> bool:
    """Whether the maker's delivery key opens the sector of ``block``; it stays open then."""
    return opens_with(connection, block, TRANSPORT_KEY)


def opens_with(connection: ClassicConnection, block: int, key: bytes, key_type: KeyType = KeyType.A) -> bool:
    """Whether this key opens the sector of ``block``; it stays open then."""
    try:
        connection.authenticate(block, key_type, key)
    except AuthenticationFailed:
        return False
    return True
