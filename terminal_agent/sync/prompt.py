"""Calls that end in time, whatever the other side does.

A socket's timeout begins anew with every byte, so a server that drips one now and then is waited for without end, and
a name look-up has no timeout at all. So a call runs on a thread of its own, and when its time is over it is cut off.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar
from weakref import WeakSet

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

Answer = TypeVar("Answer")


class OutOfTime(Exception):
    """The call was cut off; what became of it on the other side is not known."""


class Sockets:
    """The connections of one session, so that another thread can cut them off."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: WeakSet[socket.socket] = WeakSet()
        self._is_cut = False

    def add(self, connected: socket.socket) -> None:
        with self._lock:
            self._open.add(connected)
            if self._is_cut:
                _cut(connected)

    def cut(self) -> None:
        """Nothing passes any more, on those that are open and those that a late look-up may still open."""
        with self._lock:
            self._is_cut = True
            for connected in self._open:
                _cut(connected)

    def pool_classes(self) -> dict[str, type[HTTPConnectionPool]]:
        """urllib3's pools by scheme, whose connections are known here."""
        sockets = self

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                sockets.add(self.sock)

        class Tls(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                sockets.add(self.sock)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class TlsPool(HTTPSConnectionPool):
            ConnectionCls = Tls

        return {"http": PlainPool, "https": TlsPool}


def _cut(connected: socket.socket) -> None:
    with suppress(OSError):  # not through an SSLSocket's own shutdown: that takes its state from under a reader
        socket.socket.shutdown(connected, socket.SHUT_RDWR)


def within(limit_s: float, action: Callable[[], Answer], cut: Callable[[], None]) -> Answer:
    """What ``action`` gives, or raises, in time; else ``cut()`` and :class:`OutOfTime`."""
    outcome: Future[Answer] = Future()

    def run() -> None:
        try:
            outcome.set_result(action())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
            outcome.set_exception(error)

    threading.Thread(target=run, name="crm-call", daemon=True).start()
    try:
        return outcome.result(limit_s)
    except TimeoutError:
        if outcome.done():  # it was the action that raised it, or it ended this very moment
            return outcome.result()
        cut()
        raise OutOfTime from None
