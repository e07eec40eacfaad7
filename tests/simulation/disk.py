"""A disk that can lose what was not synced: SQLite's own writes, seen from below, with power cuts and a full disk.

SQLite reaches files through a VFS, a table of C functions. ``install`` puts one in front of the default that passes
everything on, and for files under a :class:`Disk` remembers what was written since the file was last synced. A power
cut takes that back, all of it or a part; nothing else tells ``synchronous=FULL`` from ``NORMAL`` in one process.
https://www.sqlite.org/c3ref/vfs.html, https://www.sqlite.org/c3ref/io_methods.html
"""

from __future__ import annotations

import _sqlite3
import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

OK = 0
FULL = 13
IOERR_READ, IOERR_WRITE, IOERR_FSYNC, IOERR_TRUNCATE, IOERR_DELETE = 266, 778, 1034, 1546, 2570
_NAME = b"simulation"

_P = ctypes.c_void_p
_Int64 = ctypes.c_longlong
# Names are passed on as the pointers they came as: SQLite keeps them for as long as the file is open.
_Open = ctypes.CFUNCTYPE(ctypes.c_int, _P, _P, _P, ctypes.c_int, _P)
_Delete = ctypes.CFUNCTYPE(ctypes.c_int, _P, _P, ctypes.c_int)
_Transfer = ctypes.CFUNCTYPE(ctypes.c_int, _P, _P, ctypes.c_int, _Int64)
_Truncate = ctypes.CFUNCTYPE(ctypes.c_int, _P, _Int64)
_Sync = ctypes.CFUNCTYPE(ctypes.c_int, _P, ctypes.c_int)
_FileSize = ctypes.CFUNCTYPE(ctypes.c_int, _P, ctypes.POINTER(_Int64))


class _Vfs(ctypes.Structure):
    """``sqlite3_vfs``, as far as we touch it by name."""

    _fields_ = [  # noqa: RUF012 - the form ctypes wants
        ("version", ctypes.c_int),
        ("file_bytes", ctypes.c_int),
        ("longest_path", ctypes.c_int),
        ("next", _P),
        ("name", ctypes.c_char_p),
        ("data", _P),
        ("open", _P),
        ("delete", _P),
        ("others", _P * 14),
    ]


class _Methods(ctypes.Structure):
    """``sqlite3_io_methods``."""

    _fields_ = [  # noqa: RUF012 - the form ctypes wants
        ("version", ctypes.c_int),
        ("close", _P),
        ("read", _P),
        ("write", _P),
        ("truncate", _P),
        ("sync", _P),
        ("size", _P),
        ("others", _P * 12),
    ]


@dataclass(frozen=True)
class _Change:
    """One write or cut since the last sync: enough to take it back and to do it again."""

    offset: int
    old: bytes
    new: bytes | None
    size_before: int


@dataclass
class Disk:
    """The SQLite files under one folder. ``dead``: the power is off; ``full``: no file may grow."""

    folder: Path
    dead: bool = False
    full: bool = False
    synced: int = 0
    unsynced: dict[str, list[_Change]] = field(default_factory=dict)

    def lose_power(self, chance: Random, keep: float) -> int:
        """Leave what a power cut leaves: each unsynced write is kept with probability ``keep``. How many were lost.

        Call it with every connection closed. The files may be opened again afterwards.
        """
        lost = 0
        for name, changes in sorted(self.unsynced.items()):
            path = Path(name)
            content = bytearray(path.read_bytes() if path.exists() else b"")
            for change in reversed(changes):
                content[change.offset : change.offset + len(change.old)] = change.old
                del content[change.size_before :]
                content.extend(bytes(change.size_before - len(content)))
            for change in changes:
                if chance.random() < keep:
                    _redo(content, change)
                else:
                    lost += 1
            path.write_bytes(bytes(content))
        self.come_back()
        return lost

    def come_back(self) -> None:
        """The machine runs again with what its files hold now."""
        self.unsynced.clear()
        self.dead = False
        for leftover in self.folder.glob("*-shm"):  # shared memory, never on a disk
            leftover.unlink()


def _redo(content: bytearray, change: _Change) -> None:
    if change.new is None:
        del content[change.offset :]
        return
    content.extend(bytes(max(0, change.offset - len(content))))
    content[change.offset : change.offset + len(change.new)] = change.new


