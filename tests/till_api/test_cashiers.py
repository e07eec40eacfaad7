"""Cashiers at the till: PINs that cannot be guessed, roles that the server holds, nothing asked where nobody is."""

from __future__ import annotations

from datetime import timedelta

import pytest

from drivers.simulator import MemoryImage
from terminal_agent.errors import AgentError
from terminal_agent.service import staff
from tests.till_api.hand_reader import HandReader
from tests.till_api.page import Page, add, audited, give_card, pair_page, remove
from tests.till_api.pos import Pos, Shop, a_key

SALE = {"amount": 250_000, "currency": "IRR", "receipt_no": "R-1"}


@pytest.fixture
def page(shop: Shop) -> Page:
    return pair_page(shop)


def test_where_nobody_is_named_a_paired_page_sells(page: Page) -> None:
    assert page.get("/v1/shop")["cashiers"] == []
    assert page.open("R-1")["state"] == "waiting_for_card"


def test_with_cashiers_a_page_sells_only_for_one_who_is_signed_in(shop: Shop, page: Page, pos: Pos) -> None:
    add(shop, "نسرین")
    assert page.get("/v1/shop")["cashiers"] == ["نسرین"]
    assert page.code_of("/v1/checkouts", SALE) == "sign_in_required"
    assert page.call("POST", "/v1/checkouts/any/cancel", key=a_key()).json()["code"] == "sign_in_required"
    signed = page.sign_in("نسرین", "4711")
    assert (signed.status_code, signed.json()["role"]) == (201, "cashier")
    opened = page.open("R-1")
    page.call("POST", f"/v1/checkouts/{opened['id']}/cancel", key=a_key())
    assert pos.open("R-2")["state"] == "waiting_for_card"  # POS software signs its own people in


def test_wrong_pins_are_slowed_until_guessing_is_hopeless(shop: Shop, page: Page) -> None:
    add(shop, "nasrin")
    codes = [page.sign_in("nasrin", "0000").json()["code"] for _ in range(4)]
    assert codes == ["pin_wrong"] * 3 + ["pin_later"]
    assert page.sign_in("nasrin", "4711").json()["code"] == "pin_later"
    kept = shop.agent.journal.staff.cashier("nasrin")
    assert kept is not None
    assert kept.wrong_pins == 3


def test_a_new_pin_ends_the_wait_that_anothers_guesses_began(shop: Shop, page: Page) -> None:
    add(shop, "sara", role="administrator")
    administrator = pair_page(shop)
    administrator.sign_in("sara", "4711")
    add(shop, "nasrin", role="supervisor")
    for pin in ("998877", "887766"):
        codes = [page.sign_in("nasrin", "0000").json()["code"] for _ in range(4)]
        assert codes[-1] == "pin_later"
        if pin == "998877":
            changed = administrator.call("POST", "/v1/cashiers/change", json={"name": "nasrin", "pin": pin})
            assert changed.status_code == 200, changed.text
        else:
            add(shop, "nasrin", role="supervisor", pin=pin)
        assert page.sign_in("nasrin", pin).status_code == 201


def test_a_stranger_and_a_wrong_pin_are_told_alike(shop: Shop, page: Page) -> None:
    add(shop, "nasrin")
    wrong, stranger = page.sign_in("nasrin", "0000"), page.sign_in("nobody", "0000")
    assert (wrong.status_code, wrong.json()) == (stranger.status_code, stranger.json())


def test_signed_out_removed_or_elsewhere_a_session_opens_nothing(shop: Shop, page: Page) -> None:
    add(shop, "nasrin")
    page.sign_in("nasrin", "4711")
    other = pair_page(shop)
    other.session = page.session
    assert other.code_of("/v1/checkouts", SALE) == "sign_in_required"
    assert page.call("POST", "/v1/sessions/end").status_code == 200
    assert page.code_of("/v1/checkouts", SALE) == "sign_in_required"
    page.sign_in("nasrin", "4711")
    remove(shop, "nasrin")
    add(shop, "sara")
    assert page.code_of("/v1/checkouts", SALE) == "sign_in_required"


@pytest.mark.parametrize("pin", ["123", "12a4", "1" * 13, ""])
def test_a_pin_that_is_none_is_refused(shop: Shop, pin: str) -> None:
    with pytest.raises(AgentError, match="4 to 12 digits"):
        add(shop, "nasrin", pin=pin)


