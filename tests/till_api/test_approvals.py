"""A return beyond what a cashier may give back alone: a supervisor's word for it, good once and for nothing else."""

from __future__ import annotations

import pytest

from drivers.simulator import MemoryImage
from terminal_agent.journal import staff
from tests.till_api.hand_reader import HandReader
from tests.till_api.page import Page, add, audited, give_card, limit_returns, pair_page
from tests.till_api.pos import TEAR_AT_WRITE, Pos, Shop, a_key

LIMIT = 1_000_000
BIG = {"receipt_no": "R-big"}


@pytest.fixture
def card(shop: Shop) -> MemoryImage:
    return shop.issue()


@pytest.fixture
def page(shop: Shop, pos: Pos, reader: HandReader, card: MemoryImage) -> Page:
    """A cashier stands there, a supervisor is near, and a large sale was made."""
    limit_returns(shop, LIMIT)
    add(shop, "nasrin")
    add(shop, "sara", "supervisor", "998877")
    reader.lay(card)
    pos.sell("R-big", LIMIT + 10_000)
    page = pair_page(shop)
    page.sign_in("nasrin", "4711")
    return page


def approval(page: Page, **asked: object) -> str:
    body = {"cashier": "sara", "pin": "998877", **BIG, **asked}
    answer = page.call("POST", "/v1/approvals", json=body)
    assert answer.status_code == 201, answer.text
    given: str = answer.json()["approval"]
    return given


