"""What the till's tests share: refusals, torn taps, and another shop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.contract import EventType
from terminal_agent.errors import AgentError
from tests.workbench import (
    Workbench,
)

WRITE = 5
"""The commit point among the eight operations of a purchase; test_session.py counts them."""
OPERATIONS = 8


def refused(bench: Workbench, card: MemoryImage, receipt_no: str, amount: int, **options: Any) -> AgentError:
    with pytest.raises(AgentError) as caught:
        bench.purchase(card, receipt_no, amount, **options)
    return caught.value


def tear(bench: Workbench, card: MemoryImage, outcome: Torn, receipt_no: str = "R-1", **options: Any) -> AgentError:
    """A purchase of 50 000 whose card leaves in the middle of the write."""
    error = refused(bench, card, receipt_no, 50_000, fault=Fault(WRITE, outcome), **options)
    assert error.details["state"] == "in_doubt"
    return error


def events_of(bench: Workbench, kind: EventType) -> list[dict[str, Any]]:
    return [event["data"] for event in bench.events(kind)]


def tap_elsewhere(bench: Workbench, card: MemoryImage, tmp_path: Path, amount: int) -> None:
    """Another shop of the club, which never heard of this one's sales."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shop = Workbench(folder, terminal_id="shop-2")
    shop.purchase(card, "S-1", amount)
    shop.close()
