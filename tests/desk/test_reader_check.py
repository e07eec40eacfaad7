"""A reader's test leaves every card as it was, wherever it is torn away, also when it never comes back."""

from __future__ import annotations

import pytest

from drivers.errors import CardRemoved, WriteNotKept
from drivers.mifare_classic import SECTOR_COUNT, TRANSPORT_KEY, AccessBits, SectorTrailer, blank_card, data_blocks
from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.card.layout import HISTORY_BLOCKS
from terminal_agent.desk.inspect import show, verify
from terminal_agent.desk.reader_check import CardOwner, ReadDiffers, ReaderCheck, Step
from terminal_agent.errors import AgentError, ErrorCode
from tests.workbench import UID, UID_7, RecordingConnection, Workbench, blank, block_of, copy_of, flip, lay


def check_of(bench: Workbench, sector: int | None = None) -> ReaderCheck:
    return ReaderCheck(bench.keys, bench.clock, sector)


def written(bench: Workbench, image: MemoryImage, sector: int | None = None) -> list[int]:
    """The blocks a round writes."""
    connection = RecordingConnection(lay(image))
    check_of(bench, sector).round(connection)
    return [block for action, block in connection.calls if action == "write"]


def taps(bench: Workbench, image: MemoryImage, count: int) -> MemoryImage:
    for number in range(count):
        bench.purchase(image, f"tap-{number}", 10_000)
    return image


@pytest.mark.parametrize("count", [0, 1, 3, 13, 14, 15, 20])
def test_on_a_card_of_ours_only_the_history_entry_that_the_next_tap_replaces_is_written(
    bench: Workbench, count: int
) -> None:
    image = taps(bench, bench.issue(), count)
    before = copy_of(image)
    (block,) = written(bench, image)
    assert image.content == before.content
    bench.purchase(image, "next", 10_000)
    changed = {b for b in HISTORY_BLOCKS if block_of(image, b) != block_of(before, b)}
    assert changed == {block}


@pytest.mark.parametrize("sector", range(SECTOR_COUNT))
def test_any_other_sector_of_a_card_of_ours_is_only_read(bench: Workbench, sector: int) -> None:
    image = bench.issue(points=5)
    (block,) = written(bench, image)
    assert written(bench, image, sector) == ([block] if block in data_blocks(sector) else [])
    assert show(bench.terminal, lay(image))["points"] == 5


@pytest.mark.parametrize("uid", [UID, UID_7])
def test_a_torn_round_is_mended_when_the_card_comes_back(bench: Workbench, uid: bytes) -> None:
    for image in (blank(uid), taps(bench, bench.issue(uid), 16)):
        before, operations = bytes(image.content), 12
        for call in range(1, operations + 1):
            for outcome in Torn:
                check = check_of(bench)
                try:
                    with lay(image, Fault(call, outcome)) as torn:
                        check.round(torn)
                except CardRemoved:
                    with lay(image) as again:
                        check.round(again)
                assert image.content == before, f"torn at {call}, {outcome}"
                assert not check.unmended


def test_a_card_of_ours_that_never_comes_back_after_a_torn_write_has_lost_nothing(bench: Workbench) -> None:
    image = taps(bench, bench.issue(), 16)
    shown = show(bench.terminal, lay(image))
    calls = RecordingConnection(lay(image))
    check_of(bench).round(calls)
    at = [action for action, _ in calls.calls].index("write") + 1
    before = copy_of(image)
    with pytest.raises(CardRemoved):
        check_of(bench).round(lay(image, Fault(at, Torn.GARBAGE)))
    assert image.content != before.content, "the tear was at the write"
    assert verify(bench.terminal, lay(image))["ok"]
    torn = show(bench.terminal, lay(image))
    assert torn == {**shown, "history": shown["history"][:-1]}, "the oldest line, which the next tap replaces"
    bench.purchase(image, "next", 10_000)
    assert not verify(bench.terminal, lay(image))["findings"]


def test_a_blank_card_that_never_comes_back_after_a_torn_write_can_be_issued(bench: Workbench) -> None:
    image = blank()
    for call in range(1, 12):
        check = check_of(bench)
        try:
            check.round(lay(image, Fault(call, Torn.GARBAGE)))
        except CardRemoved:
            continue
    assert image.content != blank_card(UID), "one of the tears was at the write"
    bench.encode(image)
    assert verify(bench.terminal, lay(image))["ok"]


