"""The rest of the wire: joining, signatures, problems, the feed and lookups."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from terminal_agent import contract
from terminal_agent.club.policy import default_policy
from terminal_agent.crm import admin, wire
from terminal_agent.crm.schema import terminals
from terminal_agent.crm.store import Store
from terminal_agent.errors import AgentError
from terminal_agent.ports import SystemClock
from tests.crm.world import CARD, Crm, Terminal


def enrol(crm: Crm, code: Any, **headers: str) -> requests.Response:
    headers = headers or {"Request-Id": "r"}
    return requests.post(crm.url + "/v1/terminals/enroll", json={"code": code}, headers=headers, timeout=10)


def assert_problem(answer: requests.Response, status: int, code: str, retryable: bool = False) -> None:
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json"), answer.text
    got = answer.json()
    assert (got["status"], got["code"], got["retryable"]) == (status, code, retryable)
    assert got["type"]
    assert got["title"]
    assert got["detail"]


def test_a_code_lets_one_terminal_join_once_however_it_is_typed(crm: Crm) -> None:
    code = admin.make_code(crm.place)["code"]
    typed = code.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    answer = enrol(crm, typed)
    got = answer.json()
    secret = base64.b64decode(got["secret"])
    assert len(secret) == 32
    assert answer.headers[contract.SIGNATURE_HEADER] == contract.sign(secret, "r", answer.content)
    assert {"terminal_id", "token", "programme_id", "server_time"} <= set(got)
    assert_problem(enrol(crm, code), 403, "code_invalid")


def test_an_expired_or_invented_code_is_refused(crm: Crm, monkeypatch: pytest.MonkeyPatch) -> None:
    code = admin.make_code(crm.place, expires_in_s=1)["code"]
    later = SystemClock().now().replace(year=2200)
    monkeypatch.setattr(SystemClock, "now", lambda _clock: later)
    assert_problem(enrol(crm, code), 403, "code_invalid")
    assert_problem(enrol(crm, "AAAA-AAAA-AAAA"), 403, "code_invalid")
    assert_problem(enrol(crm, 7), 400, "request_invalid")
    assert_problem(enrol(crm, "x" * 65), 400, "request_invalid")


def test_a_terminal_that_joins_again_gets_a_new_token_and_the_old_one_ends(crm: Crm) -> None:
    first, second = crm.enrol("shop-1"), crm.enrol("shop-1")
    assert_problem(first.call("GET", "/v1/feed"), 401, "crm_unauthorized")
    assert second.get("/v1/feed")["items"]
    first.session.close()
    second.session.close()


def test_an_event_is_known_for_ever_even_after_joining_again(crm: Crm) -> None:
    first = crm.enrol("shop-1")
    event = first.purchase(1, earned=10)
    second = crm.enrol("shop-1")
    second.post(event)
    assert second.verdicts(event) == ["duplicate"]
    first.session.close()
    second.session.close()


def test_without_a_token_nothing_is_told(crm: Crm) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp5"}, {"Authorization": "x"}):
        for path in ("feed", "events", "members?phone=09120000000", "cards/1", "holds", "holds/1/confirm"):
            method = "POST" if path.startswith(("events", "holds")) else "GET"
            answer = requests.request(method, f"{crm.url}/v1/{path}", headers=headers, json=[], timeout=10)
            assert_problem(answer, 401, "crm_unauthorized")


def test_a_revoked_terminal_is_refused(store: Store, terminal: Terminal) -> None:
    with store.writing() as connection:
        connection.execute(terminals.update().values(revoked_at="2026-01-01T00:00:00Z"))
    assert_problem(terminal.call("GET", "/v1/feed"), 403, "crm_unauthorized")


def test_a_request_without_an_id_cannot_be_answered(crm: Crm, terminal: Terminal) -> None:
    for request_id in ("", "two words", "x" * 129):
        answer = terminal.call("GET", "/v1/feed", headers={"Request-Id": request_id})
        assert_problem(answer, 400, "request_id_missing")
    assert_problem(enrol(crm, "AAAA-AAAA-AAAA", Accept="*/*"), 400, "request_id_missing")


def test_an_answer_is_signed_for_one_request_of_one_terminal(crm: Crm, terminal: Terminal) -> None:
    headers = {"Authorization": f"Bearer {terminal.token}", "Request-Id": "a"}
    answer = requests.get(crm.url + "/v1/feed", headers=headers, timeout=10)
    signature = answer.headers[contract.SIGNATURE_HEADER]
    assert contract.signature_is_valid(terminal.secret, "a", answer.content, signature)
    assert not contract.signature_is_valid(terminal.secret, "b", answer.content, signature)
    assert not contract.signature_is_valid(b"\0" * 32, "a", answer.content, signature)
    assert not contract.signature_is_valid(terminal.secret, "a", answer.content + b" ", signature)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1/cards/unknown", 404, "not_found"),
        ("GET", "/v1/members?phone=09129999999", 404, "not_found"),
        ("DELETE", "/v1/events", 405, "method_not_allowed"),
        ("GET", "/v1/members", 400, "request_invalid"),
        ("GET", "/v1/members?phone=abc", 400, "request_invalid"),
        ("GET", "/v1/feed?limit=0", 400, "request_invalid"),
        ("GET", "/v1/feed?limit=501", 400, "request_invalid"),
        ("GET", "/v1/feed?cursor=nonsense", 400, "cursor_invalid"),
        ("GET", "/v1/feed?cursor=ZjE6LTE%3D", 400, "cursor_invalid"),
    ],
)
def test_every_error_is_a_problem(method: str, path: str, status: int, code: str, terminal: Terminal) -> None:
    assert_problem(terminal.call(method, path), status, code)


def test_an_unexpected_failure_is_a_retryable_problem_without_its_cause(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any) -> None:
        raise RuntimeError("09125554433")

    monkeypatch.setattr("terminal_agent.crm.feed.read_page", fail)
    answer = terminal.call("GET", "/v1/feed")
    assert_problem(answer, 500, "internal", retryable=True)
    assert "0912" not in answer.text


def test_a_fresh_crm_publishes_the_default_policy_first(terminal: Terminal) -> None:
    first = terminal.get("/v1/feed")["items"][0]
    document = default_policy()
    assert first == {
        "kind": "policy",
        "version": document["version"],
        "valid_from": document["valid_from"],
        "document": document,
    }


def test_the_feed_is_read_page_by_page_and_goes_on_where_it_stopped(crm: Crm, terminal: Terminal) -> None:
    terminal.post(terminal.purchase(1, earned=1))
    for points in (5, -2):
        admin.adjust_card(crm.place, CARD, points, "a present")
    admin.block_card(crm.place, CARD, "lost")
    admin.block_card(crm.place, CARD, "lost")
    seen, cursor, more = [], "", True
    while more:
        page = terminal.get("/v1/feed", limit=2, cursor=cursor)
        seen += page["items"]
        cursor, more = page["next_cursor"], page["has_more"]
    assert seen[1:] == [
        {"kind": "adjustment", "card_no": CARD, "number": 1, "points": 5, "reason": "a present"},
        {"kind": "adjustment", "card_no": CARD, "number": 2, "points": -2, "reason": "a present"},
        {"kind": "hotlist", "card_no": CARD, "blocked": True, "reason": "lost"},
    ]
    assert terminal.get("/v1/feed", cursor=cursor) == {
        "items": [],
        "next_cursor": cursor,
        "has_more": False,
        "acked_through": {terminal.epoch: 1},
    }
    admin.unblock_card(crm.place, CARD, "found")
    assert [item["blocked"] for item in terminal.get("/v1/feed", cursor=cursor)["items"]] == [False]


def enrolled(terminal: Terminal, member_id: str, phone: str, name: str = "Sara Ahmadi") -> dict[str, Any]:
    member = {"member_id": member_id, "phone": phone, "name": name, "tier": "basic"}
    return terminal.event("member.enrolled", {"member": member}, subject=f"members/{member_id}")


def issued(terminal: Terminal, member_id: str, card_no: str = CARD) -> dict[str, Any]:
    card = {"card_no": card_no, "sequence": 1, "balance_before": 0, "balance_after": 0, "adjustments_through": 0}
    data = {"card": card, "uid": "04a1b2c3", "member_id": member_id, "key_set_version": 1}
    return terminal.event("card.issued", data, card_no)


def test_a_member_is_found_by_any_spelling_of_the_phone(terminal: Terminal) -> None:
    terminal.post(issued(terminal, "m-1"), enrolled(terminal, "m-1", "۰۹۱۲ ۵۵۵ ۴۴۳۳"))
    for spelling in ("09125554433", "+98 912 555 4433", "00989125554433", "989125554433", "٠٩١٢٥٥٥٤٤٣٣"):
        found = terminal.get("/v1/members", phone=spelling)
        assert (len(found.pop("version")), found.pop("consents")) == (16, {})
        assert found == {
            "member_id": "m-1",
            "name": "Sara Ahmadi",
            "phone": "09125554433",
            "tier": "basic",
            "status": "active",
            "cards": [{"card_no": CARD, "status": "active", "balance": 0}],
            "waiting_points": 0,
        }
    assert terminal.get(f"/v1/cards/{CARD}")["member"]["member_id"] == "m-1"


def test_two_shops_that_enrol_one_phone_enrol_one_member(terminal: Terminal) -> None:
    terminal.post(
        enrolled(terminal, "m-1", "09125554433"),
        enrolled(terminal, "m-2", "+989125554433", "Sara"),
        issued(terminal, "m-1", "card-1"),
        issued(terminal, "m-2", "card-2"),
    )
    found = terminal.get("/v1/members", phone="09125554433")
    assert (found["member_id"], [card["card_no"] for card in found["cards"]]) == ("m-1", ["card-1", "card-2"])
    assert terminal.get("/v1/cards/card-2")["member"]["member_id"] == "m-1"
    items = [item for item in terminal.get("/v1/feed")["items"] if item["kind"] == "member"]
    assert [(item["member_id"], item.get("alias_of"), item["first_name"]) for item in items] == [
        ("m-1", None, "Sara"),
        ("m-2", "m-1", "Sara"),
        ("m-1", None, "Sara"),
        ("m-2", "m-1", "Sara"),
    ]
    assert [item["cards"] for item in items] == [[], [], ["card-1"], ["card-2"]]


def test_a_card_reported_as_rolled_back_is_blocked_everywhere(terminal: Terminal) -> None:
    data = {"card_no": CARD, "kind": "rolled_back", "detail": {"sequence_seen": 5, "sequence_on_card": 3}}
    assert terminal.verdicts(terminal.event("card.anomaly", data)) == ["accepted"]
    assert terminal.get(f"/v1/cards/{CARD}")["status"] == "blocked"


@pytest.mark.parametrize("kind", ["card.replaced", "consent.changed", "activity.recorded"])
def test_facts_without_points_are_kept(kind: str, terminal: Terminal) -> None:
    assert terminal.verdicts(terminal.event(kind, {"anything": [1, {"x": None}]})) == ["accepted"]


def test_points_of_an_activity_are_booked(crm: Crm, terminal: Terminal) -> None:
    terminal.post(terminal.event("activity.recorded", {"points": {"earned": 3}}))
    assert crm.ledger() == {f"card:{CARD}": 3, "programme:issued": -3}


def test_health_and_the_description_need_no_token(crm: Crm) -> None:
    for path in ("/healthz", "/v1/healthz"):
        assert requests.get(crm.url + path, timeout=10).json() == {"status": "ok"}
    document, again = (requests.get(crm.url + at + "/openapi.json", timeout=10).json() for at in ("", "/v1"))
    assert document == again
    assert not [path for path in document["paths"] if path.endswith(("/v1/healthz", "openapi.json"))]
    assert document["openapi"].startswith("3.1")
    assert [scheme["scheme"] for scheme in document["components"]["securitySchemes"].values()] == ["bearer"]
    post = document["paths"]["/v1/events"]["post"]
    assert set(post["requestBody"]["content"]) == {"application/cloudevents-batch+json", "application/json"}
    assert "application/problem+json" in post["responses"]["413"]["content"]
    assert "422" not in post["responses"]


def references(node: Any) -> Iterator[str]:
    """Every ``$ref`` in a document."""
    if isinstance(node, dict):
        yield from (node[name] for name in node if name == "$ref")
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from references(child)


def test_the_description_says_all_that_a_client_needs(crm: Crm) -> None:
    document = requests.get(crm.url + "/openapi.json", timeout=10).json()
    assert document == requests.get(crm.url + "/openapi.json", timeout=10).json()
    schemas = document["components"]["schemas"]
    found = set(references(document))
    assert {ref.removeprefix("#/components/schemas/") for ref in found} <= set(schemas)
    assert {"Problem", "Event", "HoldAnswer", "PurchaseReversed", "AdjustmentItem"} <= set(schemas)
    assert {kind["properties"]["type"]["const"] for kind in schemas["Event"]["oneOf"]} == set(contract.EventType)
    for path, methods in document["paths"].items():
        for operation in methods.values():
            headers = [given["name"] for given in operation.get("parameters", []) if given["in"] == "header"]
            assert headers[-1:] == (["Request-Id"] if path.startswith("/v1/") else [])
            assert headers[:-1] == (["If-Match"] if operation is methods.get("patch") else [])
            assert operation["description"]
            assert "200" in operation["responses"]


def test_every_feed_item_is_of_its_described_shape(crm: Crm, terminal: Terminal) -> None:
    terminal.post(issued(terminal, "m-1"), enrolled(terminal, "m-1", "09125554433"))
    terminal.post(enrolled(terminal, "m-2", "09125554433", ""))
    admin.adjust_card(crm.place, CARD, 5, "a present")
    admin.block_card(crm.place, CARD, "lost")
    shapes = {
        "policy": wire.PolicyItem,
        "adjustment": wire.AdjustmentItem,
        "hotlist": wire.HotlistItem,
        "member": wire.MemberItem,
    }
    items = terminal.get("/v1/feed")["items"]
    assert {item["kind"] for item in items} == set(shapes)
    for item in items:
        assert set(item) <= set(shapes[item["kind"]].model_fields)
        shapes[item["kind"]].model_validate(item, strict=True)


def test_an_adjustment_moves_the_balance_and_the_ledger(crm: Crm, terminal: Terminal) -> None:
    terminal.post(terminal.purchase(1, earned=10))
    assert admin.adjust_card(crm.place, CARD, -4, "mistake")["balance"] == 6
    assert crm.ledger()["programme:adjusted"] == 4
    assert terminal.get(f"/v1/cards/{CARD}")["adjustments_through"] == 1
    with pytest.raises(AgentError, match="knows no card"):
        admin.adjust_card(crm.place, "unknown", 1, "x")
    with pytest.raises(AgentError, match="between"):
        admin.adjust_card(crm.place, CARD, 0, "x")
