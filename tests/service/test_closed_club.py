"""A closed club: whoever enrols collects at once and redeems once head office has approved them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drivers.simulator import MemoryImage
from terminal_agent.crm import admin, admin_club
from terminal_agent.crm.membership import Club
from terminal_agent.desk import inspect
from terminal_agent.desk.issue import IssueRequest, issue
from terminal_agent.errors import AgentError, ErrorCode
from tests.service.tills import Till
from tests.workbench import blank, lay

PHONE = "09125554433"


@pytest.fixture
def club(tills: list[Till], crm_dir: Path) -> list[Till]:
    """Two tills that know that the club is closed."""
    admin_club.settings(crm_dir, Club.CLOSED)
    for till in tills:
        till.sync()
    return tills


def enrol(till: Till) -> tuple[MemoryImage, dict[str, Any]]:
    image = blank()
    with lay(image) as connection:
        return image, issue(till.agent.terminal, connection, IssueRequest(PHONE, "Sara"))


def status_at(till: Till, card: MemoryImage) -> str:
    with lay(card) as connection:
        return str(inspect.show(till.agent.terminal, connection)["status"])


def refusal(till: Till, card: MemoryImage, receipt_no: str) -> ErrorCode:
    with pytest.raises(AgentError) as refused:
        till.buy(card, receipt_no, 1_000_000, redeem=10)
    return refused.value.code


def test_a_new_member_of_a_closed_club_collects_but_does_not_redeem(club: list[Till], crm_dir: Path) -> None:
    card, issued = enrol(club[0])
    assert issued["status"] == "pending"
    assert club[0].buy(card, "R-1", 1_000_000)["points_earned"] == 100
    assert refusal(club[0], card, "R-2") is ErrorCode.CARD_PENDING
    for till in club:
        till.sync()
    assert status_at(club[0], card) == "pending"
    shown = admin.show_card(crm_dir, issued["card_no"])
    assert (shown["status"], shown["balance"], shown["member"]["status"]) == ("pending", 100, "pending")


def test_another_till_asks_the_crm_and_does_not_redeem_either(club: list[Till], crm_dir: Path) -> None:
    card, _ = enrol(club[0])
    club[0].buy(card, "R-1", 1_000_000)
    club[0].sync()
    assert refusal(club[1], card, "R-2") is ErrorCode.CARD_PENDING


def test_an_approved_member_redeems(club: list[Till], crm_dir: Path) -> None:
    card, issued = enrol(club[0])
    club[0].buy(card, "R-1", 1_000_000)
    club[0].sync()
    [waiting] = admin_club.list_members(crm_dir, "pending", 10)
    assert waiting["phone"] == PHONE
    assert admin_club.approve_member(crm_dir, waiting["member_id"])["cards"] == [issued["card_no"]]
    for till in club:
        till.sync()
    assert status_at(club[0], card) == "active"
    assert club[1].buy(card, "R-2", 1_000_000, redeem=10)["online"] is True
    assert [line["what"] for line in admin.show_card(crm_dir, issued["card_no"])["history"]] == ["issued", "approved"]


def test_a_rejected_members_card_is_blocked_until_they_are_approved_after_all(club: list[Till], crm_dir: Path) -> None:
    card, issued = enrol(club[0])
    club[0].sync()
    admin_club.reject_member(crm_dir, issued["member_id"], "no resident")
    for till in club:
        till.sync()
        with pytest.raises(AgentError) as refused:
            till.buy(card, "R-1", 1_000_000)
        assert refused.value.code is ErrorCode.CARD_BLOCKED
    admin_club.approve_member(crm_dir, issued["member_id"])
    club[1].sync()
    assert club[1].buy(card, "R-1", 1_000_000)["state"] == "done"
    assert admin.show_card(crm_dir, issued["card_no"])["status"] == "active"


def test_a_member_enrolled_at_a_till_that_had_not_heard_is_pending_once_it_has(
    tills: list[Till], crm_dir: Path
) -> None:
    admin_club.settings(crm_dir, Club.CLOSED)
    card, issued = enrol(tills[0])
    assert issued["status"] == "active"
    tills[0].sync()
    assert status_at(tills[0], card) == "pending"


def test_opening_the_club_lets_in_who_comes_from_then_on(club: list[Till], crm_dir: Path) -> None:
    _, before = enrol(club[0])
    club[0].sync()
    admin_club.settings(crm_dir, Club.OPEN)
    club[1].sync()
    with lay(blank(b"\x01\x02\x03\x04")) as connection:
        after = issue(club[1].agent.terminal, connection, IssueRequest("09121110000"))
    club[1].sync()
    assert after["status"] == "active"
    assert admin.show_card(crm_dir, after["card_no"])["status"] == "active"
    assert admin.show_card(crm_dir, before["card_no"])["status"] == "pending"


def test_nobody_is_approved_who_is_not_known_or_was_erased(club: list[Till], crm_dir: Path) -> None:
    _, issued = enrol(club[0])
    club[0].sync()
    admin_club.erase_member(crm_dir, issued["member_id"])
    for member_id in ("nobody", issued["member_id"]):
        with pytest.raises(AgentError) as refused:
            admin_club.approve_member(crm_dir, member_id)
        assert refused.value.code is ErrorCode.NOT_FOUND
