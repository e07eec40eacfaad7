"""A shop from outside: real commands on a real data directory, in this process or in one of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from terminal_agent.cli.main import run
from tests.ports import free_ports

START_TIMEOUT_S = 60.0


@dataclass
class Answer:
    """How a command ended: exit code, what it said on stdout and stderr, its JSON document."""

    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def code(self) -> str | None:
        """The error code, None for success."""
        document = self.json
        return document["error"]["code"] if isinstance(document, dict) and "error" in document else None


class Shop:
    """One terminal. ``ta`` runs a command with --json in this process; ``start`` runs one in a process of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.config = folder / "config.toml"
        self.data_dir = folder / "data"
        self.card = folder / "card.mfd"
        self._capsys = capsys
        self._processes: list[subprocess.Popen[str]] = []

    def hear(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Another test goes on with this shop."""
        self._capsys = capsys

    def ta(self, *arguments: str, human: bool = False) -> Answer:
        self._capsys.readouterr()
        options = [] if human else ["--json"]
        exit_code = run(["--config", str(self.config), *options, *arguments])
        captured = self._capsys.readouterr()
        return Answer(int(exit_code), captured.out, captured.err)

    def done(self, *arguments: str) -> Any:
        """The JSON answer of a command that must succeed."""
        answer = self.ta(*arguments)
        assert answer.exit_code == 0, f"{arguments}: {answer.out}{answer.err}"
        return answer.json

    def init(self, reader: str | None = None) -> Any:
        reader = reader or f"sim:{self.card}"
        options = ("--terminal-id", "till-1", "--reader", reader, "--till", "127.0.0.1:0")  # any port that is free
        return self.done("init", "--data-dir", str(self.data_dir), *options)

    def start(self, *arguments: str, stderr: Path | None = None) -> subprocess.Popen[str]:
        """A command in a process of its own, ended with the test. ``stderr``: a file for what it says meanwhile."""
        with open(stderr or os.devnull, "w", encoding="utf-8") as talk:
            process = subprocess.Popen(
                [sys.executable, "-m", "terminal_agent", "--config", str(self.config), *arguments],
                stdout=subprocess.PIPE,
                stderr=talk if stderr else subprocess.PIPE,
                text=True,
            )
        self._processes.append(process)
        return process

    def start_daemon(self) -> subprocess.Popen[str]:
        """``run``, ready to take commands."""
        process = self.start("run")
        socket_path = self.data_dir / "agent.sock"
        wait_until(lambda: socket_path.exists() or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        return process

    def end(self, process: subprocess.Popen[str], how: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Signal a process and wait; exit code and what it said on stderr."""
        process.send_signal(how)
        _, err = process.communicate(timeout=20)
        self._processes.remove(process)
        return process.returncode, err

    def close(self) -> None:
        for process in list(self._processes):
            self.end(process, signal.SIGKILL)

    def join(self, crm: CrmProcess) -> Any:
        code = self.folder / "code.txt"
        code.write_text(self.done("crm", "code", "--data-dir", str(crm.data_dir))["code"] + "\n")
        return self.done("enroll", "--crm-url", crm.url, "--code-file", str(code))

    def crm_card(self, crm: CrmProcess, card_no: str) -> Any:
        return self.done("crm", "card", card_no, "--data-dir", str(crm.data_dir))


class CrmProcess:
    """The reference CRM in a process of its own, on a port that stays its own."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self.data_dir = shop.folder / "crm"
        self.port = free_ports()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[str] | None = None

    def up(self) -> None:
        self._process = self._shop.start(
            "crm", "serve", "--data-dir", str(self.data_dir), "--listen", f"127.0.0.1:{self.port}"
        )
        wait_until(self._answers)

    def down(self) -> None:
        assert self._process is not None
        exit_code, err = self._shop.end(self._process)
        assert exit_code == 0, err

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._process.communicate()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def wait_until(condition: Callable[[], bool], timeout_s: float = START_TIMEOUT_S) -> None:
    """Look until it holds; fail when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
