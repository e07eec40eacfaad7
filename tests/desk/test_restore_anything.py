"""Any card and any dump: in the end the card holds it, or was not touched."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.card_dump import UNKNOWN_BLOCK
from drivers.mifare_classic import is_trailer
from drivers.simulator import MemoryImage
from terminal_agent.desk.dump import PUBLIC_KEYS, KeyRing, read_card
from terminal_agent.desk.restore import RestoreRequest, restore
from terminal_agent.errors import AgentError, ErrorCode
from tests.desk.restoring import OTHER_UID, file, image_of, restored, with_block
from tests.desk.test_dump import STRANGE_KEY, conditions, set_trailer
from tests.drivers.test_dumps import sample
from tests.workbench import (
    UID,
    Workbench,
    blank,
    block_of,
    copy_of,
    lay,
)

# --- any card, any dump


keys = st.sampled_from([*PUBLIC_KEYS, STRANGE_KEY])


@st.composite
def cards(draw: st.DrawFn) -> MemoryImage:
    """A card of any access rights, some sectors under keys that nobody has."""
    card = blank(draw(st.sampled_from([UID, OTHER_UID])))
    for sector in draw(st.lists(st.integers(0, 15), max_size=4)):
        set_trailer(card, sector, draw(keys), draw(conditions), draw(keys))
    for block in draw(st.lists(st.integers(1, 62).filter(lambda b: not is_trailer(b)), max_size=4)):
        card.write(block, bytes([block] * 16))
    return card


@given(cards(), cards(), st.booleans(), st.data())
def test_any_card_holds_any_dump_in_the_end_or_was_not_touched(
    bench_of_any: Workbench, card: MemoryImage, wanted: MemoryImage, allow_lock: bool, data: st.DataObject
) -> None:
    dump = image_of(wanted)
    for number in data.draw(st.lists(st.integers(0, 63), max_size=3)):
        dump = with_block(dump, number, UNKNOWN_BLOCK)
    before = bytes(copy_of(card).content)
    with lay(card) as connection:
        first = read_card(connection, KeyRing.of(bench_of_any.terminal, connection.uid, dump)).block(0)
    try:
        answer = restored(bench_of_any, card, dump, allow_lock=allow_lock, partial=True)
    except AgentError as problem:
        if problem.code not in (ErrorCode.DUMP_INVALID, ErrorCode.KEY_REJECTED):
            raise
        assert bytes(card.content) == before
        return
    kept = [n for n in range(64) if dump.block(n) is None or (n == 0 and dump.block(0) != first)]
    expected = [before[n * 16 : n * 16 + 16] if n in kept else dump.block(n) for n in range(64)]
    assert [block_of(card, number) for number in range(64)] == expected
    assert answer["blocks_skipped"] == len(kept)


@pytest.mark.parametrize("name", ["whole.mfd", "whole.eml", "whole.mct", "whole.nfc", "whole.json", "partly.mct"])
@given(data=st.data())
def test_a_damaged_file_is_restored_as_it_says_or_refused_with_the_card_untouched(
    bench_of_any: Workbench, name: str, data: st.DataObject
) -> None:
    raw = bytearray(sample(name))
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    card = blank()
    try:
        asked = RestoreRequest.of({"input": file(name, bytes(raw)), "partial": True})
        with lay(card) as connection:
            restore(bench_of_any.terminal, connection, asked)
    except AgentError as problem:
        if problem.code is not ErrorCode.DUMP_INVALID:
            raise
        assert bytes(card.content) == bytes(blank().content)
        return
    assert all(block_of(card, n) == asked.dump.block(n) for n in range(1, 64) if asked.dump.block(n) is not None)


@pytest.fixture(scope="module")
def bench_of_any(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One shop for all examples: a restore changes nothing in it but the audit log."""
    bench = Workbench(tmp_path_factory.mktemp("any"))
    yield bench
    bench.close()
