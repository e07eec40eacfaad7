"""Many cuts of one recording: where, with what luck, and what was lost."""

from __future__ import annotations

import pickle
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Protocol

from tests.power_cut.disk import Disk, Fate, Snapshot
from tests.power_cut.recorder import Recording
from tests.power_cut.trace import Heard, Operation

FATES = (Fate.DROPPED, Fate.CHANCE, Fate.CHANCE, Fate.KEPT)
GO_ON_EACH = 10
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
LOST = "lost"
"""The kind of violation that is counted apart: something told is not there."""


@dataclass(frozen=True)
class Violation:
    """``kind`` is one word for counting, ``what`` tells a person."""

    kind: str
    what: str


class Witness(Protocol):
    """Listens to a recording, and knows what must be there after a cut."""

    def hear(self, operation: Operation) -> None:
        """Take in one operation, in order."""
        ...

    @property
    def at_stake(self) -> int:
        """How many things have been told so far."""
        ...

    def check(self, root: Path) -> Iterable[Violation]:
        """What a plain reader of the files finds wrong."""
        ...

    def go_on(self, root: Path) -> Iterable[Violation]:
        """What goes wrong when the program itself goes on there; ``root`` is used up."""
        ...


@dataclass(frozen=True, order=True)
class Cut:
    """The power goes after ``position`` operations; ``seed`` is its luck."""

    position: int
    fate: Fate
    seed: int

    def __str__(self) -> str:
        return f"{self.position}:{self.fate.value}:{self.seed}"

    @classmethod
    def parse(cls, text: str) -> Cut:
        """The inverse of ``str``. Raises ValueError."""
        position, fate, seed = text.split(":")
        return cls(int(position), Fate(fate), int(seed))


def is_card(path: str) -> bool:
    """A card is no disk: what is written to it stays written."""
    return path.startswith("cards/")


def plan(recording: Recording, count: int, seed: int) -> list[Cut]:
    """``count`` cuts spread over all places; each place gets every fate before one comes again."""
    places = [place for place, op in enumerate(recording.operations, 1) if not isinstance(op, Heard)]
    chance = Random(seed)
    chance.shuffle(places)
    cuts = []
    for number in range(count):
        turn, place = divmod(number, len(places))
        cuts.append(Cut(places[place], FATES[(turn + place) % len(FATES)], chance.getrandbits(32)))
    return sorted(cuts)


def after(recording: Recording, cuts: list[Cut], hear: Callable[[Operation], None]) -> Iterator[tuple[Cut, Snapshot]]:
    """What each cut leaves; ``cuts`` in order of their places. ``hear`` gets every operation before its cut."""
    disk, place = Disk(recording.start, is_card), 0
    for cut in cuts:
        for operation in recording.operations[place : cut.position]:
            disk.apply(operation)
            hear(operation)
        place = cut.position
        yield cut, disk.after_cut(cut.fate, Random(cut.seed))


def end_of(recording: Recording) -> Snapshot:
    """What stands at the end when nothing is cut."""
    ((_, whole),) = after(recording, [Cut(len(recording.operations), Fate.KEPT, 0)], lambda _operation: None)
    return whole


@dataclass
class Report:
    """What came of it. ``at_stake`` counts what had been told, over all cuts."""

    cuts: int = 0
    gone_on: int = 0
    at_stake: int = 0
    most_at_stake: int = 0
    cuts_with_loss: int = 0
    worst_loss: int = 0
    elapsed_s: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    first: dict[str, tuple[Cut, Violation]] = field(default_factory=dict)

    def add(self, cut: Cut, at_stake: int, found: list[Violation]) -> None:
        self.cuts += 1
        self.at_stake += at_stake
        self.most_at_stake = max(self.most_at_stake, at_stake)
        lost = sum(violation.kind == LOST for violation in found)
        self.cuts_with_loss += lost > 0
        self.worst_loss = max(self.worst_loss, lost)
        for violation in found:
            self.kinds[violation.kind] += 1
            self.first.setdefault(violation.kind, (cut, violation))

    @property
    def told(self) -> str:
        """One line for each kind of violation, with the first cut that showed it."""
        return "\n".join(
            f"{kind}, {self.kinds[kind]} times: {v.what} (--cut {c})" for kind, (c, v) in self.first.items()
        )


def run(recording: Recording, cuts: list[Cut], witness: Witness, go_on_each: int = GO_ON_EACH) -> Report:
    """Cut, look, and each ``go_on_each``-th time let the program go on (0: never)."""
    report, started = Report(), perf_counter()
    with tempfile.TemporaryDirectory(prefix="cut-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        for number, (cut, left) in enumerate(after(recording, cuts, witness.hear)):
            with _laid_down(left, Path(folder)) as root:
                found = list(witness.check(root))
            if go_on_each and number % go_on_each == 0:
                with _laid_down(left, Path(folder)) as root:
                    found += witness.go_on(root)
                report.gone_on += 1
            report.add(cut, witness.at_stake, found)
    report.elapsed_s = perf_counter() - started
    return report


class _laid_down:
    """A disk's content in a folder, gone afterwards."""

    def __init__(self, left: Snapshot, folder: Path) -> None:
        self._left = left
        self._root = folder / "disk"

    def __enter__(self) -> Path:
        self._root.mkdir()
        self._left.write_to(self._root)
        return self._root

    def __exit__(self, *_error: object) -> None:
        shutil.rmtree(self._root)


def save(recording: Recording, path: Path) -> None:
    """Keep a recording, so that one cut of it can be tried again."""
    path.write_bytes(pickle.dumps(recording))


def load(path: Path) -> Recording:
    """A recording of our own; never one from elsewhere."""
    recording = pickle.loads(path.read_bytes())  # noqa: S301 - made by save(), on this machine
    if not isinstance(recording, Recording):
        raise TypeError(f"{path} holds no recording")
    return recording
