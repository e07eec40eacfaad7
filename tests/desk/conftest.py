"""A card for the desk's tests."""

from __future__ import annotations

import pytest

from drivers.simulator import MemoryImage
from terminal_agent.card.layout import HISTORY_BLOCKS
from tests.workbench import Workbench


@pytest.fixture
def card(bench: Workbench) -> MemoryImage:
    """A card under set 1 that was used so often that every place of its ring is taken."""
    card = bench.issue(phone="09125554433", points=300)
    for number in range(len(HISTORY_BLOCKS)):
        bench.purchase(card, f"first-{number}", 50_000 + number, redeem=3 if number == 7 else 0)
    return card
