"""The club's rules from head office to two shops and back: real tills, a real CRM between them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.card.layout import CardState
from terminal_agent.club.policy import default_policy
from terminal_agent.crm import admin
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.taps import present
from terminal_agent.till.checkout import Line, PurchaseRequest, purchase
from tests.service.tills import WRITE, Till
from tests.workbench import lay

RULES: dict[str, Any] = {
    **default_policy(),
    "version": "club",
    "valid_from": "2026-02-01T00:00:00Z",
    "tiers": [{"tier": "gold", "level": 7, "threshold_points": 1_500, "multiplier_percent": 200}],
    "offers": [
        {"id": "birthday", "audience": "birthday", "reward": {"points": 30}},
        {"id": "leaflet", "audience": "coupon", "reward": {"points": 20}},
    ],
    "stamps": [{"id": "cups", "per": "item", "skus": ["cup"], "count": 4, "reward_points": 100}],
}


@pytest.fixture
def club(tills: list[Till], card: MemoryImage, crm_dir: Path) -> list[Till]:
    """Both shops know the rules, and the card of a member."""
    admin.load_policy(crm_dir, json.dumps(RULES))
    sync(tills)
    return tills


def sync(tills: list[Till]) -> None:
    for till in (*tills, *tills):
        till.sync()


def state_of(till: Till, card: MemoryImage) -> CardState:
    with lay(card) as connection:
        return present(till.agent.terminal, connection).state


def card_no_of(till: Till, card: MemoryImage) -> str:
    with lay(card) as connection:
        return present(till.agent.terminal, connection).card_no


def cup(till: Till, card: MemoryImage, receipt_no: str, fault: Fault | None = None, **bill: Any) -> dict[str, Any]:
    """One cup for 10 000."""
    with lay(card, fault) as connection, till.agent.redemptions.for_a_tap() as reserve:
        request = PurchaseRequest(receipt_no, 10_000, lines=(Line("cup", 1, 10_000),), **bill)
        return purchase(till.agent.terminal, connection, request, reserve)


def agree(tills: list[Till], card: MemoryImage, crm_dir: Path) -> None:
    """After every exchange and one more tap the card holds what the ledger says."""
    sync(tills)
    tills[0].buy(card, "R-last", 10_000)
    sync(tills)
    answer = admin.show_card(crm_dir, card_no_of(tills[0], card))
    assert state_of(tills[0], card).balance == answer["balance"]
    assert admin.show_ledger(crm_dir)["sum"] == 0


def offers(answer: dict[str, Any]) -> dict[str, int]:
    return {use["offer_id"]: use["points"] for use in answer["offers"]}


def test_a_birthday_is_kept_at_one_shop_and_known_at_the_other(
    club: list[Till], card: MemoryImage, crm_dir: Path
) -> None:
    admin.give_grant(crm_dir, "birthday", card_no_of(club[0], card))
    sync(club)
    assert offers(club[0].buy(card, "R-1", 10_000)) == {"birthday": 30}
    sync(club)
    assert offers(club[1].buy(card, "S-1", 10_000)) == {}
    agree(club, card, crm_dir)


def test_a_code_shown_at_two_shops_without_a_line_is_booked_and_seen(
    club: list[Till], card: MemoryImage, crm_dir: Path
) -> None:
    (code,) = admin.make_coupons(crm_dir, "leaflet", 1, None)["codes"]
    sync(club)
    assert offers(cup(club[0], card, "R-1", coupon=code.lower()))["leaflet"] == 20
    assert offers(cup(club[1], card, "S-1", coupon=code))["leaflet"] == 20
    sync(club)
    (row,) = admin.list_grants(crm_dir, None, 10)
    assert (row["used"], row["uses"]) == (2, 1)
    with pytest.raises(AgentError) as caught:
        cup(club[0], card, "R-2", coupon=code)
    assert caught.value.code is ErrorCode.COUPON_REFUSED
    agree(club, card, crm_dir)


def test_cups_of_two_shops_fill_one_card_once(club: list[Till], card: MemoryImage, crm_dir: Path) -> None:
    """Neither shop hears of the other until the end: the CRM pays for the card that both together filled."""
    before = admin.show_card(crm_dir, card_no_of(club[0], card))["balance"]
    for number in range(2):
        cup(club[0], card, f"C-{number}")
        cup(club[1], card, f"S-{number}")
    agree(club, card, crm_dir)
    assert admin.show_card(crm_dir, card_no_of(club[0], card))["balance"] == before + 4 + 100 + 1
    assert offers(cup(club[1], card, "S-9")) == {"cups": 0}, "the next card has just begun"
    agree(club, card, crm_dir)


def test_a_shop_that_was_told_gives_the_reward_itself(club: list[Till], card: MemoryImage, crm_dir: Path) -> None:
    for number in range(2):
        cup(club[0], card, f"C-{number}")
    cup(club[1], card, "S-0")
    sync(club)
    assert offers(cup(club[1], card, "S-1")) == {"cups": 100}
    sync(club)
    assert "stamps:cups" not in [a["reason"] for a in adjustments(crm_dir, card_no_of(club[0], card))]
    agree(club, card, crm_dir)


def adjustments(crm_dir: Path, card_no: str) -> list[dict[str, Any]]:
    from terminal_agent.crm import cards

    with admin.opened(crm_dir) as store, store.reading() as connection:
        return cards.adjustments_of(connection, card_no)


@pytest.mark.parametrize("outcome", [Torn.OLD, Torn.NEW])
def test_a_torn_sale_fills_the_card_once(outcome: Torn, club: list[Till], card: MemoryImage, crm_dir: Path) -> None:
    for number in range(3):
        cup(club[0], card, f"C-{number}")
    with pytest.raises(AgentError):
        cup(club[0], card, "C-3", Fault(WRITE, outcome))
    club[0].close_in_doubt()
    sync(club)
    assert offers(cup(club[1], card, "S-1")) == {"cups": 0}
    agree(club, card, crm_dir)
    assert adjustments(crm_dir, card_no_of(club[0], card)) == [] or outcome is Torn.OLD


def test_the_crm_decides_the_tier_and_the_next_tap_writes_it(
    club: list[Till], card: MemoryImage, crm_dir: Path
) -> None:
    assert state_of(club[0], card).tier == 0
    club[0].buy(card, "R-1", 10_000_000)
    sync(club)
    answer = club[1].buy(card, "S-1", 10_000)
    assert (answer["tier"], answer["points_earned"], state_of(club[1], card).tier) == ("gold", 2, 7)
    club[0].take_back(card, "R-1")
    sync(club)
    answer = club[1].buy(card, "S-2", 10_000)
    assert (answer["tier"], answer["points_earned"], state_of(club[1], card).tier) == (None, 1, 0)
    agree(club, card, crm_dir)
