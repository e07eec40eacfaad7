"""A card to re-key, tills with some of its key sets, and the faults a re-key can meet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from drivers.mifare_classic import is_trailer
from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.card.layout import CardState
from terminal_agent.desk import inspect
from terminal_agent.desk.rekey import rekey
from terminal_agent.errors import AgentError
from terminal_agent.taps import present
from tests.desk.test_issue import every_fault
from tests.workbench import (
    MASTER_KEY,
    Workbench,
    lay,
)

MASTERS = {1: MASTER_KEY, 2: bytes(range(16)), 3: bytes(range(1, 17))}
Operations = list[tuple[str, int]]


def tap_rekey(bench: Workbench, card: MemoryImage, fault: Fault | None = None) -> dict[str, Any]:
    with lay(card, fault) as connection:
        return rekey(bench.terminal, connection)


def show(bench: Workbench, card: MemoryImage) -> dict[str, Any]:
    with lay(card) as connection:
        return inspect.show(bench.terminal, connection)


def verify(bench: Workbench, card: MemoryImage) -> list[dict[str, Any]]:
    with lay(card) as connection:
        findings: list[dict[str, Any]] = inspect.verify(bench.terminal, connection)["findings"]
    return findings


def use(bench: Workbench, version: int) -> None:
    """From now on this set is the active one."""
    bench.keys.add(MASTERS[version], version, activate=True)


def shop_with(folder: Path, *versions: int) -> Workbench:
    """A till that never saw the card and holds these key sets alone, the last one active."""
    folder.mkdir()
    shop = Workbench(folder, terminal_id=f"shop-{versions}")
    if 1 not in versions:
        (folder / "keys" / "v1.key").unlink()
        shop.keys = type(shop.keys)(folder / "keys")
    for version in versions:
        use(shop, version)
    return shop


def seen_by(shop: Workbench, card: MemoryImage) -> CardState | None:
    """What a till makes of the card; None when it refuses it."""
    with lay(card) as connection, suppress(AgentError):
        return present(shop.terminal, connection).state
    return None


def faults(operations: Operations, *, writes_only: bool = False) -> Iterator[tuple[Fault, int]]:
    """All but the trailers torn into garbage, which have a test of their own."""
    for fault, block in every_fault(operations):
        if is_trailer(block) and fault.outcome is Torn.GARBAGE:
            continue
        if not writes_only or operations[fault.call - 1][0] == "write":
            yield fault, block
