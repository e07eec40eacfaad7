"""A sale whose card never came back: closed, credited at the CRM; the difference reaches the card once, anywhere."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent import taps
from terminal_agent.crm import admin
from terminal_agent.errors import AgentError
from terminal_agent.till.checkout import PurchaseRequest, purchase
from tests.service.tills import WRITE, Till
from tests.workbench import RecordingConnection, lay

OUTCOMES = pytest.mark.parametrize("outcome", Torn)


def points_on(till: Till, card: MemoryImage) -> int:
    with lay(card) as connection:
        return taps.present(till.agent.terminal, connection).state.balance


def tap_around(tills: list[Till], card: MemoryImage, *, rounds: int = 3) -> int:
    """Taps that earn a point each, at both tills in turn, with an exchange before and after; how many."""
    for number in range(rounds):
        for till in tills:
            till.sync()
            till.buy(card, f"after-{number}", 10_000)
            till.sync()
    return rounds * len(tills)


def crm_balance(crm_dir: Path, tills: list[Till]) -> int:
    sale = tills[0].agent.journal.checkouts.by_receipt("purchase", "R-1")
    assert sale is not None
    ledger = admin.show_ledger(crm_dir)
    assert ledger["sum"] == 0
    return int(admin.show_card(crm_dir, sale.card_no)["balance"])


@OUTCOMES
@pytest.mark.parametrize("first", [0, 1], ids=["same till first", "other till first"])
def test_a_closed_sale_reaches_the_card_once(
    tills: list[Till], card: MemoryImage, crm_dir: Path, outcome: Torn, first: int
) -> None:
    with pytest.raises(AgentError):
        tills[0].buy(card, "R-1", 70_000, fault=Fault(WRITE, outcome))
    tills[0].close_in_doubt()
    tills[0].sync()
    assert crm_balance(crm_dir, tills) == 1_007, "credited while nobody knows where the card is"
    taps_done = tap_around(tills if first == 0 else tills[::-1], card)
    assert points_on(tills[0], card) == crm_balance(crm_dir, tills) == 1_007 + taps_done


@OUTCOMES
def test_a_redemption_that_was_closed_is_not_charged_and_one_that_landed_is_given_back(
    tills: list[Till], card: MemoryImage, crm_dir: Path, outcome: Torn
) -> None:
    """The cashier was never told that it was granted, so the customer paid in full."""
    with pytest.raises(AgentError):
        tills[0].buy(card, "R-1", 70_000, redeem=100, fault=Fault(WRITE, outcome))
    tills[0].close_in_doubt()
    taps_done = tap_around(tills[::-1], card)
    assert points_on(tills[0], card) == crm_balance(crm_dir, tills) == 1_007 + taps_done


@OUTCOMES
def test_a_return_that_was_closed_reaches_the_card_once(
    tills: list[Till], card: MemoryImage, crm_dir: Path, outcome: Torn
) -> None:
    tills[0].buy(card, "R-1", 100_000, redeem=100)
    with suppress(AgentError):
        tills[0].take_back(card, "R-1", fault=Fault(WRITE, outcome))
    tills[0].close_in_doubt()
    taps_done = tap_around(tills[::-1], card)
    assert points_on(tills[0], card) == crm_balance(crm_dir, tills) == 1_000 + taps_done


class ClosedWhenWritten(RecordingConnection):
    """The sale is closed, by hand or by the daemon, between the card's write and the journal's note of it."""

    till: Till

    def write_block(self, block: int, data: bytes) -> None:
        super().write_block(block, data)
        self.till.close_in_doubt()


@pytest.mark.parametrize("redeem", [0, 100])
@pytest.mark.parametrize("torn", [None, Torn.OLD, Torn.NEW], ids=["at its first tap", "written again", "had landed"])
def test_a_sale_that_is_closed_while_its_card_is_written_stays_closed_and_counts_once(
    tills: list[Till], card: MemoryImage, crm_dir: Path, torn: Torn | None, redeem: int
) -> None:
    till = tills[0]
    if torn is not None:
        with pytest.raises(AgentError):
            till.buy(card, "R-1", 70_000, redeem, fault=Fault(WRITE, torn))
    with lay(card) as inner:
        connection = ClosedWhenWritten(inner)
        connection.till = till
        request = PurchaseRequest("R-1", 70_000, redeem)
        with till.agent.redemptions.for_a_tap() as reserve:
            answer = purchase(till.agent.terminal, connection, request, reserve)
    assert answer["state"] == ("done" if torn is Torn.NEW else "closed"), "one that had landed needs no write"
    assert answer["points_redeemed"] == (redeem if torn is Torn.NEW else 0), "the customer pays what is told here"
    assert till.buy(card, "R-1", 70_000, redeem)["state"] == answer["state"]
    taps_done = tap_around(tills, card)
    assert points_on(till, card) == crm_balance(crm_dir, tills) == 1_007 - answer["points_redeemed"] + taps_done
