"""Sales closed without their card: they stand, earn, and are resolved once when the card returns."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from drivers.simulator import MemoryImage, Torn
from terminal_agent import taps
from terminal_agent.card.layout import CardState
from terminal_agent.contract import EventType
from terminal_agent.till.checkout import PurchaseRequest, recorded
from tests.till.support import events_of, tap_elsewhere, tear
from tests.workbench import (
    Workbench,
)


def test_a_sale_closed_without_its_card_stands_and_redeems_nothing(bench: Workbench, card: MemoryImage) -> None:
    tear(bench, card, Torn.OLD, redeem=20)
    closed = bench.close_in_doubt()
    assert (closed["state"], closed["points_earned"], closed["points_redeemed"]) == ("closed", 5, 0)
    event = events_of(bench, EventType.PURCHASE_RECORDED)[-1]
    assert event["card"] is None
    assert event["points"] == {"earned": 5, "redeemed": 0, "offers": []}
    tried = event["intent"]
    assert (tried["sequence_before"], tried["sequence_after"]) == (2, 3)
    assert (tried["balance_before"], tried["balance_after"]) == (300, 285)
    replay = recorded(bench.terminal, PurchaseRequest("R-1", 50_000, 20))
    assert replay == {**closed, "replayed": True}


def test_a_sale_is_closed_once(bench: Workbench, card: MemoryImage) -> None:
    tear(bench, card, Torn.OLD)
    checkout_id = bench.close_in_doubt()["checkout_id"]
    assert taps.close(bench.terminal, checkout_id) is None
    assert len(events_of(bench, EventType.PURCHASE_RECORDED)) == 2


@pytest.mark.parametrize(("outcome", "landed"), [(Torn.OLD, False), (Torn.GARBAGE, False), (Torn.NEW, True)])
def test_a_closed_sale_whose_card_returns_is_resolved_once(
    bench: Workbench, card: MemoryImage, outcome: Torn, landed: bool
) -> None:
    tear(bench, card, outcome)
    bench.close_in_doubt()
    bench.restart()
    for number in range(2, 5):
        bench.purchase(card, f"R-{number}", 10_000)
    (resolved,) = events_of(bench, EventType.INTENT_RESOLVED)
    (intent_id,) = [e["intent"]["intent_id"] for e in events_of(bench, EventType.PURCHASE_RECORDED) if "intent" in e]
    assert (resolved["intent_id"], resolved["landed"]) == (intent_id, landed)
    assert bench.state(card).balance == 300 + (5 if landed else 0) + 3
    assert bench.rows("SELECT * FROM intents WHERE state IN ('open', 'closed')") == []


def test_a_card_that_moved_on_elsewhere_closes_the_sale_and_leaves_the_answer_to_the_crm(
    bench: Workbench, card: MemoryImage, tmp_path: Path
) -> None:
    tear(bench, card, Torn.OLD)
    tap_elsewhere(bench, card, tmp_path, 30_000)
    bench.purchase(card, "R-2", 10_000)
    assert events_of(bench, EventType.INTENT_RESOLVED) == []
    (closed,) = [e for e in events_of(bench, EventType.PURCHASE_RECORDED) if e["card"] is None]
    assert closed["intent"]["sequence_after"] == 3
    answer = recorded(bench.terminal, PurchaseRequest("R-1", 50_000))
    assert answer is not None
    assert answer["state"] == "closed"
    assert bench.state(card) == CardState(4, 304)


def test_a_closed_sale_whose_card_moved_on_is_not_resolved_here(
    bench: Workbench, card: MemoryImage, tmp_path: Path
) -> None:
    tear(bench, card, Torn.NEW)
    bench.close_in_doubt()
    tap_elsewhere(bench, card, tmp_path, 30_000)
    bench.purchase(card, "R-2", 10_000)
    assert events_of(bench, EventType.INTENT_RESOLVED) == []
    assert bench.state(card) == CardState(5, 309)


def test_a_sale_closed_without_its_card_explains_no_redemption(bench: Workbench, card: MemoryImage) -> None:
    tear(bench, card, Torn.OLD, redeem=20)
    closed = bench.close_in_doubt()
    assert [reason["rule"] for reason in closed["explanation"]] == ["earn"]


def test_two_who_close_the_same_sale_close_it_once(bench: Workbench, card: MemoryImage) -> None:
    error = tear(bench, card, Torn.OLD)
    checkout_id = error.details["checkout_id"]
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(taps.close(bench.terminal, checkout_id))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([answer for answer in answers if answer is not None]) == 1
    assert len(answers) == len(threads)
    assert len([e for e in events_of(bench, EventType.PURCHASE_RECORDED) if e["card"] is None]) == 1
