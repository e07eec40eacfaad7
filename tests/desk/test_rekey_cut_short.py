"""A re-key cut short, then something else: shown, verified, wiped, issued, met by a till with half of the keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.errors import CardRemoved
from drivers.mifare_classic import trailer_of
from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.desk import inspect
from terminal_agent.desk.rekey import rekey
from terminal_agent.errors import AgentError, ErrorCode
from tests.desk.rekeying import Operations, faults, shop_with, show, tap_rekey, use, verify
from tests.workbench import (
    Workbench,
    blank,
    block_of,
    copy_of,
    lay,
    operations_of,
)

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
