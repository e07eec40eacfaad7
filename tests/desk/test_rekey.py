"""Re-keying torn at every operation: the card is never lost, its points are exact, and running it again finishes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drivers.errors import CardRemoved
from drivers.mifare_classic import MAD_KEY_A, KeyType, is_trailer, trailer_of
from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.card.layout import (
    HISTORY_BLOCKS,
    HOMES,
    CardState,
    HistoryEntry,
    HistoryKind,
    Identity,
    encode_history,
    encode_identity,
    encode_state,
    home_of,
)
from terminal_agent.desk import inspect
from terminal_agent.desk.issue import IssueRequest, issue, issued_trailer
from terminal_agent.desk.rekey import is_due, rekey
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.database import JournalFailed
from terminal_agent.taps import present
from tests.card.independent_reader import read_card
from tests.desk.test_issue import every_fault
from tests.workbench import (
    MASTER_KEY,
    NOW,
    UID_7,
    Workbench,
    blank,
    block_of,
    copy_of,
    flip,
    full_disk_once,
    lay,
    operations_of,
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


@pytest.fixture
def card(bench: Workbench) -> MemoryImage:
    """A card under set 1 that was used so often that every place of its ring is taken."""
    card = bench.issue(phone="09125554433", points=300)
    for number in range(len(HISTORY_BLOCKS)):
        bench.purchase(card, f"first-{number}", 50_000 + number, redeem=3 if number == 7 else 0)
    return card


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


# --- one card, re-keyed in one go


@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 3), (1, 3), (3, 1)])
@pytest.mark.parametrize("uid", [None, UID_7])
def test_a_rekeyed_card_is_the_same_card_under_the_new_keys_alone(
    bench: Workbench, uid: bytes | None, old: int, new: int
) -> None:
    use(bench, old)
    card = bench.issue(*([uid] if uid else []), phone="09125554433", points=300)
    for number in range(5):
        bench.purchase(card, f"R-{number}", 20_000 * number + 1, redeem=number)
    before, slots = show(bench, card), bench.slots(card)
    use(bench, new)
    answer = tap_rekey(bench, card)
    assert answer == {
        "uid": before["uid"],
        "card_no": before["card_no"],
        "sequence": before["sequence"],
        "points": before["points"],
        "key_set_version": new,
        "previous_key_set_version": old,
        "rekeyed": True,
        "warnings": [],
    }
    assert show(bench, card) == {**before, "key_set_version": new}
    assert bench.slots(card) == slots
    assert verify(bench, card) == []
    only_new = read_card(bytes(card.content), MASTERS[new])
    assert (only_new.home, only_new.foreign_trailers, only_new.free_blocks_in_use) == (home_of(new).sector, [], [])
    assert [entry["sequence"] for entry in only_new.history] == [line["sequence"] for line in before["history"]]
    assert len(read_card(bytes(card.content), MASTERS[old]).foreign_trailers) == 16
    bench.purchase(card, "R-last", 50_000)
    bench.check_books(card)


@pytest.mark.parametrize(("old", "new"), [(1, 2), (1, 3)])
def test_after_re_keying_a_tap_costs_one_authentication_again(bench: Workbench, old: int, new: int) -> None:
    use(bench, old)
    card = bench.issue(points=3)
    use(bench, new)
    assert operations_of(lambda c: present(bench.terminal, c), card)[:2] == [
        ("authenticate", home_of(new).identity_block),
        ("authenticate", home_of(old).identity_block),
    ]
    tap_rekey(bench, card)
    home = home_of(new)
    assert operations_of(lambda c: present(bench.terminal, c), card) == [
        ("authenticate", home.identity_block),
        *(("read", block) for block in home.blocks),
    ]


def test_a_card_under_the_active_set_is_not_written(bench: Workbench, card: MemoryImage) -> None:
    before, audit = bytes(card.content), bench.rows("SELECT * FROM audit")
    calls = operations_of(lambda c: rekey(bench.terminal, c), card)
    assert "write" not in {action for action, _ in calls}
    assert bytes(card.content) == before
    assert bench.rows("SELECT * FROM audit") == audit


def test_the_trailer_of_the_home_the_card_lives_in_is_written_only_when_the_other_one_counts(
    bench: Workbench, card: MemoryImage
) -> None:
    use(bench, 2)
    written = [block for action, block in operations_of(lambda c: rekey(bench.terminal, c), card) if action == "write"]
    assert written.index(31) < written.index(4) < written.index(7)
    assert written.index(28) < written.index(31)
    assert sorted(block for block in written if is_trailer(block)) == [trailer_of(sector) for sector in range(16)]


def test_a_re_key_is_in_the_audit_log_and_in_no_event(bench: Workbench, card: MemoryImage) -> None:
    use(bench, 2)
    events = bench.events()
    card_no = tap_rekey(bench, card)["card_no"]
    begun, done = bench.rows("SELECT action, detail FROM audit WHERE action LIKE 'card.rekey%' ORDER BY entry")
    assert (begun["action"], done["action"]) == ("card.rekey_begun", "card.rekeyed")
    assert f'"card_no": "{card_no}", "from_version": 1, "to_version": 2' in done["detail"]
    assert bench.events() == events
    assert bench.rows("SELECT key_set_version FROM cards") == [{"key_set_version": 2}]


def test_a_card_that_may_not_be_used_is_not_re_keyed(bench: Workbench, card: MemoryImage) -> None:
    old = copy_of(card)
    bench.purchase(card, "R-1", 10_000)
    use(bench, 2)
    for image, code in ((old, ErrorCode.CARD_ROLLED_BACK), (card, ErrorCode.CARD_BLOCKED)):
        if code is ErrorCode.CARD_BLOCKED:
            bench.block_card(show(bench, card)["card_no"], "lost")
        before = bytes(image.content)
        with pytest.raises(AgentError) as caught:
            tap_rekey(bench, image)
        assert caught.value.code is code
        assert bytes(image.content) == before


@pytest.mark.parametrize("outcome", Torn)
def test_a_sale_in_doubt_is_settled_first(bench: Workbench, card: MemoryImage, outcome: Torn) -> None:
    points = bench.state(card).balance
    with pytest.raises(AgentError):
        bench.purchase(card, "R-1", 50_000, fault=Fault(5, outcome))
    use(bench, 2)
    assert tap_rekey(bench, card)["points"] == points + 5
    assert bench.purchase(card, "R-1", 50_000)["replayed"] is True
    bench.check_books(card)


def test_a_slot_that_was_torn_stays_what_it_is(bench: Workbench, card: MemoryImage) -> None:
    flip(card, HOMES[0].state_blocks[1 - bench.state(card).slot])
    state = bench.state(card)
    use(bench, 2)
    tap_rekey(bench, card)
    assert sorted(map(repr, bench.slots(card))) == sorted(map(repr, [state, None]))
    assert show(bench, card)["problem"] == "torn_write"
    bench.purchase(card, "R-1", 50_000)
    assert None not in bench.slots(card)
    bench.check_books(card)


def test_a_directory_stays_a_directory(bench: Workbench) -> None:
    card = blank()
    with lay(card) as connection:
        issue(bench.terminal, connection, IssueRequest(mad=True))
    use(bench, 2)
    tap_rekey(bench, card)
    with lay(card) as anybody:
        anybody.authenticate(1, KeyType.A, MAD_KEY_A)
        assert anybody.read_block(3)[9] == 0xC1
    assert verify(bench, card) == []


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


def faults(operations: Operations, *, writes_only: bool = False) -> Iterator[tuple[Fault, int]]:
    """All but the trailers torn into garbage, which have a test of their own."""
    for fault, block in every_fault(operations):
        if is_trailer(block) and fault.outcome is Torn.GARBAGE:
            continue
        if not writes_only or operations[fault.call - 1][0] == "write":
            yield fault, block


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


# --- cut short, and then something else


def torn_by_writes(bench: Workbench, card: MemoryImage) -> Iterator[MemoryImage]:
    """The card as each write of a re-key to set 2 left it, torn in each way that costs no sector."""
    use(bench, 2)
    operations = operations_of(lambda c: rekey(bench.terminal, c), copy_of(card))
    for fault, _ in faults(operations, writes_only=True):
        torn = copy_of(card)
        with pytest.raises(CardRemoved):
            tap_rekey(bench, torn, fault)
        yield torn


def test_a_card_half_re_keyed_is_shown_verified_and_not_issued_again(bench: Workbench, card: MemoryImage) -> None:
    state, states = bench.state(card), set()
    for torn in torn_by_writes(bench, card):
        before = bytes(torn.content)
        shown = show(bench, torn)
        assert (shown["points"], shown["sequence"]) == (state.balance, state.sequence)
        states.add((shown["key_set_version"], shown["problem"]))
        with pytest.raises(AgentError) as caught:
            bench.encode(torn, phone="09120000001")
        assert caught.value.code is ErrorCode.ALREADY_ISSUED
        verify(bench, torn)
        assert bytes(torn.content) == before
    assert states == {(1, None), (1, "rekey_cut_short"), (2, "rekey_cut_short"), (2, None), (2, "torn_write")}
    assert bench.rows("SELECT * FROM intents WHERE state = 'open'") == []


def test_verify_calls_what_a_re_key_left_behind_a_warning(bench: Workbench, card: MemoryImage) -> None:
    findings = [finding for torn in torn_by_writes(bench, card) for finding in verify(bench, torn)]
    problems = {finding["problem"] for finding in findings if finding["severity"] == "warning"}
    assert inspect.CUT_SHORT in problems
    assert any("key set 1: finish with card rekey" in problem for problem in problems)
    torn_blocks = {finding["block"] for finding in findings if finding["severity"] == "error"}
    assert torn_blocks <= {4, 5, 6, 28, 29, 30}, "only a block torn into garbage is worse"


def wipe_operations(bench: Workbench, card: MemoryImage) -> Operations:
    return operations_of(lambda connection: inspect.wipe(bench.terminal, connection), copy_of(card))


def test_a_card_half_re_keyed_is_wiped_whole(bench: Workbench, card: MemoryImage) -> None:
    for torn in list(torn_by_writes(bench, card)):
        with lay(torn) as connection:
            inspect.wipe(bench.terminal, connection)
        assert bytes(torn.content) == bytes(blank().content)


def test_a_wipe_of_a_card_half_re_keyed_torn_anywhere_is_finished_by_wiping_again(
    bench: Workbench, card: MemoryImage
) -> None:
    """One card for each pair of conditions its homes can be in. What counted and is erased stays dead."""
    state = bench.state(card)
    halves = {tuple(bench.read(half).conditions): half for half in torn_by_writes(bench, card)}
    assert set(halves) == {
        ("settled", "empty"),
        ("settled", "arriving"),
        ("empty", "arriving"),
        ("empty", "settled"),
    }
    for half in halves.values():
        operations, identity = wipe_operations(bench, half), bench.home(half).identity_block
        gone = False
        for fault, block in faults(operations, writes_only=True):
            torn = copy_of(half)
            with pytest.raises(CardRemoved), lay(torn, fault) as connection:
                inspect.wipe(bench.terminal, connection)
            read = bench.read(torn)
            assert read.state in (None, state.to_json())
            gone = gone or (block == identity and fault.outcome is not Torn.OLD)
            assert not (gone and read.state), "the other home came to life"
            with lay(torn) as connection:
                inspect.wipe(bench.terminal, connection)
            assert bytes(torn.content) == bytes(blank().content)


def test_a_card_wiped_half_way_out_of_a_re_key_is_issued_anew_whatever_keys_its_sectors_have(
    bench: Workbench, card: MemoryImage
) -> None:
    half = list(torn_by_writes(bench, card))[-30]
    wipe = wipe_operations(bench, half)
    bench.clock.advance(minutes=1)
    with pytest.raises(CardRemoved), lay(half, Fault(wipe.index(("write", 15)) + 1, Torn.OLD)) as connection:
        inspect.wipe(bench.terminal, connection)
    kept = {key for sector in range(16) for key in (block_of(half, trailer_of(sector))[10:],)}
    assert len(kept) > 5, "sectors under both sets, and blank ones"
    bench.clock.advance(minutes=1)
    bench.encode(half, phone="09120000001")
    assert (verify(bench, half), bench.read(half).home) == ([], 7)


def test_a_till_with_half_of_the_keys_refuses_what_it_cannot_judge(
    bench: Workbench, card: MemoryImage, tmp_path: Path
) -> None:
    shop = shop_with(tmp_path / "new-only", 2)
    codes = set()
    for torn in torn_by_writes(bench, card):
        before = bytes(torn.content)
        try:
            shop.purchase(torn, "R-1", 10_000)
        except AgentError as error:
            codes.add((error.code, "rekey" in error.hint))
        else:
            break
        with pytest.raises(AgentError), lay(torn) as connection:
            inspect.wipe(shop.terminal, connection)
        assert bytes(torn.content) == before, "what it cannot finish it does not begin"
    assert codes == {(ErrorCode.NOT_OUR_CARD, False), (ErrorCode.KEY_REJECTED, True)}
    shop.close()


# --- sectors that are dead


def contradict(image: MemoryImage, sector: int) -> None:
    """New keys, and access bits that contradict themselves: the keys open the sector, and nothing can be done in it."""
    flip(image, trailer_of(sector), 6 * 8)


def ruin(bench: Workbench, card: MemoryImage, sector: int, how: str) -> None:
    """A re-key cut short in this sector's trailer, and for ever."""
    operations = operations_of(lambda c: rekey(bench.terminal, c), copy_of(card))
    call = operations.index(("write", trailer_of(sector))) + 1
    with pytest.raises(CardRemoved):
        tap_rekey(bench, card, Fault(call, Torn.GARBAGE if how == "garbage" else Torn.NEW))
    if how != "garbage":
        contradict(card, sector)


