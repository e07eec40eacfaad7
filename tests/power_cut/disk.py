"""A disk that keeps its word and no more: what was synced is there after a power cut, the rest by chance.

Each write that no sync of its file covers yet is dropped, kept, or kept in part, sector by sector. A name that was
made, changed or removed in a folder is certain only after a sync of that folder. ``*-shm`` files are shared memory:
gone, or full of whatever was in that memory.
Drives that answer a flush before the data is safe are outside of the model: no software can survive those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from random import Random

from tests.power_cut.trace import Link, Open, Operation, Rename, SyncAsked, SyncDone, Truncate, Unlink, Write

SECTORS = (512, 4096)
"""What a drive writes whole: old and new ones."""
SHARED_MEMORY = "-shm"


class Fate(StrEnum):
    """What the cut does to everything that was not synced."""

    DROPPED = "dropped"
    KEPT = "kept"
    CHANCE = "chance"


@dataclass
class _File:
    """An inode: what is certain, and the changes that are not, in order."""

    content: bytearray = field(default_factory=bytearray)
    pending: list[Write | Truncate] = field(default_factory=list)

    def settle(self, count: int) -> None:
        for change in self.pending[:count]:
            _change(self.content, change)
        del self.pending[:count]

    @property
    def size(self) -> int:
        """As the process sees it."""
        size = len(self.content)
        for change in self.pending:
            size = change.size if isinstance(change, Truncate) else max(size, _end(change))
        return size


def _end(write: Write) -> int:
    return (write.offset or 0) + len(write.data)


def _change(content: bytearray, change: Write | Truncate) -> None:
    if isinstance(change, Truncate):
        del content[change.size :]
        content.extend(bytes(change.size - len(content)))
        return
    start = change.offset or 0
    content.extend(bytes(max(0, start - len(content))))
    content[start : start + len(change.data)] = change.data


_Names = dict[str, _File | None]
"""The names of a disk; a folder's is None."""
_NameChange = Callable[[_Names], object]


@dataclass
class Snapshot:
    """What stands on a disk: every file by its path, and the folders."""

    files: dict[str, bytes]
    folders: frozenset[str]

    @classmethod
    def of(cls, root: Path) -> Snapshot:
        found = sorted(root.rglob("*"))
        files = {str(path.relative_to(root)): path.read_bytes() for path in found if path.is_file()}
        return cls(files, frozenset(str(path.relative_to(root)) for path in found if path.is_dir()))

    def write_to(self, root: Path) -> None:
        """Lay it down in an empty folder."""
        for folder in sorted(self.folders):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            path = root / name
            path.touch(0o600)
            path.write_bytes(content)


