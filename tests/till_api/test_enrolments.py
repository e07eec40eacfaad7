"""Taking somebody in at the till: by phone alone, or with a blank card that becomes theirs; nobody twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from drivers.simulator import Fault
from terminal_agent.contract import EventType
from terminal_agent.desk.one_card import block
from terminal_agent.till_api.allowance import AT_ONCE
from tests.till_api.hand_reader import HandReader
from tests.till_api.pos import Pos, Shop, a_key
from tests.workbench import UID_7, blank

PHONE, NAME = "09125554433", "Canary Shirazi"
TEAR_WHILE_ENCODING = Fault(90)


def post(pos: Pos, key: str | None = None, **body: Any) -> requests.Response:
    return pos.call("POST", "/v1/enrolments", key=key or a_key(), json={"phone": PHONE, **body})


def enrol(pos: Pos, key: str | None = None, **body: Any) -> dict[str, Any]:
    answer = post(pos, key, **body)
    assert answer.status_code == 201, answer.text
    opened: dict[str, Any] = answer.json()
    return opened


def told(shop: Shop) -> list[tuple[str, dict[str, Any]]]:
    """Type and data of every event in the queue."""
    entries = shop.agent.journal.events.entries(None, 100)
    return [(entry.type, json.loads(entry.body)["data"]) for entry in entries]


def test_without_a_card_it_is_done_at_once_and_offline(shop: Shop, pos: Pos) -> None:
    shop.join_a_crm_that_is_down()
    key = a_key()
    done = enrol(pos, key, name=NAME, marketing_consent=True)
    assert (done["kind"], done["state"], done["already_member"]) == ("enrolment", "done", False)
    assert (done["receipt_no"], done["amount"], done["card_no"], done["error"]) == (None, None, None, None)
    assert done["member"] == {"first_name": "Canary", "tier": None}
    assert enrol(pos, key, name=NAME, marketing_consent=True) == done
    assert post(pos, key, name=NAME).json()["code"] == "key_reused"
    again = enrol(pos, name="Another")
    assert (again["already_member"], again["member_id"]) == (True, done["member_id"])
    assert again["member"]["first_name"] == "Canary"
    (enrolled, who), (agreed, consent) = told(shop)
    assert (enrolled, agreed) == (EventType.MEMBER_ENROLLED, EventType.CONSENT_CHANGED)
    assert who["member"].pop("salt"), "for an erasure to take along"
    assert who["member"] == {"member_id": done["member_id"], "phone": PHONE, "name": NAME, "tier": None}
    assert (consent["member_id"], consent["purpose"], consent["given"]) == (done["member_id"], "marketing", True)
    assert pos.get(f"/v1/checkouts/{done['id']}") == done
    assert pos.get("/v1/members", phone=PHONE)["member_id"] == done["member_id"]


def test_what_can_not_be_an_enrolment_is_refused(shop: Shop, pos: Pos) -> None:
    assert (post(pos, phone="12").status_code, post(pos, phone="12").json()["code"]) == (400, "invalid_input")
    assert post(pos, name="\u202e").status_code == 400
    assert pos.call("POST", "/v1/enrolments", json={"phone": PHONE}).json()["code"] == "key_missing"
    code = shop.till.code(("read", "checkout"))["code"]
    paired = requests.post(f"{shop.till.url}/v1/pair", json={"code": code}, timeout=10).json()
    assert post(Pos(shop.till.url, paired["token"])).json()["code"] == "forbidden"
    assert told(shop) == []


def test_a_blank_card_becomes_theirs_whatever_is_laid_on_before(shop: Shop, pos: Pos, reader: HandReader) -> None:
    after = pos.get("/v1/events", wait_s=0)["last_id"]
    opened = enrol(pos, name=NAME, card=True)
    assert (opened["state"], opened["already_member"]) == ("waiting_for_card", None)
    assert post(pos, phone="09120000000").json()["code"] == "busy"
    reader.lay(shop.issue())
    assert pos.first(after, "card.problem")["error"]["code"] == "already_issued"
    reader.lift()
    card = blank()
    reader.lay(card, TEAR_WHILE_ENCODING)
    pos.wait_for(opened["id"], "waiting_for_card")
    while (error := pos.get(f"/v1/checkouts/{opened['id']}")["error"])["code"] != "card_removed_early":
        pass
    assert error["action"]["en"].startswith("Put the SAME card back")
    reader.lift()
    reader.lay(card)
    done = pos.wait_for(opened["id"], "done")
    assert (done["already_member"], done["points_after"], done["error"]) == (False, 0, None)
    shown = pos.get("/v1/card")
    assert (shown["card_no"], shown["member"]["first_name"]) == (done["card_no"], "Canary")
    assert [kind for kind, data in told(shop) if data.get("member_id") == done["member_id"]] == ["card.issued"]
    seen = [event["data"]["state"] for event in pos.events(after) if event["event"] == "checkout.changed"]
    assert seen.index("reading") < seen.index("writing") < seen.index("done")
    reader.lift()
    again = enrol(pos, card=True)
    assert (again["state"], again["already_member"], again["card_no"]) == ("done", True, done["card_no"])


def test_who_was_enrolled_without_a_card_gets_one_later(shop: Shop, pos: Pos, reader: HandReader) -> None:
    before = enrol(pos, name=NAME)
    reader.lay(blank())
    done = pos.wait_for(enrol(pos, card=True)["id"], "done")
    assert (done["already_member"], done["member_id"]) == (True, before["member_id"])
    assert pos.get("/v1/card")["member"]["first_name"] == "Canary"
    assert [kind for kind, _ in told(shop)] == ["member.enrolled", "card.issued"]


def test_whose_card_is_blocked_gets_another_one_that_takes_over_and_who_has_one_in_use_none(
    shop: Shop, pos: Pos, reader: HandReader
) -> None:
    reader.lay(blank())
    first = pos.wait_for(enrol(pos, name=NAME, card=True)["id"], "done")
    reader.lift()
    assert (enrol(pos, card=True)["card_no"], first["takes_over"]) == (first["card_no"], [])
    shop.agent.journal.write(lambda: block(shop.agent.terminal, first["card_no"], "lost"))
    opened = enrol(pos, card=True)
    assert opened["state"] == "waiting_for_card"
    reader.lay(blank(UID_7))
    done = pos.wait_for(opened["id"], "done")
    assert (done["already_member"], done["member_id"]) == (True, first["member_id"])
    assert (done["takes_over"], done["card_no"] != first["card_no"]) == ([first["card_no"]], True)


def test_one_that_waits_for_its_card_can_be_cancelled_and_survives_a_restart(
    open_shop: Callable[[], Shop], reader: HandReader
) -> None:
    pos = open_shop().pair()
    opened = enrol(pos, card=True)
    assert pos.call("POST", f"/v1/checkouts/{opened['id']}/cancel", key=a_key()).json()["state"] == "cancelled"
    waits = enrol(pos, name=NAME, card=True, expires_in_s=600)
    shop = open_shop()
    pos.url = shop.till.url
    reader.lay(blank())
    assert pos.wait_for(waits["id"], "done")["member"]["first_name"] == "Canary"
    assert [kind for kind, _ in told(shop)] == ["member.enrolled", "card.issued"]


def test_an_erasure_leaves_nothing_of_who_was_enrolled_here(shop: Shop, pos: Pos, reader: HandReader) -> None:
    key = a_key()
    first = enrol(pos, key, name=NAME, marketing_consent=True)
    reader.lay(blank())
    with_card = pos.wait_for(enrol(pos, card=True)["id"], "done")
    shop.agent.journal.erase_member(first["member_id"], {with_card["card_no"]})
    shop.agent.journal.purge()
    folder = Path(shop.agent.settings.data_dir)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert [path.name for path in files for word in (PHONE[1:], "Canary") if word.encode() in path.read_bytes()] == []
    assert pos.get(f"/v1/checkouts/{first['id']}")["member"] is None
    assert post(pos, key, name=NAME, marketing_consent=True).json()["code"] == "key_reused"


def test_neither_a_key_nor_an_enrolment_that_came_to_nothing_tells_a_phone_after_an_erasure(
    shop: Shop, pos: Pos
) -> None:
    first = enrol(pos, key := f"member-0098{PHONE[1:]}", name=NAME)
    nothing, other = a_key(), a_key()
    waits = enrol(pos, nothing, phone="09121112233", card=True)
    pos.call("POST", f"/v1/checkouts/{waits['id']}/cancel", key=a_key())
    sale = {"amount": 10_000, "currency": "IRR", "receipt_no": "R-1"}
    sold = pos.call("POST", "/v1/checkouts", key=other, json=sale).json()
    pos.call("POST", f"/v1/checkouts/{sold['id']}/cancel", key=a_key())
    shop.agent.journal.erase_member(first["member_id"], set())
    shop.agent.journal.purge()
    files = [path for path in Path(shop.agent.settings.data_dir).rglob("*") if path.is_file()]
    assert [path.name for path in files if PHONE[1:].encode() in path.read_bytes()] == []
    [token] = shop.agent.journal.till.tokens()
    left = [shop.agent.journal.till.request(token.token_id, each) for each in (key, nothing, other)]
    assert [each and bool(each.fingerprint) for each in left] == [None, False, True]
    assert pos.call("POST", "/v1/checkouts", key=other, json=sale).json()["id"] == sold["id"]


def test_phones_can_not_be_walked_through_by_enrolling_them(shop: Shop, pos: Pos) -> None:
    key = a_key()
    first = enrol(pos, key)
    for _ in range(AT_ONCE - 1):
        assert enrol(pos)["already_member"] is True
    refused = post(pos)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_lookups")
    assert enrol(pos, key) == first  # what was answered before costs nothing
