"""Cards that may not be used: rolled back, cloned, wiped, blocked."""

from __future__ import annotations

from pathlib import Path

from drivers.simulator import MemoryImage, Torn
from terminal_agent.card.layout import CardState
from terminal_agent.contract import EventType
from terminal_agent.desk.inspect import wipe
from terminal_agent.errors import ErrorCode
from tests.till.support import events_of, refused, tap_elsewhere, tear
from tests.workbench import (
    Workbench,
    block_of,
    copy_of,
    flip,
    lay,
)


def test_a_rolled_back_card_is_refused_and_reported_once_for_each_state(bench: Workbench, card: MemoryImage) -> None:
    old = copy_of(card)
    bench.purchase(card, "R-1", 50_000)
    for number in range(3):
        assert refused(bench, old, f"X-{number}", 50_000).code is ErrorCode.CARD_ROLLED_BACK
    (anomaly,) = events_of(bench, EventType.CARD_ANOMALY)
    assert anomaly["kind"] == "rolled_back"
    assert anomaly["detail"] == {"sequence_seen": 3, "sequence_on_card": 2}
    assert bench.state(old) == CardState(2, 300)
    assert bench.purchase(card, "R-2", 10_000)["state"] == "done", "the true card goes on"


def test_a_spoilt_newest_slot_is_a_rollback_too(bench: Workbench, card: MemoryImage) -> None:
    bench.purchase(card, "R-1", 50_000, redeem=100)
    flip(card, bench.state(card).block)
    assert bench.state(card).balance == 300
    assert refused(bench, card, "R-2", 50_000).code is ErrorCode.CARD_ROLLED_BACK


def test_a_card_rolled_back_past_a_sale_in_doubt_is_refused(bench: Workbench, card: MemoryImage) -> None:
    old = copy_of(card)
    bench.purchase(card, "R-1", 50_000)
    tear(bench, card, Torn.OLD, receipt_no="R-2")
    assert refused(bench, old, "R-3", 50_000).code is ErrorCode.CARD_ROLLED_BACK
    assert bench.purchase(card, "R-2", 50_000)["points_after"] == 310


def test_a_blocked_card_is_refused_until_it_is_freed(bench: Workbench, card: MemoryImage) -> None:
    card_no = bench.purchase(card, "R-1", 10_000)["card_no"]
    bench.block_card(card_no, "reported lost")
    content = bytes(copy_of(card).content)
    error = refused(bench, card, "R-2", 50_000)
    assert error.code is ErrorCode.CARD_BLOCKED
    assert "reported lost" in error.message
    assert bytes(card.content) == content
    bench.block_card(card_no, blocked=False)
    assert bench.purchase(card, "R-2", 50_000)["state"] == "done"
    bench.check_books(card)


def test_a_slot_put_back_by_itself_is_refused(bench: Workbench, card: MemoryImage) -> None:
    """The state of two taps ago restored over the newest one, the other slot left alone."""
    old = {block: block_of(card, block) for block in (5, 6)}
    bench.purchase(card, "R-1", 50_000)
    newest = bench.state(card).block
    card.write(newest, old[newest])
    assert refused(bench, card, "R-2", 50_000).code is ErrorCode.CARD_ROLLED_BACK


def test_a_clone_with_the_same_counter_is_refused_where_the_other_state_was_seen(
    bench: Workbench, card: MemoryImage, tmp_path: Path
) -> None:
    clone = copy_of(card)
    bench.purchase(card, "R-1", 50_000, redeem=100)
    tap_elsewhere(bench, clone, tmp_path, 50_000)
    assert bench.state(clone).sequence == bench.state(card).sequence
    assert refused(bench, clone, "R-2", 50_000).code is ErrorCode.CARD_ROLLED_BACK
    assert len(events_of(bench, EventType.CARD_ANOMALY)) == 1
    assert bench.purchase(card, "R-3", 10_000)["state"] == "done", "the card this shop knows goes on"


def test_the_old_image_of_a_wiped_card_is_refused(bench: Workbench, card: MemoryImage) -> None:
    old = copy_of(card)
    with lay(card) as connection:
        wipe(bench.terminal, connection)
    assert refused(bench, old, "R-1", 50_000, redeem=100).code is ErrorCode.CARD_ROLLED_BACK


def test_a_rolled_back_card_is_named_even_for_a_receipt_in_doubt(bench: Workbench, card: MemoryImage) -> None:
    old = copy_of(card)
    bench.purchase(card, "R-1", 50_000)
    tear(bench, card, Torn.OLD, receipt_no="R-2")
    assert refused(bench, old, "R-2", 50_000).code is ErrorCode.CARD_ROLLED_BACK
    assert bench.purchase(card, "R-2", 50_000)["state"] == "done"
