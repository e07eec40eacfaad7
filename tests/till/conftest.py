"""A card for the till's tests."""

from __future__ import annotations

import pytest

from drivers.simulator import MemoryImage
from tests.workbench import (
    Workbench,
)


@pytest.fixture
def card(bench: Workbench) -> MemoryImage:
    """A card with 300 points, earned by one purchase."""
    return bench.issue(points=300)
