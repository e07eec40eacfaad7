"""Running the CRM: one process, one port, an orderly end."""

from __future__ import annotations

import errno
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import uvicorn
from fastapi import FastAPI

from terminal_agent.crm.api import create_app
from terminal_agent.crm.store import open_store
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.ports import SystemClock, SystemIds

_GRACE_S = 5


class _Server(uvicorn.Server):
    """uvicorn that tells when it is ready."""

    def __init__(self, app: FastAPI, on_ready: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,  # paths hold card numbers and phones
            server_header=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._on_ready()


def serve(data_dir: Path, host: str, port: int) -> None:
    """Serves the CRM of ``data_dir`` until SIGTERM or SIGINT, then returns. Port 0: any free one.

    Says ``listening on http://HOST:PORT`` on stderr when ready. AgentError: CONFIG_INVALID, BUSY (port in use).
    """
    store = open_store(data_dir, SystemClock(), SystemIds())
    try:
        listener = listen(host, port)
        server = _Server(create_app(store, SystemClock(), SystemIds()), lambda: _announce(listener, store.was_restored))
        # uvicorn raises a signal again after its orderly end; without a handler of ours that would be death by SIGTERM.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, server.handle_exit)
        server.run(sockets=[listener])
    finally:
        store.close()


@contextmanager
def running(app: FastAPI, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serves ``app`` from a thread of this process; gives its URL."""
    listener = listen(host, port)
    server = _Server(app, lambda: None)
    thread = Thread(target=server.run, kwargs={"sockets": [listener]}, name="crm", daemon=True)
    thread.start()
    try:
        yield url_of(listener.getsockname())
    finally:
        server.should_exit = True
        thread.join()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. AgentError: BUSY when the port is taken, CONFIG_INVALID when the address is no good."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        code = ErrorCode.BUSY if in_use else ErrorCode.CONFIG_INVALID
        raise AgentError(
            code,
            f"Cannot listen on {host}:{port}: {error.strerror}.",
            hint="Stop the other program, or choose another address with --listen.",
        ) from error


def url_of(address: tuple[Any, ...]) -> str:
    """Where a socket with this address (host, port, …) is reached."""
    host, port = address[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(listener: socket.socket, was_restored: bool) -> None:
    _say(f"listening on {url_of(listener.getsockname())}")  # callers wait for this line
    if was_restored:
        _say(
            "this database was put back from a backup: terminals send again what it forgot; "
            "decide again what head office decided since"
        )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - people and callers read what the server says
