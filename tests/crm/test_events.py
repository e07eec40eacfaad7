"""Verdicts: every event counts exactly once, whatever is sent how often."""

from __future__ import annotations

import gzip
import json
import random
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from terminal_agent.crm import cards
from terminal_agent.crm.bodies import unzip
from terminal_agent.crm.events import CardState, Event
from terminal_agent.crm.problems import ProblemError
from tests.crm.world import CARD, EPOCH, Crm, Terminal


def test_a_purchase_moves_its_points_and_answers_the_new_balance(crm: Crm, terminal: Terminal) -> None:
    got = terminal.post(terminal.purchase(1, earned=50), terminal.purchase(2, earned=5, redeemed=20, before=50))
    assert [(result["status"], result["balance"]) for result in got["results"]] == [("accepted", 50), ("accepted", 35)]
    assert got["acked_through"] == 2
    assert crm.ledger() == {f"card:{CARD}": 35, "programme:issued": -55, "programme:redeemed": 20}
    assert terminal.get(f"/v1/cards/{CARD}") | {"member": None} == {
        "card_no": CARD,
        "balance": 35,
        "sequence": 2,
        "status": "active",
        "adjustments_through": 0,
        "member": None,
    }


def test_an_event_sent_again_is_a_duplicate_and_counts_once(crm: Crm, terminal: Terminal) -> None:
    event = terminal.purchase(1, earned=50)
    assert terminal.verdicts(event, event) == ["accepted", "duplicate"]
    assert terminal.post(event)["results"] == [{"id": event["id"], "status": "duplicate", "balance": 50}]
    assert crm.ledger()[f"card:{CARD}"] == 50


def test_events_sent_twice_by_many_threads_at_once_count_once_each(crm: Crm) -> None:
    cards = [f"card-{number}" for number in range(4)]
    sent = {card_no: 0 for card_no in cards}

    def shop(number: int) -> list[str]:
        with ThreadPoolExecutor(2) as pool:
            halves = [pool.submit(_send_in_parts, terminals[number], batches[number][way]) for way in (0, 1)]
            return [verdict for half in halves for verdict in half.result()]

    terminals = [crm.enrol(f"shop-{number}") for number in range(4)]
    batches = []
    for number, terminal in enumerate(terminals):
        made = []
        for counter in range(60):
            card_no = random.choice(cards)
            sent[card_no] += counter + 1
            made.append(terminal.purchase(counter * 4 + number + 1, earned=counter + 1, card_no=card_no))
        batches.append((random.sample(made, 60), random.sample(made, 60)))
    with ThreadPoolExecutor(4) as pool:
        verdicts = [verdict for answers in pool.map(shop, range(4)) for verdict in answers]
    assert sorted(verdicts) == ["accepted"] * 240 + ["duplicate"] * 240
    assert {card_no: crm.ledger()[f"card:{card_no}"] for card_no in cards} == sent
    assert {card_no: crm.card(card_no)["balance"] for card_no in cards} == sent
    for terminal in terminals:
        terminal.session.close()


def _send_in_parts(terminal: Terminal, events: list[Any]) -> list[str]:
    own = Terminal(terminal.url, terminal.terminal_id, terminal.token, terminal.secret)
    with own.session:
        return [verdict for start in range(0, 60, 20) for verdict in own.verdicts(*events[start : start + 20])]


def test_a_terminal_that_numbers_another_sale_the_same_is_a_fork_and_both_sales_count(
    crm: Crm, terminal: Terminal
) -> None:
    first = terminal.purchase(1, earned=10)
    terminal.sequence = 0
    second = terminal.purchase(2, earned=7)
    assert terminal.verdicts(first) == ["accepted"]
    [result] = terminal.post(second)["results"]
    assert (result["status"], result["code"], result["balance"]) == ("fork", "sequence_reused", 17)
    assert terminal.verdicts(second, first) == ["duplicate", "duplicate"]
    assert crm.ledger()[f"card:{CARD}"] == 17


def test_an_id_used_for_another_sale_is_a_fork_and_the_sale_is_not_dropped(crm: Crm, terminal: Terminal) -> None:
    first = terminal.purchase(1, earned=10)
    second = terminal.purchase(2, earned=7) | {"id": first["id"]}
    assert terminal.verdicts(first, second, second) == ["accepted", "fork", "duplicate"]
    assert crm.ledger()[f"card:{CARD}"] == 17


