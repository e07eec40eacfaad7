"""Restoring: the card holds what the dump says, or it is as it was; a rollback stays one."""

from __future__ import annotations

import json

import pytest

from drivers.card_dump import UNKNOWN_BLOCK
from drivers.dumps import DumpFormat
from drivers.errors import CardRemoved, ReaderLost
from drivers.mifare_classic import (
    TRAILER_RIGHTS,
    TRANSPORT_KEY,
    AccessBits,
    is_trailer,
    manufacturer_block,
    trailer_of,
    uid_of_manufacturer_block,
)
from drivers.simulator import ChipRefused, Fault, SimulatedChip, SimulatedConnection, Torn
from terminal_agent.card.layout import HOMES, Home
from terminal_agent.desk.dump import PUBLIC_KEYS
from terminal_agent.desk.inspect import wipe_order
from terminal_agent.desk.issue import issue_order
from terminal_agent.desk.restore import UNTOUCHED, RestoreRequest, restore
from terminal_agent.errors import ErrorCode
from tests.desk.restoring import LOCK, OTHER_UID, file, image_of, refused, request, restored, with_block, writes_of
from tests.desk.test_dump import CARDS, STRANGE_KEY, lock_out, set_trailer
from tests.desk.test_issue import every_fault
from tests.workbench import (
    UID,
    UID_7,
    RecordingConnection,
    Workbench,
    blank,
    block_of,
    copy_of,
    flip,
    lay,
    operations_of,
)

# --- the card holds what the dump says


@pytest.mark.parametrize("kind", DumpFormat)
@pytest.mark.parametrize("which", CARDS)
def test_a_card_made_blank_is_as_it_was_dumped(bench: Workbench, which: str, kind: DumpFormat) -> None:
    card = CARDS[which](bench)
    dump = request(card, kind)
    before = bytes(copy_of(card).content)
    empty = blank(uid_of_manufacturer_block(block_of(card, 0)))
    restored(bench, card, empty)
    assert bytes(card.content) == bytes(empty.content)
    with lay(card) as connection:
        answer = restore(bench.terminal, connection, dump)
    assert bytes(card.content) == before
    assert (answer["blocks_verified"], answer["blocks_skipped"], answer["format"]) == (64, 0, kind)


def test_a_blank_image_makes_an_issued_card_blank(bench: Workbench) -> None:
    card = bench.issue(points=5)
    restored(bench, card, blank())
    assert bytes(card.content) == bytes(blank().content)


@pytest.mark.parametrize("told", [{}, {"with_block_0": True}])
def test_no_card_is_made_from_a_dump_where_none_is_made_under_its_keys(bench: Workbench, told: dict[str, bool]) -> None:
    """Neither the blank card with its own UID, nor one that is to get the UID, or has got it by other means."""
    card = bench.issue(points=5)
    old, empty, other = copy_of(card), blank(), blank(OTHER_UID)
    bench.purchase(card, "R-1", 50_000)
    bench.keys.add(bytes(16), 2, activate=True)
    bench.keys.limit(1, may_issue=False)
    for target in (empty, other):
        before = bytes(target.content)
        problem = refused(
            ErrorCode.CONFIG_INVALID,
            "makes no cards under key set 1",
            lambda target=target: restored(bench, target, old, **told),
        )
        assert "keys limit" in problem.hint
        assert bytes(target.content) == before
    restored(bench, card, old)
    assert bytes(card.content) == bytes(old.content), "a card of that set stays one"
    bench.keys.limit(1, may_issue=True)
    restored(bench, empty, old)
    assert bytes(empty.content) == bytes(old.content)


def test_only_what_differs_is_written(bench: Workbench) -> None:
    card = bench.issue(points=5)
    old = copy_of(card)
    assert writes_of(bench, card, old) == []
    bench.purchase(card, "R-1", 50_000)
    changed = [number for number in range(64) if block_of(card, number) != block_of(old, number)]
    assert sorted(writes_of(bench, copy_of(card), old)) == changed == [6, 12]
    answer = restored(bench, card, old)
    assert (answer["blocks_written"], answer["blocks_verified"]) == (2, 64)


