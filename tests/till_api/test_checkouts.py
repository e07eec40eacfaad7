"""Checkouts through the till's API: each sale once, each state told, whatever the card or the caller does."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from drivers.base import ClassicConnection, ReaderState
from drivers.mifare_classic import blank_card
from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.service.operations import queue_close
from terminal_agent.till_api.counter import Counter
from tests.cli.shop import wait_until
from tests.till_api.hand_reader import HandReader
from tests.till_api.pos import PATIENCE_S, TEAR_AT_WRITE, Pos, Shop, a_key
from tests.workbench import UID_7, blank


def test_a_card_that_lies_there_earns_at_once(shop: Shop, pos: Pos, reader: HandReader) -> None:
    reader.lay(shop.issue("سارا احمدی"))
    sold = pos.sell("R-1", 250_000)
    assert (sold["points_before"], sold["points_earned"], sold["points_after"]) == (0, 25, 25)
    assert sold["member"] == {"first_name": "سارا", "tier": None}
    assert sold["explanation"][0]["points"] == 25
    assert sold["error"] is None


def test_a_checkout_waits_for_its_card(shop: Shop, pos: Pos, reader: HandReader) -> None:
    opened = pos.open("R-1")
    assert opened["state"] == "waiting_for_card"
    reader.lay(shop.issue())
    assert pos.wait_for(opened["id"], "done")["points_after"] == 25


def test_the_same_key_and_body_get_the_very_same_answer_and_one_sale(shop: Shop, pos: Pos, reader: HandReader) -> None:
    reader.lay(shop.issue())
    key = a_key()
    first = pos.open("R-1", key=key)
    pos.wait_for(first["id"], "done")
    assert pos.open("R-1", key=key) == first
    assert pos.get("/v1/card")["points"] == 25


def test_the_same_key_with_another_body_is_refused(shop: Shop, pos: Pos, reader: HandReader) -> None:
    reader.lay(shop.issue())
    key = a_key()
    pos.wait_for(pos.open("R-1", key=key)["id"], "done")
    answer = pos.call("POST", "/v1/checkouts", key=key, json={"amount": 1, "currency": "IRR", "receipt_no": "R-1"})
    assert (answer.status_code, answer.json()["code"]) == (422, "key_reused")


def test_two_programs_may_use_the_same_key(shop: Shop, pos: Pos, reader: HandReader) -> None:
    reader.lay(shop.issue())
    other, key = shop.pair(), a_key()
    first = pos.wait_for(pos.open("R-1", key=key)["id"], "done")
    second = other.wait_for(other.open("R-2", key=key)["id"], "done")
    assert first["id"] != second["id"]


def test_one_request_sent_by_many_at_once_is_one_sale(shop: Shop, pos: Pos, reader: HandReader) -> None:
    reader.lay(shop.issue())
    key = a_key()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _n: pos.open("R-1", key=key), range(8)))
    assert all(answer == answers[0] for answer in answers)
    pos.wait_for(answers[0]["id"], "done")
    assert pos.get("/v1/card")["points"] == 25


def test_a_finished_receipt_is_answered_without_a_card(shop: Shop, pos: Pos, reader: HandReader) -> None:
    reader.lay(shop.issue())
    sold = pos.sell("R-1")
    reader.lift()
    again = pos.open("R-1")
    assert (again["state"], again["replayed"], again["id"]) == ("done", True, sold["id"])


def test_a_finished_receipt_with_another_amount_is_a_conflict(shop: Shop, pos: Pos, reader: HandReader) -> None:
    reader.lay(shop.issue())
    pos.sell("R-1", 250_000)
    answer = pos.call("POST", "/v1/checkouts", key=a_key(), json={"amount": 1, "currency": "IRR", "receipt_no": "R-1"})
    assert (answer.status_code, answer.json()["code"]) == (409, "receipt_conflict")


def test_a_second_checkout_while_one_is_open_is_busy(pos: Pos) -> None:
    pos.open("R-1")
    answer = pos.call("POST", "/v1/checkouts", key=a_key(), json={"amount": 1, "currency": "IRR", "receipt_no": "R-2"})
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (409, "busy", True)


def test_a_cancelled_checkout_touches_no_card(shop: Shop, pos: Pos, reader: HandReader) -> None:
    opened = pos.open("R-1")
    answer = pos.call("POST", f"/v1/checkouts/{opened['id']}/cancel", key=a_key())
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    card = shop.issue()
    reader.lay(card)
    assert pos.sell("R-2")["points_before"] == 0
    assert pos.get(f"/v1/checkouts/{opened['id']}")["state"] == "cancelled"


def test_what_is_done_can_not_be_cancelled(shop: Shop, pos: Pos, reader: HandReader) -> None:
    reader.lay(shop.issue())
    sold = pos.sell("R-1")
    answer = pos.call("POST", f"/v1/checkouts/{sold['id']}/cancel", key=a_key())
    assert (answer.status_code, answer.json()["code"]) == (409, "too_late")


def test_no_card_in_time_expires_and_the_next_sale_goes_on(shop: Shop, pos: Pos, reader: HandReader) -> None:
    expired = pos.wait_for(pos.open("R-1", expires_in_s=1)["id"], "expired")
    assert expired["error"]["code"] == "no_card_timeout"
    reader.lay(shop.issue())
    assert pos.sell("R-2")["points_after"] == 25


@pytest.mark.parametrize(
    ("content", "code"),
    [(bytes(blank_card(bytes.fromhex("0A0B0C0D"))), "blank_card"), (bytes(1024), "blank_card")],
)
def test_a_wrong_card_is_told_and_the_checkout_waits_on(
    content: bytes, code: str, shop: Shop, pos: Pos, reader: HandReader
) -> None:
    after = pos.get("/v1/events", wait_s=0)["last_id"]
    opened = pos.open("R-1")
    reader.lay(MemoryImage(content))
    problem = pos.first(after, "card.problem")
    assert problem["checkout_id"] == opened["id"]
    assert set(problem["error"]["message"]) == {"fa", "en"}
    assert pos.get(f"/v1/checkouts/{opened['id']}")["state"] == "waiting_for_card"
    reader.lift()
    reader.lay(shop.issue())
    assert pos.wait_for(opened["id"], "done")["error"] is None


def test_a_wrong_card_is_told_once_while_it_lies_there_and_again_when_it_comes_back(
    pos: Pos, reader: HandReader
) -> None:
    after, looks = pos.get("/v1/events", wait_s=0)["last_id"], list[ClassicConnection]()

    def seen(connection: ClassicConnection) -> ClassicConnection:
        looks.append(connection)
        return connection

    reader.wrap = seen
    pos.open("R-1")
    for times in (1, 2):
        looks.clear()
        reader.lay(blank())
        wait_until(lambda: len(looks) > 3)
        told = [event["event"] for event in pos.events(after)]
        assert (told.count("card.problem"), told.count("checkout.changed")) == (times, 1 + 2 * times)
        reader.lift()
        wait_until(lambda: reader.waiting(ReaderState.EMPTY) == 2)  # the counter has seen it, and the watch


def test_too_few_points_fail_the_checkout(shop: Shop, pos: Pos, reader: HandReader) -> None:
    reader.lay(shop.issue())
    failed = pos.wait_for(pos.open("R-1", redeem_points=5)["id"], "failed")
    assert (failed["error"]["code"], failed["error"]["retryable"]) == ("insufficient_points", False)
    assert pos.sell("R-1")["points_after"] == 25


@pytest.mark.parametrize("outcome", list(Torn))
def test_a_torn_card_put_back_is_settled_once(outcome: Torn, shop: Shop, pos: Pos, reader: HandReader) -> None:
    card = shop.issue()
    reader.lay(card, Fault(TEAR_AT_WRITE.call, outcome))
    opened = pos.open("R-1")
    in_doubt = pos.wait_for(opened["id"], "in_doubt")
    assert in_doubt["error"]["code"] == "card_removed_early"
    reader.lift()
    reader.lay(card)
    assert pos.wait_for(opened["id"], "done")["points_after"] == 25
    assert pos.get("/v1/card")["points"] == 25


def test_a_torn_card_that_stays_away_leaves_the_sale_in_doubt_until_it_is_back(
    shop: Shop, pos: Pos, reader: HandReader
) -> None:
    card = shop.issue()
    reader.lay(card, TEAR_AT_WRITE)
    opened = pos.open("R-1", expires_in_s=4)
    pos.wait_for(opened["id"], "in_doubt")
    reader.lift()
    other = shop.issue("Another")
    _until_free(pos)
    reader.lay(other)
    assert pos.sell("R-2")["points_after"] == 25
    assert pos.get(f"/v1/checkouts/{opened['id']}")["state"] == "in_doubt"
    reader.lift()
    reader.lay(card)
    again = pos.open("R-1")
    assert again["id"] == opened["id"]
    assert pos.wait_for(opened["id"], "done")["points_after"] == 25


def test_a_lost_reader_is_told_and_the_sale_goes_on_when_it_is_back(shop: Shop, pos: Pos, reader: HandReader) -> None:
    after = pos.get("/v1/events", wait_s=0)["last_id"]
    reader.unplug()
    assert pos.first(after, "reader.changed")["state"] == "lost"
    opened = pos.open("R-1")
    reader.unplug(lost=False)
    reader.lay(shop.issue())
    assert pos.wait_for(opened["id"], "done")["points_after"] == 25


def test_a_checkout_that_waits_survives_a_restart(open_shop: Callable[[], Shop], reader: HandReader) -> None:
    pos = open_shop().pair()
    opened = pos.open("R-1", expires_in_s=600)
    shop = open_shop()
    pos.url = shop.till.url
    assert pos.get(f"/v1/checkouts/{opened['id']}")["state"] == "waiting_for_card"
    reader.lay(shop.issue())
    assert pos.wait_for(opened["id"], "done")["points_after"] == 25


def test_a_sale_in_doubt_survives_a_restart(open_shop: Callable[[], Shop], reader: HandReader) -> None:
    shop = open_shop()
    pos, card = shop.pair(), shop.issue()
    reader.lay(card, TEAR_AT_WRITE)
    opened = pos.open("R-1", expires_in_s=600)
    pos.wait_for(opened["id"], "in_doubt")
    reader.lift()
    pos.url = open_shop().till.url
    assert pos.get(f"/v1/checkouts/{opened['id']}")["state"] == "in_doubt"
    reader.lay(card)
    assert pos.wait_for(opened["id"], "done")["points_after"] == 25


def test_a_sale_is_taken_back_by_its_receipt(shop: Shop, pos: Pos, reader: HandReader) -> None:
    reader.lay(shop.issue())
    pos.sell("R-1", 250_000)
    answer = pos.call("POST", "/v1/reversals", key=a_key(), json={"receipt_no": "R-1", "amount": 100_000})
    assert answer.status_code == 201, answer.text
    back = pos.wait_for(answer.json()["id"], "done")
    assert (back["kind"], back["amount"], back["points_earned"], back["points_after"]) == ("reversal", 100_000, -10, 15)


def test_a_sale_that_was_never_made_can_not_be_taken_back(pos: Pos) -> None:
    answer = pos.call("POST", "/v1/reversals", key=a_key(), json={"receipt_no": "R-1"})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_cards_that_come_and_go_are_told(shop: Shop, pos: Pos, reader: HandReader) -> None:
    after = pos.get("/v1/events", wait_s=0)["last_id"]
    reader.lay(shop.issue())
    assert pos.first(after, "card.presented") == {"reader": "sim:by-hand"}
    reader.lift()
    assert pos.first(after, "card.removed") == {"reader": "sim:by-hand"}


def test_no_card_of_the_club_on_the_reader_is_not_found(pos: Pos, reader: HandReader) -> None:
    foreign = MemoryImage(b"\x01\x02\x03\x04\x04" + bytes(1019))
    for image, code in ((None, "no_card_timeout"), (blank(), "blank_card"), (foreign, "not_our_card")):
        if image is not None:
            reader.lay(image)
        answer = pos.call("GET", "/v1/card")
        assert (answer.status_code, answer.json()["code"]) == (404, code)


def _until_free(pos: Pos) -> None:
    """Until no checkout is open."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if pos.call("GET", "/v1/card").json().get("code") != "busy":
            return
    raise AssertionError("the till stays busy")


