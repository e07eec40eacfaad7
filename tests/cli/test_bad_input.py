"""What a shop gets wrong has its code, one sentence, the next action, the right exit code, and leaves no trace."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest

from drivers import ReaderState, open_reader
from drivers.mifare_classic import BLOCK_SIZE, blank_card
from terminal_agent.card.layout import HOMES
from tests.cli.shop import CrmProcess, Shop
from tests.pcsc.virtual_reader import CLASSIC_4K_ATR, ULTRALIGHT_ATR, VirtualCard, VirtualReader


def refused(shop: Shop, code: str, exit_code: int, *arguments: str) -> None:
    """The command is refused in words and in JSON alike, with a hint, and without a traceback."""
    answer = shop.ta(*arguments)
    assert (answer.code, answer.exit_code) == (code, exit_code), answer.out + answer.err
    error = answer.json["error"]
    assert set(error) == {"code", "message", "hint", "retryable"}
    assert error["message"]
    assert error["hint"]
    told = shop.ta(*arguments, human=True)
    assert told.exit_code == exit_code
    assert "Traceback" not in told.err
    assert "Try:" in told.err


def wait_until_seen_empty() -> None:
    """pcscd has looked, and sees no card."""
    with open_reader("pcsc:") as reader:
        assert reader.wait_for_change(ReaderState.CARD, 30) is ReaderState.EMPTY


def test_no_config_file(bare_shop: Shop) -> None:
    refused(bare_shop, "config_invalid", 6, "status")


def test_a_config_file_with_a_typo_names_the_key_that_was_meant(shop: Shop) -> None:
    shop.config.write_text(shop.config.read_text().replace("terminal_id", "terminal_ld"))
    refused(shop, "config_invalid", 6, "status")
    assert "did you mean terminal_id?" in shop.ta("status").json["error"]["message"]


def test_a_config_file_that_is_no_toml(shop: Shop) -> None:
    shop.config.write_text("data_dir = \n")
    refused(shop, "config_invalid", 6, "card", "show")


def test_init_overwrites_nothing(shop: Shop) -> None:
    before = shop.config.read_bytes(), (shop.data_dir / "keys" / "v1.key").read_bytes()
    refused(shop, "config_invalid", 6, "init", "--data-dir", str(shop.data_dir))
    assert (shop.config.read_bytes(), (shop.data_dir / "keys" / "v1.key").read_bytes()) == before
    forced = shop.done("init", "--data-dir", str(shop.data_dir), "--force", "--terminal-id", "till-2")
    assert forced["terminal_id"] == "till-2"
    assert (shop.data_dir / "keys" / "v1.key").read_bytes() == before[1]


def test_a_data_directory_of_a_newer_version_is_left_alone(shop: Shop) -> None:
    journal = shop.data_dir / "journal.sqlite3"
    with sqlite3.connect(journal) as newer:
        newer.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) "
            "VALUES ('terminal_agent.journal', 'm999_future', '2030-01-01')"
        )
    newer.close()
    before = journal.read_bytes()
    refused(shop, "config_invalid", 6, "status")
    assert journal.read_bytes() == before


def test_no_reader(shop: Shop) -> None:
    refused(shop, "reader_missing", 3, "card", "show", "--reader", "nothing:")
    refused(shop, "reader_missing", 3, "card", "show", "--reader", f"sim:{shop.folder}/nowhere/card.mfd")


@pytest.mark.pcsc
def test_no_such_pcsc_reader(shop: Shop, virtual_reader: VirtualReader) -> None:
    refused(shop, "reader_missing", 3, "card", "show", "--reader", "pcsc:no such model")


@pytest.mark.pcsc
def test_no_card_in_time(shop: Shop, virtual_reader: VirtualReader) -> None:
    wait_until_seen_empty()  # until then pcscd may name the card of the test before
    refused(shop, "no_card_timeout", 4, "card", "show", "--reader", "pcsc:", "--wait-s", "0.2")


@pytest.mark.pcsc
@pytest.mark.parametrize(("atr", "named"), [(CLASSIC_4K_ATR, "4K"), (ULTRALIGHT_ATR, "NTAG")], ids=["4K", "NTAG"])
def test_a_card_of_another_kind(shop: Shop, virtual_reader: VirtualReader, atr: bytes, named: str) -> None:
    card = VirtualCard.blank(bytes.fromhex("1A2B3C4D"))
    card.atr = atr
    wait_until_seen_empty()  # pcscd keeps the name of a card that is swapped between two of its polls
    virtual_reader.insert(card)
    refused(shop, "unsupported_card", 4, "card", "show", "--reader", "pcsc:", "--wait-s", "2")
    answer = shop.ta("card", "issue", "--reader", "pcsc:", "--wait-s", "2")
    assert named in answer.json["error"]["message"]
    assert shop.done("queue", "list")["pending"] == 0
    virtual_reader.remove()
    wait_until_seen_empty()


def test_a_blank_card(shop: Shop) -> None:
    for command in (("card", "show"), ("card", "verify"), ("purchase", "10000", "--receipt", "1")):
        refused(shop, "blank_card", 4, *command)
    assert shop.done("queue", "list")["events"] == []


def test_another_shops_card(shop: Shop, bare_shop: Shop, tmp_path: Path) -> None:
    shop.done("card", "issue")
    image = shop.card.read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    shop.config, shop.data_dir = other / "config.toml", other / "data"
    shop.init()
    for command in (("card", "show"), ("purchase", "10000", "--receipt", "1"), ("card", "issue")):
        refused(shop, "not_our_card", 4, *command)
    refused(shop, "not_our_card", 4, "card", "wipe", "--force")
    assert shop.card.read_bytes() == image


def test_an_edited_card(shop: Shop) -> None:
    shop.done("card", "issue")
    image = bytearray(shop.card.read_bytes())
    for block in HOMES[0].state_blocks:
        image[block * BLOCK_SIZE] ^= 1
    shop.card.write_bytes(image)
    refused(shop, "data_corrupt", 4, "card", "show")
    answer = shop.ta("card", "verify")
    assert answer.exit_code == 4
    assert {finding["block"] for finding in answer.json["findings"]} == set(HOMES[0].state_blocks)


def test_a_torn_slot_is_told_and_the_card_goes_on(shop: Shop) -> None:
    shop.done("card", "issue")
    shop.done("purchase", "10000", "--receipt", "1")
    image = bytearray(shop.card.read_bytes())
    older = HOMES[0].state_blocks[1]
    image[older * BLOCK_SIZE : (older + 1) * BLOCK_SIZE] = os.urandom(BLOCK_SIZE)
    shop.card.write_bytes(image)
    shown = shop.done("card", "show")
    assert (shown["points"], shown["problem"]) == (1, "torn_write")
    assert shop.done("purchase", "10000", "--receipt", "2")["points_after"] == 2
    assert shop.done("card", "show")["problem"] is None


def test_a_card_that_was_rolled_back(shop: Shop) -> None:
    shop.done("card", "issue")
    older = shop.card.read_bytes()
    shop.done("purchase", "10000", "--receipt", "1")
    shop.card.write_bytes(older)
    refused(shop, "card_rolled_back", 4, "purchase", "10000", "--receipt", "2")
    assert shop.done("card", "show")["problem"] == "card_rolled_back"
    types = [event["type"] for event in shop.done("queue", "list")["events"]]
    assert types.count("card.anomaly") == 1


def test_more_points_than_the_card_has(shop: Shop) -> None:
    shop.done("card", "issue")
    refused(shop, "insufficient_points", 4, "purchase", "10000", "--receipt", "1", "--redeem", "1")


def test_the_same_receipt_for_another_amount(shop: Shop) -> None:
    shop.done("card", "issue")
    shop.done("purchase", "10000", "--receipt", "1")
    refused(shop, "receipt_conflict", 1, "purchase", "20000", "--receipt", "1")
    assert shop.done("card", "show")["points"] == 1


def test_a_finished_receipt_is_answered_without_a_card_or_a_reader(shop: Shop) -> None:
    shop.done("card", "issue")
    first = shop.done("purchase", "10000", "--receipt", "1")
    answer = shop.done("purchase", "10000", "--receipt", "1", "--reader", "nothing:")
    assert answer == {**first, "replayed": True}


@pytest.mark.parametrize("amount", ["0", "-1", "1.5", "ten", "1e3", "9" * 30, ""])
def test_an_amount_that_is_none(shop: Shop, amount: str) -> None:
    assert shop.ta("purchase", "--receipt", "1", "--", amount).exit_code == 2
    assert shop.done("queue", "list")["events"] == []


def test_amounts_in_persian_digits(shop: Shop) -> None:
    shop.done("card", "issue")
    assert shop.done("purchase", "۲۵۰٬۰۰۰", "--receipt", "۱")["amount"] == 250000


@pytest.mark.parametrize("phone", ["12", "0912abc4433", "0" * 20])
def test_a_telephone_number_that_is_none(shop: Shop, phone: str) -> None:
    refused(shop, "invalid_input", 2, "card", "issue", "--phone", phone)


def test_not_enrolled(shop: Shop) -> None:
    refused(shop, "not_enrolled", 6, "sync")


def test_an_unreachable_crm(shop: Shop, crm: CrmProcess) -> None:
    shop.join(crm)
    crm.down()
    refused(shop, "crm_unreachable", 5, "sync")
    code = shop.folder / "code.txt"
    refused(shop, "crm_unreachable", 5, "enroll", "--crm-url", crm.url, "--code-file", str(code))


def test_a_code_that_is_wrong_used_or_expired(shop: Shop, crm: CrmProcess) -> None:
    code = shop.folder / "code.txt"
    enroll = ("enroll", "--crm-url", crm.url, "--code-file", str(code))
    code.write_text("AAAA-BBBB-CCCC\n")
    refused(shop, "crm_unauthorized", 5, *enroll)
    shop.join(crm)
    refused(shop, "crm_unauthorized", 5, *enroll)
    old = shop.done("crm", "code", "--data-dir", str(crm.data_dir), "--expires-in-s", "1")["code"]
    with sqlite3.connect(next(crm.data_dir.glob("*.sqlite*"))) as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(enrolment_codes)")]
        assert "expires_at" in columns
        database.execute("UPDATE enrolment_codes SET expires_at = '2020-01-01T00:00:00.000Z' WHERE used_at IS NULL")
    database.close()
    code.write_text(old)
    refused(shop, "crm_unauthorized", 5, *enroll)


def test_a_crm_without_tls_on_another_machine(shop: Shop) -> None:
    code = shop.folder / "code.txt"
    code.write_text("AAAA-BBBB-CCCC\n")
    refused(shop, "config_invalid", 6, "enroll", "--crm-url", "http://crm.example", "--code-file", str(code))


def test_two_daemons_on_one_data_directory(shop: Shop) -> None:
    shop.start_daemon()
    second = shop.start("run")
    _, err = second.communicate(timeout=20)
    assert second.returncode == 1
    assert "is using this data directory" in err
    assert shop.done("status")["state"] == "ready"


def test_json_is_taken_before_and_after_the_command(shop: Shop) -> None:
    for arguments in (["--json", "status"], ["status", "--json"]):
        process = shop.start(*arguments)
        out, _ = process.communicate(timeout=20)
        assert json.loads(out)["state"] == "stopped"


def test_usage_errors_are_json_too(shop: Shop) -> None:
    answer = shop.ta("purchase", "10000")
    assert (answer.code, answer.exit_code) == ("invalid_input", 2)
    assert shop.ta("no-such-command").exit_code == 2


def test_a_key_file_that_is_none_shows_nothing_of_it(shop: Shop) -> None:
    key = shop.folder / "key.txt"
    key.write_text("00112233445566778899AABBCCDDEEFX\n")
    refused(shop, "invalid_input", 2, "keys", "import", "--file", str(key))
    answer = shop.ta("keys", "import", "--file", str(key), human=True)
    assert "00112233" not in answer.err + answer.out


def test_keys_are_listed_by_check_value_and_never_overwritten(shop: Shop) -> None:
    key = shop.folder / "key.txt"
    key.write_text("00112233445566778899AABBCCDDEEFF\n")
    imported = shop.done("keys", "import", "--file", str(key), "--activate")
    assert imported == {"version": 2, "kcv": imported["kcv"], "active": True, "may_issue": True, "retired": False}
    assert [row["active"] for row in shop.done("keys", "list")] == [False, True]
    key.write_text("FF112233445566778899AABBCCDDEEFF\n")
    refused(shop, "config_invalid", 6, "keys", "import", "--file", str(key), "--version", "2")
    assert shop.done("keys", "activate", "1")["active"]
    shop.done("card", "issue")
    assert shop.done("card", "show")["key_set_version"] == 1


def test_a_card_of_a_wrong_size_is_unsupported(shop: Shop) -> None:
    shop.card.write_bytes(bytes(blank_card(b"\x01\x02\x03\x04")) * 4)
    refused(shop, "unsupported_card", 4, "card", "show")


def test_bytes_that_are_no_text_are_refused_before_anything_happens(shop: Shop) -> None:
    not_text = "\udcd8"  # what Python makes of a byte that is no UTF-8
    shop.done("card", "issue")
    image = shop.card.read_bytes()
    purchase = ("purchase", "50000", "--receipt")
    for command in ((*purchase, not_text), (*purchase, "1", "--line", f"{not_text}:1:100")):
        refused(shop, "invalid_input", 2, *command)
    blank = ("--reader", f"sim:{shop.folder}/blank.mfd")
    refused(shop, "invalid_input", 2, "card", "issue", *blank, "--name", not_text)
    assert shop.card.read_bytes() == image
    assert shop.ta("card", "show", *blank).code == "blank_card"
    assert shop.done("purchase", "50000", "--receipt", "1")["points_after"] == 5


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"\n"])
def test_a_code_or_key_file_that_is_no_text(shop: Shop, content: bytes) -> None:
    file = shop.folder / "file"
    file.write_bytes(content)
    refused(shop, "invalid_input", 2, "enroll", "--crm-url", "http://127.0.0.1:9", "--code-file", str(file))
    refused(shop, "invalid_input", 2, "keys", "import", "--file", str(file))


def test_a_config_whose_reader_is_a_typo(shop: Shop) -> None:
    shop.config.write_text(shop.config.read_text().replace('"sim:', '"sin:'))
    refused(shop, "config_invalid", 6, "status")


def test_an_address_with_v1_is_told_apart_from_a_dead_line(shop: Shop, crm: CrmProcess) -> None:
    code = shop.folder / "code.txt"
    code.write_text("AAAA-BBBB-CCCC\n")
    answer = shop.ta("enroll", "--crm-url", crm.url + "/v1", "--code-file", str(code))
    assert (answer.code, answer.exit_code) == ("crm_unreachable", 5)
    assert "without /v1" in answer.json["error"]["hint"]
