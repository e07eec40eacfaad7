"""The daemon's control socket: commands go through whoever owns the data directory.

``agent.sock`` in the data directory, or in the folder that ``runtime_dir`` names. One JSON object per line: the request
``{"operation", "params"}``; answers are any number of ``{"talk": text}``, then one ``{"answer": …}`` or
``{"error": …}`` in the form of :meth:`AgentError.to_json`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service.files import PRIVATE_FILE

log = logging.getLogger(__name__)

SOCKET_FILE = "agent.sock"
MAX_REQUEST_BYTES = 24 * 1024 * 1024
"""Room for the largest receipt of an exported queue, in base64."""
REQUEST_TIMEOUT_S = 5.0
Talk = Callable[[str], None]
Execute = Callable[[str, dict[str, Any], Talk], Any]


@contextlib.contextmanager
def _short_path(folder: Path) -> Iterator[str]:
    """A path to the socket that fits the kernel's 108 bytes, however deep its folder lies."""
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{SOCKET_FILE}"
    finally:
        os.close(handle)


def connect(folder: Path) -> socket.socket | None:
    """A connection to the daemon whose socket lies in ``folder``, or None when none listens."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short_path(folder) as path:
            connection.connect(path)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        connection.close()
        return None
    except PermissionError as error:
        connection.close()
        raise AgentError(
            ErrorCode.BUSY,
            "the daemon runs as another user, and you may not talk to it",
            hint=f"Run the command with sudo, or join the group of {folder} for ever: sudo adduser YOU terminal-agent",
        ) from error
    return connection


def call(connection: socket.socket, operation: str, params: dict[str, Any], talk: Talk) -> Any:
    """Have the daemon carry out ``operation``; gives its answer. Raises the AgentError it raised."""
    request = json.dumps({"operation": operation, "params": params}).encode() + b"\n"
    with connection, contextlib.suppress(ConnectionError), connection.makefile("rb") as stream:
        connection.sendall(request)
        for line in stream:
            if not line.endswith(b"\n"):
                break
            message = json.loads(line)
            if "talk" in message:
                talk(message["talk"])
            elif "error" in message:
                raise _error_from(message["error"])
            else:
                return message["answer"]
    raise AgentError(
        ErrorCode.BUSY, "the daemon stopped before it answered", hint="Run the command again; a sale is settled then"
    )


def _error_from(document: dict[str, Any]) -> AgentError:
    details = {key: value for key, value in document.items() if key != "error"}
    error = document["error"]
    return AgentError(ErrorCode(error["code"]), error["message"], hint=error["hint"], details=details)


class ControlServer:
    """Listens on the socket and carries requests out, each on a thread of its own."""

    def __init__(self, folder: Path, execute: Execute, mode: int = PRIVATE_FILE) -> None:
        self._path = folder / SOCKET_FILE
        self._path.unlink(missing_ok=True)  # ours to remove: we hold the data directory's lock
        with _short_path(folder) as path:
            self._server = _Server(path, execute)
        self._path.chmod(mode)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="control", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def thread(self) -> threading.Thread:
        """Takes requests, until :meth:`stop`."""
        return self._thread

    def stop(self) -> None:
        """No new requests; those under way are waited for."""
        self._server.shutdown()
        self._server.server_close()
        with contextlib.suppress(OSError):  # on a disk that became read-only it stays, and nobody listens there
            self._path.unlink(missing_ok=True)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 16

    def __init__(self, path: str, execute: Execute) -> None:
        self.execute = execute
        old_mask = os.umask(0o177)
        try:
            super().__init__(path, _Handler)
        finally:
            os.umask(old_mask)


class _Handler(socketserver.StreamRequestHandler):
    timeout = REQUEST_TIMEOUT_S

    def handle(self) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, TimeoutError):
            line = self.rfile.readline(MAX_REQUEST_BYTES)
            if line:
                self._answer(line)

    def _answer(self, line: bytes) -> None:
        server = self.server
        assert isinstance(server, _Server)  # noqa: S101 - narrows the type socketserver hands us
        try:
            request = json.loads(line)
            answer = server.execute(request["operation"], request["params"], self._talk)
            self._send({"answer": answer})
        except AgentError as error:
            self._send({"error": error.to_json()})
        except (BrokenPipeError, ConnectionResetError):
            raise  # whoever asked has gone
        except Exception as error:
            log.exception("a request could not be carried out")
            problem = AgentError(ErrorCode.INTERNAL, f"unforeseen: {type(error).__name__}", hint="See the daemon's log")
            self._send({"error": problem.to_json()})

    def _talk(self, text: str) -> None:
        self._send({"talk": text})

    def _send(self, message: dict[str, Any]) -> None:
        self.wfile.write(json.dumps(message).encode() + b"\n")
        self.wfile.flush()
