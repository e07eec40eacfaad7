"""Running the CRM: one port, one process or several, an orderly end."""

from __future__ import annotations

import errno
import multiprocessing.connection
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import Event, Thread
from typing import Any

import uvicorn
from fastapi import FastAPI

from terminal_agent.crm.api import create_app
from terminal_agent.crm.place import Place
from terminal_agent.crm.store import Store, open_store
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.ports import SystemClock, SystemIds

_GRACE_S = 5
_LOOK_S = 1.0


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


def serve(place: Place, host: str, port: int, workers: int = 1) -> None:
    """Serves the CRM of ``place`` until SIGTERM or SIGINT, then returns. Port 0: any free one.

    Says ``listening on http://HOST:PORT`` on stderr when ready. Several workers need PostgreSQL; one that dies is
    replaced. AgentError: CONFIG_INVALID, BUSY (port in use).
    """
    if workers > 1 and isinstance(place, Path):
        hint = "Leave --workers out, or keep the CRM in PostgreSQL with --database-url."
        raise AgentError(ErrorCode.CONFIG_INVALID, "On SQLite one process serves.", hint=hint)
    store = open_store(place, SystemClock(), SystemIds())
    try:
        listener = listen(host, port)
        if workers == 1:
            _serve_from(store, listener, lambda _server: _announce(listener, store))
            return
        _announce(listener, store)  # who connects before the first worker is ready waits in the socket's queue
    finally:
        store.close()
    _keep_workers(place, listener, workers)


def _serve_from(store: Store, listener: socket.socket, on_ready: Callable[[_Server], None]) -> None:
    server = _Server(create_app(store, SystemClock(), SystemIds()), lambda: on_ready(server))
    # uvicorn raises a signal again after its orderly end; without a handler of ours that would be death by SIGTERM.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    server.run(sockets=[listener])


def _keep_workers(place: Place, listener: socket.socket, count: int) -> None:
    ending = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    workers = [_start_worker(place, listener) for _ in range(count)]
    while not ending.is_set():
        multiprocessing.connection.wait([worker.sentinel for worker in workers], timeout=_LOOK_S)
        for place_of, worker in enumerate(workers):
            if not worker.is_alive() and not ending.wait(_LOOK_S):
                _say(f"a worker ended with {worker.exitcode}; starting another")
                workers[place_of] = _start_worker(place, listener)
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join()


def _start_worker(place: Place, listener: socket.socket) -> SpawnProcess:
    worker = multiprocessing.get_context("spawn").Process(target=_work, args=(place, listener), name="crm-worker")
    worker.start()
    return worker


def _work(place: Place, listener: socket.socket) -> None:
    store = open_store(place, SystemClock(), SystemIds())
    try:
        _serve_from(store, listener, _end_with_parent)
    finally:
        store.close()


def _end_with_parent(server: _Server) -> None:
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            server.should_exit = True

    Thread(target=watch, name="parent", daemon=True).start()


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
        listener = socket.create_server((host, port), family=family, backlog=256)
        # asyncio sets this only where the protocol was named: each answer's body would wait 40 ms for the caller's
        # delayed acknowledgement of its head. Accepted connections inherit it (tcp(7)).
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
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


def _announce(listener: socket.socket, store: Store) -> None:
    _say(f"listening on {url_of(listener.getsockname())}")  # callers wait for this line
    for warning in store.warnings:
        _say(f"warning: {warning}")
    if store.was_restored:
        _say(
            "this database was put back from a backup: terminals send again what it forgot; "
            "decide again what head office decided since"
        )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - people and callers read what the server says
