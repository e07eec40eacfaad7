"""The files beside the database, and what moves the database itself: what the program asks of the system, counted."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from terminal_agent.journal import backup, mark, opening, space
from terminal_agent.journal import files as journal_files
from terminal_agent.service import files as service_files
from tests.sweep.ports import Do, Port, Ports, after

COUNTED = ("open", "fsync", "pwrite", "rename", "replace", "truncate", "posix_fallocate")
DISK = SimpleNamespace(f_frsize=4096, f_blocks=256, f_bavail=10_000, f_flag=0)
"""A disk with plenty of room, so small that the reserve on it costs nothing to copy."""


def no_space() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class CountedSystem:
    """``os`` as the program sees it. ``is_full`` tells whether the disk has no room left."""

    def __init__(self, ports: Ports, is_full: Callable[[], bool]) -> None:
        self._ports = ports
        self._is_full = is_full

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return partial(self._counted, name, real) if name in COUNTED else real

    def statvfs(self, _folder: Any) -> Any:
        return SimpleNamespace(**{**vars(DISK), "f_bavail": 0}) if self._is_full() else DISK

    def _counted(self, name: str, real: Any, *arguments: Any, **options: Any) -> Any:
        ways = {"no_space": lambda _do: after(bool, no_space)}
        if name == "pwrite":
            ways["power_cut_halfway"] = lambda _do: self._torn(*arguments)
        return self._ports.call(Port.FILES, name, partial(real, *arguments, **options), ways)

    def _torn(self, handle: int, content: bytes, at: int) -> Do:
        os.pwrite(handle, content[: len(content) // 2], at)
        self._ports.die()


@contextmanager
def counted(ports: Ports, is_full: Callable[[], bool]) -> Iterator[None]:
    """Inside, what the program does to these files is under watch, on a disk that says itself how full it is."""
    with ExitStack() as stack:
        for module in (service_files, journal_files, backup, mark, opening, space):
            stack.enter_context(patch.object(module, "os", CountedSystem(ports, is_full)))
        yield
