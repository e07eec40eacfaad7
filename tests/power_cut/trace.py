"""What strace saw a process do to its files, and say, in order.

A write counts from the moment it is asked for, a sync from the moment it returns and then only for what was written
before it was asked for: of two readings of the same log always the one that promises less.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from os.path import normpath
from pathlib import PurePosixPath

from terminal_agent.journal.space import RESERVE_FILE

# Asked of strace: everything that changes a file of ours or makes it durable, and what goes in and out of the process.
CALLS = (
    *("open", "openat", "creat", "lseek", "mkdir", "mkdirat", "link", "linkat", "rename", "renameat", "renameat2"),
    *("write", "writev", "pwrite64", "pwritev", "pwritev2", "ftruncate", "truncate", "fallocate"),
    *("unlink", "unlinkat", "rmdir", "fsync", "fdatasync", "sendto", "sendmsg", "recvfrom"),
)


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes put into a file; ``offset`` None means at its end."""

    path: str
    offset: int | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Open:
    """A file or folder that is there from now on, if it was not before."""

    path: str
    folder: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Rename:
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Unlink:
    path: str


@dataclass(frozen=True, slots=True)
class SyncAsked:
    """fsync or fdatasync of a file or folder begins; ``number`` is its name until it is done."""

    path: str
    number: int


@dataclass(frozen=True, slots=True)
class SyncDone:
    number: int


@dataclass(frozen=True, slots=True)
class Said:
    """Bytes that left the process: to a socket, a pipe, its stdout."""

    to: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Heard:
    """What reached the process by a socket; of a command, what its words ask for."""

    data: bytes


Operation = Write | Truncate | Open | Link | Rename | Unlink | SyncAsked | SyncDone | Said | Heard


class TraceUnreadable(Exception):
    """The log holds something this reader does not know: better no result than a wrong one."""


_LINE = re.compile(r"(\d+)\s+(?:<\.\.\. )?(\w+)(?:\((.*)| resumed>(.*))", re.DOTALL)
_END = re.compile(r"^(.*)\)\s*= (-?\d+|\?)(.*)$", re.DOTALL)
_HEX = re.compile(r"(?:\\x[0-9a-f]{2})+")
_DESCRIPTOR = re.compile(r"^(-?\d+|AT_FDCWD)(?:<([^>]*)>(\(deleted\))?)?$")
_STRING = re.compile(r'^"((?:\\x[0-9a-f]{2})*)"$')
_BUFFER = re.compile(r'iov_base="((?:\\x[0-9a-f]{2})*)"')


