"""A reader with the simulated card of the moment on it, every operation counted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from drivers.base import ClassicConnection, Reader, ReaderState
from drivers.errors import AccessDenied, AuthenticationFailed, CardError, CardRemoved, DriverError, ReaderLost
from drivers.mifare_classic import KeyType, is_trailer
from drivers.simulator import MemoryImage
from tests.sweep.ports import Do, Port, Ports, Ways
from tests.workbench import lay

NOBODYS_KEY = bytes(6)


class CountedReader(Reader):
    """``on_reader`` gives the plastic that lies on it now, or None."""

    name = "the reader of the sweep"

    def __init__(self, url: str, on_reader: Callable[[], MemoryImage | None], ports: Ports) -> None:
        self.url = url
        self._on_reader = on_reader
        self._ports = ports

    def wait_for_change(self, known: ReaderState, timeout_s: float) -> ReaderState:
        return ReaderState.EMPTY if self._on_reader() is None else ReaderState.CARD

    def connect(self) -> ClassicConnection:
        image = self._on_reader()
        if image is None:
            raise CardRemoved("no card lies here")
        return CountedCard(lay(image), self._ports)

    def interrupt(self) -> None:
        """Nobody waits here."""

    def close(self) -> None:
        """Nothing is held."""


class CountedCard(ClassicConnection):
    """An open card that can be pulled away, lose its reader, or be refused, at any operation."""

    def __init__(self, inner: ClassicConnection, ports: Ports) -> None:
        self._inner = inner
        self._ports = ports
        self._gone: DriverError | None = None

    @property
    def uid(self) -> bytes:
        return self._inner.uid

    def authenticate(self, block: int, key_type: KeyType, key: bytes) -> None:
        error = AuthenticationFailed(block, key_type)
        self._call(f"authenticate {block}", partial(self._inner.authenticate, block, key_type, key), self._ways(error))

    def read_block(self, block: int) -> bytes:
        do = partial(self._inner.read_block, block)
        return bytes(self._call(f"read {block}", do, self._ways(AccessDenied(block, "read"))))

    def write_block(self, block: int, data: bytes) -> None:
        self._call(f"write {block}", partial(self._inner.write_block, block, data), self._ways_of_writing(block, data))

    def close(self) -> None:
        self._inner.close()

    def _call(self, what: str, do: Do, ways: Ways) -> Any:
        return self._ports.call(Port.CARD, what, partial(self._unless_gone, do), ways)

    def _unless_gone(self, do: Do) -> Any:
        if self._gone is not None:
            raise self._gone
        return do()

    def _ways(self, refusal: CardError) -> dict[str, Callable[[Do], Any]]:
        return {
            "removed": lambda _do: self._leave(CardRemoved("the card left the reader")),
            "reader_lost": lambda _do: self._leave(ReaderLost("the reader was unplugged")),
            "refused": lambda _do: self._refuse(refusal),
        }

    def _ways_of_writing(self, block: int, data: bytes) -> Ways:
        """As before, each also with the write done; and half done. A trailer half written is no card any more, under
        any program: that is the one case left out."""
        removed, refusal = CardRemoved("the card left the reader"), AccessDenied(block, "write")
        ways = self._ways(refusal)
        ways["removed_written"] = lambda do: (do(), self._leave(removed))
        ways["refused_written"] = lambda do: (do(), self._refuse(refusal))
        if not is_trailer(block):
            tear = partial(self._inner.write_block, block, bytes(byte ^ 0xA5 for byte in data))
            ways["removed_garbage"] = lambda _do: (tear(), self._leave(removed))
            ways["power_cut_garbage"] = lambda _do: (tear(), self._ports.die())
        return ways

    def _leave(self, error: DriverError) -> NoReturn:
        self._gone = error
        raise error

    def _refuse(self, error: CardError) -> NoReturn:
        """The driver has selected the card anew: no sector is open."""
        with suppress(CardError):
            self._inner.authenticate(0, KeyType.A, NOBODYS_KEY)
        raise error