def test_the_pin_is_nowhere_and_who_did_what_is_in_the_audit(shop: Shop, page: Page) -> None:
    add(shop, "nasrin", pin="80917263")
    page.sign_in("nasrin", "80917263")
    shop.agent.journal.back_up(shop.agent.settings.data_dir / "copy.db")
    assert b"80917263" not in (shop.agent.settings.data_dir / "copy.db").read_bytes()
    listed = staff.cashier_list(shop.agent, {}, lambda _text: None)
    assert [set(one) for one in listed["cashiers"]] == [{"name", "role", "card", "created_at"}]


def test_a_session_ends_after_half_an_hour_without_use(shop: Shop, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    add(shop, "nasrin")
    page.sign_in("nasrin", "4711")
    clock, began = shop.agent.clock, shop.agent.clock.monotonic()
    monkeypatch.setattr(clock, "monotonic", lambda: began + timedelta(minutes=31).total_seconds())
    assert page.code_of("/v1/checkouts", SALE) == "sign_in_required"


def test_a_new_pin_or_another_role_signs_out_at_once(shop: Shop, page: Page) -> None:
    add(shop, "nasrin")
    for change in ({"pin": "998877"}, {"role": "supervisor"}):
        page.sign_in("nasrin", "998877" if "role" in change else "4711")
        staff.cashier_change(shop.agent, {"name": "nasrin", **change}, lambda _text: None)
        assert page.code_of("/v1/checkouts", SALE) == "sign_in_required"


def test_a_staff_card_signs_its_owner_in_with_the_rights_of_a_cashier(
    shop: Shop, page: Page, reader: HandReader
) -> None:
    add(shop, "sara", "administrator", "998877")
    assert page.sign_in_by_card().status_code == 404, "no card lies there"
    card = shop.issue()
    reader.lay(card)
    nobody = page.sign_in_by_card()
    assert (nobody.status_code, nobody.json()["code"]) == (403, "staff_card_unknown")
    assert give_card(shop, "sara") == {"name": "sara", "card": True}
    signed = page.sign_in_by_card()
    assert signed.status_code == 201, signed.text
    assert {key: signed.json()[key] for key in ("cashier", "role", "by")} == {
        "cashier": "sara",
        "role": "cashier",
        "by": "card",
    }
    sold = page.sell("R-1")
    assert (sold["points_after"], sold["cashier"]) == (25, "sara"), "in a sale it is a card as any other"
    assert page.call("GET", "/v1/cashiers").json()["code"] == "administrator_needed"
    reader.lift()
    waiting = page.open("R-2")
    assert (page.sign_in_by_card().status_code, page.code_of("/v1/sessions", {"card": True})) == (409, "busy")
    page.sign_in("sara", "998877")
    page.call("POST", f"/v1/checkouts/{waiting['id']}/cancel", key=a_key())


def test_a_staff_card_that_was_taken_away_or_blocked_signs_nobody_in(
    shop: Shop, page: Page, reader: HandReader
) -> None:
    add(shop, "nasrin")
    add(shop, "sara")
    reader.lay(shop.issue())
    give_card(shop, "nasrin")
    with pytest.raises(AgentError, match="nasrin's staff card"):
        give_card(shop, "sara")
    page.sign_in_by_card()
    staff.cashier_card(shop.agent, {"name": "nasrin", "remove": True}, lambda _text: None)
    assert page.code_of("/v1/checkouts", SALE) == "sign_in_required"
    give_card(shop, "sara")
    assert page.sign_in_by_card().json()["cashier"] == "sara"
    add(shop, "sara", pin="998877")
    assert page.sign_in_by_card().json()["cashier"] == "sara", "a new PIN takes no card away"
    card_no = audited(shop, "till.cashier_card")[0]["card_no"]
    with shop.agent.journal.transaction():
        shop.agent.journal.knowledge.set_hotlist(card_no, True, "lost")
    assert page.code_of("/v1/checkouts", SALE) == "sign_in_required", "who was signed in with it is out too"
    assert page.sign_in_by_card().json()["code"] == "card_blocked"


@pytest.mark.parametrize(
    "asked", [{}, {"card": False}, {"cashier": "nasrin"}, {"pin": "4711"}, {"card": True, "pin": "4711"}]
)
def test_one_signs_in_one_way(page: Page, asked: dict[str, object]) -> None:
    assert page.code_of("/v1/sessions", asked) == "invalid"


def test_a_copy_of_a_staff_card_that_holds_less_is_refused(shop: Shop, page: Page, reader: HandReader) -> None:
    add(shop, "nasrin")
    card = shop.issue()
    old = MemoryImage(bytes(card.content))
    reader.lay(card)
    give_card(shop, "nasrin")
    page.sign_in_by_card()
    page.sell("R-1")
    reader.lay(old)
    assert page.sign_in_by_card().json()["code"] == "card_rolled_back"