def _unhex(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _string(argument: str) -> bytes:
    match = _STRING.match(argument)
    if match is None:
        raise TraceUnreadable(f"no string: {argument[:80]}")
    return _unhex(match[1])


def _path(argument: str) -> str:
    return _string(argument).decode()


@dataclass
class _Call:
    name: str
    arguments: list[str]
    number: int


@dataclass
class TraceReader:
    """Turns the lines of one traced command (all its threads) into operations on files under ``root``."""

    root: str
    _open_calls: dict[str, _Call] = field(default_factory=dict)
    _places: dict[str, int | None] = field(default_factory=dict)
    _syncs: int = 0

    def read(self, lines: Iterator[str]) -> Iterator[Operation]:
        """Paths in the operations are relative to ``root``; ``.`` is the root itself."""
        for line in lines:
            match = _LINE.match(line)
            if match is None or match[2] not in CALLS:
                continue
            yield from self._line(match[1], match[2], match[3], match[4])

    def _line(self, thread: str, name: str, asked: str | None, resumed: str | None) -> Iterator[Operation]:
        if asked is not None:
            unfinished = asked.endswith("<unfinished ...>\n")
            text = asked.removesuffix("<unfinished ...>\n") if unfinished else asked
            end = None if unfinished else _END.match(text)
            if not unfinished and end is None:
                raise TraceUnreadable(asked[:200])
            self._syncs += 1
            call = _Call(name, _arguments(end[1] if end else text), self._syncs)
            yield from self._at_start(call)
            if end is None:
                self._open_calls[thread] = call
                return
        else:
            call = self._open_calls.pop(thread)
            end = _END.match(resumed or "")
            if end is None:
                return  # the process ended inside the call: it never returned
            call.arguments += _arguments(end[1].removeprefix(", "))
        if end[2] not in ("?", "-1"):
            yield from self._at_end(call, int(end[2]), end[3])

    def _ours(self, path: str) -> str | None:
        path = normpath(path)
        if path == self.root:
            return "."
        return path.removeprefix(self.root + "/") if path.startswith(self.root + "/") else None

    def _file(self, argument: str) -> tuple[str, str | None]:
        """What a descriptor stands for: its number, and the path if it is a file of ours that still has a name."""
        match = _DESCRIPTOR.match(argument)
        if match is None:
            raise TraceUnreadable(f"no descriptor: {argument[:80]}")
        shown = _HEX.sub(lambda text: _unhex(text[0]).decode(), match[2] or "")
        return match[1], None if match[3] else self._ours(shown) if shown.startswith("/") else None

    def _named(self, *arguments: str) -> str | None:
        """The path of ``[folder,] name``."""
        folder = ""
        if len(arguments) == 2:
            match = _DESCRIPTOR.match(arguments[0])
            shown = match[2] if match else None
            folder = _HEX.sub(lambda text: _unhex(text[0]).decode(), shown or "")
        name = _path(arguments[-1])
        return self._ours(name if name.startswith("/") else f"{folder}/{name}")

    def _at_start(self, call: _Call) -> Iterator[Operation]:
        arguments = call.arguments
        if call.name in ("write", "pwrite64", "writev", "pwritev", "pwritev2", "sendto", "sendmsg"):
            number, path = self._file(arguments[0])
            text = ", ".join(arguments[1:])
            data = b"".join(map(_unhex, _BUFFER.findall(text))) if "iov_base" in text else _string(arguments[1])
            if path is not None:
                yield Write(path, self._offset(call, number, len(data)), data)
            elif data:
                yield Said(number, data)
        elif call.name in ("fsync", "fdatasync"):
            _, path = self._file(arguments[0])
            if path is not None:
                yield SyncAsked(path, call.number)

    def _offset(self, call: _Call, number: str, length: int) -> int | None:
        if call.name.startswith("pwrite"):
            place = 3 if call.name == "pwrite64" else -1 if call.name == "pwritev" else -2
            return int(call.arguments[place])
        position = self._places.get(number, 0)
        if position is not None:
            self._places[number] = position + length
        return position

    def _at_end(self, call: _Call, answer: int, shown: str) -> Iterator[Operation]:
        reader = _READERS.get(call.name)
        if reader is not None:
            yield from reader(self, call, answer, shown)

    def _opened(self, call: _Call, answer: int, shown: str) -> Iterator[Operation]:
        names = call.arguments[:2] if call.name == "openat" else call.arguments[:1]
        flags = "O_CREAT|O_TRUNC" if call.name == "creat" else call.arguments[len(names)]
        self._places[str(answer)] = None if "O_APPEND" in flags else 0
        path = self._named(*names)
        if path is None or "O_TMPFILE" in flags:
            return
        if "O_CREAT" in flags:
            yield Open(path)
        if "O_TRUNC" in flags:
            yield Truncate(path, 0)

    def _sought(self, call: _Call, answer: int, shown: str) -> Iterator[Operation]:
        number, _ = self._file(call.arguments[0])
        if self._places.get(number, 0) is not None:
            self._places[number] = answer
        yield from ()

    def _written(self, call: _Call, answer: int, shown: str) -> Iterator[Operation]:
        if self._file(call.arguments[0])[1] is not None and answer != int(call.arguments[2]):
            raise TraceUnreadable(f"a short {call.name}")
        yield from ()

    def _truncated(self, call: _Call, answer: int, shown: str) -> Iterator[Operation]:
        path = self._file(call.arguments[0])[1] if call.name == "ftruncate" else self._named(call.arguments[0])
        if path is not None:
            yield Truncate(path, int(call.arguments[1]))

    def _synced(self, call: _Call, answer: int, shown: str) -> Iterator[Operation]:
        if self._file(call.arguments[0])[1] is not None:
            yield SyncDone(call.number)

    def _heard(self, call: _Call, answer: int, shown: str) -> Iterator[Operation]:
        if answer > 0:
            yield Heard(_string(call.arguments[1]))

    def _moved(self, call: _Call, answer: int, shown: str) -> Iterator[Operation]:
        two = len(call.arguments) >= 4
        old = self._named(*call.arguments[:2]) if two else self._named(call.arguments[0])
        new = self._named(*call.arguments[2:4]) if two else self._named(call.arguments[1])
        if old is not None and new is not None:
            yield Link(old, new) if call.name.startswith("link") else Rename(old, new)
        elif (old is None) != (new is None):
            raise TraceUnreadable(f"a {call.name} across the border of {self.root}")

    def _removed(self, call: _Call, answer: int, shown: str) -> Iterator[Operation]:
        names = call.arguments[:2] if call.name == "unlinkat" else call.arguments[:1]
        path = self._named(*names)
        if path is not None:
            yield Unlink(path)

    def _made(self, call: _Call, answer: int, shown: str) -> Iterator[Operation]:
        path = self._named(*(call.arguments[:2] if call.name == "mkdirat" else call.arguments[:1]))
        if path is not None:
            yield Open(path, folder=True)

    def _reserved(self, call: _Call, answer: int, shown: str) -> Iterator[Operation]:
        path = self._file(call.arguments[0])[1]
        # The journal's reserve is never synced nor read: a cut may always leave it empty, and that is what is modelled.
        if path is not None and PurePosixPath(path).name != RESERVE_FILE:
            raise TraceUnreadable("fallocate is not modelled")
        yield from ()


_Reader = Callable[[TraceReader, _Call, int, str], Iterator[Operation]]
_READERS: dict[str, _Reader] = {
    **dict.fromkeys(("open", "openat", "creat"), TraceReader._opened),
    **dict.fromkeys(("write", "pwrite64"), TraceReader._written),
    **dict.fromkeys(("ftruncate", "truncate"), TraceReader._truncated),
    **dict.fromkeys(("fsync", "fdatasync"), TraceReader._synced),
    **dict.fromkeys(("rename", "renameat", "renameat2", "link", "linkat"), TraceReader._moved),
    **dict.fromkeys(("unlink", "unlinkat", "rmdir"), TraceReader._removed),
    **dict.fromkeys(("mkdir", "mkdirat"), TraceReader._made),
    "lseek": TraceReader._sought,
    "recvfrom": TraceReader._heard,
    "fallocate": TraceReader._reserved,
}


def _arguments(text: str) -> list[str]:
    """The arguments of a call as strace prints them. Names and strings are all hex: no comma is ever part of one."""
    return [argument for argument in (part.strip() for part in text.split(",")) if argument]
