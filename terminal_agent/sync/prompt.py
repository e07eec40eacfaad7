"""Calls that end in time, whatever the other side does.

A socket's timeout begins anew with every byte, so a server that drips one now and then is waited for without end, and
a name look-up has no timeout at all. So a call runs on a thread of its own, and when its time is over it is cut off.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar
from weakref import WeakSet

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

Answer = TypeVar("Answer")


class OutOfTime(Exception):
    """The call was cut off; what became of it on the other side is not known."""


class Sockets:
    """The connections and calls of one session, so that another thread can cut them off."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: WeakSet[socket.socket] = WeakSet()
        self._calls: WeakSet[Future[Any]] = WeakSet()
        self._is_cut = False

    def add(self, connected: socket.socket) -> None:
        with self._lock:
            self._open.add(connected)
            if self._is_cut:
                _cut(connected)

    def begin(self, call: Future[Any]) -> None:
        """``call`` ends with :class:`OutOfTime` when all is cut off, a name look-up included."""
        with self._lock:
            self._calls.add(call)
            if self._is_cut:
                _end(call)

    def cut(self) -> None:
        """Nothing passes any more, on those that are open and those that a late look-up may still open."""
        with self._lock:
            self._is_cut = True
            for call in self._calls:
                _end(call)
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


def _end(call: Future[Any]) -> None:
    with suppress(InvalidStateError):  # it has just ended by itself
        call.set_exception(OutOfTime())


def within(limit_s: float, action: Callable[[], Answer], sockets: Sockets) -> Answer:
    """What ``action`` gives, or raises, in time; else all of ``sockets`` is cut off. Raises :class:`OutOfTime` then,
    and at once when another thread cuts it off."""
    outcome: Future[Answer] = Future()
    sockets.begin(outcome)

    def run() -> None:
        try:
            tell = partial(outcome.set_result, action())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
            tell = partial(outcome.set_exception, error)
        with suppress(InvalidStateError):  # it was cut off: nobody asks any more
            tell()

    threading.Thread(target=run, name="crm-call", daemon=True).start()
    try:
        return outcome.result(limit_s)
    except TimeoutError:
        if outcome.done():  # it was the action that raised it, or it ended this very moment
            return outcome.result()
        sockets.cut()
        raise OutOfTime from None