def test_a_card_counter_used_twice_blocks_the_card_everywhere_and_both_sales_count(
    crm: Crm, terminal: Terminal
) -> None:
    other = crm.enrol("shop-2")
    assert terminal.verdicts(terminal.purchase(3, earned=10)) == ["accepted"]
    [result] = other.post(other.purchase(3, earned=7))["results"]
    assert (result["status"], result["code"], result["balance"]) == ("fork", "card_counter_reused", 17)
    assert other.get(f"/v1/cards/{CARD}")["status"] == "blocked"
    items = [item for item in terminal.get("/v1/feed")["items"] if item["kind"] == "hotlist"]
    assert items == [{"kind": "hotlist", "card_no": CARD, "blocked": True, "reason": "card_counter_reused"}]
    other.session.close()


def test_a_redemption_below_zero_is_booked_as_a_fact(crm: Crm, terminal: Terminal) -> None:
    assert terminal.verdicts(terminal.purchase(1, earned=0, redeemed=30)) == ["accepted"]
    assert crm.ledger() == {f"card:{CARD}": -30, "programme:redeemed": 30}


def test_a_reversal_takes_back_what_was_earned_and_gives_back_what_was_redeemed(crm: Crm, terminal: Terminal) -> None:
    state = {"card_no": CARD, "sequence": 2}
    data = {"card": state, "points": {"earned": -10, "redeemed": -4}, "reversed_event_id": "x"}
    terminal.post(terminal.purchase(1, earned=10, redeemed=4), terminal.event("purchase.reversed", data))
    assert crm.ledger() == {f"card:{CARD}": 0, "programme:issued": 0, "programme:redeemed": 0}


def test_acked_through_stops_at_the_first_gap_and_goes_on_when_it_closes(terminal: Terminal) -> None:
    events = [terminal.purchase(counter, earned=1) for counter in range(1, 6)]
    assert terminal.post(events[1], events[3])["acked_through"] == 0
    assert terminal.post(events[0])["acked_through"] == 2
    assert terminal.post(events[4], events[2])["acked_through"] == 5
    assert terminal.post()["acked_through"] == 0


def test_a_late_card_state_does_not_take_the_counter_back(terminal: Terminal) -> None:
    terminal.post(terminal.purchase(9, earned=1), terminal.purchase(4, earned=1))
    assert terminal.get(f"/v1/cards/{CARD}")["sequence"] == 9


MALFORMED: dict[str, dict[str, Any]] = {
    "id": {"id": 7},
    "specversion": {"specversion": "0.3"},
    "type": {"type": "coffee.spilled"},
    "time": {"time": "yesterday"},
    "data": {"data": "nothing"},
    "subject": {"subject": "cards/another"},
    "data.points.earned": {
        "data": {"card": {"card_no": CARD, "sequence": 1}, "purchase": {"amount": 1}, "points": {"earned": 1.5}}
    },
    "data.card.sequence": {"data": {"card": {"card_no": CARD}, "purchase": {"amount": 1}, "points": {}}},
    "data.points": {"data": {"card": {"card_no": CARD, "sequence": 1}, "purchase": {"amount": 1}}},
}


@pytest.mark.parametrize("field", MALFORMED)
def test_a_malformed_event_is_rejected_by_itself_and_keeps_its_sequence(
    field: str, crm: Crm, terminal: Terminal
) -> None:
    bad = terminal.purchase(1, earned=10) | MALFORMED[field]
    got = terminal.post(bad, terminal.purchase(2, earned=7))
    assert [result["status"] for result in got["results"]] == ["rejected", "accepted"]
    assert got["results"][0]["code"] == "event_malformed"
    assert got["results"][0]["detail"].startswith(field + ":")
    assert got["acked_through"] == 2
    assert crm.ledger()[f"card:{CARD}"] == 7