class Disk:
    """Takes operations as they happen; :meth:`after_cut` says what is left if the power goes now.

    ``instant`` names what is no disk at all, such as a card's EEPROM: written is kept.
    """

    def __init__(self, start: Snapshot, instant: Callable[[str], bool] = lambda _path: False) -> None:
        self._instant = instant
        self._certain: _Names = {name: _File(bytearray(content)) for name, content in start.files.items()}
        self._certain |= dict.fromkeys(start.folders, None)
        self._seen: _Names = dict(self._certain)
        self._name_changes: dict[str, list[_NameChange]] = {}
        self._syncs: dict[int, tuple[_File | str, int]] = {}

    def apply(self, operation: Operation) -> bool:
        """Take one operation; whether it can matter to a disk."""
        match operation:
            case Write() | Truncate():
                self._write(operation)
            case Open(path, folder):
                self._open(path, folder)
            case Link(old, new):
                self._rename(new, self._seen.get(old))
            case Rename(old, new):
                self._move(old, new)
            case Unlink(path):
                self._name(path, lambda names: names.pop(path, None))
            case SyncAsked(path, number):
                self._ask(path, number)
            case SyncDone(number):
                self._done(number)
            case _:
                return False
        return True

    def _write(self, change: Write | Truncate) -> None:
        file = self._seen.get(change.path)
        if file is None:
            return  # a file without a name: nothing of it outlives the process
        if isinstance(change, Write) and change.offset is None:
            change = Write(change.path, file.size, change.data)
        file.pending.append(change)
        if self._instant(change.path):
            file.settle(1)

    def _open(self, path: str, folder: bool) -> None:
        if path not in self._seen:
            self._rename(path, None if folder else _File())

    def _rename(self, path: str, file: _File | None) -> None:
        self._name(path, lambda names: names.update({path: file}))

    def _move(self, old: str, new: str) -> None:
        """In one step: no cut leaves both names or neither."""
        file = self._seen.get(old)

        def moved(names: _Names) -> None:
            names.pop(old, None)
            names[new] = file

        self._name(new, moved)

    def _name(self, path: str, change: _NameChange) -> None:
        change(self._seen)
        if self._instant(path):
            change(self._certain)
        else:
            self._name_changes.setdefault(_folder_of(path), []).append(change)

    def _ask(self, path: str, number: int) -> None:
        file = self._seen.get(path)
        if file is not None:
            self._syncs[number] = (file, len(file.pending))
        else:
            self._syncs[number] = (path, len(self._name_changes.get(path, [])))

    def _done(self, number: int) -> None:
        target, count = self._syncs.pop(number)
        if isinstance(target, _File):
            target.settle(count)
            return
        changes = self._name_changes.get(target, [])
        for change in changes[:count]:
            change(self._certain)
        del changes[:count]

    def after_cut(self, fate: Fate, chance: Random) -> Snapshot:
        """What the next start finds. ``chance`` decides where ``fate`` leaves it open."""
        lot = _Lot(fate, chance)
        names = dict(self._certain)
        for changes in self._name_changes.values():
            for change in changes:
                if lot.keeps():
                    change(names)
        reachable = {name: file for name, file in names.items() if _is_reachable(name, names)}
        files = {
            name: lot.noise(file) if name.endswith(SHARED_MEMORY) else bytes(lot.left_of(file))
            for name, file in reachable.items()
            if file is not None
        }
        return Snapshot(files, frozenset(name for name, file in reachable.items() if file is None))


def _folder_of(path: str) -> str:
    return str(PurePosixPath(path).parent)


def _is_reachable(name: str, names: _Names) -> bool:
    """A folder whose own name is not certain takes what is in it along."""
    return all(str(folder) in names for folder in PurePosixPath(name).parents if str(folder) != ".")


class _Lot:
    """One cut's luck: how likely an unsynced change is to be there, and how much of it."""

    def __init__(self, fate: Fate, chance: Random) -> None:
        self._fate = fate
        self._chance = chance
        self._likely = chance.random()
        self._sector = chance.choice(SECTORS)

    def keeps(self) -> bool:
        if self._fate is Fate.CHANCE:
            return self._chance.random() < self._likely
        return self._fate is Fate.KEPT

    def noise(self, file: _File) -> bytes:
        return self._chance.randbytes(file.size)

    def left_of(self, file: _File) -> bytearray:
        if not file.pending or self._fate is Fate.DROPPED:
            return file.content
        content = bytearray(file.content)
        for change in file.pending:
            for part in self._left_of(change):
                _change(content, part)
        return content

    def _left_of(self, change: Write | Truncate) -> Iterator[Write | Truncate]:
        """The change whole, or nothing of it, or some sectors of a write."""
        if isinstance(change, Write) and self._fate is Fate.CHANCE and self._chance.random() < 0.5:
            yield from self._sectors(change)
        elif self.keeps():
            yield change

    def _sectors(self, write: Write) -> Iterator[Write]:
        start, end = write.offset or 0, _end(write)
        while start < end:
            border = min(end, (start // self._sector + 1) * self._sector)
            if self.keeps():
                data = write.data[start - (write.offset or 0) : border - (write.offset or 0)]
                yield Write(write.path, start, data)
            start = border
