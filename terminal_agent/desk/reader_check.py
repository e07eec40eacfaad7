"""One round of a reader's test on the card in hand: a sector opened, a block read, written back as it is, read again.

A write that is cut short may leave garbage where it wrote, also where the bytes were the same. So it goes only where
nothing can be lost: on a card of ours to the history entry that the next tap replaces, on any other card to a block of
zeros under the maker's keys. When the same card comes back, what the block held is put back first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from drivers.base import ClassicConnection
from drivers.errors import CardError, CardRemoved, WriteNotKept
from drivers.mifare_classic import (
    BLOCK_SIZE,
    TRANSPORT_ACCESS,
    TRANSPORT_KEY,
    KeyType,
    data_blocks,
    sector_of,
    trailer_of,
)
from terminal_agent.card.keys import KeyProvider, key_sets
from terminal_agent.card.layout import history_block
from terminal_agent.card.session import LiveSector, authoritative, in_order, look, open_sector, opens_with
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.ports import Clock

DEFAULT_SECTOR = 2
"""Of a card that is not ours; on ours the history begins here."""


class CardOwner(StrEnum):
    """Whose the card is, as far as its keys tell."""

    OURS = "ours"
    OTHER = "other"


class Step(StrEnum):
    """What is timed of a card that is open."""

    AUTHENTICATE = "authenticate"
    READ = "read"
    WRITE = "write"
    VERIFY = "verify"


class ReadDiffers(CardError):
    """The same block was read twice and was not the same: what comes over the air is not to be trusted."""


@dataclass(frozen=True)
class Place:
    """Where on this card a round works. ``writable``: nothing can be lost there; ``key_name`` says what opens it."""

    uid: bytes
    owner: CardOwner
    block: int
    content: bytes
    writable: bool
    key_name: str
    key_type: KeyType
    key: bytes = field(repr=False)


def find_place(connection: ClassicConnection, provider: KeyProvider, sector: int | None) -> Place:
    """Where to work in ``sector``, or in the best one. Raises AgentError ``key_rejected`` when no key opens it."""
    live = authoritative(look(connection, provider))
    if live is not None:
        return _place_on_ours(connection, provider, live, sector)
    wanted = DEFAULT_SECTOR if sector is None else sector
    first = data_blocks(wanted)[0]
    if opens_with(connection, trailer_of(wanted), TRANSPORT_KEY):
        return _place_under_makers_key(connection, wanted)
    for keys in key_sets(provider, connection.uid):  # damaged, or half made: only looked at
        key = keys.sector_key(wanted, KeyType.B)
        if opens_with(connection, first, key, KeyType.B):
            content = connection.read_block(first)
            name = _name_of_ours(keys.version)
            return Place(connection.uid, CardOwner.OURS, first, content, False, name, KeyType.B, key)
    raise AgentError(
        ErrorCode.KEY_REJECTED,
        f"no key at hand opens sector {wanted} of this card",
        hint="Take a blank card or one of this club's; if those are refused too, the reader cannot authenticate",
    )


def _place_on_ours(connection: ClassicConnection, provider: KeyProvider, live: LiveSector, sector: int | None) -> Place:
    replaced_next = history_block(live.newest.sequence + 1)
    wanted = sector_of(replaced_next) if sector is None else sector
    writable = sector_of(replaced_next) == wanted
    block = replaced_next if writable else data_blocks(wanted)[0]
    keys = open_sector(connection, wanted, in_order(live.keys, key_sets(provider, connection.uid)))
    key = keys.sector_key(wanted, KeyType.B)
    content, name = connection.read_block(block), _name_of_ours(keys.version)
    return Place(connection.uid, CardOwner.OURS, block, content, writable, name, KeyType.B, key)


def _name_of_ours(version: int) -> str:
    return f"key B of key set {version}"


def _place_under_makers_key(connection: ClassicConnection, sector: int) -> Place:
    """The sector is open. The last block of zeros; none where data can be lost, or a write would be refused."""
    as_delivered = connection.read_block(trailer_of(sector))[6:9] == TRANSPORT_ACCESS.encode()
    contents = {block: connection.read_block(block) for block in data_blocks(sector)}
    free = [block for block, content in contents.items() if content == bytes(BLOCK_SIZE)]
    writable = bool(free) and as_delivered
    block = free[-1] if writable else next(iter(contents))
    name, content = "the maker's key A", contents[block]
    return Place(connection.uid, CardOwner.OTHER, block, content, writable, name, KeyType.A, TRANSPORT_KEY)


class ReaderCheck:
    """Rounds on whatever card lies on the reader; keeps what each step took, in ms, and what is still to be mended."""

    def __init__(self, provider: KeyProvider, clock: Clock, sector: int | None) -> None:
        self._provider = provider
        self._clock = clock
        self._sector = sector
        self._unmended: Place | None = None
        self.place: Place | None = None
        self.took_ms: dict[Step, list[float]] = {step: [] for step in Step}

    @property
    def unmended(self) -> bool:
        """Whether a write was begun and not seen to have kept the block as it was."""
        return self._unmended is not None

    @property
    def block(self) -> int | None:
        """The block of the last round."""
        return self.place.block if self.place else None

    def mend(self, connection: ClassicConnection) -> None:
        """Put back what an interrupted write may have spoiled. Raises as :meth:`round` does."""
        self._mended(connection)

    def round(self, connection: ClassicConnection) -> None:
        """One round. Raises what the driver raises, :class:`ReadDiffers`, or WriteNotKept."""
        place = self._mended(connection)
        self.place = place
        with self._timed(Step.AUTHENTICATE):
            connection.authenticate(place.block, place.key_type, place.key)
        with self._timed(Step.READ):
            read = connection.read_block(place.block)
        if read != place.content:
            raise ReadDiffers(f"block {place.block} was read twice and differs")
        if not place.writable:
            return
        self._unmended = place
        with self._timed(Step.WRITE):
            connection.write_block(place.block, place.content)
        with self._timed(Step.VERIFY):
            kept = connection.read_block(place.block) == place.content
        if not kept:
            raise WriteNotKept(place.block)
        self._unmended = None

    @contextmanager
    def _timed(self, step: Step) -> Iterator[None]:
        """Only what succeeds counts: how long a refusal takes says nothing of a tap."""
        began = self._clock.monotonic()
        yield
        self.took_ms[step].append((self._clock.monotonic() - began) * 1000)

    def _mended(self, connection: ClassicConnection) -> Place:
        """Where to work on this card, after what an interrupted write may have spoiled was put back."""
        torn = self._unmended
        if torn is None:
            return find_place(connection, self._provider, self._sector)
        if connection.uid != torn.uid:
            raise CardRemoved("another card came back")
        found = find_place(connection, self._provider, self._sector)
        if found.owner is torn.owner and (found.block == torn.block or torn.owner is CardOwner.OTHER):
            self._put_back(connection, torn)
            found = torn
        self._unmended = None  # else the card was tapped or issued meanwhile: the block was written anew
        return found

    @staticmethod
    def _put_back(connection: ClassicConnection, torn: Place) -> None:
        connection.authenticate(torn.block, torn.key_type, torn.key)
        if connection.read_block(torn.block) == torn.content:
            return
        connection.write_block(torn.block, torn.content)
        if connection.read_block(torn.block) != torn.content:
            raise WriteNotKept(torn.block)
