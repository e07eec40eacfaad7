"""A card on the reader, told apart by its keys and read; and what a tap costs on the air."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.base import ClassicConnection
from drivers.errors import CardRemoved, DriverError, UnsupportedCard
from drivers.mifare_classic import BLOCK_SIZE, SECTOR_COUNT, blank_card, manufacturer_block
from drivers.simulator import MemoryImage, SimulatedReader
from terminal_agent.card.layout import HISTORY_BLOCKS, HOMES, CardState
from terminal_agent.card.problems import from_driver
from terminal_agent.card.session import CardSession, WriteNotVerified
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.taps import present
from terminal_agent.till.checkout import PurchaseRequest, purchase
from tests.workbench import (
    UID,
    UID_7,
    RecordingConnection,
    Workbench,
    blank,
    copy_of,
    flip,
    lay,
    offline,
    operations_of,
)


def refusal(bench: Workbench, card: MemoryImage, *, known: bool = False) -> ErrorCode:
    """The code a card is refused with when it is opened and read."""
    with pytest.raises(AgentError) as caught:
        CardSession.open(lay(card), bench.keys, known=known)
    return caught.value.code


@pytest.mark.parametrize("uid", [UID, UID_7])
def test_our_card_opens_and_shows_both_states(bench: Workbench, uid: bytes) -> None:
    card = bench.issue(uid)
    live = CardSession.open(lay(card), bench.keys).live
    assert live.slots == (CardState(0, 0), CardState(1, 0))
    assert live.newest == CardState(1, 0)
    assert not live.torn


def test_a_card_in_the_maker_s_state_is_blank(bench: Workbench) -> None:
    assert refusal(bench, blank()) is ErrorCode.BLANK_CARD


def test_a_card_with_other_keys_is_not_ours(bench: Workbench) -> None:
    card = bench.issue()
    for sector in range(SECTOR_COUNT):
        for bit in (0, 10 * 8):
            flip(card, sector * 4 + 3, bit)
    assert refusal(bench, card) is ErrorCode.NOT_OUR_CARD


def test_a_card_issued_here_that_refuses_its_keys_is_told_so(bench: Workbench) -> None:
    card = bench.issue()
    flip(card, 7, 10 * 8)
    assert refusal(bench, card, known=True) is ErrorCode.KEY_REJECTED
    with pytest.raises(AgentError) as caught:
        present(bench.terminal, lay(card))
    assert caught.value.code is ErrorCode.KEY_REJECTED


def test_a_whole_image_on_another_uid_is_not_ours(bench: Workbench) -> None:
    card = bench.issue()
    card.content[:BLOCK_SIZE] = manufacturer_block(bytes.fromhex("1A2B3C4E"))
    assert refusal(bench, card) is ErrorCode.NOT_OUR_CARD


def test_blocks_carried_to_another_card_of_ours_are_damage(bench: Workbench) -> None:
    rich, poor = bench.issue(points=500), bench.issue(bytes.fromhex("01020304"))
    for block in HOMES[0].state_blocks:
        poor.write(block, rich.read(block))
    with pytest.raises(AgentError) as caught:
        present(bench.terminal, lay(poor))
    assert caught.value.code is ErrorCode.DATA_CORRUPT
    poor.write(4, rich.read(4))
    assert refusal(bench, poor) is ErrorCode.DATA_CORRUPT


def test_a_card_under_the_key_set_before_still_opens(bench: Workbench) -> None:
    old = bench.issue()
    bench.keys.add(bytes(range(16)), 2, activate=True)
    new = bench.issue(bytes.fromhex("01020304"))
    assert CardSession.open(lay(old), bench.keys).keys.version == 1
    assert CardSession.open(lay(new), bench.keys).keys.version == 2


def test_the_active_key_set_is_tried_first(bench: Workbench) -> None:
    old = bench.issue()
    bench.keys.add(bytes(range(16)), 2, activate=True)
    new = bench.issue(bytes.fromhex("01020304"))
    assert operations_of(lambda c: CardSession.open(c, bench.keys), new) == [
        ("authenticate", 28),
        *(("read", block) for block in (28, 29, 30)),
    ]
    assert operations_of(lambda c: CardSession.open(c, bench.keys), old) == [
        ("authenticate", 28),
        ("authenticate", 4),
        *(("read", block) for block in (4, 5, 6)),
    ]


def test_a_card_whose_key_set_is_gone_is_not_ours(bench: Workbench, tmp_path: Path) -> None:
    card = bench.issue()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = Workbench(elsewhere)
    (elsewhere / "keys" / "v1.key").unlink()
    other.keys = type(other.keys)(elsewhere / "keys")
    other.keys.add(bytes(range(16)), 2, activate=True)
    assert refusal(other, card) is ErrorCode.NOT_OUR_CARD
    other.close()


def test_an_edited_identity_is_damage(bench: Workbench) -> None:
    card = bench.issue()
    flip(card, 4, 77)
    assert refusal(bench, card) is ErrorCode.DATA_CORRUPT


@pytest.mark.parametrize(("spoilt", "left"), [(5, 1), (6, 0)])
def test_one_spoilt_slot_leaves_the_other_state(bench: Workbench, spoilt: int, left: int) -> None:
    card = bench.issue()
    flip(card, spoilt)
    live = CardSession.open(lay(card), bench.keys).live
    assert (live.newest.sequence, live.torn) == (left, True)


def test_two_spoilt_slots_are_damage(bench: Workbench) -> None:
    card = bench.issue()
    flip(card, 5)
    flip(card, 6)
    with pytest.raises(AgentError) as caught:
        present(bench.terminal, lay(card))
    assert caught.value.code is ErrorCode.DATA_CORRUPT


def test_a_state_copied_into_the_other_slot_does_not_count(bench: Workbench) -> None:
    card = bench.issue(points=5)
    card.write(6, card.read(5))
    live = CardSession.open(lay(card), bench.keys).live
    assert live.slots[1] is None


@pytest.mark.parametrize(
    ("card_programme", "till_programme", "ours"),
    [(None, "club-7", True), ("club-7", None, True), ("club-7", "club-7", True), ("club-8", "club-7", False)],
)
def test_a_card_of_another_programme_under_the_same_keys_is_not_ours(
    tmp_path: Path, card_programme: str | None, till_programme: str | None, ours: bool
) -> None:
    desk, till = tmp_path / "desk", tmp_path / "till"
    desk.mkdir()
    till.mkdir()
    issuer, seller = Workbench(desk, programme_id=card_programme), Workbench(till, programme_id=till_programme)
    card = issuer.issue()
    if ours:
        assert present(seller.terminal, lay(card)).state.sequence == 1
    else:
        with pytest.raises(AgentError) as caught:
            present(seller.terminal, lay(card))
        assert caught.value.code is ErrorCode.NOT_OUR_CARD
    issuer.close()
    seller.close()


def test_a_4k_card_is_unsupported(tmp_path: Path) -> None:
    path = tmp_path / "card.mfd"
    path.write_bytes(bytes(blank_card(UID)) + bytes(3072))
    with SimulatedReader(str(path)) as reader, pytest.raises(UnsupportedCard) as caught:
        reader.connect()
    assert from_driver(caught.value).code is ErrorCode.UNSUPPORTED_CARD


class Forgetful(RecordingConnection):
    """A card that says yes to every write and keeps nothing."""

    def write_block(self, block: int, data: bytes) -> None:
        self._record("write", block)


def test_a_write_that_does_not_stay_is_found_by_reading_back(bench: Workbench) -> None:
    card = bench.issue()
    session = CardSession.open(Forgetful(lay(card)), bench.keys)
    with pytest.raises(WriteNotVerified):
        session.write_state(CardState(2, 5))


def test_damaged_history_is_left_out_and_the_rest_is_read(bench: Workbench) -> None:
    card = bench.issue(points=3)
    flip(card, HISTORY_BLOCKS[1])
    session = CardSession.open(lay(card), bench.keys)
    assert [entry.sequence for entry in session.read_history(2)] == [2]


def test_reading_changes_no_byte(bench: Workbench) -> None:
    card = bench.issue(points=3)
    before = bytes(copy_of(card).content)
    session = CardSession.open(lay(card), bench.keys)
    session.read_history(2)
    assert bytes(card.content) == before


def test_a_purchase_costs_one_authentication_four_reads_and_one_write_before_the_history(bench: Workbench) -> None:
    card = bench.issue(points=3)
    request = PurchaseRequest("R-1", 50_000)
    calls = operations_of(lambda connection: purchase(bench.terminal, connection, request, offline), card)
    assert calls == [
        ("authenticate", 4),
        ("read", 4),
        ("read", 5),
        ("read", 6),
        ("write", 6),
        ("read", 6),
        ("authenticate", 12),
        ("write", 12),
    ]


def test_a_card_taken_away_is_reported_as_such_at_any_moment(bench: Workbench) -> None:
    card = bench.issue()

    def read_all(connection: ClassicConnection) -> None:
        session = CardSession.open(connection, bench.keys)
        session.read_history(1)

    for number in range(1, len(operations_of(read_all, card)) + 1):
        pulled = RecordingConnection(lay(card), number, CardRemoved("the card left the reader"))
        with pytest.raises(DriverError) as caught:
            read_all(pulled)
        assert from_driver(caught.value).code is ErrorCode.CARD_REMOVED_EARLY