def test_another_card_at_a_return_is_told_and_the_return_waits_on(shop: Shop, pos: Pos, reader: HandReader) -> None:
    card, other = shop.issue(), shop.issue(uid=UID_7)
    reader.lay(card)
    pos.sell("R-1", 250_000)
    reader.lift()
    after = pos.get("/v1/events", wait_s=0)["last_id"]
    answer = pos.call("POST", "/v1/reversals", key=a_key(), json={"receipt_no": "R-1"})
    opened = answer.json()
    assert (answer.status_code, opened["amount"]) == (201, 250_000)
    reader.lay(other)
    assert pos.first(after, "card.problem")["error"]["code"] == "other_card"
    assert pos.get(f"/v1/checkouts/{opened['id']}")["state"] == "waiting_for_card"
    reader.lift()
    reader.lay(card)
    assert pos.wait_for(opened["id"], "done")["points_after"] == 0


def test_another_card_of_the_club_does_not_pass_for_the_torn_one(shop: Shop, pos: Pos, reader: HandReader) -> None:
    card, other = shop.issue(), shop.issue(uid=UID_7)
    reader.lay(card, TEAR_AT_WRITE)
    opened = pos.open("R-1")
    pos.wait_for(opened["id"], "in_doubt")
    reader.lift()
    after = pos.get("/v1/events", wait_s=0)["last_id"]
    reader.lay(other)
    error = pos.first(after, "card.problem")["error"]
    assert (error["code"], error["retryable"]) == ("other_card", True)
    assert pos.get(f"/v1/checkouts/{opened['id']}")["state"] == "in_doubt"
    reader.lift()
    reader.lay(card)
    assert pos.wait_for(opened["id"], "done")["error"] is None


