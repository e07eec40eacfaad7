"""Key sets from outside: what a terminal may do with them."""

from __future__ import annotations

from pathlib import Path

from terminal_agent.service.rekeying import HOLD_STILL
from tests.cli.shop import Shop


def key_file(shop: Shop) -> Path:
    key = shop.folder / "club.key"
    key.write_text("00112233445566778899AABBCCDDEEFF\n")
    return key


def test_under_a_set_that_makes_no_cards_here_cards_are_used_and_none_is_made(shop: Shop) -> None:
    old, blank = shop.card, shop.folder / "blank.mfd"
    lost = shop.done("card", "issue", "--phone", "09125554433")
    imported = shop.done("keys", "import", "--file", str(key_file(shop)), "--activate", "--no-issue")
    assert (imported["version"], imported["active"], imported["may_issue"]) == (2, True, False)
    assert [row["may_issue"] for row in shop.done("keys", "list")] == [True, False]
    assert "makes no cards here" in shop.ta("keys", "list", human=True).out
    rows = shop.folder / "rows.csv"
    rows.write_text("phone\n09125554434\n")
    blank_reader = ("--reader", f"sim:{blank}")
    for command in (
        ("card", "issue", *blank_reader),
        ("card", "replace", "--old", lost["card_no"], *blank_reader),
        ("desk", "batch", "--input", str(rows), "--output", str(shop.folder / "out.csv"), *blank_reader),
        ("card", "rekey"),
    ):
        answer = shop.ta(*command)
        assert (answer.exit_code, "makes no cards under key set 2" in answer.out) == (6, True), command
    assert blank.read_bytes().count(bytes.fromhex("FF" * 7 + "078069" + "FF" * 6)) == 16, "it is as the maker made it"
    before = old.read_bytes()[7 * 64 :]
    sold = shop.ta("purchase", "50000", "--receipt", "1")
    assert (sold.json["state"], sold.json["points_after"]) == ("done", 5)
    assert HOLD_STILL not in sold.err
    assert old.read_bytes()[7 * 64 :] == before, "and the card keeps its keys"
    assert shop.done("keys", "limit", "2", "--issue")["may_issue"] is True
    assert shop.done("card", "issue", *blank_reader)["key_set_version"] == 2
    shop.done("purchase", "50000", "--receipt", "2")
    assert shop.done("card", "show")["key_set_version"] == 2


def test_what_has_no_pin_cannot_be_unlocked_and_what_is_not_there_not_limited(shop: Shop) -> None:
    assert (shop.ta("keys", "unlock").code, shop.ta("keys", "limit", "7", "--issue").code) == ("invalid_input",) * 2
    (shop.data_dir / "keys" / "no-issue").write_text("1 x\n2\n")
    assert [row["may_issue"] for row in shop.done("keys", "list")] == [False]
    assert shop.done("keys", "limit", "1", "--issue")["may_issue"] is True


def test_a_key_set_that_was_made_here_is_to_be_copied_from_where_it_is(shop: Shop) -> None:
    made = shop.ta("keys", "generate")
    kept = shop.data_dir / "keys" / f"v{made.json['version']}.key"
    assert f"Keep a copy of {kept}" in made.err
    assert kept.exists()


def test_a_stolen_key_is_ended_by_retiring_its_set_and_its_owner_gets_a_new_card(shop: Shop) -> None:
    old = shop.done("card", "issue", "--phone", "09125554433")
    assert shop.ta("keys", "retire", "1").code == "invalid_input", "it is in use"
    shop.done("keys", "import", "--file", str(key_file(shop)), "--activate")
    assert shop.done("keys", "retire", "1")["retired"] is True
    assert "its cards are taken no more" in shop.ta("keys", "list", human=True).out
    refused = shop.ta("purchase", "50000", "--receipt", "1")
    assert (refused.code, refused.exit_code, "card replace --old" in refused.out) == ("card_blocked", 4, True)
    new = ("--reader", f"sim:{shop.folder / 'new.mfd'}")
    assert shop.done("card", "replace", "--old", old["card_no"], *new)["key_set_version"] == 2
    assert shop.done("purchase", "50000", "--receipt", "1", *new)["points_after"] == 5
