"""What goes to a card and comes back, in the log at level TRAFFIC: for support, never with a key in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from drivers.base import ClassicConnection, ValueCommands
from drivers.errors import DriverError
from drivers.mifare_classic import KeyType, is_trailer

TRAFFIC = 5
"""Below DEBUG: a line for each block that is read or written."""
logging.addLevelName(TRAFFIC, "TRAFFIC")
log = logging.getLogger(__name__)
MASKED = "******"


def watched(connection: ClassicConnection) -> ClassicConnection:
    """``connection``, or one that logs what it does when that level is on."""
    return _Watched(connection) if log.isEnabledFor(TRAFFIC) else connection


def _shown(block: int, data: bytes) -> str:
    """Trailers hold keys: of them only the access bits."""
    return f"{MASKED} {data[6:10].hex()} {MASKED}" if is_trailer(block) else data.hex()


@contextmanager
def _noted(what: str) -> Iterator[list[str]]:
    answer: list[str] = []
    try:
        yield answer
    except DriverError as error:
        log.log(TRAFFIC, "%s error=%s", what, type(error).__name__)
        raise
    log.log(TRAFFIC, "%s %s", what, f"data={answer[0]}" if answer else "ok")


class _Watched(ClassicConnection):
    def __init__(self, connection: ClassicConnection) -> None:
        self._inner = connection

    @property
    def uid(self) -> bytes:
        return self._inner.uid

    def authenticate(self, block: int, key_type: KeyType, key: bytes) -> None:
        with _noted(f"authenticate block={block} key_type={key_type.name} key={MASKED}"):
            self._inner.authenticate(block, key_type, key)

    def read_block(self, block: int) -> bytes:
        with _noted(f"read block={block}") as answer:
            data = self._inner.read_block(block)
            answer.append(_shown(block, data))
            return data

    def write_block(self, block: int, data: bytes) -> None:
        with _noted(f"write block={block} data={_shown(block, data)}"):
            self._inner.write_block(block, data)

    @property
    def value_commands(self) -> ValueCommands | None:
        return self._inner.value_commands

    def close(self) -> None:
        self._inner.close()
