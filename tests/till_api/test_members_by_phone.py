"""Members by phone at the till: only who may ask is told, only what a screen may show, and nobody reads the club."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from terminal_agent.desk.issue import IssueRequest, issue
from terminal_agent.till_api.allowance import AT_ONCE, EVERY_S, Allowance
from terminal_agent.till_api.problems import Refused
from tests.journal.support import ManualClock
from tests.till_api.pos import Pos, Shop
from tests.till_api.test_cashiers import Page, add
from tests.workbench import blank, lay

PHONE = "09125554433"


def enrol(shop: Shop) -> dict[str, Any]:
    with lay(blank()) as connection:
        return issue(shop.agent.terminal, connection, IssueRequest(PHONE, "سارا احمدی"))


def ask(pos: Pos, phone: str = PHONE) -> requests.Response:
    return pos.call("GET", "/v1/members", params={"phone": phone})


def test_a_member_is_found_by_phone_and_only_the_first_name_is_told(shop: Shop, pos: Pos) -> None:
    issued = enrol(shop)
    answer = ask(pos, "+98 912 555 4433")
    assert answer.status_code == 200
    assert answer.json() == {
        "member_id": issued["member_id"],
        "first_name": "سارا",
        "tier": None,
        "card_no": issued["card_no"],
        "points": 0,
        "status": "active",
        "source": "terminal",
    }
    unknown, malformed = ask(pos, "09120000000"), ask(pos, "12")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "member_not_found")
    assert all(unknown.json()[words][language] for words in ("message", "action") for language in ("fa", "en"))
    assert (malformed.status_code, malformed.json()["code"]) == (400, "invalid_input")
    assert pos.call("GET", "/v1/members").status_code == 400
    shop.join_a_crm_that_is_down()
    unsaid = ask(pos, "09120000000")
    assert (unsaid.status_code, unsaid.json()["code"], unsaid.json()["retryable"]) == (503, "crm_unreachable", True)
    assert ask(pos).json()["source"] == "terminal"


def test_only_a_token_for_members_may_ask_and_a_page_for_who_is_signed_in(shop: Shop, pos: Pos) -> None:
    enrol(shop)
    code = shop.till.code(("read", "checkout"))["code"]
    paired = requests.post(f"{shop.till.url}/v1/pair", json={"code": code}, timeout=10).json()
    refused = ask(Pos(shop.till.url, paired["token"]))
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    asked = {"code": shop.till.code()["code"], "name": "Page", "cashiers": True}
    page = Page(shop.till.url, requests.post(f"{shop.till.url}/v1/pair", json=asked, timeout=10).json()["token"])
    assert ask(page).status_code == 200  # nobody is named yet
    add(shop, "nasrin")
    assert ask(page).json()["code"] == "sign_in_required"
    page.sign_in("nasrin", "4711")
    assert ask(page).status_code == 200


def test_a_stolen_page_cannot_walk_through_phone_numbers(shop: Shop, pos: Pos) -> None:
    answers = [ask(pos, f"0912000{number:04}") for number in range(AT_ONCE + 1)]
    assert {answer.status_code for answer in answers[:-1]} == {404}
    assert (answers[-1].status_code, answers[-1].json()["code"]) == (429, "too_many_lookups")
    assert int(answers[-1].headers["Retry-After"]) <= EVERY_S
    assert ask(shop.pair()).status_code == 404  # another program has its own


def test_what_was_used_up_comes_back_with_time() -> None:
    clock = ManualClock()
    allowance = Allowance(clock)
    for _ in range(AT_ONCE):
        allowance.take("page")
    with pytest.raises(Refused) as refused:
        allowance.take("page")
    assert refused.value.retry_after_s == EVERY_S
    clock.advance(EVERY_S)
    allowance.take("page")
    with pytest.raises(Refused):
        allowance.take("page")
