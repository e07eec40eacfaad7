"""Cashiers at the till: PINs that cannot be guessed, roles that the server holds, nothing asked where nobody is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import requests

from terminal_agent.errors import AgentError
from terminal_agent.service import pairing
from terminal_agent.service.settings import Settings
from tests.till_api.hand_reader import HandReader
from tests.till_api.pos import Pos, Shop, a_key

LIMIT = 1_000_000


class Page(Pos):
    """A cashier page: a caller that stands for whoever is signed in."""

    session: str | None = None

    def call(self, method: str, path: str, *, key: str | None = None, **kwargs: Any) -> requests.Response:
        headers = {"Cashier-Session": self.session} if self.session else {}
        return super().call(method, path, key=key, headers={**headers, **kwargs.pop("headers", {})}, **kwargs)

    def sign_in(self, cashier: str, pin: str) -> requests.Response:
        answer = self.call("POST", "/v1/sessions", json={"cashier": cashier, "pin": pin})
        self.session = answer.json().get("session")
        return answer

    def code_of(self, path: str, body: dict[str, Any]) -> Any:
        answer = self.call("POST", path, key=a_key(), json=body)
        return answer.json().get("code") or answer.status_code


SALE = {"amount": 250_000, "currency": "IRR", "receipt_no": "R-1"}


def add(shop: Shop, name: str, role: str = "cashier", pin: str = "4711") -> Any:
    return pairing.cashier_add(shop.agent, {"name": name, "role": role, "pin": pin}, lambda _text: None)


def remove(shop: Shop, name: str) -> None:
    pairing.cashier_remove(shop.agent, {"name": name}, lambda _text: None)


@pytest.fixture
def page(shop: Shop) -> Page:
    asked = {"code": shop.till.code()["code"], "name": "Page", "cashiers": True}
    answer = requests.post(f"{shop.till.url}/v1/pair", json=asked, timeout=10)
    return Page(shop.till.url, answer.json()["token"])


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
    kept = shop.agent.journal.till.cashier("nasrin")
    assert kept is not None
    assert kept.wrong_pins == 3


def test_a_stranger_and_a_wrong_pin_are_told_alike(shop: Shop, page: Page) -> None:
    add(shop, "nasrin")
    wrong, stranger = page.sign_in("nasrin", "0000"), page.sign_in("nobody", "0000")
    assert (wrong.status_code, wrong.json()) == (stranger.status_code, stranger.json())


def test_signed_out_removed_or_elsewhere_a_session_opens_nothing(shop: Shop, page: Page) -> None:
    add(shop, "nasrin")
    page.sign_in("nasrin", "4711")
    asked = {"code": shop.till.code()["code"], "cashiers": True}
    other = Page(page.url, requests.post(f"{page.url}/v1/pair", json=asked, timeout=10).json()["token"])
    other.session = page.session
    assert other.code_of("/v1/checkouts", SALE) == "sign_in_required"
    assert page.call("POST", "/v1/sessions/end").status_code == 200
    assert page.code_of("/v1/checkouts", SALE) == "sign_in_required"
    page.sign_in("nasrin", "4711")
    remove(shop, "nasrin")
    add(shop, "sara")
    assert page.code_of("/v1/checkouts", SALE) == "sign_in_required"


def test_a_return_above_the_limit_needs_a_supervisor(shop: Shop, page: Page, pos: Pos, reader: HandReader) -> None:
    changed = {"till": {"listen": "127.0.0.1:0", "reversal_limit": LIMIT}}
    shop.agent.settings = Settings.model_validate({**shop.agent.settings.model_dump(), **changed})
    add(shop, "nasrin")
    add(shop, "sara", "supervisor", "998877")
    reader.lay(shop.issue())
    pos.sell("R-big", LIMIT + 10_000)
    page.sign_in("nasrin", "4711")
    assert page.code_of("/v1/reversals", {"receipt_no": "R-big"}) == "supervisor_needed"
    assert page.code_of("/v1/reversals", {"receipt_no": "R-big", "amount": LIMIT + 1}) == "supervisor_needed"
    part = page.call("POST", "/v1/reversals", key=a_key(), json={"receipt_no": "R-big", "amount": 10_000})
    page.wait_for(part.json()["id"], "done")
    page.sign_in("sara", "998877")
    rest = page.call("POST", "/v1/reversals", key=a_key(), json={"receipt_no": "R-big", "amount": LIMIT})
    assert rest.status_code == 201, rest.text
    page.wait_for(rest.json()["id"], "done")


@pytest.mark.parametrize("pin", ["123", "12a4", "1" * 13, ""])
def test_a_pin_that_is_none_is_refused(shop: Shop, pin: str) -> None:
    with pytest.raises(AgentError, match="4 to 12 digits"):
        add(shop, "nasrin", pin=pin)


def test_the_pin_is_nowhere_and_who_did_what_is_in_the_audit(shop: Shop, page: Page) -> None:
    add(shop, "nasrin", pin="80917263")
    page.sign_in("nasrin", "80917263")
    shop.agent.journal.back_up(shop.agent.settings.data_dir / "copy.db")
    assert b"80917263" not in (shop.agent.settings.data_dir / "copy.db").read_bytes()
    listed = pairing.cashier_list(shop.agent, {}, lambda _text: None)
    assert [set(one) for one in listed["cashiers"]] == [{"name", "role", "created_at"}]


def test_a_session_ends_after_half_an_hour_without_use(shop: Shop, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    add(shop, "nasrin")
    page.sign_in("nasrin", "4711")
    clock, began = shop.agent.clock, shop.agent.clock.monotonic()
    monkeypatch.setattr(clock, "monotonic", lambda: began + timedelta(minutes=31).total_seconds())
    assert page.code_of("/v1/checkouts", SALE) == "sign_in_required"
