"""Redeeming while the CRM can be asked: two tills, the real CRM, and copies of one card."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.crm import admin, admin_holds, holds
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.ports import SystemClock
from terminal_agent.sync import client
from terminal_agent.sync.adapters import native
from terminal_agent.taps import present
from terminal_agent.till import decided
from tests.service.tills import WRITE, Till
from tests.workbench import copy_of, lay


def holds_of(crm_dir: Path, card_no: str) -> list[Any]:
    holds: list[Any] = admin.show_card(crm_dir, card_no)["holds"]
    return holds


def test_a_redemption_sets_points_aside_and_its_event_spends_them(
    tills: list[Till], card: MemoryImage, crm_dir: Path
) -> None:
    answer = tills[0].buy(card, "R-1", 100_000, redeem=900)
    assert (answer["online"], answer["points_redeemed"]) == (True, 900)
    assert len(holds_of(crm_dir, answer["card_no"])) == 1
    tills[0].sync()
    assert holds_of(crm_dir, answer["card_no"]) == []
    assert admin.show_card(crm_dir, answer["card_no"])["balance"] == answer["points_after"]


def test_two_copies_of_a_card_are_not_both_granted_the_whole_balance(tills: list[Till], card: MemoryImage) -> None:
    """The first redemption has not reached the CRM yet when the copy is laid down in the other shop."""
    copy = copy_of(card)
    assert tills[0].buy(card, "R-1", 100_000, redeem=900)["online"] is True
    with pytest.raises(AgentError) as caught:
        tills[1].buy(copy, "S-1", 100_000, redeem=900)
    assert caught.value.code is ErrorCode.OFFLINE_LIMIT
    assert tills[1].buy(copy, "S-1", 100_000, redeem=200)["online"] is False


def test_the_same_sale_tried_again_uses_the_same_hold(tills: list[Till], card: MemoryImage, crm_dir: Path) -> None:
    with pytest.raises(AgentError) as caught:
        tills[0].buy(card, "R-1", 100_000, redeem=900, fault=Fault(WRITE, Torn.GARBAGE))
    hold_id = caught.value.details["hold_id"]
    answer = tills[0].buy(card, "R-1", 100_000, redeem=900)
    assert (answer["state"], answer["hold_id"]) == ("done", hold_id)
    tills[0].sync()
    assert holds_of(crm_dir, answer["card_no"]) == []


def test_a_hold_whose_sale_never_began_is_let_go_for_the_next_one(tills: list[Till], card: MemoryImage) -> None:
    with lay(card) as connection:
        shown = present(tills[0].agent.terminal, connection)
    with tills[0].agent.redemptions.for_a_tap() as reserve:
        assert reserve(shown.card_no, shown.state, 500, "a sale given up") is not None
    assert tills[0].buy(card, "R-2", 100_000, redeem=900)["online"] is True


def test_a_rolled_back_card_is_refused_on_the_crm_s_word(tills: list[Till], card: MemoryImage, crm_dir: Path) -> None:
    old = copy_of(card)
    card_no = tills[0].buy(card, "R-1", 100_000)["card_no"]
    tills[0].sync()
    with pytest.raises(AgentError) as caught:
        tills[1].buy(old, "S-1", 100_000, redeem=100)
    assert caught.value.code is ErrorCode.CARD_ROLLED_BACK
    assert holds_of(crm_dir, card_no) == []


def test_a_card_blocked_at_the_crm_redeems_nothing_before_the_feed_was_read(
    tills: list[Till], card: MemoryImage, crm_dir: Path
) -> None:
    card_no = tills[0].buy(card, "R-1", 10_000)["card_no"]
    tills[0].sync()
    admin.block_card(crm_dir, card_no, "stolen")
    with pytest.raises(AgentError) as caught:
        tills[1].buy(card, "S-1", 100_000, redeem=100)
    assert caught.value.code is ErrorCode.CARD_BLOCKED


def test_what_this_till_has_not_sent_yet_is_sent_before_the_crm_is_asked(tills: list[Till], card: MemoryImage) -> None:
    tills[0].buy(card, "R-1", 50_000)
    assert tills[0].buy(card, "R-2", 100_000, redeem=900)["online"] is True


def test_a_copy_is_not_confirmed_before_the_crm_heard_what_the_other_one_did_here(
    tills: list[Till], card: MemoryImage
) -> None:
    """Both were tapped as often, so that the counters look right; the till's own queue gives the fork away."""
    copy = copy_of(card)
    tills[1].buy(copy, "S-1", 10_000)
    tills[1].sync()
    offline = with_the_line_down(tills[0], lambda: tills[0].buy(card, "R-1", 100_000, redeem=200))
    assert offline["online"] is False
    with pytest.raises(AgentError) as caught:
        tills[0].buy(card, "R-2", 100_000, redeem=200)
    assert caught.value.code is ErrorCode.CARD_BLOCKED


