"""A purchase torn at every operation, whatever it carries and whatever its card has been through."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from drivers.errors import CardRemoved
from drivers.mifare_classic import sector_of, trailer_of
from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.card.layout import CardState, history_block
from terminal_agent.contract import EventType
from terminal_agent.desk.rekey import rekey
from terminal_agent.errors import AgentError
from terminal_agent.till.checkout import PurchaseRequest, purchase
from tests.desk.test_issue import every_fault
from tests.till.support import events_of
from tests.workbench import Workbench, copy_of, flip, lay, offline, operations_of

NEW_MASTER = bytes(range(16))
AMOUNT, EARNED = 50_000, 5
REDEEMED, ADJUSTED = 20, 40
Condition = Callable[[Workbench, MemoryImage], None]


def sound(bench: Workbench, card: MemoryImage) -> None:
    """A card under the active set."""


def under_the_set_before(bench: Workbench, card: MemoryImage) -> None:
    bench.keys.add(NEW_MASTER, 2, activate=True)


def torn_re_key(block: int, outcome: Torn) -> Condition:
    """Re-keying cut short in its first write of this block."""

    def tear(bench: Workbench, card: MemoryImage) -> None:
        under_the_set_before(bench, card)
        calls = operations_of(lambda connection: rekey(bench.terminal, connection), copy_of(card))
        with pytest.raises(CardRemoved), lay(card, Fault(calls.index(("write", block)) + 1, outcome)) as connection:
            rekey(bench.terminal, connection)

    return tear


def without_the_ring(bench: Workbench, card: MemoryImage) -> None:
    """The sector that this tap's history belongs in is dead."""
    flip(card, trailer_of(sector_of(history_block(bench.state(card).sequence + 1))), 6 * 8)


CONDITIONS: dict[str, Condition] = {
    "sound": sound,
    "under the set before": under_the_set_before,
    "arriving, the old home counts": torn_re_key(4, Torn.OLD),
    "arriving, the new home counts": torn_re_key(4, Torn.GARBAGE),
    "settled in the new home": torn_re_key(7, Torn.OLD),
    "without its place in the ring": without_the_ring,
}
CARRIED = {"nothing": (0, 0), "a redemption": (REDEEMED, 0), "adjustments": (0, ADJUSTED), "both": (REDEEMED, ADJUSTED)}
CASES = [("sound", carried) for carried in CARRIED] + [(condition, "both") for condition in CONDITIONS][1:]


class Template:
    """A shop and its card made once, and copied for each tear."""

    def __init__(self, bench: Workbench, condition: str, adjusted: int) -> None:
        self._bench = bench
        self.card = bench.issue(points=300)
        CONDITIONS[condition](bench, self.card)
        if adjusted:
            (issued,) = events_of(bench, EventType.CARD_ISSUED)
            bench.adjust(issued["card"]["card_no"], adjusted + 7, -7)
        self._active = bench.keys.versions()[0]
        bench.journal.close()
        self._numbers = count()

    def copy(self) -> tuple[Workbench, MemoryImage]:
        folder = self._bench.data_dir.parent / f"{self._bench.data_dir.name}-{next(self._numbers)}"
        shutil.copytree(self._bench.data_dir, folder)
        copy = Workbench(folder)
        copy.ids = self._bench.ids
        copy.keys.activate(self._active)
        return copy, copy_of(self.card)


@pytest.mark.parametrize(("condition", "carried"), CASES)
def test_a_purchase_torn_anywhere_is_finished_by_tapping_again(tmp_path: Path, condition: str, carried: str) -> None:
    redeem, adjusted = CARRIED[carried]
    (tmp_path / "shop").mkdir()
    template = Template(Workbench(tmp_path / "shop"), condition, adjusted)
    bench, card = template.copy()
    before = bench.state(card)
    after = CardState(3, 300 + EARNED - redeem + adjusted, 2 if adjusted else 0, redeem)
    request = PurchaseRequest("R-1", AMOUNT, redeem)
    operations = operations_of(lambda connection: purchase(bench.terminal, connection, request, offline), card)
    bench.close()
    assert sum(action == "write" for action, _ in operations) == 2
    for fault, _ in every_fault(operations):
        bench, card = template.copy()
        with suppress(AgentError, CardRemoved):
            bench.purchase(card, "R-1", AMOUNT, redeem=redeem, fault=fault)
        assert bench.state(card) in (before, after), f"{fault}: a mix"
        answer = bench.purchase(card, "R-1", AMOUNT, redeem=redeem)
        assert (answer["state"], answer["points_after"], answer["points_adjusted"]) == ("done", after.balance, adjusted)
        assert bench.state(card) == after, fault
        bench.check_books(card, adjusted=adjusted)
        bench.close()
