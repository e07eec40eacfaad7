"""Value blocks on any reader: by the card's own arithmetic where the reader has it, else read, changed and written.

Every change is read back. The card's own way asks for less right: access bits 110 and 001 let key A take away where
writing needs key B or is forbidden. What a tear can leave is the same either way: the old value, the new one, or a
block that is no value block any more.
"""

from __future__ import annotations

from drivers.base import ClassicConnection
from drivers.errors import NoValueBlock, WriteNotKept
from drivers.mifare_classic import HIGHEST_VALUE, ValueBlock, is_trailer, sector_of


def initialise(card: ClassicConnection, block: int, value: int, address: int = 0) -> None:
    """Make ``block`` of the open sector a value block, and read it back."""
    _write(card, block, ValueBlock(value, address))


def read(card: ClassicConnection, block: int) -> ValueBlock:
    """What a value block of the open sector holds. Raises :class:`NoValueBlock`."""
    try:
        return ValueBlock.parse(card.read_block(block))
    except ValueError as error:
        raise NoValueBlock(block) from error


def increment(card: ClassicConnection, block: int, amount: int) -> int:
    """Add ``amount`` to a value block of the open sector; the new value, read back.

    Raises ValueError for a negative amount, and for a sum that does not fit; then nothing was sent to the card.
    """
    return _change(card, block, amount, 1)


def decrement(card: ClassicConnection, block: int, amount: int) -> int:
    """Take ``amount`` away, as :func:`increment` adds it."""
    return _change(card, block, amount, -1)


def restore(card: ClassicConnection, source: int, target: int) -> int:
    """Copy a value block over another block of the same sector, address and all; the value, read back."""
    if sector_of(source) != sector_of(target) or is_trailer(target):
        raise ValueError(f"a value block is copied within its sector, not from block {source} to {target}")
    wanted = read(card, source)
    if card.value_commands is None:
        _write(card, target, wanted)
    else:
        card.value_commands.restore(source, target)
        _check(card, target, wanted)
    return wanted.value


def _change(card: ClassicConnection, block: int, amount: int, sign: int) -> int:
    if not 0 <= amount <= HIGHEST_VALUE:
        raise ValueError(f"an amount is 0 to {HIGHEST_VALUE}, not {amount}")
    before = read(card, block)
    wanted = ValueBlock(before.value + sign * amount, before.address)
    wanted.encode()  # the card is not asked for a sum that does not fit: the data sheet leaves open what it would do
    commands = card.value_commands
    if commands is None:
        _write(card, block, wanted)
    else:
        (commands.increment if sign > 0 else commands.decrement)(block, amount)
        _check(card, block, wanted)
    return wanted.value


def _write(card: ClassicConnection, block: int, wanted: ValueBlock) -> None:
    if is_trailer(block):
        raise ValueError(f"block {block} holds keys, not a value")
    card.write_block(block, wanted.encode())
    _check(card, block, wanted)


def _check(card: ClassicConnection, block: int, wanted: ValueBlock) -> None:
    if card.read_block(block) != wanted.encode():
        raise WriteNotKept(block)