@pytest.mark.parametrize(
    ("kind", "points"), [("purchase.recorded", 10**13), ("purchase.reversed", 10**13), ("purchase.reversed", -(10**13))]
)
def test_points_that_could_overflow_a_sum_are_rejected(kind: str, points: int, terminal: Terminal) -> None:
    event = terminal.purchase(1, earned=0) | {"type": kind}
    event["data"]["points"]["earned"] = points
    [result] = terminal.post(event)["results"]
    assert (result["status"], result["detail"].split(":")[0]) == ("rejected", "data.points.earned")


@pytest.mark.parametrize("document", [None, 5, "x", [], {}, {"id": "\ud800"}, {"sequence": "0"}])
def test_what_is_no_event_at_all_is_rejected(document: Any, terminal: Terminal) -> None:
    [result] = terminal.post(document)["results"]
    assert (result["id"], result["status"], result["code"]) == (None, "rejected", "event_malformed")


def test_an_event_of_another_terminal_is_rejected(crm: Crm, terminal: Terminal) -> None:
    foreign = terminal.purchase(1, earned=1) | {"source": "/terminals/shop-2/" + terminal.epoch}
    [result] = terminal.post(foreign)["results"]
    assert (result["status"], result["code"]) == ("rejected", "source_mismatch")
    assert crm.ledger() == {}


@pytest.mark.parametrize(("levels", "verdict"), [(27, "accepted"), (28, "rejected"), (900, "rejected")])
@pytest.mark.parametrize("flat", [[], [[]] * 40], ids=["narrow", "wide"])
def test_an_event_is_only_so_deep(levels: int, verdict: str, flat: list[Any], crm: Crm, terminal: Terminal) -> None:
    deep: Any = 1
    for _ in range(levels):
        deep = [deep]
    sale = terminal.purchase(1, earned=1)
    sale["data"]["purchase"]["note"] = {"flat": flat, "deep": deep}
    [result] = terminal.post(sale)["results"]
    assert result["status"] == verdict, result


def test_a_rejected_event_is_judged_again_when_it_comes_again(crm: Crm, terminal: Terminal) -> None:
    good = terminal.purchase(1, earned=10)
    assert terminal.verdicts(good | {"data": {}}) == ["rejected"]
    assert terminal.verdicts(good | {"data": {}}) == ["rejected"]
    assert terminal.verdicts(good) == ["accepted"]
    assert crm.ledger()[f"card:{CARD}"] == 10


def test_an_event_the_database_refuses_is_kept_waiting_and_its_neighbours_pass(
    crm: Crm, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [terminal.purchase(counter, earned=counter) for counter in (1, 2, 3)]
    original = cards.link

    def link(event: Event, state: CardState, intent_id: str | None) -> dict[str, Any]:
        if event.id == events[1]["id"]:
            raise IntegrityError("insert", {}, Exception("refused"))
        return original(event, state, intent_id)

    monkeypatch.setattr(cards, "link", link)
    assert terminal.verdicts(*events) == ["accepted", "retry", "accepted"]
    assert crm.ledger()[f"card:{CARD}"] == 4
    monkeypatch.undo()
    assert terminal.post(*events)["acked_through"] == 3
    assert crm.ledger()[f"card:{CARD}"] == 6


def test_a_gzip_batch_is_booked_like_any_other(crm: Crm, terminal: Terminal) -> None:
    body = gzip.compress(json.dumps([terminal.purchase(1, earned=10)]).encode())
    headers = {"Content-Type": "application/cloudevents-batch+json", "Content-Encoding": "gzip"}
    assert terminal.call("POST", "/v1/events", data=body, headers=headers).ok
    assert crm.ledger()[f"card:{CARD}"] == 10


GZIP = {"Content-Encoding": "gzip"}
BAD_BATCHES: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "no array": (400, b"{}", {}),
    "no JSON": (400, b"[", {}),
    "not UTF-8": (400, b'["\xff"]', {}),
    "not a number": (400, b"[NaN]", {}),
    "beyond numbers": (400, b"[1e999]", {}),
    "endless nesting": (400, b"[" * 500_000, {}),
    "no gzip": (400, b"[]", GZIP),
    "gzip cut short": (400, gzip.compress(b"[" + b" " * 5000 + b"]")[:-4], GZIP),
    "a gzip bomb": (413, gzip.compress(b"[" + b" " * 50_000_000 + b"]"), GZIP),
    "too many bytes": (413, b"[" + b" " * (1 << 20) + b"]", {}),
    "too many events": (413, json.dumps([{}] * 501).encode(), {}),
    "another encoding": (415, b"[]", {"Content-Encoding": "br"}),
    "another type": (415, b"[]", {"Content-Type": "text/plain"}),
}