def test_an_image_of_another_card_is_put_on_without_its_block_0(bench: Workbench) -> None:
    card, other = bench.issue(points=5), blank(OTHER_UID)
    answer = restored(bench, other, card)
    assert bytes(other.content[16:]) == bytes(card.content[16:])
    assert bytes(other.content[:16]) == bytes(blank(OTHER_UID).content[:16])
    assert (answer["blocks_verified"], answer["blocks_skipped"]) == (63, 1)
    assert (answer["uid"], answer["dump_uid"]) == (OTHER_UID.hex(), UID.hex())
    restored(bench, other, card)


def test_a_card_under_strange_keys_opens_with_those_of_another_dump(bench: Workbench) -> None:
    card, other = bench.issue(points=5), blank(OTHER_UID)
    restored(bench, other, card)
    refused(ErrorCode.KEY_REJECTED, "sector 1 opens", lambda: restored(bench, other, blank(OTHER_UID)))
    restored(bench, other, blank(OTHER_UID), keys=card)
    assert bytes(other.content) == bytes(blank(OTHER_UID).content)


def test_a_partial_dump_leaves_alone_what_it_does_not_know(bench: Workbench) -> None:
    card = bench.issue(points=5)
    dump = with_block(with_block(card, 9, UNKNOWN_BLOCK), 11, (*block_of(card, 11)[:10], *[None] * 6))
    problem = refused(ErrorCode.DUMP_INVALID, "2 of 64", lambda: request(dump))
    assert "--partial" in problem.hint
    target = blank()
    answer = restored(bench, target, dump, partial=True)
    assert (answer["blocks_verified"], answer["blocks_skipped"]) == (62, 2)
    for block in range(64):
        assert block_of(target, block) == block_of(blank() if block in (9, 11) else card, block)


def test_a_partial_dump_asks_no_key_of_a_sector_it_does_not_know(bench: Workbench) -> None:
    target, dump = blank(), image_of(bench.issue(points=5))
    lock_out(target, 7)
    for block in range(28, 32):
        dump = with_block(dump, block, UNKNOWN_BLOCK)
    assert restored(bench, target, dump, partial=True)["blocks_skipped"] == 4


# --- what is refused before any card is asked for


@pytest.mark.parametrize("sector", [0, 1, 15])
@pytest.mark.parametrize("bit", range(24))
def test_access_bits_that_contradict_themselves_are_never_written(sector: int, bit: int) -> None:
    dump = blank()
    flip(dump, trailer_of(sector), 6 * 8 + bit)
    problem = refused(ErrorCode.DUMP_INVALID, f"sector {sector} ", lambda: request(dump, allow_lock=True, partial=True))
    assert UNTOUCHED in problem.hint


@pytest.mark.parametrize("condition", range(8))
def test_a_trailer_that_can_never_be_changed_again_is_written_only_when_told_to(
    bench: Workbench, condition: int
) -> None:
    dump, card = blank(), blank()
    set_trailer(dump, 4, TRANSPORT_KEY, AccessBits((0, 0, 0, condition)), TRANSPORT_KEY)
    if condition in (0b001, 0b011, 0b101):  # the three of table 7 that let some key write access bits
        assert TRAILER_RIGHTS[condition].write_access_bits
        restored(bench, card, dump)
    else:
        problem = refused(ErrorCode.DUMP_INVALID, "sector 4 could never", lambda: request(dump))
        assert LOCK in problem.hint
        restored(bench, card, dump, allow_lock=True)
    assert bytes(card.content) == bytes(dump.content)


