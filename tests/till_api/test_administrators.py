"""What an administrator does at the page, and nobody else; a shop is never locked out of its own till."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from terminal_agent.journal.journal import JOURNAL_FILE
from tests.journal.test_damage import without_header
from tests.till_api.hand_reader import HandReader
from tests.till_api.page import Page, add, audited, give_card, pair_page, remove
from tests.till_api.pos import Pos, Shop, a_key

NEW = {"name": "مریم", "role": "cashier", "pin": "۱۲۳۴۵"}
SALE = {"amount": 250_000, "currency": "IRR", "receipt_no": "R-1"}
ASKED = [
    ("GET", "/v1/cashiers", None),
    ("POST", "/v1/cashiers", NEW),
    ("POST", "/v1/cashiers/change", {"name": "sara", "role": "administrator"}),
    ("POST", "/v1/cashiers/remove", {"name": "sara"}),
    ("POST", "/v1/cashiers/card", {"name": "sara", "remove": True}),
    ("GET", "/v1/tokens", None),
    ("POST", "/v1/tokens/revoke", {"token_id": "any"}),
]


@pytest.fixture
def page(shop: Shop) -> Page:
    """Somebody of each role is named; the administrator is signed in."""
    for name, role in (("nasrin", "cashier"), ("sara", "supervisor"), ("omid", "administrator")):
        add(shop, name, role, "4711")
    page = pair_page(shop)
    page.sign_in("omid", "4711")
    return page


def names(page: Page) -> dict[str, tuple[str, bool]]:
    found = page.get("/v1/cashiers")["cashiers"]
    return {one["name"]: (one["role"], one["card"]) for one in found}


def test_nobody_else_may(shop: Shop, page: Page, pos: Pos, reader: HandReader) -> None:
    reader.lay(shop.issue())
    give_card(shop, "omid")

    def refusals(caller: Pos) -> set[str]:
        answers = [caller.call(method, path, json=body) for method, path, body in ASKED]
        assert {answer.status_code for answer in answers} == {403}
        return {answer.json()["code"] for answer in answers}

    assert refusals(pos) == {"administrator_needed"}, "POS software has people of its own"
    page.sign_in_by_card()
    assert refusals(page) == {"administrator_needed"}, "a card may be a copy"
    for name in ("nasrin", "sara"):
        page.sign_in(name, "4711")
        assert refusals(page) == {"administrator_needed"}
    page.session = None
    assert refusals(page) == {"sign_in_required"}
    for name in ("nasrin", "sara", "omid"):
        remove(shop, name)
    assert refusals(page) == {"administrator_needed"}, "where nobody is named, the first is named by a command"


def test_people_are_added_changed_given_cards_and_removed(shop: Shop, page: Page, reader: HandReader) -> None:
    added = page.call("POST", "/v1/cashiers", json=NEW)
    assert (added.status_code, len(added.json()["cashiers"])) == (201, 4)
    assert page.code_of("/v1/cashiers", NEW) == "cashier_exists"
    other = pair_page(shop)
    assert other.sign_in("مریم", "12345").json()["role"] == "cashier", "digits are digits"
    changed = page.call("POST", "/v1/cashiers/change", json={"name": "مریم", "role": "supervisor", "pin": "998877"})
    assert changed.status_code == 200, changed.text
    assert other.code_of("/v1/checkouts", SALE) == "sign_in_required"
    assert other.sign_in("مریم", "998877").json()["role"] == "supervisor"
    assert page.code_of("/v1/cashiers/card", {"name": "مریم"}) == "no_card_timeout"
    reader.lay(shop.issue())
    assert page.call("POST", "/v1/cashiers/card", json={"name": "مریم"}).status_code == 200
    assert page.code_of("/v1/cashiers/card", {"name": "sara"}) == "card_taken"
    assert names(page)["مریم"] == ("supervisor", True)
    page.call("POST", "/v1/cashiers/card", json={"name": "مریم", "remove": True})
    assert names(page)["مریم"] == ("supervisor", False)
    reader.lift()
    waiting = other.open("R-1")
    assert page.code_of("/v1/cashiers/card", {"name": "sara"}) == "busy"
    other.call("POST", f"/v1/checkouts/{waiting['id']}/cancel", key=a_key())
    page.call("POST", "/v1/cashiers/remove", json={"name": "مریم"})
    assert "مریم" not in names(page)
    assert other.code_of("/v1/checkouts", SALE) == "sign_in_required"
    assert audited(shop, "till.cashier_removed")[-1] == {"cashier": "مریم", "by": "omid"}
    assert [entry["by"] for entry in audited(shop, "till.cashier_added")] == [None, None, None, "omid"]


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/v1/cashiers", {**NEW, "pin": "12"}, "invalid_input"),
        ("/v1/cashiers", {**NEW, "name": " \u0007 "}, "invalid_input"),
        ("/v1/cashiers", {**NEW, "role": "owner"}, "invalid"),
        ("/v1/cashiers/change", {"name": "sara", "pin": "12"}, "invalid_input"),
        ("/v1/cashiers/change", {"name": "nobody"}, "not_found"),
        ("/v1/cashiers/remove", {"name": "nobody"}, "not_found"),
        ("/v1/cashiers/card", {"name": "nobody"}, "not_found"),
        ("/v1/tokens/revoke", {"token_id": "nothing"}, "not_found"),
    ],
)
def test_wrong_input_changes_nothing(page: Page, path: str, body: dict[str, str], told: str) -> None:
    before = names(page)
    assert page.code_of(path, body) == told
    assert names(page) == before


def test_the_page_never_loses_its_last_administrator_and_a_command_may(shop: Shop, page: Page) -> None:
    assert page.code_of("/v1/cashiers/remove", {"name": "omid"}) == "last_administrator"
    assert page.code_of("/v1/cashiers/change", {"name": "omid", "role": "cashier"}) == "last_administrator"
    assert page.code_of("/v1/cashiers/change", {"name": "omid", "pin": "998877"}) == 200
    assert page.code_of("/v1/cashiers", NEW) == "sign_in_required", "the old PIN's session is over, one's own too"
    page.sign_in("omid", "998877")
    page.call("POST", "/v1/cashiers/change", json={"name": "sara", "role": "administrator"})
    assert page.code_of("/v1/cashiers/remove", {"name": "omid"}) == 200
    remove(shop, "sara")
    assert [one.name for one in shop.agent.journal.staff.cashiers()] == ["nasrin"]


def test_paired_programs_are_listed_and_sent_away(shop: Shop, page: Page, pos: Pos) -> None:
    listed = page.get("/v1/tokens")["tokens"]
    [theirs] = [one for one in listed if one["name"] == "POS"]
    assert set(theirs) == {"token_id", "name", "scopes", "created_at", "revoked_at"}
    left = page.call("POST", "/v1/tokens/revoke", json={"token_id": theirs["token_id"]}).json()["tokens"]
    assert [one["name"] for one in left if one["revoked_at"]] == ["POS"]
    assert pos.call("GET", "/v1/shop").status_code == 401
    assert audited(shop, "till.revoked") == [{"token_id": theirs["token_id"], "by": "omid"}]


def test_a_page_whose_cashiers_were_lost_is_closed_until_one_is_named(
    open_shop: Callable[[], Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop()
    add(shop, "nasrin")
    close, file = shop.agent.close, shop.agent.settings.data_dir / JOURNAL_FILE

    def close_and_damage() -> None:
        close()
        without_header(file)

    monkeypatch.setattr(shop.agent, "close", close_and_damage)
    shop = open_shop()
    assert shop.agent.journal.health()["state"] == "started_over"
    page = pair_page(shop)
    told = page.get("/v1/shop")
    assert (told["cashiers"], told["sign_in"]) == ([], True)
    assert page.code_of("/v1/checkouts", SALE) == "cashiers_lost"
    assert page.code_of("/v1/reversals", {"receipt_no": "R-1"}) == "cashiers_lost"
    assert shop.pair().open("R-1")["state"] == "waiting_for_card", "POS software signs its own people in"
    add(shop, "nasrin")
    assert page.sign_in("nasrin", "4711").status_code == 201