def with_the_line_down(till: Till, job: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """While the line of a till is down."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(till.agent.redemptions, "_connect", lambda: None)
        return job()


def test_more_than_the_crm_has_is_refused_with_what_it_has(tills: list[Till], card: MemoryImage, crm_dir: Path) -> None:
    card_no = tills[0].buy(card, "R-1", 10_000)["card_no"]
    tills[0].sync()
    admin.adjust_card(crm_dir, card_no, -901, "correction")
    with pytest.raises(AgentError) as caught:
        tills[0].buy(card, "R-2", 100_000, redeem=900)
    assert (caught.value.code, caught.value.details) == (ErrorCode.INSUFFICIENT_POINTS, {"redeemable_points": 100})


@pytest.mark.parametrize(
    ("status", "problem", "online"),
    [
        (404, {"code": "not_found"}, True),
        (405, {"code": "method_not_allowed"}, True),
        (409, {"code": "card_held", "retryable": False}, False),
        (409, {"code": "busy", "retryable": True}, False),
        (503, {}, False),
    ],
)
def test_a_crm_without_holds_is_believed_by_its_lookup_and_any_other_no_is_none(
    tills: list[Till],
    card: MemoryImage,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    problem: dict[str, Any],
    online: bool,
) -> None:
    def refuse(*_: object) -> Callable[..., Any]:
        if status < 500 and problem.get("retryable") is not True:
            raise client.CrmRefused(status, problem["code"], "no", problem)
        raise client.CrmUnreachable("no")

    monkeypatch.setattr(native.NativeCrm, "post_hold", refuse)
    assert tills[0].buy(card, "R-1", 100_000, redeem=150)["online"] is online


# What an online redemption took stays covered until its event comes, and what none took is let go.


def pass_time(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    now = SystemClock().now
    monkeypatch.setattr(SystemClock, "now", lambda _clock: now() + timedelta(seconds=seconds))


def test_what_a_late_sale_has_redeemed_online_no_copy_redeems_again(
    tills: list[Till], card: MemoryImage, crm_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copy_of(card)
    first = tills[0].buy(card, "R-1", 100_000, redeem=900)
    assert first["online"] is True
    pass_time(monkeypatch, holds.LIFE_S + 1)
    with pytest.raises(AgentError) as caught:
        tills[1].buy(copy, "S-1", 100_000, redeem=900)
    assert caught.value.code is ErrorCode.OFFLINE_LIMIT
    tills[1].buy(copy, "S-2", 50_000)  # the copy moves the chain on, past the counter of the hold
    tills[1].sync()
    with pytest.raises(AgentError) as caught:
        tills[1].buy(copy, "S-3", 100_000, redeem=900)
    assert caught.value.code is ErrorCode.INSUFFICIENT_POINTS
    for till in tills:
        till.sync()
    assert admin.show_card(crm_dir, first["card_no"])["balance"] >= 0


def test_a_redemption_whose_hold_is_not_confirmed_is_offline_and_its_points_are_let_go(
    tills: list[Till], card: MemoryImage, crm_dir: Path
) -> None:
    end_hold = native.NativeCrm.end_hold

    def answer_lost(self: native.NativeCrm, *args: Any) -> None:
        end_hold(self, *args)
        raise client.CrmUnreachable("timed out")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native.NativeCrm, "end_hold", answer_lost)
        answer = tills[0].buy(card, "R-1", 100_000, redeem=150)
    assert (answer["online"], "hold_id" in answer) == (False, False)
    assert [hold["state"] for hold in holds_of(crm_dir, answer["card_no"])] == ["confirmed"]
    tills[0].sync()
    assert holds_of(crm_dir, answer["card_no"]) == []


def fail_before_the_card_is_written(till: Till, card: MemoryImage) -> None:
    def disk_full(*_: object) -> None:
        raise AgentError(ErrorCode.DISK_FULL, "the disk is full", hint="Free some space")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decided, "carry_out", disk_full)
        with pytest.raises(AgentError):
            till.buy(card, "R-1", 100_000, redeem=900)


def test_a_sale_that_fails_before_the_card_is_written_lets_its_points_go(
    tills: list[Till], card: MemoryImage, crm_dir: Path
) -> None:
    fail_before_the_card_is_written(tills[0], card)
    [row] = admin_holds.list_holds(crm_dir, 10)
    assert row["state"] == "confirmed"
    tills[0].sync()
    assert holds_of(crm_dir, row["card_no"]) == []


def test_a_sale_that_failed_is_granted_online_when_it_is_tried_again(
    tills: list[Till], card: MemoryImage, crm_dir: Path
) -> None:
    fail_before_the_card_is_written(tills[0], card)
    [row] = admin_holds.list_holds(crm_dir, 10)
    answer = tills[0].buy(card, "R-1", 100_000, redeem=900)
    assert answer["online"] is True
    assert [hold["hold_id"] for hold in holds_of(crm_dir, row["card_no"])] == [answer["hold_id"]] != [row["hold_id"]]


def test_a_process_that_ended_before_the_sale_lets_its_points_go_with_the_next_one(
    tills: list[Till], card: MemoryImage, crm_dir: Path
) -> None:
    agent = tills[0].agent
    with lay(card) as connection:
        shown = present(agent.terminal, connection)
    tap = agent.redemptions.for_a_tap()
    assert tap.__enter__()(shown.card_no, shown.state, 500, "a sale that the power ended") is not None
    tills[0].restart()
    tills[0].sync()
    assert holds_of(crm_dir, shown.card_no) == []
    assert tills[0].buy(card, "R-1", 100_000, redeem=900)["online"] is True


def test_points_that_a_sale_in_doubt_holds_are_not_let_go(tills: list[Till], card: MemoryImage, crm_dir: Path) -> None:
    with pytest.raises(AgentError) as caught:
        tills[0].buy(card, "R-1", 100_000, redeem=900, fault=Fault(WRITE, Torn.GARBAGE))
    tills[0].restart()
    tills[0].sync()
    [row] = admin_holds.list_holds(crm_dir, 10)
    assert (row["hold_id"], row["state"]) == (caught.value.details["hold_id"], "confirmed")


def test_the_same_sale_is_granted_online_after_the_hold_of_a_lost_answer_lapsed(
    tills: list[Till], card: MemoryImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    post_hold = native.NativeCrm.post_hold

    def answer_lost(self: native.NativeCrm, *args: Any) -> None:
        post_hold(self, *args)
        raise client.CrmUnreachable("timed out")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native.NativeCrm, "post_hold", answer_lost)
        with pytest.raises(AgentError) as caught:
            tills[0].buy(card, "R-1", 100_000, redeem=900)
    assert caught.value.code is ErrorCode.OFFLINE_LIMIT
    pass_time(monkeypatch, holds.LIFE_S + 1)
    assert tills[0].buy(card, "R-1", 100_000, redeem=900)["online"] is True


def test_nobody_waits_for_a_crm_that_the_schedule_keeps_away_from(
    tills: list[Till], card: MemoryImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    get_card = native.NativeCrm.get_card

    def noted(self: native.NativeCrm, card_no: str, timeout_s: float) -> dict[str, Any]:
        asked.append(card_no)
        return get_card(self, card_no, timeout_s)

    def busy(*_: object) -> None:
        raise client.CrmUnreachable("the CRM answered 503", retry_after_s=900)

    monkeypatch.setattr(native.NativeCrm, "get_card", noted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native.NativeCrm, "get_feed", busy)
        with pytest.raises(client.CrmUnreachable):
            tills[0].agent.sync.exchange_now()
    assert tills[0].buy(card, "R-1", 100_000, redeem=100)["online"] is False
    assert asked == []
    tills[0].sync()
    assert tills[0].buy(card, "R-2", 100_000, redeem=100)["online"] is True