@pytest.mark.parametrize(("key_a", "key_b"), [(bytes(6), PUBLIC_KEYS[1]), (PUBLIC_KEYS[1], bytes(6))])
def test_keys_of_zeros_are_written_only_when_told_to(bench: Workbench, key_a: bytes, key_b: bytes) -> None:
    dump, card = blank(), blank()
    set_trailer(dump, 4, key_a, AccessBits((0, 0, 0, 0b011)), key_b)
    problem = refused(ErrorCode.DUMP_INVALID, "sector 4 would get a key of zeros", lambda: request(dump))
    assert LOCK in problem.hint
    restored(bench, card, dump, allow_lock=True)
    restored(bench, card, blank())  # and back again: zeros are tried too
    assert bytes(card.content) == bytes(blank().content)


def test_a_key_b_of_zeros_that_is_data_is_no_lock(bench: Workbench) -> None:
    dump, card = blank(), blank()
    set_trailer(dump, 4, TRANSPORT_KEY, AccessBits((0, 0, 0, 0b001)), bytes(6))
    restored(bench, card, dump)
    assert bytes(card.content) == bytes(dump.content)


def test_a_file_that_is_no_dump_is_refused() -> None:
    for name, raw in (("card.mfd", bytes(1000)), ("card.txt", bytes(1024)), ("card.json", b"{}"), ("card", b"")):
        sent = file(name, raw)
        for asked in ({"input": sent}, {"input": file("card.mfd", bytes(blank().content)), "keys_from": sent}):
            refused(ErrorCode.DUMP_INVALID, "no dump of a 1K card", lambda a=asked: RestoreRequest.of(a))


# --- what is refused before the first write


@pytest.mark.parametrize("sector", [0, 7, 15])
def test_a_card_with_a_sector_that_does_not_open_is_not_touched(bench: Workbench, sector: int) -> None:
    card, dump = blank(), bench.issue(points=5)
    lock_out(card, sector)
    before = bytes(card.content)
    problem = refused(ErrorCode.KEY_REJECTED, f"sector {sector} opens", lambda: restored(bench, card, dump))
    assert UNTOUCHED in problem.hint
    assert bytes(card.content) == before
    assert bench.rows("SELECT * FROM audit WHERE action LIKE 'card.restor%'") == []


def test_a_card_with_a_block_that_may_not_be_written_is_not_touched(bench: Workbench) -> None:
    card, dump = blank(), bench.issue(points=5)
    set_trailer(card, 2, TRANSPORT_KEY, AccessBits((0, 0b010, 0, 0b001)), TRANSPORT_KEY)
    before = bytes(card.content)
    refused(ErrorCode.KEY_REJECTED, "block 9 can be written", lambda: restored(bench, card, dump))
    assert bytes(card.content) == before


@pytest.mark.parametrize("condition", [0b000, 0b010, 0b100, 0b110, 0b111])
def test_a_card_with_a_trailer_that_may_not_be_changed_is_not_touched(bench: Workbench, condition: int) -> None:
    card, dump = blank(), bench.issue(points=5)
    set_trailer(card, 15, TRANSPORT_KEY, AccessBits((0, 0, 0, condition)), TRANSPORT_KEY)
    before = bytes(card.content)
    refused(ErrorCode.KEY_REJECTED, "sector 15 can be changed", lambda: restored(bench, card, dump))
    assert bytes(card.content) == before


def test_what_may_not_be_written_does_not_matter_where_it_is_right_already(bench: Workbench) -> None:
    card = bench.issue(points=5)
    set_trailer(card, 15, TRANSPORT_KEY, AccessBits((0b010, 0b010, 0b010, 0b111)), TRANSPORT_KEY)
    dump = with_block(card, 9, bytes(16))
    assert restored(bench, card, dump, allow_lock=True)["blocks_written"] == 1


# --- block 0


class CopyChip(SimulatedChip):
    """A card made for copying: block 0 is a block like any other."""

    def write(self, block: int, data: bytes) -> None:
        if block != 0:
            super().write(block, data)
            return
        access = self._access(block)
        if self._open_key not in access.data(0).write:
            raise ChipRefused
        self._count()
        self._image.write(block, data)


