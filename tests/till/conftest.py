"""A card for the till's tests."""

from __future__ import annotations

import os
import shutil

import pytest
from PIL import features

from drivers.simulator import MemoryImage
from tests.workbench import (
    Workbench,
)

WITHOUT_PRINTING = "TERMINAL_AGENT_WITHOUT_PRINTING"


@pytest.fixture
def card(bench: Workbench) -> MemoryImage:
    """A card with 300 points, earned by one purchase."""
    return bench.issue(points=300)


@pytest.fixture(scope="session")
def printing() -> None:
    """What lays Persian out, and the programs that judge it. Fails, not skips, where they are missing."""
    missing = [name for name in ("zbarimg", "hb-view", "hb-shape") if shutil.which(name) is None]
    missing += [] if features.version("fribidi") else ["FriBiDi"]
    problem = f"{', '.join(missing)} missing; run: apt-get install zbar-tools libharfbuzz-bin libfribidi0"
    if missing and os.environ.get(WITHOUT_PRINTING) == "1":
        pytest.skip(f"{WITHOUT_PRINTING}=1: {problem}")
    if missing:
        pytest.fail(f"{problem}\nor set {WITHOUT_PRINTING}=1 to go without these tests")
