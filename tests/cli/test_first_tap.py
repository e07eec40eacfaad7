"""The main job, end to end: a card issued, tapped with the CRM down, synced, everything agreeing to the point."""

from __future__ import annotations

import json

import pytest

from tests.cli.shop import CrmProcess, Shop, wait_until
from tests.pcsc.virtual_reader import ACS, PART3, Personality, VirtualCard, VirtualReader
from tests.pn532.chip import FieldCard
from tests.pn532.serial_line import SerialPn532


def tell_the_story(shop: Shop, crm: CrmProcess) -> None:
    shop.join(crm)
    issued = shop.done("card", "issue", "--phone", "+98 912 555 4433", "--name", "سارا")
    assert (issued["points"], issued["key_set_version"]) == (0, 1)
    assert shop.done("card", "verify")["ok"]
    shop.done("sync")
    crm.down()

    first = shop.done("purchase", "1250000", "--receipt", "1001", "--line", "tea:2:250000", "--line", "rice:1:1000000")
    second = shop.done("purchase", "480000", "--receipt", "1002", "--redeem", "50")
    assert (first["points_earned"], first["points_after"]) == (125, 125)
    assert (second["points_earned"], second["points_redeemed"], second["points_after"]) == (48, 50, 123)
    assert second["sequence"] == first["sequence"] + 1 == issued["sequence"] + 2
    again = shop.done("purchase", "480000", "--receipt", "1002", "--redeem", "50")
    assert again == {**second, "replayed": True}

    assert shop.ta("sync").code == "crm_unreachable"
    waiting = shop.done("queue", "list")
    assert (waiting["pending"], waiting["in_doubt"], waiting["quarantined"]) == (2, 0, 0)
    assert [event["type"] for event in waiting["events"]] == ["purchase.recorded"] * 2
    assert waiting["oldest_pending_age_s"] > 0

    crm.up()
    shop.done("sync")
    wait_until(lambda: shop.done("queue", "list")["pending"] == 0)
    card, known = shop.done("card", "show"), shop.crm_card(crm, issued["card_no"])
    assert card["points"] == known["balance"] == 123
    assert card["sequence"] == known["sequence"] == second["sequence"]
    assert [line["points"] for line in card["history"]] == [-2, 125, 0]
    assert shop.done("crm", "ledger", "--data-dir", str(crm.data_dir))["sum"] == 0


def test_the_story_holds_without_the_daemon(shop: Shop, crm: CrmProcess) -> None:
    tell_the_story(shop, crm)


def test_the_story_holds_through_the_daemon(shop: Shop, crm: CrmProcess) -> None:
    daemon = shop.start_daemon()
    tell_the_story(shop, crm)
    exit_code, _ = shop.end(daemon)
    assert exit_code == 0


@pytest.mark.pcsc
@pytest.mark.parametrize("personality", [ACS, PART3], ids=["acs", "part3"])
def test_the_story_holds_on_a_pcsc_reader(
    bare_shop: Shop, virtual_reader: VirtualReader, personality: Personality
) -> None:
    bare_shop.init("pcsc:Virtual PCD 00 00")
    crm = CrmProcess(bare_shop)
    crm.up()
    virtual_reader.use(personality)
    virtual_reader.insert(VirtualCard.blank(bytes.fromhex("04A1B2C3D4E5F6")))
    daemon = bare_shop.start_daemon()
    tell_the_story(bare_shop, crm)
    bare_shop.end(daemon)


@pytest.mark.nfcpy
@pytest.mark.parametrize("with_daemon", [False, True], ids=["alone", "daemon"])
def test_the_story_holds_on_a_pn532(bare_shop: Shop, pn532: SerialPn532, with_daemon: bool) -> None:
    bare_shop.init(f"pn532:{pn532.link}")
    crm = CrmProcess(bare_shop)
    crm.up()
    pn532.lay(FieldCard.blank(bytes.fromhex("04A1B2C3D4E5F6")))
    daemon = bare_shop.start_daemon() if with_daemon else None
    tell_the_story(bare_shop, crm)
    if daemon is not None:
        assert bare_shop.end(daemon)[0] == 0