@pytest.mark.parametrize("how", ["garbage", "contradiction"])
@pytest.mark.parametrize("sector", range(16))
def test_a_trailer_torn_into_garbage_costs_its_sector_and_not_the_card(
    bench: Workbench, card: MemoryImage, sector: int, how: str
) -> None:
    use(bench, 2)
    state = bench.state(card)
    ruin(bench, card, sector, how)
    assert bench.state(card) == state
    assert show(bench, card)["points"] == state.balance
    bench.purchase(card, "R-1", 50_000)
    answer = tap_rekey(bench, card)
    moved = sector != 7
    assert (answer["rekeyed"], answer["key_set_version"]) == (moved, 2 if moved else 1)
    assert [f"sector {sector} " in warning for warning in answer["warnings"]] == [True]
    assert {finding["sector"] for finding in verify(bench, card) if finding["severity"] == "error"} == {sector}
    for number in range(16):  # once round the ring, with its dead places
        bench.purchase(card, f"S-{number}", 10_000)
    lost = 3 if sector in range(2, 7) else 0
    assert len(show(bench, card)["history"]) == len(HISTORY_BLOCKS) - lost
    bench.check_books(card)
    assert not is_due(bench.terminal, present(bench.terminal, lay(card))), "it is not tried again at each tap"


