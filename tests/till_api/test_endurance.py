"""Listeners that come back without end, and sales without end: neither memory, threads nor descriptors grow."""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from tests.drivers.test_soak import descriptors, resident_bytes
from tests.till_api.hand_reader import HandReader
from tests.till_api.pos import PATIENCE_S, Pos, Shop

pytestmark = pytest.mark.slow
RECONNECTS, SALES, WARM_UP = 10_000, 1_000, 300
GROWTH_BYTES = 3_000_000
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: the connection is torn, not closed (socket(7))."""


@dataclass(frozen=True)
class Held:
    """What this process holds: the till's server and its clients together."""

    memory: int
    threads: int
    descriptors: int

    @classmethod
    def now(cls) -> Held:
        return cls(resident_bytes(), standing_threads(), descriptors())

    def at_rest(self) -> bool:
        """Whether no more threads and descriptors are there than before."""
        return standing_threads() <= self.threads and descriptors() <= self.descriptors


def standing_threads() -> int:
    """All but anyio's workers: they come as they are needed, 40 at most, and go when there is nothing to do."""
    return sum(not thread.name.startswith("AnyIO worker") for thread in threading.enumerate())


def come_and_go(pos: Pos, last_event_id: str, number: int) -> None:
    """One listener: every third leaves at once, every third once it is heard, every third tears the connection."""
    at = urlsplit(pos.url)
    with socket.create_connection((str(at.hostname), int(at.port or 0)), timeout=10) as client:
        head = f"GET /v1/events HTTP/1.1\r\nHost: {at.netloc}\r\nAuthorization: Bearer {pos.token}\r\n"
        client.sendall(f"{head}Last-Event-ID: {last_event_id}\r\n\r\n".encode())
        if number % 3:
            answer = b""
            while b": connected" not in answer:
                piece = client.recv(10_000)
                assert piece, f"listener {number} was turned away: {answer!r}"
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200 "), answer
        if number % 3 == 2:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def nothing_grows(what: str, times: int, action: Callable[[int], None]) -> None:
    """Carry ``action`` out so often; what is held after a warm-up must be enough for all the rest."""
    for number in range(WARM_UP):
        action(number)
    time.sleep(1)
    before = Held.now()
    for number in range(WARM_UP, times):
        action(number)
    deadline = time.monotonic() + PATIENCE_S
    while not before.at_rest() and time.monotonic() < deadline:
        time.sleep(0.1)
    after = Held.now()
    assert (after.threads, after.descriptors) <= (before.threads, before.descriptors), (before, after)
    grown = after.memory - before.memory
    assert grown < GROWTH_BYTES, f"{grown} bytes more after {times} {what}"
    sys.stderr.write(f"{times} {what}: {grown / 1000:.0f} kB more, {after.descriptors} descriptors\n")


def test_ten_thousand_listeners_that_come_and_go_leave_nothing_behind(shop: Shop, pos: Pos, reader: HandReader) -> None:
    reader.lay(shop.issue())
    pos.sell("R-1")
    first = pos.get("/v1/events", after="", wait_s=0)["events"][0]["id"]
    nothing_grows("listeners", RECONNECTS, lambda number: come_and_go(pos, first, number))
    assert pos.sell("R-2")["points_after"] == 50


def test_thousands_of_sales_leave_nothing_behind_in_memory(shop: Shop, pos: Pos, reader: HandReader) -> None:
    reader.lay(shop.issue())
    nothing_grows("sales", SALES, lambda number: sold(pos, f"R-{number}"))
    assert pos.sell("one more", 10_000)["points_after"] == SALES + 1


def sold(pos: Pos, receipt_no: str) -> None:
    pos.sell(receipt_no, 10_000)
