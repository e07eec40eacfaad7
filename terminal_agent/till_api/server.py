"""Serving the till's API on loopback, and on a Unix socket for native programs."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.till_api.guard import App

SOCKET_FILE = "till.sock"
REQUEST_TIMEOUT_S = 10.0
"""The time a client has to send the head of its first request, and of each later one once it has begun."""
MAX_CONNECTIONS = 256
MAX_WAITING = 128
"""Connections from which on whoever has said nothing for longest makes room for the next one."""
STOP_S = 3


class _ImpatientProtocol(H11Protocol):
    """Ends connections on which a request does not arrive whole in time: uvicorn itself would wait for ever."""

    _patience: asyncio.TimerHandle | None = None
    _heard = 0.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._make_room()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def _make_room(self) -> None:
        """uvicorn would refuse every request at its limit: a page that opens connections and says nothing would keep
        the till from selling. No request and no stream is cut, and a program that paused connects again."""
        if len(self.connections) <= MAX_WAITING:
            return
        others = (each for each in self.connections if isinstance(each, _ImpatientProtocol) and each is not self)
        silent = [each for each in others if each._is_silent()]
        if silent:
            min(silent, key=lambda each: each._heard).transport.close()

    def _is_silent(self) -> bool:
        return self._waits_for_request() and not self.transport.is_closing()

    def _watch(self) -> None:
        self._heard = self.loop.time()
        if not self._waits_for_request():
            self._forget()
        elif self._patience is None:
            self._patience = self.loop.call_later(REQUEST_TIMEOUT_S, self._give_up)

    def _waits_for_request(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _give_up(self) -> None:
        self._patience = None
        if self._is_silent():
            self.transport.close()

    def _forget(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


class _Server(uvicorn.Server):
    """Notes when its event loop last came round; uvicorn ticks ten times a second."""

    came_round = 0.0

    async def on_tick(self, counter: int) -> bool:
        self.came_round = time.monotonic()
        return await super().on_tick(counter)


class TillServer:
    """The API on a thread of its own, from :meth:`start` to :meth:`stop`."""

    def __init__(self, app: App, listen: str, folder: Path, mode: int = 0o600) -> None:
        host, _, port = listen.rpartition(":")
        self._listener = _listener(host.strip("[]"), int(port))
        self._path = folder / SOCKET_FILE
        self._native = _native_listener(self._path, mode)
        config = uvicorn.Config(
            app,
            http=_ImpatientProtocol,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            h11_max_incomplete_event_size=16 * 1024,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=STOP_S,
        )
        self._server = _Server(config)
        sockets = [self._listener, self._native]
        self._thread = Thread(target=self._server.run, kwargs={"sockets": sockets}, name="till-api", daemon=True)

    @property
    def url(self) -> str:
        """Where the API is reached."""
        host, port = self._listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def hosts(self) -> frozenset[str]:
        """The values of Host that name this server."""
        port = self._listener.getsockname()[1]
        return frozenset({f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"})

    @property
    def silent_s(self) -> float:
        """For how many seconds the event loop has not come round; for ever once it has ended by itself."""
        return time.monotonic() - self._server.came_round if self._thread.is_alive() else float("inf")

    def start(self) -> None:
        self._server.came_round = time.monotonic()
        self._thread.start()

    def stop(self, close_streams: Callable[[], None]) -> None:
        """Answers what is under way, then ends."""
        self._server.should_exit = True
        close_streams()
        self._thread.join()
        with suppress(OSError):  # on a disk that became read-only it stays, and nobody listens there
            self._path.unlink(missing_ok=True)


def _listener(host: str, port: int) -> socket.socket:
    """AgentError: CONFIG_INVALID when the address is not this machine's own, BUSY when the port is taken."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise AgentError(
            ErrorCode.CONFIG_INVALID,
            f"the till may not listen on {host}: other machines could reach it",
            hint='Set [till] listen = "127.0.0.1:7411" in the config file',
        )
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        listener = socket.create_server((str(address), port), family=family, backlog=128)
    except OSError as error:
        raise AgentError(
            ErrorCode.BUSY if error.errno == errno.EADDRINUSE else ErrorCode.CONFIG_INVALID,
            f"the till cannot listen on {host}:{port}: {error.strerror}",
            hint="Stop the other program, or choose another port: [till] listen in the config file",
        ) from error
    # asyncio sets this by itself only where the protocol was named: the body of an answer would wait 40 ms for the
    # caller's delayed acknowledgement of its head. Accepted connections inherit it (tcp(7)).
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _native_listener(path: Path, mode: int) -> socket.socket:
    """A Unix socket for programs of this machine; ``mode`` says whose."""
    path.unlink(missing_ok=True)  # ours to remove: we hold the data directory's lock
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    old_mask = os.umask(0o777 & ~mode)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")  # a path that fits the kernel's 108 bytes
    finally:
        os.umask(old_mask)
        os.close(folder)
    listener.listen(128)
    return listener