def test_a_card_with_a_dead_home_stays_under_the_set_it_has(bench: Workbench, card: MemoryImage) -> None:
    use(bench, 2)
    ruin(bench, card, 1, "garbage")
    assert tap_rekey(bench, card)["rekeyed"] is True, "the card had moved before"
    use(bench, 3)
    for _ in range(2):
        answer = tap_rekey(bench, card)
        assert (answer["rekeyed"], answer["key_set_version"]) == (False, 2)
        assert [warning[:9] for warning in answer["warnings"]] == ["sector 1 "]
    bench.purchase(card, "R-1", 50_000)
    assert read_card(bytes(card.content), MASTERS[2]).state == bench.state(card).to_json()
    bench.check_books(card)


@pytest.mark.parametrize(("key_a", "key_b"), [(1, 2), (2, 1)])
@pytest.mark.parametrize("sector", [0, 3, 7, 9])
def test_a_trailer_that_got_one_of_its_keys_is_made_whole(
    bench: Workbench, card: MemoryImage, sector: int, key_a: int, key_b: int
) -> None:
    use(bench, 2)
    ruin(bench, card, sector, "new")
    flip(card, trailer_of(sector), 6 * 8)  # undo the contradiction
    a, b = (bench.keys.card_keys(v, bytes.fromhex("1a2b3c4d")) for v in (key_a, key_b))
    access = block_of(card, trailer_of(sector))[6:10]
    card.write(trailer_of(sector), a.sector_key(sector, KeyType.A) + access + b.sector_key(sector, KeyType.B))
    assert (tap_rekey(bench, card)["warnings"], verify(bench, card)) == ([], [])


