"""Members from the command line, with and without the daemon: enrolled by a friend, exported, replaced, erased."""

from __future__ import annotations

import json
import logging
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.cli.shop import CrmProcess, Shop

PHONE, NAME = "09125554433", "Canary Shirazi"
CANARIES = (PHONE[1:].encode(), b"Canary")


def issue(shop: Shop, file: str, *options: str) -> Any:
    return shop.done("card", "issue", "--reader", f"sim:{shop.folder / file}", *options)


def files_with_canaries(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if any(canary in path.read_bytes() for canary in CANARIES)]


def test_no_log_tells_whom_the_crm_was_asked_about(
    shop: Shop, crm: CrmProcess, caplog: pytest.LogCaptureFixture
) -> None:
    shop.join(crm)
    caplog.set_level(logging.DEBUG)
    shop.done("--log-level", "debug", "member", "enroll", "--phone", PHONE)
    assert PHONE[1:] not in caplog.text
    assert "terminal-agent card issue" in shop.ta("member", "enroll", "--phone", PHONE, human=True).out


@pytest.fixture(params=["commands", "daemon"])
def joined(request: pytest.FixtureRequest, shop: Shop, crm: CrmProcess) -> Shop:
    shop.join(crm)
    if request.param == "daemon":
        shop.start_daemon()
    return shop


def test_a_members_life_from_enrolment_to_erasure(joined: Shop, crm: CrmProcess) -> None:
    shop, at_crm = joined, ("--data-dir", str(crm.data_dir))
    friend = issue(shop, "friend.mfd", "--phone", "09121110000")
    card = issue(shop, "card.mfd", "--phone", PHONE, "--name", NAME, "--referrer", friend["card_no"])
    given = shop.done("member", "consent", "--phone", PHONE, "--purpose", "marketing", "--given", "--text-version", "2")
    assert (given["member_id"], given["given"]) == (card["member_id"], True)
    cardless = shop.done("member", "enroll", "--phone", "09122220000", "--name", "Mina", "--marketing-consent")
    again = shop.done("member", "enroll", "--phone", "+98 912 222 0000")
    assert (cardless["already_member"], cardless["card_no"]) == (False, None)
    assert again == {**cardless, "already_member": True}
    bought = shop.done("purchase", "50000", "--receipt", "P-1", "--phone", PHONE)
    assert (bought["member_id"], bought["points_earned"], bought["card_no"]) == (card["member_id"], 5, None)
    assert shop.done("purchase", "50000", "--receipt", "P-1", "--phone", PHONE)["replayed"] is True
    assert shop.ta("purchase", "1", "--receipt", "P-2", "--phone", PHONE, "--redeem", "1").code == "invalid_input"
    assert shop.ta("purchase", "1", "--receipt", "P-2", "--phone", "09123330000").code == "member_not_found"
    assert shop.done("reverse", "--receipt", "P-1", "--amount", "20000")["points_earned"] == -2
    output = shop.folder / "member.json"
    shop.done("member", "export", "--phone", PHONE, "--output", str(output))
    document = json.loads(output.read_text())
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert document["crm"]["profile"]["name"] == document["terminal"][0]["member"]["name"] == NAME
    enrolled = document["crm"]["events"][0]["data"]["member"]
    assert enrolled["referrer_member_id"] == friend["member_id"]
    again = shop.ta("member", "export", "--phone", PHONE, "--output", str(output))
    assert (again.exit_code, again.code) == (2, "invalid_input")
    output.unlink()
    assert shop.ta("member", "erase", "--phone", PHONE).code == "invalid_input"
    erased = shop.done("member", "erase", "--phone", PHONE, "--force")
    assert (erased["card_nos"], erased["files_left"]) == ([card["card_no"]], [])
    assert files_with_canaries(shop.folder) == []
    tapped = shop.ta("purchase", "250000", "--receipt", "1", "--reader", f"sim:{shop.folder / 'card.mfd'}")
    assert (tapped.exit_code, tapped.code) == (4, "card_erased")
    assert issue(shop, "card.mfd")["points"] == 0
    assert shop.done("crm", "card", card["card_no"], *at_crm)["status"] == "retired"
    assert shop.done("crm", "ledger", *at_crm)["sum"] == 0
    assert shop.ta("member", "erase", "--phone", PHONE, "--force").code == "not_found"


def test_a_lost_card_from_blocking_to_its_points_on_the_new_one(joined: Shop, crm: CrmProcess) -> None:
    shop, old_reader, new_reader = joined, "sim:" + str(joined.folder / "card.mfd"), f"sim:{joined.folder / 'new.mfd'}"
    card = issue(shop, "card.mfd", "--phone", PHONE)
    shop.done("purchase", "250000", "--receipt", "1", "--reader", old_reader)
    assert shop.done("card", "block", card["card_no"], "--reason", "lost")["blocked"] is True
    assert shop.ta("purchase", "250000", "--receipt", "2", "--reader", old_reader).code == "card_blocked"
    new = shop.done("card", "replace", "--old", card["card_no"], "--reader", new_reader)
    assert new["replaces"] == card["card_no"]
    shop.done("sync")
    bought = shop.done("purchase", "10000", "--receipt", "3", "--reader", new_reader)
    assert bought["points_after"] == 26
    shown = shop.done("crm", "card", card["card_no"], "--data-dir", str(crm.data_dir))
    assert (shown["status"], shown["balance"]) == ("replaced", 0)


def test_a_member_is_erased_only_where_the_crm_hears_of_it(joined: Shop, crm: CrmProcess) -> None:
    issue(joined, "card.mfd", "--phone", PHONE, "--name", NAME)
    joined.done("sync")
    crm.down()
    answer = joined.ta("member", "erase", "--phone", PHONE, "--force")
    assert (answer.exit_code, answer.code) == (5, "crm_unreachable")
    unknown = joined.done("purchase", "50000", "--receipt", "1", "--phone", "09123330000")
    assert (unknown["state"], unknown["points_earned"]) == ("done", 5)
    said = joined.done("member", "consent", "--phone", PHONE, "--purpose", "sms", "--withdrawn")
    assert said["given"] is False
