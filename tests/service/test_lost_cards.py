"""A lost card: refused here at once and everywhere soon, replaced by a new one that gets its points, late ones too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drivers.simulator import MemoryImage
from terminal_agent.crm import admin
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service.operations import OPERATIONS
from tests.service.tills import Till
from tests.workbench import UID_7, blank

PHONE = "09125554433"


def ask(till: Till, operation: str, **params: Any) -> Any:
    return OPERATIONS[operation](till.agent, params, lambda _text: None)


@pytest.fixture
def old(card: MemoryImage, tills: list[Till]) -> str:
    """The number of a card with 1 000 points that till-1 issued."""
    [known] = tills[0].agent.journal.knowledge.recent_cards(9)
    return known.card_no


def replace(till: Till, old: str, folder: Path) -> tuple[MemoryImage, dict[str, Any]]:
    file = folder / f"{till.agent.terminal_id}.mfd"
    file.write_bytes(blank(UID_7).content)
    answer = ask(till, "card.replace", old=old, reader=f"sim:{file}", wait_s=0)
    return MemoryImage(file.read_bytes()), answer


def balances(crm_dir: Path) -> dict[str, int]:
    answer = admin.show_ledger(crm_dir)
    assert answer["sum"] == 0
    return {row["account"]: row["balance"] for row in answer["accounts"] if row["balance"]}


def test_a_blocked_card_is_refused_here_at_once_and_elsewhere_after_an_exchange(
    tills: list[Till], card: MemoryImage, old: str, crm_dir: Path
) -> None:
    assert ask(tills[0], "card.block", card_no=old, reason="lost")["blocked"] is True
    with pytest.raises(AgentError) as refused:
        tills[0].buy(card, "R-1", 10_000)
    assert refused.value.code is ErrorCode.CARD_BLOCKED
    for till in tills:
        till.sync()
    with pytest.raises(AgentError) as refused:
        tills[1].buy(card, "R-1", 10_000)
    assert (refused.value.code, "lost" in refused.value.message) == (ErrorCode.CARD_BLOCKED, True)
    assert admin.show_card(crm_dir, old)["history"][-1]["detail"] == "lost"


def test_a_number_that_is_no_card_number_is_not_blocked(tills: list[Till]) -> None:
    with pytest.raises(AgentError) as refused:
        ask(tills[0], "card.block", card_no="1234567890123456", reason="lost")
    assert refused.value.code is ErrorCode.INVALID_INPUT


def test_the_points_follow_to_the_new_card_and_the_old_one_is_refused(
    tills: list[Till], card: MemoryImage, old: str, crm_dir: Path, tmp_path: Path
) -> None:
    new, answer = replace(tills[0], old, tmp_path)
    assert (answer["replaces"], answer["points"]) == (old, 0)
    with pytest.raises(AgentError) as refused:
        tills[0].buy(card, "R-1", 10_000)
    assert refused.value.code is ErrorCode.CARD_BLOCKED
    tills[0].sync()
    bought = tills[0].buy(new, "R-2", 10_000)
    assert (bought["points_adjusted"], bought["points_after"]) == (1000, 1001)
    tills[0].sync()
    assert balances(crm_dir) == {f"card:{answer['card_no']}": 1001, "programme:issued": -1001}
    shown, before = (admin.show_card(crm_dir, number) for number in (answer["card_no"], old))
    assert (before["status"], shown["status"]) == ("replaced", "active")
    assert before["member"]["member_id"] == shown["member"]["member_id"] == answer["member_id"]
    assert [(line["what"], line["detail"]) for line in shown["history"]][-1] == ("replaces", old)
    assert {line["what"] for line in before["history"]} == {"issued", "blocked", "replaced"}


def test_what_is_told_late_of_the_old_card_follows_too(
    tills: list[Till], card: MemoryImage, old: str, crm_dir: Path, tmp_path: Path
) -> None:
    tills[1].buy(card, "R-1", 500_000)  # till-2's line is down
    _, answer = replace(tills[0], old, tmp_path)
    tills[0].sync()
    tills[1].sync()
    assert balances(crm_dir) == {f"card:{answer['card_no']}": 1050, "programme:issued": -1050}


def test_a_card_that_was_replaced_twice_gives_its_points_once(
    tills: list[Till], card: MemoryImage, old: str, crm_dir: Path, tmp_path: Path
) -> None:
    tills[1].sync()
    _, first = replace(tills[0], old, tmp_path)
    _, second = replace(tills[1], old, tmp_path)
    for till in tills:
        till.sync()
    assert balances(crm_dir) == {f"card:{first['card_no']}": 1000, "programme:issued": -1000}
    assert admin.show_card(crm_dir, second["card_no"])["balance"] == 0


def test_a_replacement_can_be_replaced(tills: list[Till], old: str, crm_dir: Path, tmp_path: Path) -> None:
    _, first = replace(tills[0], old, tmp_path)
    tills[0].sync()
    _, second = replace(tills[1], first["card_no"], tmp_path)
    tills[1].sync()
    assert balances(crm_dir) == {f"card:{second['card_no']}": 1000, "programme:issued": -1000}


def test_a_replaced_card_is_not_freed_again(tills: list[Till], old: str, crm_dir: Path, tmp_path: Path) -> None:
    replace(tills[0], old, tmp_path)
    tills[0].sync()
    assert admin.unblock_card(crm_dir, old, "a mistake")["changed"] is False
    assert admin.show_card(crm_dir, old)["status"] == "replaced"


def test_the_owner_of_an_unknown_card_is_not_guessed(tills: list[Till], tmp_path: Path) -> None:
    with pytest.raises(AgentError) as refused:
        replace(tills[0], "7398036535671225", tmp_path)
    assert refused.value.code is ErrorCode.NOT_FOUND
    assert (tmp_path / "till-1.mfd").read_bytes() == blank(UID_7).content


def issue_for(till: Till, folder: Path, uid: bytes = UID_7) -> tuple[MemoryImage, dict[str, Any]]:
    file = folder / f"{till.agent.terminal_id}-new.mfd"
    file.write_bytes(blank(uid).content)
    answer = ask(till, "card.issue", phone=PHONE, reader=f"sim:{file}", wait_s=0)
    return MemoryImage(file.read_bytes()), answer


def test_a_member_whose_card_is_blocked_gets_their_points_with_a_new_one_off_the_line(
    tills: list[Till], crm_dir: Path, tmp_path: Path
) -> None:
    till, other = tills
    first, issued = issue_for(till, tmp_path, bytes.fromhex("0A0B0C0D"))
    till.buy(first, "R-1", 300_000)
    till.sync()
    ask(till, "card.block", card_no=issued["card_no"], reason="lost")
    second, renewed = issue_for(till, tmp_path)
    assert (renewed["takes_over"], renewed["also_in_use"]) == ([issued["card_no"]], [])
    assert (renewed["member_id"], renewed["points"]) == (issued["member_id"], 0)
    till.sync()
    other.sync()
    bought = other.buy(second, "R-2", 10_000)
    assert (bought["points_adjusted"], bought["points_after"]) == (30, 31)
    for each in tills:
        each.sync()
        with pytest.raises(AgentError) as refused:
            each.buy(first, "R-3", 10_000)
        assert refused.value.code is ErrorCode.CARD_BLOCKED
    assert balances(crm_dir) == {f"card:{renewed['card_no']}": 31, "programme:issued": -31}


def test_a_second_card_of_a_member_leaves_the_first_one_its_points_and_says_so(
    tills: list[Till], crm_dir: Path, tmp_path: Path
) -> None:
    first, issued = issue_for(tills[0], tmp_path, bytes.fromhex("0A0B0C0D"))
    tills[0].buy(first, "R-1", 300_000)
    _, second = issue_for(tills[0], tmp_path)
    assert (second["takes_over"], second["also_in_use"]) == ([], [issued["card_no"]])
    tills[0].sync()
    assert balances(crm_dir) == {f"card:{issued['card_no']}": 30, "programme:issued": -30}
    _, replaced = replace(tills[0], issued["card_no"], tmp_path)
    assert (replaced["takes_over"], replaced["also_in_use"]) == ([], [second["card_no"]])