class _Shim:
    """The VFS in front of the default one. Its callbacks must outlive every file, so it is never taken down."""

    def __init__(self) -> None:
        library = ctypes.CDLL(_sqlite3.__file__)
        library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
        self._below = library.sqlite3_vfs_find(None)
        self._disks: dict[str, Disk] = {}
        self._files: dict[int, tuple[Disk, str]] = {}
        self._methods: dict[int, _Methods] = {}
        self._kept: list[Any] = []
        self._vfs = _Vfs.from_buffer_copy(self._below.contents)
        self._vfs.name = _NAME
        self._open_below = _Open(self._below.contents.open)
        self._delete_below = _Delete(self._below.contents.delete)
        self._vfs.open = self._keep(_Open(self._open))
        self._vfs.delete = self._keep(_Delete(self._delete))
        if library.sqlite3_vfs_register(ctypes.byref(self._vfs), 1) != OK:
            raise RuntimeError("SQLite takes no VFS here")

    def watch(self, disk: Disk) -> None:
        self._disks[str(disk.folder)] = disk

    def forget(self, disk: Disk) -> None:
        self._disks.pop(str(disk.folder), None)

    def _keep(self, function: Any) -> int:
        self._kept.append(function)
        return ctypes.cast(function, _P).value or 0

    def _disk_of(self, path: str) -> Disk | None:
        return self._disks.get(path.rpartition("/")[0])

    def _open(self, _vfs: int, name: int | None, file: int, flags: int, out_flags: int) -> int:
        path = ctypes.string_at(name).decode() if name else ""
        disk = self._disk_of(path)
        if disk is not None and disk.dead:
            return IOERR_READ
        result = self._open_below(ctypes.addressof(self._below.contents), name, file, flags, out_flags)
        self._files.pop(file, None)
        if disk is not None and result == OK:
            place = ctypes.cast(file, ctypes.POINTER(_P))
            self._files[file] = (disk, path)
            place[0] = ctypes.addressof(self._methods_over(place[0] or 0))
        return int(result)

    def _delete(self, _vfs: int, name: int, sync_folder: int) -> int:
        path = ctypes.string_at(name).decode()
        disk = self._disk_of(path)
        if disk is not None:
            if disk.dead:
                return IOERR_DELETE
            disk.unsynced.pop(path, None)
        return int(self._delete_below(ctypes.addressof(self._below.contents), name, sync_folder))

    def _methods_over(self, address: int) -> _Methods:
        """The methods of a file with ours in the places that change what is on disk."""
        if address not in self._methods:
            below = _Methods.from_address(address)
            over = _Methods.from_buffer_copy(below)
            read, size = _Transfer(below.read), _FileSize(below.size)
            over.write = self._keep(_Transfer(self._writer(_Transfer(below.write), read, size)))
            over.truncate = self._keep(_Truncate(self._truncater(_Truncate(below.truncate), read, size)))
            over.sync = self._keep(_Sync(self._syncer(_Sync(below.sync))))
            self._kept.extend((read, size))
            self._methods[address] = over
        return self._methods[address]

    def _writer(self, write: Any, read: Any, size_of: Any) -> Callable[[int, int, int, int], int]:
        def on_write(file: int, buffer: int, amount: int, offset: int) -> int:
            disk, path = self._files[file]
            if disk.dead:
                return IOERR_WRITE
            size = _size(size_of, file)
            if disk.full and offset + amount > size:
                return FULL
            old = _content(read, file, offset, min(amount, max(0, size - offset)))
            result = write(file, buffer, amount, offset)
            if result == OK:
                change = _Change(offset, old, ctypes.string_at(buffer, amount), size)
                disk.unsynced.setdefault(path, []).append(change)
            return int(result)

        return on_write

    def _truncater(self, truncate: Any, read: Any, size_of: Any) -> Callable[[int, int], int]:
        def on_truncate(file: int, length: int) -> int:
            disk, path = self._files[file]
            if disk.dead:
                return IOERR_TRUNCATE
            size = _size(size_of, file)
            old = _content(read, file, length, max(0, size - length))
            disk.unsynced.setdefault(path, []).append(_Change(length, old, None, size))
            return int(truncate(file, length))

        return on_truncate

    def _syncer(self, sync: Any) -> Callable[[int, int], int]:
        def on_sync(file: int, flags: int) -> int:
            disk, path = self._files[file]
            if disk.dead:
                return IOERR_FSYNC
            disk.synced += 1
            disk.unsynced.pop(path, None)
            return int(sync(file, flags))

        return on_sync


def _size(size_of: Any, file: int) -> int:
    size = _Int64()
    size_of(file, ctypes.byref(size))
    return size.value


def _content(read: Any, file: int, offset: int, amount: int) -> bytes:
    if amount <= 0:
        return b""
    buffer = ctypes.create_string_buffer(amount)
    read(file, ctypes.addressof(buffer), amount, offset)
    return buffer.raw


_shim: _Shim | None = None


def install(disk: Disk) -> None:
    """See every file that SQLite opens right under ``disk.folder`` from now on."""
    global _shim  # noqa: PLW0603 - one table per process, as in SQLite
    _shim = _shim or _Shim()
    _shim.watch(disk)


def uninstall(disk: Disk) -> None:
    """Look at this folder's files no more; those that are open stay watched."""
    if _shim is not None:
        _shim.forget(disk)
