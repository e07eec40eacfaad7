"""Sales by phone from two tills to the books: every point reaches one card, once, in whatever order things are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drivers.simulator import MemoryImage
from terminal_agent.crm import admin
from terminal_agent.desk.issue import IssueRequest, issue
from terminal_agent.errors import AgentError
from terminal_agent.service.operations import OPERATIONS
from tests.service.test_lookup import PHONE, asked, enrol, point_to, quiet
from tests.service.tills import Till
from tests.workbench import UID_7, blank, lay


def run(till: Till, operation: str, **params: Any) -> dict[str, Any]:
    answer: dict[str, Any] = OPERATIONS[operation](till.agent, {"wait_s": 0, **params}, quiet)
    return answer


def buy(till: Till, receipt_no: str, amount: int = 100_000, phone: str = PHONE) -> dict[str, Any]:
    return run(till, "purchase", receipt_no=receipt_no, amount=amount, phone=phone)


def balance(crm_dir: Path, card_no: str) -> int:
    assert admin.show_ledger(crm_dir)["sum"] == 0
    return int(admin.show_card(crm_dir, card_no)["balance"])


def tap(till: Till, card: MemoryImage, receipt_no: str) -> dict[str, Any]:
    return till.buy(card, receipt_no, 10_000)


def test_the_points_are_on_the_card_at_its_next_tap_anywhere(tills: list[Till], crm_dir: Path) -> None:
    card, issued = enrol(tills[0])
    for till in tills:
        till.sync()
    sold = buy(tills[1], "R-1")
    assert (sold["member_id"], sold["points_earned"]) == (issued["member_id"], 10)
    assert buy(tills[1], "R-1")["replayed"] is True
    for till in (tills[1], tills[0]):
        till.sync()
    tapped = tap(tills[0], card, "R-2")
    assert (tapped["points_adjusted"], tapped["points_after"]) == (10, 11)
    back = run(tills[1], "reverse", receipt_no="R-1")
    assert (back["points_earned"], back["card_no"]) == (-10, None)
    for till in (tills[1], tills[0]):
        till.sync()
    assert tap(tills[0], card, "R-3")["points_after"] == 2
    assert balance(crm_dir, issued["card_no"]) == 1


def test_who_enrolled_by_phone_alone_gets_everything_with_the_first_card(tills: list[Till], crm_dir: Path) -> None:
    run(tills[0], "member.enroll", phone=PHONE, name="Sara", marketing_consent=True)
    buy(tills[0], "R-1")
    tills[0].sync()
    tills[1].sync()
    buy(tills[1], "R-1", 50_000)
    tills[1].sync()
    assert (asked(tills[0])["points"], asked(tills[0])["card_no"]) == (15, None)
    assert admin.show_ledger(crm_dir)["sum"] == 0
    image = blank()
    with lay(image) as connection:
        issued = issue(tills[0].agent.terminal, connection, IssueRequest(PHONE))
    tills[0].sync()
    assert tap(tills[0], image, "R-2")["points_after"] == 16
    assert balance(crm_dir, issued["card_no"]) == 15


def test_with_the_line_down_a_phone_that_is_not_known_here_finds_its_owner_at_the_crm(
    tills: list[Till], crm_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, issued = enrol(tills[0])
    tills[0].sync()
    with monkeypatch.context() as down:
        point_to(tills[1], "http://127.0.0.1:9", down)
        sold = buy(tills[1], "R-1")
    assert sold["member_id"] != issued["member_id"]
    assert buy(tills[1], "R-1")["replayed"] is True
    tills[1].sync()
    assert balance(crm_dir, issued["card_no"]) == 10
    assert asked(tills[1])["member_id"] == issued["member_id"]


def test_a_wrong_number_given_offline_is_nobodys_until_somebody_enrols_under_it(
    tills: list[Till], crm_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as down:
        point_to(tills[0], "http://127.0.0.1:9", down)
        buy(tills[0], "R-1")
    tills[0].sync()
    for till in tills:
        till.sync()
        with pytest.raises(AgentError) as refused:
            buy(till, "R-2")
        assert refused.value.code == "member_not_found"
    card, issued = enrol(tills[1])
    tills[1].sync()
    assert balance(crm_dir, issued["card_no"]) == 10
    erased = run(tills[1], "member.erase", phone=PHONE)
    tills[0].sync()
    assert (erased["card_nos"], tills[0].agent.journal.knowledge.member_by_phone(PHONE)) == ([issued["card_no"]], None)


def test_a_copied_card_is_still_told_when_points_came_by_phone(tills: list[Till], crm_dir: Path) -> None:
    """Points without a tap are no link of the card's chain: nothing about clones or rollbacks changes."""
    image = blank(UID_7)
    with lay(image) as connection:
        issued = issue(tills[0].agent.terminal, connection, IssueRequest(PHONE))
    old = MemoryImage(bytes(image.content))
    tap(tills[0], image, "R-1")
    buy(tills[0], "R-2")
    for till in tills:
        till.sync()
    tap(tills[1], old, "R-3")
    tills[1].sync()
    assert admin.show_card(crm_dir, issued["card_no"])["status"] == "blocked"
    assert balance(crm_dir, issued["card_no"]) == 12
