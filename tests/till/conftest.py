"""A bench and a card for the till's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.simulator import MemoryImage
from tests.workbench import (
    Workbench,
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    bench = Workbench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def card(bench: Workbench) -> MemoryImage:
    """A card with 300 points, earned by one purchase."""
    return bench.issue(points=300)
