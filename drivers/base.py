"""The seam every reader stands behind: what a reader is, and what an open card can do.

``Reader`` holds no card; ``Reader.connect`` opens the one in the field and gives a ``ClassicConnection``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self

from drivers.errors import DriverError, ReaderBusy
from drivers.mifare_classic import KeyType


class ReaderState(StrEnum):
    """What can be seen of a reader without opening a card."""

    EMPTY = "empty"
    CARD = "card"
    IN_USE = "in_use"
    LOST = "lost"
    UNUSABLE = "unusable"
    """Only in a list: it is seen, and would not open."""
    UNTRIED = "untried"
    """Only in a list: a serial line on which a reader may be, or something else."""


@dataclass(frozen=True)
class ReaderInfo:
    """One reader that can be named: ``url`` is what ``--reader`` takes. ``problem`` is what keeps it from being used,
    None for one that can be; ``hint`` is the remedy."""

    url: str
    name: str
    state: ReaderState
    problem: str | None = None
    hint: str | None = None

    @classmethod
    def with_problem(cls, url: str, name: str, problem: DriverError) -> ReaderInfo:
        """One that is seen, and why it cannot be used now."""
        state = ReaderState.IN_USE if isinstance(problem, ReaderBusy) else ReaderState.UNUSABLE
        return cls(url, name, state, str(problem), problem.hint)


class ValueCommands(Protocol):
    """The card's own arithmetic, where a reader passes it on. Each command works on value blocks of the open sector,
    and ends with the card's TRANSFER: memory changes in one write of one block.

    Raises as :meth:`ClassicConnection.write_block` does; returning means the reader said yes, no more.
    :mod:`drivers.value_blocks` checks, and does without where a reader has none of this.
    """

    def increment(self, block: int, amount: int) -> None:
        """Add ``amount`` (0 to 2**31 - 1)."""

    def decrement(self, block: int, amount: int) -> None:
        """Take ``amount`` (0 to 2**31 - 1) away."""

    def restore(self, source: int, target: int) -> None:
        """Copy ``source`` over ``target``."""


class ClassicConnection(ABC):
    """An open MIFARE Classic 1K card. Blocks are 0..63 of 16 bytes; one sector is open at a time.

    After :class:`~drivers.errors.AuthenticationFailed` the driver has re-selected the card, so another key may be
    tried at once. After any :class:`~drivers.errors.CardRemoved` the connection is dead.
    """

    @property
    @abstractmethod
    def uid(self) -> bytes:
        """4 or 7 bytes, as the card answered them at selection (ISO/IEC 14443-3)."""

    @abstractmethod
    def authenticate(self, block: int, key_type: KeyType, key: bytes) -> None:
        """Open the sector of ``block`` with a 6-byte key.

        Raises :class:`AuthenticationFailed` or :class:`CardRemoved`.
        """

    @abstractmethod
    def read_block(self, block: int) -> bytes:
        """16 bytes; key A of a trailer reads as zeros. Raises :class:`AccessDenied` or :class:`CardRemoved`.

        After a refusal, before any authentication too, the driver has selected the card again.
        """

    def read_blocks(self, first: int, count: int) -> bytes:
        """``count`` consecutive blocks; one exchange where the reader can do it, else a read for each."""
        return b"".join(self.read_block(block) for block in range(first, first + count))

    @abstractmethod
    def write_block(self, block: int, data: bytes) -> None:
        """Write 16 bytes. Returning means the reader said yes, no more: read back to know.

        Raises :class:`AccessDenied`, or :class:`CardRemoved` with the outcome unknown. Readers that know only "failed"
        report a disturbed write as ``AccessDenied`` too: after either, only reading the block tells what it holds.
        After any refusal no sector is open.
        """

    @property
    def value_commands(self) -> ValueCommands | None:
        """The card's arithmetic by this reader's own commands; None where it has none that are known to work."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Let go of the card. Never raises."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Reader(ABC):
    """One reader. Safe for one thread at a time, except :meth:`interrupt`."""

    url: str
    name: str

    @abstractmethod
    def wait_for_change(self, known: ReaderState, timeout_s: float) -> ReaderState:
        """Block until the state differs from ``known`` or the time is over; give the state.

        Gives ``LOST`` when the reader is gone; raises :class:`ServiceUnavailable` when its service is. Both heal by
        calling again. A card swapped for another between two calls may show as no change.
        """

    @abstractmethod
    def connect(self) -> ClassicConnection:
        """Open the card in the field.

        Raises :class:`CardRemoved` when there is none, :class:`UnsupportedCard`, :class:`MultipleCards`, or a
        :class:`ReaderError`.
        """

    @abstractmethod
    def interrupt(self) -> None:
        """Make a :meth:`wait_for_change` under way in another thread return early."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the reader. Never raises."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