def test_the_rest_of_a_sale_is_told_before_it_is_returned(shop: Shop, pos: Pos, reader: HandReader) -> None:
    reader.lay(shop.issue())
    pos.sell("R-1", 250_000)
    part = pos.call("POST", "/v1/reversals", key=a_key(), json={"receipt_no": "R-1", "amount": 100_000}).json()
    pos.wait_for(part["id"], "done")
    reader.lift()
    rest = pos.call("POST", "/v1/reversals", key=a_key(), json={"receipt_no": "R-1"}).json()
    assert (rest["state"], rest["amount"]) == ("waiting_for_card", 150_000)


def _left_in_doubt(shop: Shop, pos: Pos, reader: HandReader) -> tuple[MemoryImage, str, Callable[[], object]]:
    """The card, the checkout that the till waits for, and how a command closes it."""
    card = shop.issue()
    reader.lay(card, TEAR_AT_WRITE)
    checkout_id: str = pos.open("R-1", expires_in_s=600)["id"]
    pos.wait_for(checkout_id, "in_doubt")
    reader.lift()
    return card, checkout_id, lambda: queue_close(shop.agent, {"checkout_id": checkout_id}, lambda _said: None)


def test_a_sale_in_doubt_that_a_command_closes_frees_the_till(shop: Shop, pos: Pos, reader: HandReader) -> None:
    card, checkout_id, close = _left_in_doubt(shop, pos, reader)
    after = pos.get("/v1/events", wait_s=0)["last_id"]
    close()
    told = pos.first(after, "checkout.changed")
    assert (told["id"], told["state"], told["error"]) == (checkout_id, "closed", None)
    reader.lay(card)
    assert pos.sell("R-2")["state"] == "done"


def test_a_sale_that_was_closed_while_the_till_was_down_is_not_waited_for(
    open_shop: Callable[[], Shop], reader: HandReader
) -> None:
    shop = open_shop()
    pos = shop.pair()
    with pytest.MonkeyPatch.context() as looks_away:
        looks_away.setattr(Counter, "_is_over", lambda _counter, _opened: False)
        _card, checkout_id, close = _left_in_doubt(shop, pos, reader)
        close()
        pos.url = open_shop().till.url
    assert pos.get(f"/v1/checkouts/{checkout_id}")["state"] == "closed"
    assert pos.open("R-2")["state"] == "waiting_for_card"
