"""A loyalty card of ours, open on a reader: found by its keys, read as states, written a slot at a time."""

from __future__ import annotations

from dataclasses import dataclass

from drivers.base import ClassicConnection
from drivers.errors import AuthenticationFailed
from drivers.mifare_classic import TRANSPORT_KEY, KeyType, sector_of
from terminal_agent.card.keys import CardKeys, KeyProvider
from terminal_agent.card.layout import (
    HISTORY_BLOCKS,
    IDENTITY_BLOCK,
    LIVE_SECTOR,
    STATE_BLOCKS,
    CardState,
    HistoryEntry,
    Identity,
    SealBroken,
    decode_history,
    decode_identity,
    decode_state,
    encode_history,
    encode_state,
)
from terminal_agent.card.problems import blank_card, data_corrupt, key_rejected, not_our_card


class WriteNotVerified(Exception):
    """The card answered yes to a write and then read back as something else: what it holds is in doubt."""


@dataclass(frozen=True)
class LiveSector:
    """What one reading of the live sector gives: who the card is, and both slots (None where a slot is invalid)."""

    identity: Identity
    slots: tuple[CardState | None, CardState | None]

    @property
    def newest(self) -> CardState | None:
        """The valid state with the highest sequence."""
        valid = [slot for slot in self.slots if slot is not None]
        return max(valid, key=lambda state: state.sequence, default=None)

    @property
    def torn(self) -> bool:
        """Whether a slot is invalid: a write was cut short, and the other slot kept the state before it."""
        return None in self.slots


class CardSession:
    """Our card. After :meth:`open` the live sector is open for reading and writing (key B)."""

    def __init__(self, connection: ClassicConnection, keys: CardKeys) -> None:
        self._connection = connection
        self._open_sector: int | None = LIVE_SECTOR
        self.keys = keys
        self.uid = connection.uid

    @classmethod
    def open(cls, connection: ClassicConnection, provider: KeyProvider, *, known: bool = False) -> CardSession:
        """Find the key set that opens the card: one authentication for a card under the active set.

        ``known`` says that this UID was issued here. Raises AgentError (blank, not ours, key rejected) or what the
        driver raises.
        """
        for version in provider.versions():
            keys = provider.card_keys(version, connection.uid)
            try:
                connection.authenticate(IDENTITY_BLOCK, KeyType.B, keys.sector_key(LIVE_SECTOR, KeyType.B))
            except AuthenticationFailed:
                continue
            return cls(connection, keys)
        if opens_with_transport_key(connection, IDENTITY_BLOCK):
            raise blank_card()
        raise key_rejected() if known else not_our_card()

    def read_live(self) -> LiveSector:
        """Three reads. Raises AgentError for an identity that is not sealed by our key."""
        self._use_sector(LIVE_SECTOR)
        try:
            identity = decode_identity(self.keys.identity_key, self._connection.read_block(IDENTITY_BLOCK))
        except SealBroken as error:
            raise data_corrupt(f"its identity ({error})") from error
        return LiveSector(identity, (self._read_slot(STATE_BLOCKS[0]), self._read_slot(STATE_BLOCKS[1])))

    def _read_slot(self, block: int) -> CardState | None:
        try:
            return decode_state(self.keys.state_key, self._connection.read_block(block), block)
        except SealBroken:
            return None

    def write_state(self, state: CardState) -> None:
        """Write the slot ``state`` belongs in and read it back: the commit point of a tap.

        Raises :class:`WriteNotVerified`, or what the driver raises; then the card's state is in doubt.
        """
        self._use_sector(LIVE_SECTOR)
        self._write_verified(state.block, encode_state(self.keys.state_key, state))

    def write_history(self, entry: HistoryEntry) -> None:
        """One authentication and one write, not read back: history informs, it never decides."""
        self._use_sector(sector_of(entry.block))
        self._connection.write_block(entry.block, encode_history(self.keys.history_key, entry))

    def read_history(self, newest_sequence: int) -> list[HistoryEntry]:
        """The ring, newest first; damaged or empty places are left out."""
        entries = []
        for block in HISTORY_BLOCKS:
            self._use_sector(sector_of(block))
            try:
                raw = self._connection.read_block(block)
                entry = decode_history(self.keys.history_key, raw, block, newest_sequence)
            except SealBroken:
                continue
            if entry is not None:
                entries.append(entry)
        return sorted(entries, key=lambda entry: entry.sequence, reverse=True)

    def _write_verified(self, block: int, data: bytes) -> None:
        self._connection.write_block(block, data)
        if self._connection.read_block(block) != data:
            raise WriteNotVerified(f"block {block} reads back as something else")

    def _use_sector(self, sector: int) -> None:
        if self._open_sector == sector:
            return
        self._open_sector = None
        first_block = sector * 4
        self._connection.authenticate(first_block, KeyType.B, self.keys.sector_key(sector, KeyType.B))
        self._open_sector = sector


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
