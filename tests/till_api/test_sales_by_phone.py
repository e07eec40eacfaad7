"""A POS sells to who has left the card at home: done at once, line or no line, shown, printed and returned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import requests

from terminal_agent.contract import EventType
from terminal_agent.till_api.allowance import AT_ONCE
from tests.till_api.hand_reader import HandReader
from tests.till_api.pos import Pos, Shop, a_key
from tests.till_api.test_enrolments import NAME, PHONE, enrol, told


def post(pos: Pos, receipt_no: str, key: str | None = None, **more: Any) -> requests.Response:
    body = {"amount": 250_000, "currency": "IRR", "receipt_no": receipt_no, "phone": PHONE, **more}
    return pos.call("POST", "/v1/checkouts", key=key or a_key(), json=body)


def test_a_known_member_buys_without_the_card(shop: Shop, pos: Pos, reader: HandReader) -> None:
    who, key = enrol(pos, name=NAME), a_key()
    after = pos.get("/v1/events", wait_s=0)["last_id"]
    answer = post(pos, "R-1", key)
    sold = answer.json()
    assert (answer.status_code, sold["state"], sold["kind"]) == (201, "done", "purchase")
    assert (sold["member_id"], sold["member"]) == (who["member_id"], {"first_name": "Canary", "tier": None})
    assert (sold["card_no"], sold["points_earned"], sold["points_before"], sold["points_after"]) == (
        None,
        25,
        None,
        None,
    )
    assert pos.first(after, "checkout.changed") == sold
    assert pos.get(f"/v1/checkouts/{sold['id']}") == post(pos, "R-1", key).json() == sold
    again = post(pos, "R-1").json()
    assert (again["id"], again["replayed"]) == (sold["id"], True)
    assert post(pos, "R-1", amount=1).json()["code"] == "receipt_conflict"
    assert post(pos, "R-2", redeem_points=1).status_code == 400
    [listed] = pos.get("/v1/checkouts")["checkouts"]
    assert (listed["card_no"], listed["member"], listed["points_earned"]) == (None, sold["member"], 25)
    printed = pos.call("GET", f"/v1/checkouts/{sold['id']}/receipt", params={"language": "en"}).text
    assert "Recorded by phone number" in printed
    assert "****" not in printed
    back = pos.call("POST", "/v1/reversals", key=a_key(), json={"receipt_no": "R-1"}).json()
    assert (back["state"], back["points_earned"], back["member_id"]) == ("done", -25, who["member_id"])
    kinds = [kind for kind, _ in told(shop)]
    assert kinds == [EventType.MEMBER_ENROLLED, EventType.PURCHASE_RECORDED, EventType.PURCHASE_REVERSED]


def test_a_wrong_number_is_told_while_it_can_be_and_never_stops_a_sale_offline(shop: Shop, pos: Pos) -> None:
    unknown = post(pos, "R-1")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "member_not_found")
    assert post(pos, "R-1", phone="12").json()["code"] == "invalid_input"
    assert told(shop) == []
    shop.join_a_crm_that_is_down()
    sold = post(pos, "R-1").json()
    assert (sold["state"], sold["member"], sold["points_earned"]) == ("done", None, 25)
    assert pos.call("GET", "/v1/members", params={"phone": PHONE}).json()["code"] == "crm_unreachable"
    assert pos.get("/v1/checkouts")["checkouts"][0]["member"] is None


def test_it_waits_its_turn_and_counts_as_a_lookup(shop: Shop, pos: Pos) -> None:
    enrol(pos)
    waits = pos.open("R-1")
    assert post(pos, "R-2").json()["code"] == "busy"
    pos.call("POST", f"/v1/checkouts/{waits['id']}/cancel", key=a_key())
    code = shop.till.code(("read", "checkout"))["code"]
    paired = requests.post(f"{shop.till.url}/v1/pair", json={"code": code}, timeout=10).json()
    assert post(Pos(shop.till.url, paired["token"]), "R-2").json()["code"] == "forbidden"
    answers = [post(pos, f"R-{number}").status_code for number in range(10, 10 + AT_ONCE)]
    assert (answers[0], answers[-1]) == (201, 429)


def test_an_erasure_leaves_nothing_of_who_bought(shop: Shop, pos: Pos) -> None:
    who = enrol(pos, name=NAME)
    sold = post(pos, "R-1").json()
    shop.agent.journal.erase_member(who["member_id"], set())
    shop.agent.journal.purge()
    files = [path for path in Path(shop.agent.settings.data_dir).rglob("*") if path.is_file()]
    assert [path.name for path in files for word in (PHONE[1:], "Canary") if word.encode() in path.read_bytes()] == []
    assert pos.get(f"/v1/checkouts/{sold['id']}")["member"] is None
    assert post(pos, "R-2").json()["code"] == "member_not_found"
    assert (post(pos, "R-1").json()["replayed"], PHONE[1:] in str(told(shop))) == (True, False)
