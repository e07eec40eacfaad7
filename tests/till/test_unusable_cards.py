"""Cards that may not be used: rolled back, cloned, wiped, blocked."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.simulator import MemoryImage, Torn
from terminal_agent.card.layout import CardState
from terminal_agent.contract import EventType
from terminal_agent.desk.inspect import show, wipe
from terminal_agent.desk.rekey import rekey
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.taps import CardAtCrm
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
    flip(card, bench.newest_block(card))
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


def test_cards_of_a_retired_key_set_are_refused_and_replaced_and_others_go_on(
    bench: Workbench, card: MemoryImage
) -> None:
    """Whoever stole the key could have made them. Their points are at the CRM, and follow to the new card."""
    card_no = bench.purchase(card, "R-1", 10_000)["card_no"]
    tear(bench, card, Torn.OLD, receipt_no="R-2")
    bench.keys.add(bytes(16), 2, activate=True)
    newer = bench.issue()
    bench.keys.retire(1, retired=True)
    content = bytes(card.content)
    error = refused(bench, card, "R-3", 50_000)
    assert (error.code, "key set 1" in error.message) == (ErrorCode.CARD_BLOCKED, True)
    assert f"card replace --old {card_no}" in error.hint
    with lay(card) as connection, pytest.raises(AgentError, match="taken no more"):
        rekey(bench.terminal, connection)
    with lay(card) as connection:
        shown = show(bench.terminal, connection)
    assert (shown["status"], shown["problem"], shown["key_set_version"]) == ("blocked", "card_blocked", 1)
    assert bytes(card.content) == content, "nor is a sale in doubt written to it"
    assert bench.journal.checkouts.in_doubt() == [], "it is closed, and its points are credited"
    assert bench.purchase(newer, "R-4", 10_000)["state"] == "done"
    bench.keys.retire(1, retired=False)
    assert bench.purchase(card, "R-5", 10_000)["state"] == "done"


def test_a_slot_put_back_by_itself_is_refused(bench: Workbench, card: MemoryImage) -> None:
    """The state of two taps ago restored over the newest one, the other slot left alone."""
    old = {block: block_of(card, block) for block in (5, 6)}
    bench.purchase(card, "R-1", 50_000)
    newest = bench.newest_block(card)
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


# --- what the CRM adds


def test_a_card_the_crm_has_blocked_redeems_nothing_even_before_the_hotlist_came(
    bench: Workbench, card: MemoryImage
) -> None:
    content = bytes(card.content)
    error = refused(bench, card, "R-1", 50_000, redeem=10, reserve=lambda *_: CardAtCrm(300, 2, "blocked"))
    assert error.code is ErrorCode.CARD_BLOCKED
    assert bytes(card.content) == content


def test_a_card_the_crm_has_seen_further_on_was_rolled_back(bench: Workbench, card: MemoryImage) -> None:
    for _ in range(2):
        error = refused(bench, card, "R-1", 50_000, redeem=10, reserve=lambda *_: CardAtCrm(300, 3, "active"))
        assert error.code is ErrorCode.CARD_ROLLED_BACK
    (anomaly,) = events_of(bench, EventType.CARD_ANOMALY)
    assert anomaly["detail"] == {"sequence_seen": 3, "sequence_on_card": 2}


def test_a_card_the_crm_has_not_heard_all_of_redeems_within_the_offline_limit(
    bench: Workbench, card: MemoryImage
) -> None:
    def behind(*_: object) -> CardAtCrm:
        return CardAtCrm(300, 1, "active")

    assert refused(bench, card, "R-1", 50_000, redeem=201, reserve=behind).code is ErrorCode.OFFLINE_LIMIT
    assert bench.purchase(card, "R-1", 50_000, redeem=200, reserve=behind)["online"] is False


# --- copies that take turns


def test_two_copies_share_one_offline_limit_at_a_till(bench: Workbench, card: MemoryImage, tmp_path: Path) -> None:
    """The second copy was tapped twice elsewhere, so that it looks newer than what this shop has seen."""
    copy = copy_of(card)
    bench.purchase(card, "R-1", 50_000, redeem=150)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere = Workbench(folder, terminal_id="shop-2")
    for number in range(2):
        elsewhere.purchase(copy, f"S-{number}", 10_000)
    elsewhere.close()
    error = refused(bench, copy, "R-2", 50_000, redeem=51)
    assert (error.code, error.details["redeemable_points"]) == (ErrorCode.OFFLINE_LIMIT, 50)
    state = bench.state(copy)
    confirmed = CardAtCrm(300, state.sequence, "active")
    assert bench.purchase(copy, "R-2", 50_000, redeem=51, reserve=lambda *_: confirmed)["online"] is True
    assert bench.purchase(copy, "R-3", 50_000, redeem=200)["points_redeemed"] == 200, "confirmed, it counts anew"


# --- blocked while in doubt


@pytest.mark.parametrize(("outcome", "ends_as", "redeemed"), [(Torn.OLD, "closed", 0), (Torn.NEW, "done", 20)])
def test_a_redemption_in_doubt_is_not_written_to_a_card_that_was_blocked_meanwhile(
    bench: Workbench, card: MemoryImage, outcome: Torn, ends_as: str, redeemed: int
) -> None:
    card_no = bench.purchase(card, "R-0", 10_000)["card_no"]
    tear(bench, card, outcome, redeem=20)
    bench.block_card(card_no, "stolen")
    content = bytes(card.content)
    answer = bench.purchase(card, "R-1", 50_000, redeem=20)
    assert (answer["state"], answer["points_redeemed"]) == (ends_as, redeemed)
    assert [block_of(card, block) for block in (5, 6)] == [content[80:96], content[96:112]]
    assert refused(bench, card, "R-2", 50_000).code is ErrorCode.CARD_BLOCKED


def test_a_block_that_arrives_while_the_crm_is_asked_counts_at_once(bench: Workbench, card: MemoryImage) -> None:
    card_no = bench.purchase(card, "R-1", 10_000)["card_no"]

    def news_and_no_answer(*_asked: object) -> None:
        bench.block_card(card_no, "card_counter_reused")

    error = refused(bench, card, "R-2", 50_000, redeem=20, reserve=news_and_no_answer)
    assert error.code is ErrorCode.CARD_BLOCKED
