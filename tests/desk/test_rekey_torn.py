"""A re-key torn at every operation: the card stays what it was, and the next run finishes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from drivers.errors import CardRemoved
from drivers.mifare_classic import trailer_of
from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.card.layout import (
    HISTORY_BLOCKS,
    CardState,
    HistoryEntry,
    HistoryKind,
    Identity,
    encode_history,
    encode_identity,
    encode_state,
    home_of,
)
from terminal_agent.desk.issue import issued_trailer
from terminal_agent.desk.rekey import rekey
from tests.card.independent_reader import read_card
from tests.desk.rekeying import MASTERS, Operations, faults, seen_by, shop_with, show, tap_rekey, use, verify
from tests.workbench import (
    NOW,
    Workbench,
    copy_of,
    operations_of,
)

# --- torn at every operation


class Sweep:
    """One card that is torn, checked, used and finished again and again; and tills that hold one key set alone."""

    def __init__(self, bench: Workbench, card: MemoryImage, folder: Path, old: int, new: int) -> None:
        self.bench, self.card, self.old, self.new = bench, card, old, new
        self.others = [shop_with(folder / f"only-{version}", version) for version in (old, new)]
        use(bench, old)
        use(bench, new)
        self.start_over()

    def close(self) -> None:
        for shop in self.others:
            shop.close()

    def operations(self, image: MemoryImage) -> Operations:
        return operations_of(lambda c: rekey(self.bench.terminal, c), copy_of(image))

    def tear(self, image: MemoryImage, fault: Fault) -> None:
        with pytest.raises(CardRemoved):
            tap_rekey(self.bench, image, fault)

    def check(self, image: MemoryImage, state: CardState) -> None:
        """The card is what it was; whoever reads it with part of the keys reads the same or nothing."""
        read = self.bench.read(image)
        assert read.conditions.count("settled") <= 1, "two homes count by themselves"
        assert read.state == state.to_json(), "the card is lost, or another"
        assert show(self.bench, image)["points"] == state.balance
        for shop, version in zip(self.others, (self.old, self.new), strict=True):
            assert seen_by(shop, image) in (None, state), f"a till with set {version} alone sees a stale state"
            assert read_card(bytes(image.content), MASTERS[version]).state in (None, state.to_json())

    def finish(self, image: MemoryImage, state: CardState) -> None:
        """Running it again: whole, and under the new set alone. An older slot may be torn, as after any tap."""
        answer = tap_rekey(self.bench, image)
        assert (answer["rekeyed"], answer["warnings"]) == (True, [])
        older = home_of(self.new).state_blocks[1 - state.slot]
        assert [finding for finding in verify(self.bench, image) if finding["block"] != older] == []
        read = read_card(bytes(image.content), MASTERS[self.new])
        assert (read.state, read.home) == (state.to_json(), home_of(self.new).sector)
        assert (read.foreign_trailers, read.free_blocks_in_use) == ([], [])

    def start_over(self) -> None:
        """The card as it would be had it always been under the old set, every place of its ring taken."""
        keys = self.bench.keys.card_keys(self.old, bytes.fromhex(show(self.bench, self.card)["uid"]))
        read, home = self.bench.read(self.card), home_of(self.old)
        assert read.identity is not None
        newest = self.bench.state(self.card)
        older = next((slot for slot in self.bench.slots(self.card) if slot not in (None, newest)), None)
        older = older or replace(newest, sequence=newest.sequence - 1)
        self.card.content[16:] = bytes(1008)
        identity = Identity(**{**read.identity, "key_set_version": self.old})
        self.card.write(home.identity_block, encode_identity(keys.identity_key, identity))
        for state in (older, newest):
            self.card.write(home.state_blocks[state.slot], encode_state(keys.state_key, state))
        for sequence in range(newest.sequence - 14, newest.sequence + 1):
            entry = HistoryEntry(HistoryKind.PURCHASE, sequence, NOW, 10_000, 1, 1)
            self.card.write(entry.block, encode_history(keys.history_key, entry))
        for sector in range(16):
            self.card.write(trailer_of(sector), issued_trailer(keys, sector).encode())


@pytest.mark.parametrize(("old", "new", "writes_only"), [(1, 2, False), (1, 3, True)])
def test_a_re_key_torn_anywhere_is_finished_by_running_it_again(
    bench: Workbench, card: MemoryImage, tmp_path: Path, old: int, new: int, writes_only: bool
) -> None:
    sweep = Sweep(bench, card, tmp_path, old, new)
    state, history = bench.state(card), bench.read(card).history
    operations = sweep.operations(card)
    assert len(operations) > 150
    assert sum(action == "write" for action, _ in operations) >= 38
    for fault, block in faults(operations, writes_only=writes_only):
        torn = copy_of(card)
        sweep.tear(torn, fault)
        sweep.check(torn, state)
        again = copy_of(torn)
        sweep.finish(again, state)
        spoilt = [e for e in history if block == HISTORY_BLOCKS[e["sequence"] % 15] and fault.outcome is Torn.GARBAGE]
        assert bench.read(again).history == [entry for entry in history if entry not in spoilt], fault
    sweep.close()


@pytest.mark.parametrize(("old", "new"), [(2, 3), (1, 3)])
def test_a_purchase_after_a_torn_re_key_counts_and_the_re_key_is_finished_behind_it(
    bench: Workbench, card: MemoryImage, tmp_path: Path, old: int, new: int
) -> None:
    """Every write in each of its outcomes; a card that leaves at a read is the card as it was before the next write."""
    sweep = Sweep(bench, card, tmp_path, old, new)
    operations = sweep.operations(card)
    for number, (fault, _) in enumerate(faults(operations, writes_only=True)):
        before = bench.state(card)
        sweep.tear(card, fault)
        bench.purchase(card, f"R-{number}", 10_000 * (1 + number % 3), redeem=number % 2)
        state = bench.state(card)
        assert (state.sequence, state.balance) == (before.sequence + 1, before.balance + 1 + number % 3 - number % 2)
        sweep.check(card, state)
        assert bench.read(card).history[0]["sequence"] == state.sequence, "its entry, whatever set that sector is under"
        sweep.finish(card, state)
        assert bench.read(card).history[0]["sequence"] == state.sequence
        sweep.start_over()
        assert len(sweep.operations(card)) == len(operations)
    bench.check_books(card)
    sweep.close()


def test_a_re_key_torn_twice_is_finished_by_the_third_run(bench: Workbench, card: MemoryImage, tmp_path: Path) -> None:
    """The second tear is sampled: each first tear goes with a few second ones, and those are others each time."""
    sweep = Sweep(bench, card, tmp_path, 1, 2)
    state = bench.state(card)
    for number, (first, _) in enumerate(faults(sweep.operations(card), writes_only=True)):
        torn = copy_of(card)
        sweep.tear(torn, first)
        second = list(faults(sweep.operations(torn), writes_only=True))
        for fault, _ in second[number % 23 :: 23]:
            twice = copy_of(torn)
            sweep.tear(twice, fault)
            sweep.check(twice, state)
            sweep.finish(twice, state)
    sweep.close()


@pytest.mark.parametrize("taps", [1, 2])
@pytest.mark.parametrize(("old", "new"), [(1, 2), (1, 3)])
def test_a_home_filled_before_the_last_taps_is_filled_anew_and_never_counts_meanwhile(
    bench: Workbench, card: MemoryImage, tmp_path: Path, old: int, new: int, taps: int
) -> None:
    """The card went on in its old home, so what stands in the other one is old; torn at every write once more."""
    sweep = Sweep(bench, card, tmp_path, old, new)
    sweep.tear(card, Fault(sweep.operations(card).index(("write", home_of(old).identity_block)) + 1, Torn.OLD))
    assert sorted(bench.read(card).conditions) == ["arriving", "settled"]
    for number in range(taps):
        bench.purchase(card, f"R-{number}", 10_000)
    state = bench.state(card)
    for fault, _ in faults(sweep.operations(card), writes_only=True):
        twice = copy_of(card)
        sweep.tear(twice, fault)
        sweep.check(twice, state)
        sweep.finish(twice, state)
    sweep.close()