def test_a_supervisor_approves_in_place_and_the_cashier_stays(
    shop: Shop, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert page.code_of("/v1/reversals", BIG) == "supervisor_needed"
    told = page.call("POST", "/v1/approvals", json={"cashier": "sara", "pin": "998877", **BIG}).json()
    assert (told["approved_by"], told["expires_in_s"]) == ("sara", 60)
    allowed, key = {"Cashier-Approval": told["approval"]}, a_key()
    opened = page.call("POST", "/v1/reversals", key=key, json=BIG, headers=allowed)
    assert opened.status_code == 201, opened.text
    done = page.wait_for(opened.json()["id"], "done")
    assert (done["cashier"], done["approved_by"]) == ("nasrin", "sara")
    again = page.call("POST", "/v1/reversals", key=key, json=BIG)
    assert again.json() == opened.json(), "the same request again needs no second word"
    assert page.open("R-3")["cashier"] == "nasrin"
    returned, sold = audited(shop, "till.opened")[1:]
    assert (returned["cashier"], returned["approved_by"], returned["receipt_no"]) == ("nasrin", "sara", "R-big")
    assert returned["checkout_id"] == done["id"]
    assert (sold["receipt_no"], sold["approved_by"]) == ("R-3", None)
    for step in (staff.LOG_STEP, 1):
        monkeypatch.setattr(staff, "LOG_STEP", step)
        of_one = [each["action"] for each in shop.agent.journal.staff.log("R-big", 10)]
        assert of_one == ["till.opened", "till.approved", "till.opened"]
        assert len(shop.agent.journal.staff.log(None, 2)) == 2
    told_to_the_crm = shop.agent.journal._database.query("SELECT body FROM events")
    assert not any(name in row["body"] for row in told_to_the_crm for name in ("nasrin", "sara"))


def test_an_approval_is_good_once_here_and_for_this_return_alone(shop: Shop, page: Page, reader: HandReader) -> None:
    reader.lift()
    word = approval(page)
    elsewhere = pair_page(shop)
    elsewhere.sign_in("nasrin", "4711")
    assert elsewhere.code_of("/v1/reversals", BIG, **{"Cashier-Approval": word}) == "supervisor_needed"
    other_amount = {**BIG, "amount": LIMIT + 5_000}
    assert page.code_of("/v1/reversals", other_amount, **{"Cashier-Approval": word}) == "supervisor_needed"
    for_another = approval(page, receipt_no="R-other")
    assert page.code_of("/v1/reversals", BIG, **{"Cashier-Approval": for_another}) == "supervisor_needed"
    assert page.code_of("/v1/reversals", BIG, **{"Cashier-Approval": "guessed"}) == "supervisor_needed"
    opened = page.call("POST", "/v1/reversals", key=a_key(), json=BIG, headers={"Cashier-Approval": word}).json()
    page.call("POST", f"/v1/checkouts/{opened['id']}/cancel", key=a_key())
    assert page.code_of("/v1/reversals", BIG, **{"Cashier-Approval": word}) == "supervisor_needed"


def test_an_approval_ends_after_a_minute_and_with_the_role_of_who_gave_it(
    shop: Shop, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = approval(page)
    add(shop, "sara", "cashier", "998877")
    assert page.code_of("/v1/reversals", BIG, **{"Cashier-Approval": word}) == "supervisor_needed"
    add(shop, "sara", "supervisor", "998877")
    clock, began = shop.agent.clock, shop.agent.clock.monotonic()
    monkeypatch.setattr(clock, "monotonic", lambda: began + 61)
    assert page.code_of("/v1/reversals", BIG, **{"Cashier-Approval": word}) == "supervisor_needed"


def test_only_a_supervisor_approves_and_only_by_pin(shop: Shop, page: Page) -> None:
    own = {"cashier": "nasrin", "pin": "4711", **BIG}
    assert page.code_of("/v1/approvals", own) == "supervisor_needed"
    assert page.code_of("/v1/approvals", {**own, "pin": "0000"}) == "pin_wrong"
    assert page.code_of("/v1/approvals", {**BIG, "cashier": "nobody", "pin": "0000"}) == "pin_wrong"


def test_pins_guessed_by_signing_in_and_by_approving_are_counted_together(shop: Shop, page: Page) -> None:
    guess = {"cashier": "sara", "pin": "0000"}
    paths = ["/v1/sessions", "/v1/approvals", "/v1/sessions", "/v1/approvals"]
    bodies = [guess, {**guess, **BIG}] * 2
    codes = [page.code_of(path, body) for path, body in zip(paths, bodies, strict=True)]
    assert codes == ["pin_wrong"] * 3 + ["pin_later"]
    assert page.code_of("/v1/approvals", {**BIG, "cashier": "sara", "pin": "998877"}) == "pin_later"
    refused = page.sign_in("sara", "998877")
    assert (refused.json()["code"], 1 <= int(refused.headers["Retry-After"]) <= 2) == ("pin_later", True)


def test_a_staff_card_takes_no_wrong_pin_back(shop: Shop, page: Page) -> None:
    give_card(shop, "sara")
    page.sign_in("sara", "0000")
    assert page.sign_in_by_card().status_code == 201
    kept = shop.agent.journal.staff.cashier("sara")
    assert kept is not None
    assert kept.wrong_pins == 1


def test_a_return_in_doubt_was_allowed_already(page: Page, reader: HandReader, card: MemoryImage) -> None:
    reader.lift()
    allowed = {"Cashier-Approval": approval(page)}
    opened = page.call("POST", "/v1/reversals", key=a_key(), json=BIG, headers=allowed).json()
    reader.lay(card, TEAR_AT_WRITE)
    page.wait_for(opened["id"], "in_doubt")
    reader.lift()
    page.call("POST", f"/v1/checkouts/{opened['id']}/leave", key=a_key())
    again = page.call("POST", "/v1/reversals", key=a_key(), json=BIG)
    assert again.status_code == 201, again.text
    assert (again.json()["id"], again.json()["approved_by"]) == (opened["id"], "sara")
    reader.lay(card)
    assert page.wait_for(opened["id"], "done")["amount"] == LIMIT + 10_000


def test_all_returns_of_a_receipt_count_together(page: Page) -> None:
    part = {**BIG, "amount": LIMIT - 10_000}
    page.wait_for(page.call("POST", "/v1/reversals", key=a_key(), json=part).json()["id"], "done")
    assert page.code_of("/v1/reversals", {**BIG, "amount": 10_001}) == "supervisor_needed"
    assert page.code_of("/v1/reversals", BIG) == "supervisor_needed", "the rest makes it whole"
    within = page.call("POST", "/v1/reversals", key=a_key(), json={**BIG, "amount": 10_000})
    assert page.wait_for(within.json()["id"], "done")["approved_by"] is None
    replayed = page.call("POST", "/v1/reversals", key=a_key(), json=part)
    assert replayed.json()["replayed"] is True, "what is done already needs nobody's word"


def test_a_supervisor_signed_in_by_pin_needs_nobody(page: Page) -> None:
    page.sign_in("sara", "998877")
    opened = page.call("POST", "/v1/reversals", key=a_key(), json=BIG)
    assert page.wait_for(opened.json()["id"], "done")["cashier"] == "sara"
