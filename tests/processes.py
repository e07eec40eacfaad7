"""The product in processes of its own: a terminal's commands and daemon, and the reference CRM, to be ended any way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from terminal_agent.service.control import SOCKET_FILE, connect
from tests.ports import free_ports

REPOSITORY = Path(__file__).parents[1]
START_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 120.0
ANY_PORT = "127.0.0.1:0"


class DidNotHappen(Exception):
    """What was waited for did not come in time, or a process died instead."""


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = START_TIMEOUT_S) -> None:
    """Look until it holds. Raises :class:`DidNotHappen`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise DidNotHappen(what)
        time.sleep(0.01)


class TerminalProcesses:
    """One terminal in a folder: ``etc/config.toml`` and ``var/data/``, apart as packages put them."""

    def __init__(self, folder: Path, module: str = "terminal_agent", environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        self._environment = os.environ | (environment or {})
        self.config = folder / "etc" / "config.toml"
        self.data_dir = folder / "var" / "data"
        self._module = module

    def words(self, *arguments: str) -> list[str]:
        """What comes after ``python`` on the command line."""
        return ["-m", self._module, "--config", str(self.config), "--json", *arguments]

    def init_words(self, terminal_id: str = "till-1") -> list[str]:
        return self.words("init", "--data-dir", str(self.data_dir), "--terminal-id", terminal_id, "--till", ANY_PORT)

    def start(self, *arguments: str, log: IO[str] | None = None) -> subprocess.Popen[str]:
        """A command in a process of its own; what it says goes to pipes, or all of it to ``log``."""
        return subprocess.Popen(
            [sys.executable, *self.words(*arguments)],
            stdout=log or subprocess.PIPE,
            stderr=log or subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env=self._environment,
        )

    def done(self, *arguments: str) -> Any:
        """The JSON answer of a command that must succeed."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=COMMAND_TIMEOUT_S)
        if process.returncode:
            raise DidNotHappen(f"{arguments}: {out}{err}")
        return json.loads(out)

    def listens(self) -> bool:
        """Whether a daemon takes commands."""
        connection = connect(self.data_dir) if (self.data_dir / SOCKET_FILE).exists() else None
        if connection is not None:
            connection.close()
        return connection is not None


class CrmProcess:
    """The reference CRM on a port that stays its own, however often it is killed."""

    def __init__(self, terminal: TerminalProcesses, data_dir: Path) -> None:
        self._terminal = terminal
        self.data_dir = data_dir
        self.port = free_ports()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[str] | None = None

    def new_code(self) -> str:
        return str(self._terminal.done("crm", "code", "--data-dir", str(self.data_dir))["code"])

    def serve_words(self) -> tuple[str, ...]:
        return ("crm", "serve", "--data-dir", str(self.data_dir), "--listen", f"127.0.0.1:{self.port}")

    def up(self) -> None:
        self._process = self._terminal.start(*self.serve_words())
        wait_for(self._serves, "the CRM did not start")

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.communicate(timeout=START_TIMEOUT_S)

    def _serves(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise DidNotHappen("the CRM ended instead of serving")
        return self.listens()

    def listens(self) -> bool:
        """Whether somebody serves on its port, this process's or another's."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