@pytest.mark.pcsc
def test_a_purchase_commit_stays_in_its_radio_budget(bare_shop: Shop, virtual_reader: VirtualReader) -> None:
    bare_shop.init("pcsc:")
    virtual_reader.insert(VirtualCard.blank(bytes.fromhex("1A2B3C4D")))
    bare_shop.done("card", "issue")
    before = virtual_reader.counts.copy()
    bare_shop.done("purchase", "250000", "--receipt", "1")
    spent = virtual_reader.counts - before
    assert (spent["auth"], spent["read"], spent["write"]) == (1 + 1, 4, 1 + 1)  # the second ones are history's


def test_decisions_of_the_crm_reach_the_card_once(shop: Shop, crm: CrmProcess) -> None:
    shop.join(crm)
    card_no = shop.done("card", "issue")["card_no"]
    shop.done("sync")
    shop.done("crm", "adjust", card_no, "40", "--reason", "gift", "--data-dir", str(crm.data_dir))
    shop.done("sync")
    assert shop.done("purchase", "10000", "--receipt", "1")["points_after"] == 41
    assert shop.done("purchase", "10000", "--receipt", "2")["points_after"] == 42
    shop.done("sync")
    assert shop.crm_card(crm, card_no)["balance"] == 42


def test_a_blocked_card_is_refused_and_can_be_freed(shop: Shop, crm: CrmProcess) -> None:
    shop.join(crm)
    card_no = shop.done("card", "issue")["card_no"]
    shop.done("sync")
    shop.done("crm", "block", card_no, "--reason", "lost", "--data-dir", str(crm.data_dir))
    shop.done("sync")
    refused = shop.ta("purchase", "10000", "--receipt", "1")
    assert (refused.code, refused.exit_code) == ("card_blocked", 4)
    assert shop.done("card", "show")["status"] == "blocked"
    shop.done("crm", "unblock", card_no, "--data-dir", str(crm.data_dir))
    shop.done("sync")
    assert shop.done("purchase", "10000", "--receipt", "1")["points_after"] == 1


def test_a_redemption_beyond_the_offline_cap_needs_the_crm(shop: Shop, crm: CrmProcess) -> None:
    shop.join(crm)
    shop.done("card", "issue")
    shop.done("purchase", "5000000", "--receipt", "1")
    online = shop.done("purchase", "1000000", "--receipt", "2", "--redeem", "300")
    assert online["online"] is True
    crm.down()
    refused = shop.ta("purchase", "1000000", "--receipt", "3", "--redeem", "201")
    assert (refused.code, refused.exit_code) == ("offline_limit", 4)
    allowed = shop.done("purchase", "1000000", "--receipt", "4", "--redeem", "200")
    assert (allowed["online"], allowed["points_redeemed"]) == (False, 200)
    assert shop.ta("purchase", "1000000", "--receipt", "5", "--redeem", "1").code == "offline_limit"


def test_the_daemon_syncs_by_itself_when_the_crm_comes_back(shop: Shop, crm: CrmProcess) -> None:
    shop.join(crm)
    shop.start_daemon()
    shop.done("card", "issue")
    wait_until(lambda: shop.done("queue", "list")["pending"] == 0)
    crm.down()
    shop.done("purchase", "10000", "--receipt", "1")
    wait_until(lambda: shop.done("status")["crm"]["state"] == "down")
    assert shop.done("queue", "list")["pending"] == 1
    crm.up()
    wait_until(lambda: shop.done("queue", "list")["pending"] == 0, timeout_s=60)


def test_the_demo_ends_in_agreement_and_leaves_nothing_behind(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(shop.folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    process = shop.start("demo", "--json")
    out, err = process.communicate(timeout=600)
    answer = json.loads(out)
    assert process.returncode == 0
    assert answer["agree"]
    assert answer["points"] == {"card": 123, "journal": 123, "crm": 123}
    assert "$ terminal-agent purchase" in err
    assert not list(shop.folder.glob("terminal-agent-demo-*"))