@pytest.mark.parametrize("name", BAD_BATCHES)
def test_a_bad_batch_is_refused_whole_as_a_problem(name: str, terminal: Terminal) -> None:
    status, body, headers = BAD_BATCHES[name]
    answer = terminal.call("POST", "/v1/events", data=body, headers={"Content-Type": "application/json"} | headers)
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert answer.json()["retryable"] is False


def test_numbers_no_field_can_hold_spoil_only_their_own_event(terminal: Terminal) -> None:
    huge = json.dumps([terminal.purchase(1, earned=1), terminal.purchase(2, earned=424242)])
    body = huge.replace("424242", "9" * 300).encode()
    answer = terminal.call("POST", "/v1/events", data=body, headers={"Content-Type": "application/json"})
    assert [result["status"] for result in answer.json()["results"]] == ["accepted", "rejected"]


def test_a_gzip_bomb_is_never_unpacked_whole() -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    tracemalloc.start()
    with pytest.raises(ProblemError, match="at most"):
        unzip(bomb, 1 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 << 20


def test_a_sale_told_again_with_another_end_is_kept_and_moves_nothing(crm: Crm, terminal: Terminal) -> None:
    first = terminal.purchase(5, earned=10)
    again = {**terminal.purchase_in_doubt("i-1", counter=5, earned=10), "id": first["id"]}
    for event in (first, again):
        event["data"]["purchase"]["receipt_no"] = "R-1"
    results = terminal.post(first, again)["results"]
    assert [(result["status"], result.get("code")) for result in results] == [
        ("accepted", None),
        ("fork", "told_again"),
    ]
    assert crm.card()["balance"] == 10
    assert crm.card()["status"] == "active"


def told_by_a_restored_till(event: dict[str, Any]) -> dict[str, Any]:
    """The same event, minted anew by a journal that was put back from a copy: its place is another one."""
    epoch = "0190d000-0000-7000-8000-000000000002"
    source = event["source"].replace(EPOCH, epoch)
    return event | {"source": source, "sequence": "1", "data": event["data"] | {"previous_hash": "f" * 64}}


def test_an_issue_told_again_by_a_restored_till_blocks_no_card(crm: Crm, terminal: Terminal) -> None:
    state = {"card_no": CARD, "sequence": 1, "balance_before": 0, "balance_after": 0, "adjustments_through": 0}
    data = {"card": state, "uid": "1A2B3C4D", "member_id": "m-1", "key_set_version": 1, "previous_hash": "0" * 64}
    issued = terminal.event("card.issued", data)
    results = terminal.post(issued)["results"] + terminal.post(told_by_a_restored_till(issued))["results"]
    assert [(result["status"], result.get("code")) for result in results] == [
        ("accepted", None),
        ("fork", "told_again"),
    ]
    assert crm.card()["status"] == "active"


def test_points_told_again_by_a_restored_till_count_once(crm: Crm, terminal: Terminal) -> None:
    given = terminal.event("activity.recorded", {"points": {"earned": 7}, "previous_hash": "0" * 64})
    terminal.post(given)
    terminal.post(told_by_a_restored_till(given))
    assert crm.card()["balance"] == 7


def test_another_issue_under_the_same_id_is_no_issue_told_again(crm: Crm, terminal: Terminal) -> None:
    state = {"card_no": CARD, "sequence": 1, "balance_before": 0, "balance_after": 0, "adjustments_through": 0}
    issued = terminal.event("card.issued", {"card": state, "uid": "1A2B3C4D", "member_id": "m-1"})
    other = told_by_a_restored_till(issued)
    other["data"] |= {"uid": "99999999"}
    terminal.post(issued)
    [result] = terminal.post(other)["results"]
    assert (result["status"], result["code"]) == ("fork", "card_counter_reused")
    assert crm.card()["status"] == "blocked"
