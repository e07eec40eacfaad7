"""Profiles over HTTP: read with a version, changed only when it still holds."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import select

from terminal_agent.crm import admin_club
from terminal_agent.crm.schema import feed
from terminal_agent.crm.store import Store
from tests.crm.world import Crm, Terminal

SARA = {"member_id": "m-1", "phone": "09125554433", "name": "Sara"}


def enrol(terminal: Terminal, **changes: Any) -> None:
    member = SARA | changes
    event = terminal.event("member.enrolled", {"member": member}, subject=f"members/{member['member_id']}")
    assert terminal.verdicts(event) == ["accepted"]


def patch(terminal: Terminal, etag: str | None, member_id: str = "m-1", **body: Any) -> Any:
    headers = {"If-Match": etag} if etag else {}
    return terminal.call("PATCH", f"/v1/members/{member_id}", json=body, headers=headers)


def etag_of(terminal: Terminal) -> str:
    answer = terminal.call("GET", "/v1/members/m-1")
    assert answer.headers["ETag"] == f'"{answer.json()["version"]}"'
    return str(answer.headers["ETag"])


def test_a_profile_is_changed_and_the_terminals_hear_of_it(crm: Crm, terminal: Terminal) -> None:
    enrol(terminal)
    answer = patch(terminal, etag_of(terminal), name="Sara Shirazi", phone="+98 912 111 0000")
    assert (answer.status_code, answer.json()["name"], answer.json()["phone"]) == (200, "Sara Shirazi", "09121110000")
    assert answer.headers["ETag"] == etag_of(terminal)
    told = [item for item in terminal.get("/v1/feed")["items"] if item["kind"] == "member"][-1]
    assert (told["name"], told["phone"]) == ("Sara Shirazi", "09121110000")
    [line] = admin_club.show_audit(crm.place, "m-1", 5)["entries"]
    assert (line["action"], line["detail"]) == ("member.changed", {"fields": ["name", "phone"]})


def test_a_profile_that_was_changed_meanwhile_is_not_overwritten(terminal: Terminal) -> None:
    enrol(terminal)
    before = etag_of(terminal)
    assert patch(terminal, before, name="Sara One").status_code == 200
    answer = patch(terminal, before, name="Sara Two")
    assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")
    assert terminal.get("/v1/members/m-1")["name"] == "Sara One"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"tier": "gold"}, 400, "request_invalid"),
        ({"name": ""}, 400, "request_invalid"),
        ({"phone": "123"}, 400, "request_invalid"),
        ({"phone": "09120000000"}, 409, "phone_taken"),
    ],
)
def test_what_cannot_be_changed_is_said(terminal: Terminal, body: dict[str, Any], status: int, code: str) -> None:
    enrol(terminal)
    enrol(terminal, member_id="m-2", phone="09120000000")
    answer = patch(terminal, etag_of(terminal), **body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_change_needs_the_version_it_is_made_on(terminal: Terminal) -> None:
    enrol(terminal)
    assert patch(terminal, None, name="Sara").json()["code"] == "precondition_required"
    assert patch(terminal, '"x"', member_id="nobody", name="Sara").status_code == 404


def test_an_erased_member_is_not_changed(terminal: Terminal) -> None:
    enrol(terminal)
    etag = etag_of(terminal)
    assert terminal.call("POST", "/v1/members/m-1/erase").status_code == 200
    assert patch(terminal, etag, name="Sara").status_code == 404
    assert terminal.call("POST", "/v1/members/m-1/erase").json()["card_nos"] == []


def test_who_an_erased_member_was_is_not_kept_when_it_is_told_anew(terminal: Terminal) -> None:
    """As by a till that was put back to an older disk, and tells the enrolment under another number."""
    enrol(terminal)
    assert terminal.call("POST", "/v1/members/m-1/erase").status_code == 200
    enrol(terminal)
    held = terminal.get("/v1/members/m-1/export")
    assert (held["profile"]["status"], held["profile"]["name"], held["profile"]["phone"]) == ("erased", None, None)
    assert len(held["events"]) == 2
    feed = terminal.get("/v1/feed")["items"]
    assert not {"Sara", "09125554433"} & {word for told in (held, feed) for word in json.dumps(told).split('"')}


def test_a_member_shows_what_they_agreed_to(terminal: Terminal) -> None:
    enrol(terminal)
    for given, time in ((False, "2026-11-22T10:00:00Z"), (True, "2026-11-22T09:00:00Z")):  # told in the wrong order
        said = {"member_id": "m-1", "purpose": "marketing", "given": given}
        terminal.post(terminal.event("consent.changed", said, subject="members/m-1", time=time))
    assert terminal.get("/v1/members/m-1")["consents"] == {"marketing": False}


def test_the_same_id_under_another_name_is_one_member(terminal: Terminal) -> None:
    enrol(terminal)
    enrol(terminal, member_id="m-2")
    assert terminal.get("/v1/members/m-2")["member_id"] == "m-1"


def test_the_description_names_every_code_that_a_call_may_answer(crm: Crm) -> None:
    sources = (Path(__file__).parents[2] / "terminal_agent" / "crm").glob("*.py")
    pattern = r'(?:ProblemError\(\d+, |HoldRefused\()"(\w+)"'
    raised = {code for path in sources for code in re.findall(pattern, path.read_text())}
    assert len(raised) > 20
    document = requests.get(crm.url + "/openapi.json", timeout=10).json()
    told = set()
    for methods in document["paths"].values():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                if status != "200":
                    _phrase, _, codes = answer["description"].partition(": ")
                    assert codes, answer
                    told |= set(codes.split(", "))
    assert raised - told == {"internal"}


def test_the_mark_of_what_the_feed_told_does_not_tell_a_phone(terminal: Terminal, store: Store) -> None:
    """There are 10^9 mobile phones, and a place in the feed is remembered by its mark, here and at every terminal."""
    for number in range(3):
        enrol(terminal, member_id=f"m-{number}", phone=f"0912000000{number}")
    with store.reading() as connection:
        rows = connection.execute(select(feed).order_by(feed.c.position)).mappings().all()
    marks = [None, *(row["digest"] for row in rows)]
    for before, row in zip(marks, rows, strict=False):
        for guess in (row["document"], f"{before}\n{row['document']}"):
            assert hashlib.sha256(guess.encode()).hexdigest()[:16] != row["digest"]
    assert len(set(marks)) == len(marks)
