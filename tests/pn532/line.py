"""What tests of the serial line do with its reader."""

from __future__ import annotations

import os
import time

from drivers import KeyType, Reader, ReaderState
from drivers.mifare_classic import TRANSPORT_KEY

UID = bytes.fromhex("1A2B3C4D")
OTHER_UID = bytes.fromhex("04A1B2C3D4E5F6")
WRONG_KEY = bytes.fromhex("010203040506")


def use_the_card(reader: Reader) -> None:
    with reader.connect() as connection:
        connection.authenticate(4, KeyType.A, TRANSPORT_KEY)
        assert connection.read_block(4) == bytes(16)


def state_of(reader: Reader, expected: ReaderState, timeout_s: float = 5) -> ReaderState:
    """The state, once it is the expected one or the time is over."""
    deadline, state = time.monotonic() + timeout_s, ReaderState.IN_USE
    while state is not expected and time.monotonic() < deadline:
        state = reader.wait_for_change(state, 0.2)
    return state


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
