"""Showing, verifying and wiping cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drivers.errors import CardRemoved, ReaderLost
from drivers.mifare_classic import (
    BLOCK_SIZE,
    MAD_KEY_A,
    TRANSPORT_TRAILER,
    KeyType,
    decode_mad,
    is_trailer,
    trailer_of,
)
from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.card.layout import DIRECTORY, HOMES
from terminal_agent.contract import EventType
from terminal_agent.desk import inspect
from terminal_agent.desk.issue import IssueRequest, issue
from terminal_agent.errors import AgentError, ErrorCode
from tests.desk.test_issue import every_fault, uid_of_try
from tests.workbench import (
    UID,
    UID_7,
    RecordingConnection,
    Workbench,
    blank,
    copy_of,
    flip,
    lay,
    operations_of,
)


def show(bench: Workbench, card: MemoryImage) -> dict[str, Any]:
    with lay(card) as connection:
        return inspect.show(bench.terminal, connection)


def verify(bench: Workbench, card: MemoryImage) -> dict[str, Any]:
    with lay(card) as connection:
        return inspect.verify(bench.terminal, connection)


def wipe(bench: Workbench, card: MemoryImage, fault: Fault | None = None) -> dict[str, Any]:
    with lay(card, fault) as connection:
        return inspect.wipe(bench.terminal, connection)


# --- show


def test_show_says_what_the_card_holds(bench: Workbench) -> None:
    card = bench.issue(phone="09125554433", name="Sara", tier="gold")
    bench.purchase(card, "R-1", 120_000)
    bench.purchase(card, "R-2", 30_000, redeem=10)
    shown = show(bench, card)
    assert (shown["uid"], shown["points"], shown["sequence"], shown["tier"]) == (UID.hex(), 5, 3, "gold")
    assert (shown["status"], shown["problem"], shown["redeemed_offline"]) == ("active", None, 10)
    lines = [(line["kind"], line["amount"], line["points"]) for line in shown["history"]]
    assert lines == [("purchase", 30_000, -7), ("purchase", 120_000, 12), ("issue", 0, 0)]


@pytest.mark.parametrize("uid", [UID, UID_7])
def test_show_changes_no_byte_of_card_or_journal(bench: Workbench, uid: bytes) -> None:
    card = bench.issue(uid, points=5)
    with pytest.raises(AgentError):
        bench.purchase(card, "R-1", 50_000, fault=Fault(5, Torn.GARBAGE))
    before, tables = bytes(copy_of(card).content), ("events", "intents", "checkouts", "cards", "audit", "outbox")
    journal = [bench.rows(f"SELECT * FROM {table}") for table in tables]
    calls = operations_of(lambda c: inspect.show(bench.terminal, c), card)
    assert "write" not in {action for action, _ in calls}
    assert bytes(card.content) == before
    assert [bench.rows(f"SELECT * FROM {table}") for table in tables] == journal


def test_show_names_a_blocked_card(bench: Workbench) -> None:
    card = bench.issue()
    bench.block_card(show(bench, card)["card_no"], "lost")
    assert (show(bench, card)["status"], show(bench, card)["problem"]) == ("blocked", "card_blocked")


def test_show_names_a_rolled_back_card(bench: Workbench) -> None:
    card = bench.issue(points=5)
    old = copy_of(card)
    bench.purchase(card, "R-1", 50_000)
    assert show(bench, old)["problem"] == "card_rolled_back"


def test_show_names_a_sale_in_doubt(bench: Workbench) -> None:
    card = bench.issue(points=5)
    with pytest.raises(AgentError):
        bench.purchase(card, "R-1", 50_000, fault=Fault(5, Torn.OLD))
    assert show(bench, card)["problem"] == "in_doubt"


def test_show_names_a_torn_slot(bench: Workbench) -> None:
    card = bench.issue(points=5)
    flip(card, 6)
    assert (show(bench, card)["problem"], show(bench, card)["points"]) == ("torn_write", 5)


# --- verify


def test_verify_reads_all_64_blocks_of_a_sound_card_and_finds_nothing(bench: Workbench) -> None:
    card = bench.issue(points=5)
    found = verify(bench, card)
    assert (found["ok"], found["findings"], found["blocks_read"]) == (True, [], 64)


def test_verify_changes_no_byte(bench: Workbench) -> None:
    card = bench.issue(points=5)
    before = bytes(copy_of(card).content)
    verify(bench, card)
    assert bytes(card.content) == before


def plant_access_bits(card: MemoryImage, sector: int) -> None:
    block = trailer_of(sector)
    trailer = card.read(block)
    card.write(block, trailer[:6] + bytes.fromhex("08778F") + trailer[9:])


def plant_contradicting_access_bits(card: MemoryImage, sector: int) -> None:
    flip(card, trailer_of(sector), 6 * 8)


def plant_key_a(card: MemoryImage, sector: int) -> None:
    flip(card, trailer_of(sector))


def plant_key_b(card: MemoryImage, sector: int) -> None:
    flip(card, trailer_of(sector), 10 * 8)


def plant_maker_s_key(card: MemoryImage, sector: int) -> None:
    card.write(trailer_of(sector), TRANSPORT_TRAILER.encode())


@pytest.mark.parametrize("sector", [0, 2, 6, 7, 15])
@pytest.mark.parametrize(
    "plant", [plant_access_bits, plant_contradicting_access_bits, plant_key_a, plant_key_b, plant_maker_s_key]
)
def test_verify_finds_a_planted_trailer_and_names_its_sector(bench: Workbench, plant: Any, sector: int) -> None:
    card = bench.issue(points=5)
    plant(card, sector)
    found = verify(bench, card)
    assert not found["ok"]
    assert {finding["sector"] for finding in found["findings"]} == {sector}


@pytest.mark.parametrize(
    "plant", [plant_access_bits, plant_contradicting_access_bits, plant_key_a, plant_key_b, plant_maker_s_key]
)
def test_verify_finds_a_planted_trailer_in_the_live_sector(bench: Workbench, plant: Any) -> None:
    card = bench.issue(points=5)
    plant(card, 1)
    assert [finding["sector"] for finding in verify(bench, card)["findings"]] == [1]


@pytest.mark.parametrize("block", [4, 5, 6, 9, 10])
def test_verify_finds_an_edited_block(bench: Workbench, block: int) -> None:
    card = bench.issue(points=5)
    flip(card, block, 3)
    assert [finding["block"] for finding in verify(bench, card)["findings"]] == [block]


@pytest.mark.parametrize("block", [1, 2, 28, 62])
def test_verify_finds_data_in_a_free_block(bench: Workbench, block: int) -> None:
    card = bench.issue(points=5)
    flip(card, block)
    assert [finding["block"] for finding in verify(bench, card)["findings"]] == [block]


def test_verify_finds_a_state_in_the_wrong_slot(bench: Workbench) -> None:
    card = bench.issue(points=5)
    card.write(6, card.read(5))
    assert [finding["block"] for finding in verify(bench, card)["findings"]] == [6]


def test_verify_tells_a_blank_and_a_foreign_card_from_ours(bench: Workbench) -> None:
    ours, foreign = bench.issue(), blank(UID_7)
    for sector in (1, 7):
        plant_key_b(ours, sector)
    plant_key_a(foreign, 1)
    cases = ((blank(), ErrorCode.BLANK_CARD), (foreign, ErrorCode.NOT_OUR_CARD), (ours, ErrorCode.KEY_REJECTED))
    for image, code in cases:
        with pytest.raises(AgentError) as caught:
            verify(bench, image)
        assert caught.value.code is code


def test_a_card_or_reader_gone_while_verifying_is_no_finding(bench: Workbench) -> None:
    card = bench.issue()
    total = len(operations_of(lambda c: inspect.verify(bench.terminal, c), card))
    for error in (CardRemoved("gone"), ReaderLost("unplugged")):
        for number in range(1, total + 1, 5):
            with pytest.raises(type(error)):
                inspect.verify(bench.terminal, RecordingConnection(lay(card), number, error))


# --- wipe


@pytest.mark.parametrize("uid", [UID, UID_7])
def test_a_wiped_card_is_as_the_maker_delivered_it(bench: Workbench, uid: bytes) -> None:
    card = bench.issue(uid, points=5)
    for number in range(20):
        bench.purchase(card, f"R-{number}", 10_000)
    assert wipe(bench, card)["sectors_wiped"] == 16
    assert bytes(card.content) == bytes(blank(uid).content)


def test_the_live_sector_is_wiped_first(bench: Workbench) -> None:
    card = bench.issue()
    calls = operations_of(lambda c: inspect.wipe(bench.terminal, c), card)
    trailers = [block for action, block in calls if action == "write" and is_trailer(block)]
    assert trailers == [trailer_of(sector) for sector in inspect.wipe_order(HOMES[0])]
    assert trailers[:2] == [7, 31]


def test_a_wipe_cut_short_anywhere_is_finished_by_wiping_again(bench: Workbench) -> None:
    operations = operations_of(lambda c: inspect.wipe(bench.terminal, c), bench.issue(UID, points=1))
    assert len(operations) > 80
    for number, (fault, block) in enumerate(every_fault(operations)):
        if is_trailer(block) and fault.outcome is Torn.GARBAGE:
            continue
        uid = uid_of_try(number)
        card = bench.issue(uid, points=1)
        with pytest.raises(CardRemoved):
            wipe(bench, card, fault)
        wipe(bench, card)
        assert bytes(card.content) == bytes(blank(uid).content), fault
    assert bench.rows("SELECT * FROM cards WHERE status <> 'wiped' AND uid <> ?", UID.hex()) == []


def test_a_trailer_torn_into_garbage_while_wiping_names_its_sector(bench: Workbench) -> None:
    operations = operations_of(lambda c: inspect.wipe(bench.terminal, c), bench.issue())
    ruined = [(f, b // 4) for f, b in every_fault(operations) if is_trailer(b) and f.outcome is Torn.GARBAGE]
    assert [sector for _, sector in ruined] == inspect.wipe_order(HOMES[0])
    for number, (fault, sector) in enumerate(ruined):
        card = bench.issue(uid_of_try(number))
        with pytest.raises(CardRemoved):
            wipe(bench, card, fault)
        with pytest.raises(AgentError) as caught:
            wipe(bench, card)
        assert caught.value.code is ErrorCode.DATA_CORRUPT
        assert f"sector {sector} " in caught.value.message


def test_a_wiped_card_can_be_issued_again_under_a_new_number(bench: Workbench) -> None:
    card = bench.issue(points=5)
    bench.clock.advance(minutes=1)
    wipe(bench, card)
    bench.clock.advance(minutes=1)
    bench.encode(card)
    numbers = [event["data"]["card"]["card_no"] for event in bench.events(EventType.CARD_ISSUED)]
    assert len(set(numbers)) == 2
    assert (show(bench, card)["card_no"], show(bench, card)["points"]) == (numbers[1], 0)


def test_a_card_wiped_half_way_can_be_issued_at_once(bench: Workbench) -> None:
    card = bench.issue(points=5)
    with pytest.raises(CardRemoved):
        wipe(bench, card, Fault(60))
    bench.clock.advance(minutes=1)
    bench.encode(card)
    assert verify(bench, card)["ok"]


def test_wiping_a_card_half_issued_forgets_whom_it_was_for(bench: Workbench) -> None:
    card = blank()
    with pytest.raises(CardRemoved):
        bench.encode(card, Fault(60), name="Sara")
    wipe(bench, card)
    assert bytes(card.content) == bytes(blank().content)
    assert bench.rows("SELECT * FROM intents WHERE state = 'open'") == []


def test_a_card_half_issued_under_the_key_set_before_can_be_wiped(bench: Workbench) -> None:
    card = blank()
    with pytest.raises(CardRemoved):
        bench.encode(card, Fault(60))
    bench.keys.add(bytes(range(16)), 2, activate=True)
    wipe(bench, card)
    assert bytes(card.content) == bytes(blank().content)


def test_wiping_a_blank_card_leaves_it_blank(bench: Workbench) -> None:
    card = blank()
    wipe(bench, card)
    assert bytes(card.content) == bytes(blank().content)


def test_a_card_of_somebody_else_is_not_wiped(bench: Workbench) -> None:
    card = blank()
    for sector in range(16):
        flip(card, trailer_of(sector))
    before = bytes(copy_of(card).content)
    with pytest.raises(AgentError) as caught:
        wipe(bench, card)
    assert caught.value.code is ErrorCode.NOT_OUR_CARD
    assert bytes(card.content) == before


def test_a_reader_lost_while_wiping_is_not_held_against_the_card(bench: Workbench) -> None:
    with pytest.raises(ReaderLost):
        inspect.wipe(bench.terminal, RecordingConnection(lay(bench.issue()), 30, ReaderLost("unplugged")))


def test_wiping_leaves_the_maker_s_block_alone(bench: Workbench) -> None:
    card = bench.issue()
    wipe(bench, card)
    assert bytes(card.content[:BLOCK_SIZE]) == bytes(blank().content[:BLOCK_SIZE])


def test_a_clock_set_back_does_not_mix_up_the_cards_of_one_uid(bench: Workbench) -> None:
    card = bench.issue()
    bench.clock.advance(hours=1)
    wipe(bench, card)
    bench.clock.advance(hours=-2)
    bench.encode(card)
    wipe(bench, card)
    assert [row["status"] for row in bench.rows("SELECT status FROM cards")] == ["wiped", "wiped"]


def test_show_names_a_clone_of_a_card_seen_here(bench: Workbench, tmp_path: Path) -> None:
    card = bench.issue(points=5)
    clone = copy_of(card)
    bench.purchase(card, "R-1", 10_000)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shop = Workbench(folder, terminal_id="shop-2")
    shop.purchase(clone, "S-1", 20_000)
    shop.close()
    assert show(bench, clone)["problem"] == "card_rolled_back"


def test_a_card_with_an_application_directory_is_found_by_others_and_verifies(bench: Workbench) -> None:
    card = blank()
    with lay(card) as connection:
        issue(bench.terminal, connection, IssueRequest(mad=True))
    with lay(card) as anybody:
        anybody.authenticate(1, KeyType.A, MAD_KEY_A)
        assert anybody.read_block(3)[9] == 0xC1
        listed = decode_mad(anybody.read_block(1) + anybody.read_block(2))
    assert set(listed) == {1, 2, 3, 4, 5, 6, 7}
    assert verify(bench, card)["ok"]
    assert bench.purchase(card, "R-1", 50_000)["points_after"] == 5
    flip(card, 1)
    assert [finding["block"] for finding in verify(bench, card)["findings"]] == [1]
    wipe(bench, card)
    assert bytes(card.content) == bytes(blank().content)


def test_a_directory_nobody_asked_for_is_found(bench: Workbench) -> None:
    card = bench.issue()
    card.content[16:48] = DIRECTORY
    assert [finding["block"] for finding in verify(bench, card)["findings"]] == [1]


def test_a_torn_history_entry_is_a_warning_and_leaves_the_card_good(bench: Workbench) -> None:
    card = bench.issue(points=5)
    flip(card, 10)
    found = verify(bench, card)
    assert found["ok"]
    assert [(finding["block"], finding["severity"]) for finding in found["findings"]] == [(10, "warning")]