# --- when a tap should do it


def test_a_card_under_an_older_set_is_due_until_it_is_re_keyed(bench: Workbench, card: MemoryImage) -> None:
    def due() -> bool:
        return is_due(bench.terminal, present(bench.terminal, lay(card)))

    assert not due()
    use(bench, 2)
    assert due()
    operations = operations_of(lambda c: rekey(bench.terminal, c), copy_of(card))
    with pytest.raises(CardRemoved):
        tap_rekey(bench, card, Fault(operations.index(("write", 63)) + 1, Torn.OLD))
    bench.restart()
    assert (bench.home(card), due()) == (HOMES[1], True), "the rest is still under the set before"
    tap_rekey(bench, card)
    assert not due()
    use(bench, 1)
    assert not due(), "a till that is behind does not undo the work of one that is ahead"


def test_a_till_that_is_behind_does_not_undo_a_re_key_that_was_cut_short(bench: Workbench, card: MemoryImage) -> None:
    use(bench, 2)
    operations = operations_of(lambda c: rekey(bench.terminal, c), copy_of(card))
    with pytest.raises(CardRemoved):
        tap_rekey(bench, card, Fault(operations.index(("write", 4)) + 1, Torn.NEW))
    assert is_due(bench.terminal, present(bench.terminal, lay(card)))
    use(bench, 1)
    assert not is_due(bench.terminal, present(bench.terminal, lay(card)))


def test_a_full_disk_is_not_held_against_the_card(
    bench: Workbench, card: MemoryImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told, and the card is re-keyed another time; before, it was noted for ever as one that refuses the new keys."""
    use(bench, 2)
    content = bytes(card.content)

    full_disk_once(bench.journal, monkeypatch)
    with pytest.raises(JournalFailed) as told:
        tap_rekey(bench, card)
    assert told.value.code is ErrorCode.DISK_FULL
    assert bytes(card.content) == content, "nothing is written that is not noted"
    assert tap_rekey(bench, card)["rekeyed"] is True