def test_another_card_does_not_get_what_the_torn_one_held(bench: Workbench) -> None:
    torn, other = taps(bench, bench.issue(UID), 16), taps(bench, bench.issue(UID_7), 16)
    calls = RecordingConnection(lay(torn))
    check_of(bench).round(calls)
    at = [action for action, _ in calls.calls].index("write") + 1
    before, check = copy_of(other), check_of(bench)
    with pytest.raises(CardRemoved):
        check.round(lay(torn, Fault(at, Torn.GARBAGE)))
    with pytest.raises(CardRemoved, match="another card"):
        check.round(lay(other))
    assert other.content == before.content
    assert check.unmended


def test_a_torn_card_that_was_tapped_meanwhile_keeps_its_new_entry(bench: Workbench) -> None:
    image = taps(bench, bench.issue(), 16)
    calls = RecordingConnection(lay(image))
    check_of(bench).round(calls)
    at = [action for action, _ in calls.calls].index("write") + 1
    check = check_of(bench)
    with pytest.raises(CardRemoved):
        check.round(lay(image, Fault(at, Torn.GARBAGE)))
    bench.purchase(image, "elsewhere", 10_000)
    before = copy_of(image)
    check.round(lay(image))
    assert image.content == before.content
    assert not verify(bench.terminal, lay(image))["findings"]


def test_a_foreign_card_is_written_only_where_it_holds_zeros(bench: Workbench) -> None:
    image = blank()
    for block in (8, 10):
        flip(image, block)
    assert written(bench, image, 2) == [9]
    flip(image, 9)
    check = check_of(bench, 2)
    check.round(lay(image))
    assert check.place is not None
    assert (check.place.owner, check.place.writable) == (CardOwner.OTHER, False)
    assert written(bench, image, 0) == [2], "never the manufacturer's block"


def test_a_block_that_may_not_be_written_is_only_read(bench: Workbench) -> None:
    image = blank()
    read_only = SectorTrailer(TRANSPORT_KEY, AccessBits((0b010, 0b010, 0b010, 0b001)), TRANSPORT_KEY)
    image.write(11, read_only.encode())
    assert written(bench, image, 2) == []


def test_a_card_of_ours_that_is_damaged_is_only_read(bench: Workbench) -> None:
    image = bench.issue()
    for block in (4, 5, 6):
        flip(image, block)
    assert written(bench, image) == []


def test_a_card_no_key_opens_is_told(bench: Workbench) -> None:
    image = blank()
    for sector in range(SECTOR_COUNT):
        flip(image, sector * 4 + 3)
    with pytest.raises(AgentError) as told:
        check_of(bench).round(lay(image))
    assert told.value.code is ErrorCode.KEY_REJECTED


def test_every_step_is_timed_once_a_round(bench: Workbench) -> None:
    check = check_of(bench)
    for _ in range(3):
        check.round(lay(bench.issue() if check.place is None else blank(UID_7)))
    assert {step: len(took) for step, took in check.took_ms.items()} == dict.fromkeys(Step, 3)


class Forgetful(MemoryImage):
    """A card with a worn block: it says yes and keeps something else."""

    def write(self, block: int, data: bytes) -> None:
        super().write(block, bytes(byte ^ 1 for byte in data))


class Flickering(RecordingConnection):
    """A reader that mixes up what it reads, once."""

    def __init__(self, image: MemoryImage, at: int) -> None:
        super().__init__(lay(image))
        self._at = at

    def read_block(self, block: int) -> bytes:
        data = super().read_block(block)
        return bytes(16 * [0x5A]) if len(self.calls) == self._at else data


def test_a_write_that_is_not_kept_is_found(bench: Workbench) -> None:
    check = check_of(bench)
    with pytest.raises(WriteNotKept):
        check.round(lay(Forgetful(bytes(blank_card(UID)))))
    assert check.unmended


def test_a_block_that_reads_in_two_ways_is_found_and_not_written(bench: Workbench) -> None:
    image = bench.issue()
    calls = RecordingConnection(lay(image))
    check_of(bench).round(calls)
    before, at = copy_of(image), [action for action, _ in calls.calls].index("write")
    with pytest.raises(ReadDiffers):
        check_of(bench).round(Flickering(image, at))
    assert image.content == before.content
