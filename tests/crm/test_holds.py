"""Holds: two copies of a card cannot spend the same points, and no hold ever stands in the way of a fact."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import requests

from terminal_agent.crm import admin, admin_club, admin_holds, holds
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.ports import SystemClock
from tests.crm.world import CARD, Crm, Terminal

REFERENCE = "0190d000-0000-7000-8000-00000000cafe"


@pytest.fixture
def other(crm: Crm) -> Iterator[Terminal]:
    """A till of another shop."""
    enrolled = crm.enrol("shop-2")
    with enrolled.session:
        yield enrolled


@pytest.fixture(autouse=True)
def _points(terminal: Terminal) -> None:
    """The card has 100 points and the counter 1."""
    terminal.post(terminal.purchase(1, earned=100))


def pass_time(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    now = SystemClock().now
    monkeypatch.setattr(SystemClock, "now", lambda _clock: now() + timedelta(seconds=seconds))


def ask(terminal: Terminal, points: Any, card_no: Any = CARD, **more: Any) -> requests.Response:
    return terminal.call("POST", "/v1/holds", json={"card_no": card_no, "points": points, **more})


def hold(terminal: Terminal, points: int, **more: Any) -> dict[str, Any]:
    answer = ask(terminal, points, **more)
    assert answer.status_code == 200, answer.text
    got: dict[str, Any] = answer.json()
    return got


def end(terminal: Terminal, way: str, hold_id: str) -> requests.Response:
    return terminal.call("POST", f"/v1/holds/{hold_id}/{way}")


def state(terminal: Terminal, way: str, hold_id: str) -> str:
    answer = end(terminal, way, hold_id)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["state"])


def assert_refused(answer: requests.Response, code: str, status: int = 409, **facts: int) -> None:
    got = answer.json()
    assert (answer.status_code, got["code"]) == (status, code), got
    assert {name: got.get(name) for name in ("balance", "available", "sequence")} == {
        "balance": None,
        "available": None,
        "sequence": None,
    } | facts


def redemption(terminal: Terminal, counter: int, hold_id: str, redeemed: int = 60, before: int = 100) -> dict[str, Any]:
    event = terminal.purchase(counter, earned=0, redeemed=redeemed, before=before)
    event["data"]["hold_id"] = hold_id
    return event


def test_a_hold_sets_points_aside_and_books_nothing(crm: Crm, terminal: Terminal, other: Terminal) -> None:
    got = hold(terminal, 60)
    assert got["hold_id"]
    assert got | {"hold_id": "", "expires_at": ""} == {
        "hold_id": "",
        "expires_at": "",
        "state": "held",
        "card_no": CARD,
        "points": 60,
        "balance": 100,
        "available": 40,
    }
    assert crm.ledger()[f"card:{CARD}"] == 100
    assert_refused(ask(other, 41), "insufficient_points", balance=100, available=40)
    assert hold(other, 40)["available"] == 0


def test_a_hold_ends_after_ten_minutes(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    first = hold(terminal, 60)
    pass_time(monkeypatch, holds.LIFE_S - 60)
    assert_refused(ask(terminal, 60), "insufficient_points", balance=100, available=40)
    pass_time(monkeypatch, 60)
    assert hold(terminal, 60)["expires_at"] > first["expires_at"]
    assert holds.LIFE_S == 600


def test_released_points_are_free_at_once(terminal: Terminal) -> None:
    first = hold(terminal, 60)["hold_id"]
    assert state(terminal, "release", first) == "released"
    assert hold(terminal, 100)["available"] == 0
    assert state(terminal, "release", first) == "released"
    assert_refused(end(terminal, "confirm", first), "hold_released")


def test_a_confirmed_hold_stays_until_its_event_arrives(
    crm: Crm, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hold(terminal, 60)["hold_id"]
    assert state(terminal, "confirm", first) == "confirmed"
    assert state(terminal, "confirm", first) == "confirmed"
    pass_time(monkeypatch, 100 * holds.LIFE_S)
    assert_refused(ask(terminal, 41), "insufficient_points", balance=100, available=40)
    event = redemption(terminal, 2, first)
    assert terminal.verdicts(event, event) == ["accepted", "duplicate"]
    assert crm.ledger()[f"card:{CARD}"] == 40
    assert hold(terminal, 40)["available"] == 0
    assert state(terminal, "confirm", first) == "spent"
    assert_refused(end(terminal, "release", first), "hold_spent")


def test_a_hold_that_lapsed_cannot_be_confirmed_any_more(
    crm: Crm, terminal: Terminal, other: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hold(terminal, 60)["hold_id"]
    pass_time(monkeypatch, holds.LIFE_S)
    hold(other, 100)
    assert_refused(end(terminal, "confirm", first), "hold_ended")
    assert crm.card()["available"] == 0


def test_a_confirmed_hold_of_a_sale_that_never_began_is_released(crm: Crm, terminal: Terminal) -> None:
    first = hold(terminal, 60)["hold_id"]
    end(terminal, "confirm", first)
    assert state(terminal, "release", first) == "released"
    assert crm.card()["available"] == 100


def test_head_office_frees_a_hold_of_which_nobody_will_tell(crm: Crm, terminal: Terminal, other: Terminal) -> None:
    first = hold(terminal, 60)["hold_id"]
    end(terminal, "confirm", first)
    second = hold(other, 10)["hold_id"]
    listed = admin_holds.list_holds(crm.place, 10)
    assert [(row["hold_id"], row["terminal_id"], row["points"], row["state"]) for row in listed] == [
        (first, "shop-1", 60, "confirmed"),
        (second, "shop-2", 10, "held"),
    ]
    for _ in range(2):
        assert admin_holds.free_hold(crm.place, first, "the till was stolen")["state"] == "released"
    assert [row["hold_id"] for row in admin_holds.list_holds(crm.place, 10)] == [second]
    assert crm.card()["available"] == 90
    noted = admin_club.show_audit(crm.place, CARD, 1)["entries"][0]
    assert (noted["action"], noted["detail"]) == ("hold.freed", {"hold_id": first, "reason": "the till was stolen"})


def test_a_hold_that_is_spent_or_unknown_cannot_be_freed(crm: Crm, terminal: Terminal) -> None:
    first = hold(terminal, 60)["hold_id"]
    terminal.post(redemption(terminal, 2, first))
    for hold_id, code in ((first, ErrorCode.INVALID_INPUT), ("unknown", ErrorCode.NOT_FOUND)):
        with pytest.raises(AgentError) as caught:
            admin_holds.free_hold(crm.place, hold_id, "why not")
        assert caught.value.code is code
    assert crm.ledger()[f"card:{CARD}"] == 40


def test_releasing_an_expired_hold_is_no_mistake(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    first = hold(terminal, 60)["hold_id"]
    pass_time(monkeypatch, holds.LIFE_S)
    assert state(terminal, "release", first) == "released"


@pytest.mark.parametrize("way", ["nothing", "confirm", "release", "expire"])
def test_the_event_of_a_hold_is_booked_whatever_became_of_the_hold(
    way: str, crm: Crm, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hold(terminal, 60)["hold_id"]
    if way == "expire":
        pass_time(monkeypatch, holds.LIFE_S)
    elif way != "nothing":
        end(terminal, way, first)
    assert terminal.verdicts(redemption(terminal, 2, first)) == ["accepted"]
    assert (crm.card()["balance"], crm.card()["available"], crm.card()["holds"]) == (40, 40, [])


def test_an_event_may_name_a_hold_that_nobody_knows(crm: Crm, terminal: Terminal) -> None:
    assert terminal.verdicts(redemption(terminal, 2, "unknown")) == ["accepted"]
    [result] = terminal.post(redemption(terminal, 3, "no hold\n"))["results"]
    assert (result["status"], result["detail"].split(":")[0]) == ("rejected", "data.hold_id")
    assert crm.ledger()[f"card:{CARD}"] == 40


def test_a_sale_closed_without_its_card_frees_what_it_held(crm: Crm, terminal: Terminal) -> None:
    first = hold(terminal, 60)["hold_id"]
    end(terminal, "confirm", first)
    event = terminal.purchase_in_doubt("i-1", counter=2, earned=0, before=100)
    event["data"]["hold_id"] = first
    terminal.post(event)
    assert crm.card()["available"] == 100


def test_a_hold_belongs_to_its_terminal(crm: Crm, terminal: Terminal, other: Terminal) -> None:
    first = hold(terminal, 60)["hold_id"]
    for way in ("confirm", "release"):
        assert_refused(end(other, way, first), "not_found", 404)
        assert_refused(end(terminal, way, "unknown"), "not_found", 404)
    other.post(redemption(other, 2, first, redeemed=1))
    assert crm.card()["available"] == 39


def test_no_points_are_held_for_a_card_that_is_unknown_or_blocked(crm: Crm, terminal: Terminal) -> None:
    assert_refused(ask(terminal, 1, "unknown"), "not_found", 404)
    admin.block_card(crm.place, CARD, "lost")
    assert_refused(ask(terminal, 1), "card_blocked")
    admin.unblock_card(crm.place, CARD, "found")
    assert hold(terminal, 1)["available"] == 99


def test_an_account_below_zero_has_nothing_to_hold(terminal: Terminal) -> None:
    terminal.post(terminal.purchase(2, earned=0, redeemed=130, before=100))
    assert_refused(ask(terminal, 1), "insufficient_points", balance=-30, available=-30)


# One redemption of a card at a time, on the newest state.


def test_a_hold_confirms_the_chain_in_the_same_breath(terminal: Terminal, other: Terminal) -> None:
    assert_refused(ask(terminal, 10, card_sequence=2), "chain_behind", sequence=1)
    assert_refused(ask(terminal, 10, card_sequence=0), "chain_ahead", sequence=1)
    first = hold(terminal, 10, card_sequence=1)
    assert (first["balance"], first["available"]) == (100, 90)
    assert_refused(ask(other, 10, card_sequence=1), "card_held")
    end(terminal, "confirm", first["hold_id"])
    assert_refused(ask(other, 10, card_sequence=1), "card_held")
    terminal.post(redemption(terminal, 2, first["hold_id"], redeemed=10))
    assert_refused(ask(other, 10, card_sequence=1), "chain_ahead", sequence=2)
    assert hold(other, 10, card_sequence=2)["available"] == 80


def test_a_hold_without_a_counter_stands_in_the_way_of_one_with(terminal: Terminal, other: Terminal) -> None:
    hold(terminal, 10)
    assert_refused(ask(other, 10, card_sequence=1), "card_held")
    assert hold(other, 10)["available"] == 80


def test_a_hold_that_ended_is_in_nobodys_way(
    terminal: Terminal, other: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    end(terminal, "release", hold(terminal, 10, card_sequence=1)["hold_id"])
    hold(terminal, 10, card_sequence=1)
    pass_time(monkeypatch, holds.LIFE_S)
    assert hold(other, 10, card_sequence=1)["available"] == 90


def test_a_hold_whose_event_is_lost_keeps_its_points_and_lets_the_card_redeem_again(
    terminal: Terminal, other: Terminal
) -> None:
    end(terminal, "confirm", hold(terminal, 60, card_sequence=1)["hold_id"])
    other.post(other.purchase(3, earned=5, before=40))
    assert hold(other, 45, card_sequence=3)["available"] == 0


# Asking again.


def test_asking_again_with_the_same_reference_gives_the_same_hold(terminal: Terminal, other: Terminal) -> None:
    first = hold(terminal, 60, card_sequence=1, reference=REFERENCE)
    assert hold(terminal, 60, card_sequence=1, reference=REFERENCE) == first
    assert_refused(ask(other, 60, reference=REFERENCE), "insufficient_points", balance=100, available=40)
    end(terminal, "confirm", first["hold_id"])
    assert hold(terminal, 60, card_sequence=1, reference=REFERENCE) == first | {"state": "confirmed"}
    assert hold(other, 40, reference=REFERENCE)["hold_id"] != first["hold_id"]


def test_a_reference_names_one_hold(terminal: Terminal) -> None:
    hold(terminal, 60, reference=REFERENCE)
    assert_refused(ask(terminal, 61, reference=REFERENCE), "reference_reused")
    terminal.post(terminal.purchase(1, earned=100, card_no="another"))
    assert_refused(ask(terminal, 60, "another", reference=REFERENCE), "reference_reused")


@pytest.mark.parametrize("way", ["release", "expire", "spend"])
def test_a_hold_that_ended_is_not_given_out_again(
    way: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hold(terminal, 60, reference=REFERENCE)["hold_id"]
    if way == "expire":
        pass_time(monkeypatch, holds.LIFE_S)
    elif way == "release":
        end(terminal, "release", first)
    else:
        terminal.post(redemption(terminal, 2, first))
    assert_refused(ask(terminal, 60, reference=REFERENCE), "hold_ended")


def test_a_blocked_card_is_refused_even_when_asked_again(crm: Crm, terminal: Terminal) -> None:
    hold(terminal, 60, reference=REFERENCE)
    admin.block_card(crm.place, CARD, "lost")
    assert_refused(ask(terminal, 60, reference=REFERENCE), "card_blocked")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("points", 0),
        ("points", -5),
        ("points", 1.5),
        ("points", True),
        ("points", 10**13),
        ("points", "7"),
        ("card_no", 7),
        ("card_no", ""),
        ("card_sequence", -1),
        ("card_sequence", "1"),
        ("reference", "x" * 65),
        ("reference", ""),
        ("reference", "a\x00"),
        ("reference", "\ud800"),
    ],
)
def test_a_request_of_another_shape_names_the_field(field: str, value: Any, terminal: Terminal) -> None:
    body = json.dumps({"card_no": CARD, "points": 1, field: value})
    answer = terminal.call("POST", "/v1/holds", data=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "request_invalid")
    assert answer.json()["detail"].startswith(field + ":")


# Many at once, on the real server.


def many(terminals: list[Terminal], calls: int, body: dict[str, Any]) -> list[requests.Response]:
    """The answers to ``calls`` requests of each terminal, all in flight together."""

    def one(terminal: Terminal) -> requests.Response:
        own = Terminal(terminal.url, terminal.terminal_id, terminal.token, terminal.secret)
        with own.session:
            return own.call("POST", "/v1/holds", json=body)

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(one, terminals * calls))


def test_of_many_at_once_only_as_many_are_granted_as_the_points_allow(
    crm: Crm, terminal: Terminal, other: Terminal
) -> None:
    answers = many([terminal, other], 12, {"card_no": CARD, "points": 30})
    granted = [answer.json() for answer in answers if answer.ok]
    assert sorted(got["available"] for got in granted) == [10, 40, 70]
    assert {answer.json()["code"] for answer in answers if not answer.ok} == {"insufficient_points"}
    assert (crm.card()["available"], len(crm.card()["holds"])) == (10, 3)


def test_of_many_copies_of_a_card_only_one_redeems_at_a_time(crm: Crm, terminal: Terminal, other: Terminal) -> None:
    answers = many([terminal, other], 12, {"card_no": CARD, "points": 1, "card_sequence": 1})
    assert [answer.ok for answer in answers].count(True) == 1
    assert {answer.json()["code"] for answer in answers if not answer.ok} == {"card_held"}


def test_one_reference_asked_for_many_times_at_once_is_one_hold(crm: Crm, terminal: Terminal) -> None:
    body = {"card_no": CARD, "points": 30, "card_sequence": 1, "reference": REFERENCE}
    answers = many([terminal], 24, body)
    assert {answer.json()["hold_id"] for answer in answers} == {crm.card()["holds"][0]["hold_id"]}
    assert crm.card()["available"] == 70


def test_points_held_and_spent_by_many_at_once_are_spent_once(crm: Crm, terminal: Terminal) -> None:
    shops = [crm.enrol(f"shop-{number}") for number in range(10, 16)]

    def redeem(number: int) -> int:
        """Redeems 7 points as often as it is let; how often that was."""
        granted = 0
        for _ in range(6):
            answer = ask(shops[number], 7)
            if answer.ok:
                granted += 1
                hold_id = answer.json()["hold_id"]
                if granted % 2:
                    end(shops[number], "confirm", hold_id)
                counter = 10 + number * 10 + granted
                shops[number].post(redemption(shops[number], counter, hold_id, redeemed=7))
        shops[number].session.close()
        return granted

    with ThreadPoolExecutor(6) as pool:
        granted = sum(pool.map(redeem, range(6)))
    assert granted == 100 // 7
    assert (crm.ledger()[f"card:{CARD}"], crm.card()["available"]) == (100 % 7, 100 % 7)


def test_a_hold_is_on_disk_and_shown_to_head_office(crm: Crm, terminal: Terminal) -> None:
    got = hold(terminal, 60, reference=REFERENCE)
    [shown] = admin.show_card(crm.place, CARD)["holds"]
    assert shown == {
        "hold_id": got["hold_id"],
        "terminal_id": "shop-1",
        "points": 60,
        "state": "held",
        "expires_at": got["expires_at"],
        "reference": REFERENCE,
    }
