"""Journals on a real disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from terminal_agent.journal import Journal
from terminal_agent.journal.journal import JOURNAL_FILE
from tests.journal.support import CountedIds, ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ids() -> CountedIds:
    return CountedIds()


@pytest.fixture
def open_journal(tmp_path: Path, clock: ManualClock, ids: CountedIds) -> Iterator[Callable[..., Journal]]:
    """Opens the journal of this test's folder, again and again if need be."""
    opened: list[Journal] = []

    def opener(terminal_id: str = "till-1") -> Journal:
        opened.append(Journal(tmp_path, terminal_id, "IRR", clock, ids))
        return opened[-1]

    yield opener
    for journal in opened:
        journal.close()


@pytest.fixture
def journal(open_journal: Callable[..., Journal]) -> Journal:
    return open_journal()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the journal of this test's folder is kept."""
    return tmp_path / JOURNAL_FILE
