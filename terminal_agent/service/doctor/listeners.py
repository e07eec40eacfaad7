"""Who listens on a TCP port of this machine, as Linux tells in /proc."""

from __future__ import annotations

import os
import pwd
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_SYSTEM_UNIT = re.compile(r"/system\.slice/(?:[^/\n]+\.slice/)*([^/\n]+\.service)")
_LISTENS = "0A"
_FIRST_FIELDS = 10
"""Of proc_pid_net(5): local address 1, state 3, uid 7, inode 9."""


@dataclass(frozen=True)
class Process:
    """A program that runs. ``unit``: the service it belongs to, as systemd's control groups have it."""

    pid: int
    name: str
    unit: str | None

    @property
    def ended_by(self) -> str:
        """The command that ends it, and keeps it ended."""
        return f"sudo systemctl disable --now {self.unit}" if self.unit else f"sudo kill {self.pid}"

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid}{f' of {self.unit}' if self.unit else ''})"


@dataclass(frozen=True)
class Listener:
    """The owner of a port: whose it is anybody may know, which process only its user and root."""

    user: str
    process: Process | None

    def __str__(self) -> str:
        return str(self.process) if self.process else f"a program of the user {self.user}"


def listener_on(port: int, proc: Path = PROC) -> Listener | None:
    """Who listens on ``port``, on whatever address; None when nobody does."""
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (proc / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if len(fields) >= _FIRST_FIELDS and fields[3] == _LISTENS and _port_of(fields[1]) == port:
                    return Listener(_name_of(int(fields[7])), _holder(fields[9], proc))
    return None


def process(pid: int, proc: Path = PROC) -> Process | None:
    """The process of that number; None when it has ended."""
    try:
        name = (proc / str(pid) / "comm").read_text().strip()
        groups = (proc / str(pid) / "cgroup").read_text()
    except OSError:
        return None
    unit = _SYSTEM_UNIT.search(groups)
    return Process(pid, name, unit[1] if unit else None)


def _port_of(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _holder(inode: str, proc: Path) -> Process | None:
    wanted = f"socket:[{inode}]"
    for folder in proc.glob("[0-9]*"):
        with suppress(OSError):  # another user's, or gone meanwhile
            if any(os.readlink(handle) == wanted for handle in (folder / "fd").iterdir()):
                return process(int(folder.name), proc)
    return None
