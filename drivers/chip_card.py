"""A MIFARE Classic 1K spoken to in its own commands, through a chip that enciphers and frames them. No nfcpy here.

Source: NXP MF1S50yyX/V1 data sheet rev 3.2, section 9 (commands); what a chip answers: PN532 manual UM0701-02, 7.1.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple, Protocol

from drivers.base import ClassicConnection, ValueCommands
from drivers.errors import AccessDenied, AuthenticationFailed, CardRemoved
from drivers.mifare_classic import BLOCK_SIZE, KEY_SIZE, KeyType, ValueOperation, is_trailer, sector_of

TRAFFIC = 5
log = logging.getLogger(__name__)

READ, WRITE, TRANSFER = 0x30, 0xA0, 0xB0
_AUTHENTICATE = {KeyType.A: 0x60, KeyType.B: 0x61}
_KEY_REFUSED = 0x14


class Target(NamedTuple):
    """A card as it answered at selection: its UID, and the SAK that says what kind it is."""

    uid: bytes
    sak: int


class ExchangeFailed(Exception):
    """The chip got no good answer from the card; ``code`` is its word for it (UM0701-02 section 7.1)."""

    def __init__(self, code: int, meaning: str) -> None:
        super().__init__(f"{code:02X} {meaning}")
        self.code = code


class CardChip(Protocol):
    """A chip with one card in its field. Both methods raise :class:`ReaderLost` once the chip is gone, and stay so."""

    def select(self) -> Target | None:
        """Select the card in the field, again if it was; every sector is closed. None without a card."""

    def exchange(self, command: bytes) -> bytes:
        """One command to the card, enciphered as it needs. Raises :class:`ExchangeFailed`."""


class ChipConnection(ClassicConnection):
    """An open MIFARE Classic 1K in a chip's field."""

    def __init__(self, chip: CardChip, uid: bytes, on_close: Callable[[], None]) -> None:
        self._chip = chip
        self._uid = uid
        self._on_close = on_close
        self._gone = False
        self._closed = False

    @property
    def uid(self) -> bytes:
        return self._uid

    def authenticate(self, block: int, key_type: KeyType, key: bytes) -> None:
        sector_of(block)
        if len(key) != KEY_SIZE:
            raise ValueError(f"a sector key is {KEY_SIZE} bytes, not {len(key)}")
        command = bytes([_AUTHENTICATE[key_type], block]) + key + self._uid[-4:]
        for last_try in (False, True):
            try:
                self._exchange(command)
                return
            except ExchangeFailed as failure:
                self._select_again()
                # A refused key has a word of its own; anything else may be a card at the edge of the field.
                if last_try or failure.code == _KEY_REFUSED:
                    raise AuthenticationFailed(block, key_type) from failure

    def read_block(self, block: int) -> bytes:
        sector_of(block)
        data = self._command("read", block, bytes([READ, block]))
        if len(data) != BLOCK_SIZE:
            self._select_again()
            raise AccessDenied(block, "read", f"{len(data)} bytes came")
        return data

    def write_block(self, block: int, data: bytes) -> None:
        sector_of(block)
        if len(data) != BLOCK_SIZE:
            raise ValueError(f"a block is {BLOCK_SIZE} bytes, not {len(data)}")
        self._command("write", block, bytes([WRITE, block]) + data)

    @property
    def value_commands(self) -> ValueCommands:
        return self

    def increment(self, block: int, amount: int) -> None:
        self._count(ValueOperation.INCREMENT, block, amount, block)

    def decrement(self, block: int, amount: int) -> None:
        self._count(ValueOperation.DECREMENT, block, amount, block)

    def restore(self, source: int, target: int) -> None:
        self._count(ValueOperation.RESTORE, source, 0, target)

    def _count(self, operation: ValueOperation, source: int, amount: int, target: int) -> None:
        sector_of(source), sector_of(target)
        name = operation.name.lower()
        self._command(name, source, bytes([operation, source]) + amount.to_bytes(4, "little"))
        self._command(name, target, bytes([TRANSFER, target]))

    def close(self) -> None:
        if not self._closed:
            self._closed = self._gone = True
            self._on_close()

    def _command(self, action: str, block: int, command: bytes) -> bytes:
        try:
            return self._exchange(command)
        except ExchangeFailed as failure:
            self._select_again()
            raise AccessDenied(block, action, str(failure)) from failure

    def _exchange(self, command: bytes) -> bytes:
        if self._gone:
            raise CardRemoved("the card left the reader")
        if log.isEnabledFor(TRAFFIC):
            log.log(TRAFFIC, "> %s", _command_for_log(command))
        answer = self._chip.exchange(command)
        if log.isEnabledFor(TRAFFIC):
            log.log(TRAFFIC, "< %s", _answer_for_log(command, answer))
        return answer

    def _select_again(self) -> None:
        """A card that refused is silent until it is selected again; one that does not answer even then has left."""
        target = self._chip.select()
        if target is None or target.uid != self._uid:
            self._gone = True
            raise CardRemoved("the card left the reader" if target is None else "another card lies on the reader")


def _command_for_log(command: bytes) -> str:
    """Hex for the wire log; keys are masked (authentication, and both keys in a trailer being written)."""
    code, block = command[:2]
    if code in _AUTHENTICATE.values():
        return f"{command[:2].hex(' ')} (key masked)"
    if code == WRITE and is_trailer(block):
        return f"{command[:2].hex(' ')} (key masked) {command[8:12].hex(' ')} (key masked)"
    return command.hex(" ")


def _answer_for_log(command: bytes, answer: bytes) -> str:
    """Hex of what the card gave; key B of a trailer is masked, a transport card shows it."""
    if command[0] == READ and is_trailer(command[1]):
        return f"{answer[:10].hex(' ')} (key masked)"
    return answer.hex(" ")
