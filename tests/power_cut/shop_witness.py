"""The witness of a shop's day: what was told, what the cards hold, what must be in the books."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from terminal_agent.service.keys.store import KEYS_FOLDER
from tests.books import CardReader
from tests.power_cut.campaign import Violation, end_of, is_card
from tests.power_cut.heal import heal
from tests.power_cut.promises import DATA, check
from tests.power_cut.recorder import Recording
from tests.power_cut.told import Told
from tests.power_cut.trace import Operation


class ShopWitness:
    """For one campaign over a recording of :mod:`tests.power_cut.story`."""

    def __init__(self, recording: Recording) -> None:
        was_set_up = any(name.startswith(f"{DATA}/{KEYS_FOLDER}/") for name in recording.start.files)
        self.told = Told(set_up={"init"} if was_set_up else set())
        self._blanks = frozenset(content for name, content in recording.start.files.items() if is_card(name))
        with tempfile.TemporaryDirectory() as folder:
            end_of(recording).write_to(Path(folder))
            self._cards = CardReader(Path(folder) / DATA / KEYS_FOLDER)

    def hear(self, operation: Operation) -> None:
        self.told.hear(operation)

    @property
    def at_stake(self) -> int:
        """Sales that somebody saw accepted."""
        return self.told.sales

    def check(self, root: Path) -> Iterator[Violation]:
        return check(root, self.told, self._cards, self._blanks)

    def go_on(self, root: Path) -> Iterator[Violation]:
        return heal(root, self.told, self._cards)
