"""What leaves the shop in a support bundle: enough to help, and no planted secret, name or number."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from terminal_agent.service.doctor.support_bundle import make_bundle
from tests.cli.shop import CrmProcess, Shop
from tests.cli.test_secrets import MASTER_KEY, NAME, secrets_of

PHONE = "09125554433"
STAFF = "Canaria Staffson"
RECEIPT, SKU, SHOP_NAME = "RECEIPT-CANARY-7", "SKU-CANARY", "Canary Cafe"


def texts(file: Path) -> dict[str, bytes]:
    """The files of a bundle by their names."""
    with tarfile.open(file) as archive:
        members = {Path(member.name): archive.extractfile(member) for member in archive if member.isfile()}
        assert {path.parent for path in members} == {Path("support")}
        return {path.stem: content.read() for path, content in members.items() if content is not None}


def unpacked(file: Path) -> dict[str, Any]:
    return {name: json.loads(text) for name, text in texts(file).items()}


def plant_log(shop: Shop, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """A journalctl that tells these lines, first in the PATH."""
    tools = shop.folder / "tools"
    tools.mkdir()
    (tools / "lines").write_text("\n".join(lines))
    program = tools / "journalctl"
    program.write_text(f'#!/bin/sh\nexec cat "{tools}/lines"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")


@pytest.mark.parametrize("daemon", [False, True], ids=["alone", "with the daemon"])
def test_no_planted_secret_name_or_number_is_in_the_bundle(
    bare_shop: Shop, monkeypatch: pytest.MonkeyPatch, daemon: bool
) -> None:
    shop = bare_shop
    shop.init()
    shop.config.write_text(shop.config.read_text() + f'\n[shop]\nname = "{SHOP_NAME}"\n')
    (shop.folder / "club.key").write_text(MASTER_KEY.hex())
    shop.done("keys", "import", "--file", str(shop.folder / "club.key"), "--activate")
    crm = CrmProcess(shop)
    crm.up()
    shop.join(crm)
    crm.down()
    card_no = shop.done("card", "issue", "--name", NAME, "--phone", PHONE)["card_no"]
    shop.done("purchase", "10000", "--receipt", RECEIPT, "--line", f"{SKU}:1:10000")
    (shop.folder / "pin").write_text("4711")
    shop.done("till", "cashier", "add", STAFF, "--pin-file", str(shop.folder / "pin"))
    canaries = {form for forms in secrets_of(shop).values() for form in forms}
    canaries |= {
        text.encode() for text in (NAME, *NAME.split(), STAFF, *STAFF.split(), PHONE, RECEIPT, SKU, SHOP_NAME, card_no)
    }
    # A log that says what it never should: keys in hex, the token, persons. Six bytes in base64 look like any word.
    spoken = [form.decode() for form in canaries if form.isascii() and form.isalnum() and len(form) >= 12]
    plant_log(
        shop,
        monkeypatch,
        "reader=ready",
        f"card {card_no} of {NAME} {PHONE}",
        f"{STAFF} signed in",
        MASTER_KEY.hex(" "),
        *set(spoken) - {RECEIPT, SKU},
    )
    process = shop.start_daemon() if daemon else None
    answer = shop.done("support-bundle", "--output", str(shop.folder / "b.tar.gz"))
    if process:
        shop.end(process)
    facts = unpacked(shop.folder / "b.tar.gz")["agent"]
    told = b"".join(texts(shop.folder / "b.tar.gz").values())
    assert len(told) > 1000
    assert [form for form in canaries if form in told] == []
    assert set(answer["parts"]) == {"about", "config", "agent"}
    assert "reader=ready" in facts["texts"]["log"]
    cards = {event["card"] for event in facts["queue"]["events"] if event["card"]}
    assert len(cards) == 1, "one card is one pseudonym"
    assert cards.pop() in facts["texts"]["log"]
    assert {check["id"] for check in facts["doctor"]["checks"]} > {"config", "journal", "reader"}
    assert facts["status"]["version"]


def test_a_broken_config_is_told_and_the_rest_is_there(shop: Shop) -> None:
    shop.config.write_text('name = "Canary Cafe\n')
    answer = shop.done("support-bundle", "--output", str(shop.folder / "b.tar.gz"))
    assert {each["part"]: each["problem"] for each in answer["left_out"]} == {
        "config": "config_invalid",
        "agent": "config_invalid",
    }
    parts = unpacked(shop.folder / "b.tar.gz")
    assert parts["about"]["version"]
    assert parts["doctor"]["checks"][0]["status"] == "fail"
    assert "Canary" not in json.dumps(parts)


def test_a_damaged_journal_is_no_hindrance(shop: Shop) -> None:
    shop.done("card", "issue")
    journal = shop.data_dir / "journal.sqlite3"
    journal.write_bytes(b"no database" * 1000)
    answer = shop.done("support-bundle", "--output", str(shop.folder / "b.tar.gz"))
    agent = unpacked(shop.folder / "b.tar.gz")["agent"]
    assert "agent" in answer["parts"]
    assert agent["status"]["journal"]["state"] != "ok"


def test_whoever_may_not_read_the_log_is_told_how_it_gets_in(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    plant_log(shop, monkeypatch)
    (shop.folder / "tools" / "journalctl").write_text("#!/bin/sh\nexit 1\n")
    shop.data_dir.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    left_out = {
        each["part"]: each["problem"] for each in make_bundle(shop.config, shop.folder / "b.tar.gz")["left_out"]
    }
    assert "run this with sudo" in left_out["log"]


def test_a_file_that_is_there_is_not_replaced(shop: Shop) -> None:
    (shop.folder / "b.tar.gz").write_text("mine")
    assert shop.ta("support-bundle", "--output", str(shop.folder / "b.tar.gz")).exit_code != 0
    assert (shop.folder / "b.tar.gz").read_text() == "mine"
