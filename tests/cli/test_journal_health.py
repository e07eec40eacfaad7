"""The journal's own health, from outside: damage, a copy put back, a full disk, a backup, and what is said of it."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from terminal_agent.journal import Journal
from terminal_agent.journal.events import NewEvent
from tests.cli.shop import CrmProcess, Shop, wait_until
from tests.journal.support import CountedIds, ManualClock, event
from tests.small_disk import break_down, fill

PAGE = 4096


def journal_of(shop: Shop) -> Path:
    return shop.data_dir / "journal.sqlite3"


def damage(shop: Shop) -> None:
    with journal_of(shop).open("r+b") as file:
        file.write(os.urandom(PAGE))


def health(shop: Shop) -> Any:
    return shop.done("status")["journal"]


def checks(shop: Shop) -> dict[str, str]:
    return {check["id"]: check["status"] for check in shop.ta("doctor").json["checks"]}


def test_a_damaged_journal_stops_no_sale_and_is_not_kept_quiet(shop: Shop) -> None:
    shop.done("card", "issue")
    shop.done("purchase", "50000", "--receipt", "1")
    epoch = health(shop)["install_epoch"]
    damage(shop)
    answer = shop.ta("purchase", "50000", "--receipt", "2")
    assert answer.exit_code == 0, answer.err
    assert answer.json["points_after"] == 10
    said = health(shop)
    assert said["state"] == "started_over"
    assert said["install_epoch"] != epoch
    (alarm,) = said["alarms"]
    (aside,) = shop.data_dir.glob("damaged-*")
    assert str(aside) in alarm["detail"]
    assert "doctor --acknowledge" in alarm["fix"]
    assert alarm["since"]
    assert shop.done("queue", "list")["pending"] == 4, "two of the issue, two of the sales: none was forgotten"
    human = shop.ta("status", human=True).out
    assert "started_over" in human
    assert "kept in" in human
    doctor = shop.ta("doctor")
    assert doctor.exit_code == 1
    assert checks(shop)["alarms"] == "fail"
    assert shop.done("doctor", "--acknowledge")["checks"]
    assert health(shop)["state"] == "ok"
    assert shop.done("keys", "list"), "keys, credentials and config are not in the journal"


def test_the_damage_is_told_on_stderr_at_the_command_that_met_it(shop: Shop) -> None:
    damage(shop)
    _, err = shop.start("--json", "status").communicate(timeout=20)
    assert "started_over" in err
    assert "damaged-" in err


def test_after_damage_nothing_is_redeemed_until_the_crm_was_heard_and_nothing_is_counted_twice(
    shop: Shop, crm: CrmProcess
) -> None:
    shop.join(crm)
    card_no = shop.done("card", "issue")["card_no"]
    shop.done("purchase", "500000", "--receipt", "1")
    shop.done("sync")
    crm.down()
    shop.done("purchase", "100000", "--receipt", "2")
    damage(shop)
    shop.done("purchase", "100000", "--receipt", "3")
    refused = shop.ta("purchase", "100000", "--receipt", "4", "--redeem", "5")
    assert (refused.code, refused.json["redeemable_points"]) == ("offline_limit", 0)
    crm.up()
    report = shop.done("sync")
    assert (report["pending"], report["rejected"], report["forked"]) == (0, 0, 0)
    assert shop.crm_card(crm, card_no)["balance"] == 70 == shop.done("card", "show")["points"]
    assert shop.done("crm", "ledger", "--data-dir", str(crm.data_dir))["sum"] == 0
    crm.down()
    assert shop.done("purchase", "100000", "--receipt", "4", "--redeem", "5")["points_redeemed"] == 5


def test_a_backup_that_is_put_back_costs_no_point_and_doubles_none(shop: Shop, crm: CrmProcess) -> None:
    shop.join(crm)
    card_no = shop.done("card", "issue")["card_no"]
    shop.done("purchase", "100000", "--receipt", "1")
    copy = shop.folder / "copy.sqlite3"
    answer = shop.done("backup", "--output", str(copy))
    assert answer == {"file": str(copy), "bytes": copy.stat().st_size, "events": 3, "pending": 3}
    epoch = health(shop)["install_epoch"]
    shop.done("purchase", "200000", "--receipt", "2")
    shop.done("sync")
    shutil.move(journal_of(shop), shop.folder / "broken.sqlite3")
    shutil.copy(copy, journal_of(shop))
    shop.done("purchase", "300000", "--receipt", "3")
    said = health(shop)
    assert said["state"] == "restored"
    assert said["install_epoch"] != epoch
    report = shop.done("sync")
    assert (report["duplicate"], report["accepted"], report["forked"]) == (3, 1, 0)
    assert shop.crm_card(crm, card_no)["balance"] == 60 == shop.done("card", "show")["points"]
    assert shop.done("crm", "ledger", "--data-dir", str(crm.data_dir))["sum"] == 0


def test_backup_and_doctor_work_the_same_through_the_daemon(shop: Shop) -> None:
    shop.done("card", "issue")
    alone = checks(shop)
    daemon = shop.start_daemon()
    wait_until(lambda: shop.done("status")["reader"]["state"] == "ready")
    assert checks(shop) == alone
    assert shop.done("backup", "--output", str(shop.folder / "copy"))["events"] == 2
    assert shop.ta("backup", "--output", str(shop.folder / "copy")).code == "invalid_input"
    assert health(shop)["last_backup_at"]
    assert shop.end(daemon)[0] == 0


def test_a_relative_output_is_where_the_command_runs(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.start_daemon()
    monkeypatch.chdir(shop.folder)
    assert shop.done("backup", "--output", "here.sqlite3")["file"] == str(shop.folder / "here.sqlite3")
    assert (shop.folder / "here.sqlite3").exists()


def test_the_daemon_is_degraded_while_an_alarm_stands(shop: Shop) -> None:
    damage(shop)
    shop.start_daemon()
    assert shop.done("status")["state"] == "degraded"
    shop.ta("doctor", "--acknowledge")
    assert shop.done("status")["state"] == "ready"


def test_a_daemon_that_meets_damage_ends_and_its_next_start_sells(shop: Shop) -> None:
    """More than SQLite keeps in memory, so that it has to read what was damaged."""
    journal = Journal(shop.data_dir, "till-1", "IRR", ManualClock(), CountedIds())
    with journal.transaction():
        for number in range(1, 4001):
            journal.events.append(large(number))
    journal.close()
    daemon = shop.start_daemon()
    with journal_of(shop).open("r+b") as file:
        for page in range(64, journal_of(shop).stat().st_size // PAGE, 2):
            file.seek(page * PAGE)
            file.write(os.urandom(PAGE))
    told = shop.ta("queue", "list")
    assert told.code == "journal_failed"
    assert "again" in told.json["error"]["hint"]
    _, err = daemon.communicate(timeout=20)
    assert daemon.returncode == 1
    assert "journal=damaged" in err
    assert "Traceback" not in err
    shop.start_daemon()
    assert health(shop)["state"] == "started_over"
    shop.done("card", "issue")
    assert shop.done("purchase", "10000", "--receipt", "1")["points_after"] == 1


def large(number: int) -> NewEvent:
    return event(number, note="x" * 1500)


def test_a_shop_on_a_full_disk_sells_and_says_what_is_wrong(small_disk: Path, bare_shop: Shop) -> None:
    shop = bare_shop
    shop.data_dir = small_disk / "data"
    shop.init()
    shop.done("card", "issue")
    shop.done("purchase", "500000", "--receipt", "1")
    film = fill(small_disk)
    refused = shop.ta("purchase", "10000", "--receipt", "2", "--redeem", "1")
    assert (refused.code, refused.exit_code) == ("disk_full", 1)
    assert refused.json["error"]["retryable"] is False
    assert shop.done("purchase", "10000", "--receipt", "2")["points_after"] == 51
    daemon = shop.start_daemon()
    assert shop.done("purchase", "10000", "--receipt", "3")["points_after"] == 52
    status = shop.done("status")
    assert (status["state"], status["journal"]["state"]) == ("degraded", "short_of_space")
    assert checks(shop)["disk_space"] == "fail"
    assert shop.end(daemon)[0] == 0
    film.unlink()
    assert shop.done("purchase", "10000", "--receipt", "4", "--redeem", "1")["points_redeemed"] == 1
    assert health(shop)["state"] == "ok"


def test_a_shop_on_a_disk_that_linux_stopped_answers_what_it_knows_and_says_what_is_wrong(
    failing_disk: Path, bare_shop: Shop
) -> None:
    shop = bare_shop
    shop.data_dir = failing_disk / "data"
    shop.init()
    daemon = shop.start_daemon()
    shop.done("card", "issue")
    sold = shop.done("purchase", "10000", "--receipt", "1")
    card = shop.card.read_bytes()
    break_down(failing_disk)
    refused = shop.ta("purchase", "10000", "--receipt", "2")
    assert (refused.code, "is read-only" in refused.json["error"]["message"]) == ("journal_failed", True)
    assert "remount,rw" in refused.json["error"]["hint"]
    assert shop.card.read_bytes() == card, "what is not on disk is not on the card"
    assert shop.done("card", "show")["points"] == 1
    assert shop.done("purchase", "10000", "--receipt", "1") == {**sold, "replayed": True}
    status = shop.done("status")
    assert (status["state"], status["journal"]["state"]) == ("degraded", "read_only")
    assert (checks(shop)["data_disk"], checks(shop)["disk_sync"], checks(shop)["alarms"]) == ("fail", "fail", "fail")
    assert shop.end(daemon)[0] == 0
    told = shop.ta("status")
    assert (told.code, "remount,rw" in told.json["error"]["hint"]) == ("journal_failed", True)
    assert checks(shop)["start"] == "fail"


def test_a_killed_daemon_leaves_no_alarm(shop: Shop) -> None:
    shop.done("card", "issue")
    for receipt in range(3):
        daemon = shop.start_daemon()
        shop.done("purchase", "10000", "--receipt", str(receipt))
        shop.end(daemon, signal.SIGKILL)
    assert health(shop)["alarms"] == []
