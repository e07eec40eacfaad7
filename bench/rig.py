"""What is measured: a shop on disk, its commands and daemon, and a card on the virtual reader of a pcscd of our own."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from drivers.mifare_classic import blank_card
from tests.pcsc.service import SOCKET_VARIABLE, PcscService, find_problem
from tests.pcsc.virtual_reader import VirtualCard, VirtualReader

UID = bytes.fromhex("1A2B3C4D")
START_TIMEOUT_S = 20.0
_INSTALLED = Path(sys.executable).with_name("terminal-agent")
PROGRAM = [str(_INSTALLED)] if _INSTALLED.exists() else [sys.executable, "-m", "terminal_agent"]


class Left(Exception):
    """A bench that cannot run on this machine, and why."""


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise Left(f"{what} did not come in {START_TIMEOUT_S:.0f} s")
        time.sleep(0.02)


class CardOnReader:
    """The virtual reader with a blank card, in a process of its own: it must not share our interpreter's lock."""

    def __init__(self, port: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_play_card, args=(theirs, port), daemon=True)
        self._process.start()
        self._pipe.recv()

    def take(self) -> tuple[list[bytes], Counter[str]]:
        """The commands that reached the reader since the last call, and their kinds."""
        self._pipe.send("take")
        taken: tuple[list[bytes], Counter[str]] = self._pipe.recv()
        return taken

    def lay(self) -> float:
        """Lay the card down; when that was, on the clock that all processes share."""
        return self._do("lay")

    def lift(self) -> float:
        """Take the card away; when that was."""
        return self._do("lift")

    def _do(self, what: str) -> float:
        self._pipe.send(what)
        moment: float = self._pipe.recv()
        return moment

    def close(self) -> None:
        self._pipe.send("end")
        self._process.join(5)


def _play_card(pipe: Connection, port: int) -> None:
    reader = VirtualReader(port)
    card = VirtualCard.blank(UID)
    reader.insert(card)
    pipe.send("ready")
    while (asked := pipe.recv()) != "end":
        if asked == "take":
            firmware = reader.firmware
            pipe.send((list(firmware.commands), Counter(firmware.counts)))
            firmware.commands.clear()
            firmware.counts.clear()
        else:
            moment = time.monotonic()
            reader.insert(card) if asked == "lay" else reader.remove()
            pipe.send(moment)
    reader.remove()


@dataclass(frozen=True)
class Shop:
    """One terminal in a folder of its own."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    def command(self, *arguments: str) -> list[str]:
        return [*PROGRAM, "--config", str(self.config), "--json", *arguments]

    def done(self, *arguments: str) -> Any:
        """The answer of a command that must succeed."""
        process = subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False)
        if process.returncode:
            raise Left(f"terminal-agent {arguments[0]} failed: {process.stdout}{process.stderr}")
        return json.loads(process.stdout)

    @contextmanager
    def daemon(self) -> Iterator[int]:
        """``run`` in a process of its own, ready to take commands; gives its process id."""
        process = subprocess.Popen(self.command("run"), stderr=subprocess.DEVNULL)
        try:
            wait_until((self.data_dir / "agent.sock").exists, "the daemon")
            yield process.pid
        finally:
            process.terminate()
            process.wait(20)


class Rig:
    """Everything the benches share; taken down at the end."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))

    def shop(self, name: str, reader: str) -> Shop:
        """A fresh shop with an issued card on its reader."""
        shop = Shop(self.folder / name)
        shop.folder.mkdir()
        shop.done("init", "--data-dir", str(shop.data_dir), "--terminal-id", "bench", "--reader", reader)
        shop.done("card", "issue")
        return shop

    def simulated(self, name: str) -> Shop:
        image = self.folder / f"{name}.mfd"
        image.write_bytes(blank_card(UID))
        return self.shop(name, f"sim:{image}")

    @cached_property
    def _pcscd(self) -> PcscService:
        problem = find_problem()
        if problem:
            raise Left(problem)
        service = PcscService()
        os.environ[SOCKET_VARIABLE] = str(service.socket_path)  # read once, when the first reader is opened
        self._stack.callback(service.stop)
        service.start()
        return service

    @property
    def pcscd_port(self) -> int:
        """Where a pcscd of our own takes a virtual card."""
        return self._pcscd.port

    @contextmanager
    def card(self) -> Iterator[CardOnReader]:
        """A blank card on the virtual reader."""
        card = CardOnReader(self._pcscd.port)
        try:
            yield card
        finally:
            card.close()

    def close(self) -> None:
        self._stack.close()