def test_a_genuine_card_keeps_its_block_0_and_is_not_touched(bench: Workbench) -> None:
    card, dump = blank(OTHER_UID), bench.issue(points=5)
    before = bytes(card.content)
    problem = refused(ErrorCode.UNSUPPORTED_CARD, "block 0", lambda: restored(bench, card, dump, with_block_0=True))
    assert UNTOUCHED in problem.hint
    assert bytes(card.content) == before


def test_a_card_made_for_copying_gets_its_block_0_last_of_all(bench: Workbench) -> None:
    card, dump = blank(OTHER_UID), bench.issue(points=5)
    connection = RecordingConnection(SimulatedConnection(CopyChip(card)))
    answer = restore(bench.terminal, connection, request(dump, with_block_0=True))
    assert bytes(card.content) == bytes(dump.content)
    assert (answer["blocks_verified"], answer["blocks_skipped"]) == (64, 0)
    assert connection.calls[-3:] == [("authenticate", 0), ("write", 0), ("read", 0)]


def test_an_issued_card_made_for_copying_can_become_another_one(bench: Workbench) -> None:
    """Its keys belong to the UID it had: they are all replaced before the UID is."""
    card, dump = bench.issue(OTHER_UID), bench.issue(points=5)
    for call in range(1, 400):
        try:
            with SimulatedConnection(CopyChip(card, Fault(call))) as connection:
                restore(bench.terminal, connection, request(dump, with_block_0=True))
            break
        except CardRemoved:
            continue
    assert bytes(card.content) == bytes(dump.content)


@pytest.mark.parametrize("first", [bytes.fromhex("DEADBEEF23"), manufacturer_block(UID_7)])
def test_a_block_0_that_does_not_suit_the_card_is_never_written(bench: Workbench, first: bytes) -> None:
    card = blank()
    dump = with_block(card, 0, first.ljust(16, b"\0"))
    with SimulatedConnection(CopyChip(card)) as connection:
        refused(
            ErrorCode.DUMP_INVALID,
            "check byte",
            lambda: restore(bench.terminal, connection, request(dump, with_block_0=True)),
        )
    assert bytes(card.content) == bytes(blank().content)


def test_a_block_0_that_access_bits_protect_is_refused_before_the_first_write(bench: Workbench) -> None:
    protected = AccessBits((0b010, 0, 0, 0b001))
    for on_card, in_dump in ((protected, AccessBits((0, 0, 0, 0b001))), (AccessBits((0, 0, 0, 0b001)), protected)):
        card, dump = blank(OTHER_UID), bench.issue()
        set_trailer(card, 0, TRANSPORT_KEY, on_card, TRANSPORT_KEY)
        set_trailer(dump, 0, TRANSPORT_KEY, in_dump, TRANSPORT_KEY)
        before = bytes(card.content)
        with SimulatedConnection(CopyChip(card)) as connection:
            asked = request(dump, with_block_0=True)
            refused(ErrorCode.KEY_REJECTED, "block 0", lambda c=connection, r=asked: restore(bench.terminal, c, r))
        assert bytes(card.content) == before


# --- cut short


