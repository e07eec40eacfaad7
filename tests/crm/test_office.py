"""Head office: reports, the expiry run, tokens and their scopes, what could not be booked, the audit log."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import update

from terminal_agent.cli.crm import crm as group
from terminal_agent.crm import admin, admin_club, admin_office
from terminal_agent.crm.admin import opened
from terminal_agent.crm.enrolment import Scope
from terminal_agent.crm.place import DatabaseUrl
from terminal_agent.crm.resolutions import Resolution
from terminal_agent.crm.schema import transfers
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.ports import rfc3339
from tests.crm.world import CARD, Crm, Terminal

OTHER = "2000000000000008"


def policy(crm: Crm, after_days: int | None) -> None:
    document = {"version": "1", "currency": "IRR", "valid_from": "2026-01-01T00:00:00Z"}
    import json

    admin.load_policy(crm.place, json.dumps({**document, "expiry": {"after_days": after_days}}))


def age(crm: Crm, reference: str, days: float) -> None:
    """Lets what was booked for an event have been booked days ago."""
    booked_at = rfc3339(datetime.now(UTC) - timedelta(days=days))
    with opened(crm.place) as store, store.writing() as connection:
        connection.execute(update(transfers).where(transfers.c.reference == reference).values(booked_at=booked_at))


def expire(crm: Crm, through: str | None = None, *, dry_run: bool = False) -> dict[str, int]:
    answer = admin_office.expire(crm.place, through, dry_run=dry_run)
    return {name: answer[name] for name in ("cards", "lots", "points")}


NOTHING = {"cards": 0, "lots": 0, "points": 0}


def test_old_points_expire_once_and_the_oldest_were_spent_first(crm: Crm, terminal: Terminal) -> None:
    policy(crm, 30)
    old, spent, young = terminal.purchase(1, 100), terminal.purchase(2, 0, 30, before=100), terminal.purchase(3, 50)
    terminal.post(old, spent, young)
    age(crm, old["id"], 31)
    assert expire(crm, dry_run=True) == expire(crm) == {"cards": 1, "lots": 1, "points": 70}
    assert expire(crm) == NOTHING
    assert crm.ledger() == {
        f"card:{CARD}": 50,
        "programme:expired": 70,
        "programme:issued": -150,
        "programme:redeemed": 30,
    }
    [item] = [item for item in terminal.get("/v1/feed")["items"] if item["kind"] == "adjustment"]
    assert (item["card_no"], item["number"], item["points"], item["reason"]) == (CARD, 1, -70, "expired")


def test_a_dry_run_changes_nothing(crm: Crm, terminal: Terminal) -> None:
    policy(crm, 30)
    event = terminal.purchase(1, 100)
    terminal.post(event)
    age(crm, event["id"], 31)
    before = crm.ledger()
    expire(crm, dry_run=True)
    assert crm.ledger() == before


def test_what_a_return_brings_back_expires_with_the_lot_it_came_from(crm: Crm, terminal: Terminal) -> None:
    policy(crm, 30)
    old = terminal.purchase(1, 100)
    buy = terminal.purchase(2, 0, 40, before=100)
    taken_back = {"reversed_event_id": buy["id"], "amount": 1000, "currency": "IRR"}
    points = {"earned": 0, "redeemed": -40}
    back = terminal.event("purchase.reversed", {"reversal": taken_back, "points": points})
    terminal.post(old, buy, back)
    age(crm, old["id"], 31)
    assert expire(crm) == {"cards": 1, "lots": 1, "points": 100}


def test_nothing_expires_without_a_rule_or_before_its_day(crm: Crm, terminal: Terminal) -> None:
    event = terminal.purchase(1, 100)
    terminal.post(event)
    age(crm, event["id"], 29)
    assert expire(crm) == NOTHING
    policy(crm, 30)
    assert expire(crm) == NOTHING
    yesterday = (datetime.now(UTC) - timedelta(days=3)).date().isoformat()
    age(crm, event["id"], 31)
    assert expire(crm, yesterday) == NOTHING
    with pytest.raises(AgentError) as refused:
        expire(crm, "2999-01-01")
    assert refused.value.code is ErrorCode.INVALID_INPUT


def test_points_on_hold_wait_for_the_next_run(crm: Crm, terminal: Terminal) -> None:
    policy(crm, 30)
    event = terminal.purchase(1, 100)
    terminal.post(event)
    age(crm, event["id"], 31)
    hold = terminal.call("POST", "/v1/holds", json={"card_no": CARD, "points": 10}).json()
    assert expire(crm) == NOTHING
    terminal.call("POST", f"/v1/holds/{hold['hold_id']}/release")
    assert expire(crm)["points"] == 100


def rows(crm: Crm, name: str, first: str | None = None, last: str | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = admin_office.report(crm.place, name, first, last)["rows"]
    return found


def test_reports_tell_of_members_points_shops_offers_and_what_is_owed(crm: Crm, terminal: Terminal) -> None:
    member = {"member_id": "m-1", "phone": "09125554433", "name": "Sara"}
    terminal.post(terminal.event("member.enrolled", {"member": member}, subject="members/m-1"))
    first = terminal.purchase(1, 100)
    first["data"]["points"]["offers"] = [{"offer_id": "nowruz", "points": 20}, {"offer_id": 7}, "odd"]
    late = terminal.purchase(2, 10, 5, card_no=OTHER) | {"time": "2026-11-22T21:00:00.000Z"}  # the 23rd in Tehran
    reversal = {"reversed_event_id": first["id"], "amount": 400, "currency": "IRR"}
    back = terminal.event("purchase.reversed", {"reversal": reversal, "points": {"earned": -40, "redeemed": 0}})
    terminal.post(first, late, back)
    admin.adjust_card(crm.place, CARD, 7, "a gift")
    assert rows(crm, "members") == [{"status": "active", "tier": "basic", "members": 1, "enrolled": 1}]
    points = {row["what"]: row["points"] for row in rows(crm, "points")}
    assert points == {"issued": 70, "redeemed": -5, "adjusted": 7, "expired": 0}
    assert [
        (row["day"], row["purchases"], row["returns"], row["earned"], row["redeemed"]) for row in rows(crm, "shops")
    ] == [
        ("2026-11-22", 1, 0, 100, 0),
        ("2026-11-22", 0, 1, -40, 0),
        ("2026-11-23", 1, 0, 10, 5),
    ]
    assert rows(crm, "shops", "2026-11-23", "2026-11-23") == rows(crm, "shops")[2:]
    assert rows(crm, "offers") == [{"offer_id": "nowruz", "uses": 1, "points": 20}]
    assert rows(crm, "outstanding") == [{"status": "active", "cards": 2, "points": 72}]


def test_a_report_of_days_that_are_none_is_refused(crm: Crm) -> None:
    with pytest.raises(AgentError) as refused:
        rows(crm, "shops", "yesterday")
    assert refused.value.code is ErrorCode.INVALID_INPUT


def test_a_report_is_a_table_and_a_file_for_spreadsheets(crm: Crm, terminal: Terminal, tmp_path: Path) -> None:
    joined = crm.enrol("shop-2")
    with joined.session:
        joined.post(joined.purchase(1, 100))
    file = tmp_path / "shops.csv"
    option = (
        ["--database-url", crm.place.text] if isinstance(crm.place, DatabaseUrl) else ["--data-dir", str(crm.place)]
    )
    result = CliRunner().invoke(group, ["report", "shops", "--csv", str(file), *option])
    assert (result.exit_code, "shop-2" in result.stdout) == (0, True)
    with file.open(encoding="utf-8-sig") as written:
        assert [(row["terminal_id"], row["earned"]) for row in csv.DictReader(written)] == [("shop-2", "100")]


def test_a_revoked_terminal_is_refused_and_may_join_again(crm: Crm, terminal: Terminal) -> None:
    assert admin_office.revoke_terminal(crm.place, "shop-1")["changed"] is True
    assert admin_office.revoke_terminal(crm.place, "shop-1")["changed"] is False
    answer = terminal.call("GET", "/v1/feed")
    assert (answer.status_code, answer.json()["code"]) == (403, "crm_unauthorized")
    again = crm.enrol("shop-1")
    with again.session:
        assert again.call("GET", "/v1/feed").status_code == 200
    [row] = admin_office.list_terminals(crm.place)
    assert (row["terminal_id"], row["revoked_at"], row["scopes"]) == ("shop-1", None, ["members", "privacy"])
    with pytest.raises(AgentError) as refused:
        admin_office.revoke_terminal(crm.place, "nobody")
    assert refused.value.code is ErrorCode.NOT_FOUND


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [([], set()), ([Scope.MEMBERS], {"look"}), ([Scope.PRIVACY], {"export"}), (list(Scope), {"look", "export"})],
)
def test_a_token_does_what_its_code_was_made_for(crm: Crm, scopes: list[Scope], allowed: set[str]) -> None:
    terminal = crm.enrol("till", admin.make_code(crm.place, scopes=scopes)["code"])
    with terminal.session:
        calls = {"look": "/v1/members/m-1", "export": "/v1/members/m-1/export"}
        for name, path in calls.items():
            answer = terminal.call("GET", path)
            expected = (404, "not_found") if name in allowed else (403, "scope_missing")
            assert (answer.status_code, answer.json()["code"]) == expected
        assert terminal.call("GET", "/v1/feed").status_code == 200
        assert terminal.verdicts(terminal.purchase(1, 10)) == ["accepted"]


def test_what_could_not_be_booked_is_listed_until_it_is_decided_on(crm: Crm, terminal: Terminal) -> None:
    bad = terminal.purchase(1, earned=-1)
    assert terminal.verdicts(bad) == ["rejected"]
    [row] = admin_office.list_rejected(crm.place, 10)
    assert (row["id"], row["terminal_id"], row["code"]) == (bad["id"], "shop-1", "event_malformed")
    assert admin_office.resolve(crm.place, "shop-1", bad["id"], Resolution.RETRY, "mended")["known"] is True
    assert len(admin_office.list_rejected(crm.place, 10)) == 1
    admin_office.resolve(crm.place, "shop-1", bad["id"], Resolution.DROP, "a test")
    assert admin_office.list_rejected(crm.place, 10) == []
    told = [item["action"] for item in terminal.get("/v1/feed")["items"] if item["kind"] == "resolution"]
    assert told == ["retry", "drop"]
    assert admin_office.resolve(crm.place, "shop-1", "unknown", Resolution.DROP, "x")["known"] is False


def test_what_head_office_did_is_written_down(crm: Crm, terminal: Terminal) -> None:
    terminal.post(terminal.purchase(1, 10))
    admin.adjust_card(crm.place, CARD, 5, "a gift")
    admin.block_card(crm.place, CARD, "lost")
    admin.unblock_card(crm.place, CARD, "found")
    policy(crm, 5)
    admin_office.revoke_terminal(crm.place, "shop-1")
    entries = admin_club.show_audit(crm.place, None, 100)["entries"]
    actions = [entry["action"] for entry in reversed(entries)]
    assert actions == [
        "code.made",
        "card.adjusted",
        "card.blocked",
        "card.freed",
        "policy.published",
        "terminal.revoked",
    ]
    assert {entry["who"] for entry in entries} == {"admin"}
    assert len(admin_club.show_audit(crm.place, CARD, 100)["entries"]) == 3