@pytest.mark.parametrize("back", [False, True], ids=["blank to issued", "issued to blank"])
def test_a_restore_cut_short_anywhere_is_finished_by_running_it_again(bench: Workbench, back: bool) -> None:
    issued = bench.issue(points=5)
    wanted = request(blank() if back else issued)
    operations = operations_of(lambda c: restore(bench.terminal, c, wanted), copy_of(issued) if back else blank())
    first_write = [action for action, _ in operations].index("write")
    tried = 0
    for fault, block in every_fault(operations):
        if fault.call < first_write and fault.call % 10:
            continue  # reading ahead of the first write: every tenth will do
        card, dump = (copy_of(issued), blank()) if back else (blank(), issued)
        with pytest.raises(CardRemoved):
            restored(bench, card, dump, fault)
        if is_trailer(block) and fault.outcome is Torn.GARBAGE:
            before = bytes(copy_of(card).content)
            sector = block // 4
            refused(ErrorCode.KEY_REJECTED, f"sector {sector} opens", lambda c=card, d=dump: restored(bench, c, d))
            assert bytes(card.content) == before
            continue
        restored(bench, card, dump)
        assert bytes(card.content) == bytes(dump.content), fault
        tried += 1
    assert tried > 100


@pytest.mark.parametrize("home", HOMES, ids=["sector 1", "sector 7"])
@pytest.mark.parametrize("back", [False, True], ids=["blank to issued", "issued to blank"])
def test_the_home_is_the_last_to_become_ours_and_the_first_to_become_blank(
    bench: Workbench, back: bool, home: Home
) -> None:
    if home is HOMES[1]:
        bench.keys.add(bytes(range(16)), 2, activate=True)
    issued = bench.issue(points=5)
    assert bench.home(issued) == home
    card, dump = (copy_of(issued), blank()) if back else (blank(), issued)
    trailers = [block for block in writes_of(bench, card, dump) if is_trailer(block)]
    assert trailers == [trailer_of(sector) for sector in (wipe_order(HOMES[0]) if back else issue_order(home))]


def test_a_restore_that_began_stands_in_the_audit_log_without_a_key(bench: Workbench) -> None:
    issued, card = bench.issue(points=5), blank()
    with pytest.raises(CardRemoved):
        restored(bench, card, issued, Fault(150))
    rows = "SELECT action, detail FROM audit WHERE action LIKE 'card.restor%'"
    (begun,) = bench.rows(rows)
    assert begun["action"] == "card.restore_begun"
    restored(bench, card, issued)
    assert [row["action"] for row in bench.rows(rows)] == ["card.restore_begun"] * 2 + ["card.restored"]
    for row in bench.rows(rows):
        assert set(json.loads(row["detail"])) == {
            "uid", "dump_uid", "format", "blocks_written", "blocks_verified", "blocks_skipped"
        }  # fmt: skip


def test_a_reader_lost_while_restoring_is_not_held_against_the_card(bench: Workbench) -> None:
    issued = bench.issue(points=5)
    total = len(operations_of(lambda c: restore(bench.terminal, c, request(issued)), blank()))
    for number in range(1, total + 1, 5):
        connection = RecordingConnection(lay(blank()), number, ReaderLost("unplugged"))
        with pytest.raises(ReaderLost):
            restore(bench.terminal, connection, request(issued))


# --- cards that lie


class Liar(RecordingConnection):
    """Says yes to a write of one block and keeps what it had."""

    block = 0

    def write_block(self, block: int, data: bytes) -> None:
        if block != self.block:
            super().write_block(block, data)


@pytest.mark.parametrize("block", [5, 9, 7, 63])
def test_a_card_that_keeps_what_it_had_is_found_and_its_sector_or_block_named(bench: Workbench, block: int) -> None:
    connection = Liar(lay(blank()))
    connection.block = block
    issued = bench.issue(points=5)
    named = f"sector {block // 4}" if is_trailer(block) else f"block {block} "
    refused(ErrorCode.DATA_CORRUPT, named, lambda: restore(bench.terminal, connection, request(issued)))


def test_a_key_b_that_is_data_is_read_back_too(bench: Workbench) -> None:
    dump = blank()
    set_trailer(dump, 15, TRANSPORT_KEY, AccessBits((0, 0, 0, 0b001)), STRANGE_KEY)
    connection = Liar(lay(blank()))
    connection.block = 63
    refused(ErrorCode.DATA_CORRUPT, "sector 15", lambda: restore(bench.terminal, connection, request(dump)))
