"""``card dump`` and ``card restore`` from outside: files, rights, refusals, and what may never be said."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from drivers.dumps import MAX_DUMP_BYTES
from drivers.mifare_classic import KeyType, blank_card
from terminal_agent.card.keys import CardKeys, MasterKeyInMemory
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service.dump_files import write_dump
from tests.card.independent_reader import read_card
from tests.cli.shop import Shop, wait_until
from tests.cli.test_bad_input import refused
from tests.cli.test_secrets import spellings
from tests.pcsc.virtual_reader import VirtualCard, VirtualReader

FORMATS = ["mfd", "eml", "mct", "nfc", "json"]
UID = bytes.fromhex("1A2B3C4D")


def dump(shop: Shop, path: Path, *options: str) -> dict[str, object]:
    answer: dict[str, object] = shop.done("card", "dump", "--output", str(path), *options)
    return answer


@pytest.mark.parametrize("with_daemon", [False, True], ids=["without daemon", "with daemon"])
def test_a_card_is_dumped_wiped_and_put_back_in_every_format(shop: Shop, with_daemon: bool) -> None:
    if with_daemon:
        shop.start_daemon()
    shop.done("card", "issue", "--name", "Sara")
    shop.done("purchase", "250000", "--receipt", "1")
    before = shop.card.read_bytes()
    for suffix in FORMATS:
        path = shop.folder / f"saved.{suffix}"
        uid = before[:4].hex()
        assert dump(shop, path) == {
            "uid": uid, "format": suffix, "blocks_read": 64, "blocks_unknown": 0, "output": str(path)
        }  # fmt: skip
        assert path.stat().st_mode & 0o777 == 0o600
        restored = shop.done("card", "restore", "--input", str(path), "--force")
        assert (restored["blocks_written"], restored["blocks_verified"], restored["blocks_skipped"]) == (0, 64, 0)
        shop.card.write_bytes(blank_card(before[:4]))
        restored = shop.done("card", "restore", "--input", str(path), "--force")
        assert (restored["uid"], restored["dump_uid"], restored["format"]) == (uid, uid, suffix)
        assert shop.card.read_bytes() == before
    assert shop.done("purchase", "250000", "--receipt", "2")["points_after"] == 50


def test_an_mfd_dump_is_the_card_with_its_true_keys(shop: Shop) -> None:
    issued = shop.done("card", "issue")
    dump(shop, shop.folder / "saved.mfd")
    master_key = bytes.fromhex((shop.data_dir / "keys" / "v1.key").read_text())
    found = read_card((shop.folder / "saved.mfd").read_bytes(), master_key)
    assert found.identity is not None
    assert found.identity["card_no"] == issued["card_no"]
    keys = CardKeys(1, bytes.fromhex(issued["uid"]), MasterKeyInMemory(master_key))
    raw = (shop.folder / "saved.mfd").read_bytes()
    for sector in range(16):
        trailer = raw[sector * 64 + 48 : sector * 64 + 64]
        assert (trailer[:6], trailer[10:]) == (keys.sector_key(sector, KeyType.A), keys.sector_key(sector, KeyType.B))


def test_an_older_image_is_refused_at_the_next_tap(shop: Shop) -> None:
    shop.done("card", "issue")
    dump(shop, shop.folder / "old.mct")
    shop.done("purchase", "250000", "--receipt", "1")
    shop.done("card", "restore", "--input", str(shop.folder / "old.mct"), "--force")
    assert shop.done("card", "show")["problem"] == "card_rolled_back"
    refused(shop, "card_rolled_back", 4, "purchase", "250000", "--receipt", "2")
    assert [event["type"] for event in shop.done("queue", "list")["events"]].count("card.anomaly") == 1


# --- the file


def test_a_dump_replaces_no_file_unless_told_to(shop: Shop) -> None:
    path = shop.folder / "saved.mfd.json"
    path.write_text("mine")
    refused(shop, "invalid_input", 2, "card", "dump", "--output", str(path))
    assert path.read_text() == "mine"
    dump(shop, path, "--force")
    assert json.loads(path.read_text())["FileType"] == "mfc v2"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_dump_goes_where_a_file_may_be(shop: Shop) -> None:
    taken = shop.folder / "taken.mfd"
    taken.mkdir()
    for place in ("nowhere/card.mfd", "taken.mfd", "card.txt", "card", "x" * 300 + ".mfd", "data/keys/v1.key/card.mfd"):
        refused(shop, "invalid_input", 2, "card", "dump", "--force", "--output", str(shop.folder / place))
    assert not list(shop.folder.glob("*.tmp"))
    assert not list(shop.folder.glob(".*"))


def test_a_place_where_no_dump_may_be_is_refused_before_a_card_is_asked_for(shop: Shop) -> None:
    nowhere = ("--reader", f"sim:{shop.folder}/nowhere/card.mfd")
    (shop.folder / "there.mfd").write_bytes(b"mine")
    for name in ("there.mfd", "card.txt"):
        refused(shop, "invalid_input", 2, "card", "dump", *nowhere, "--output", str(shop.folder / name))


def test_a_disk_without_room_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "card.mfd"
    path.write_bytes(b"mine")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with pytest.raises(AgentError) as caught:
            write_dump(path, bytes(1024), force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.code is ErrorCode.INVALID_INPUT
    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_or_device_in_the_way_is_not_replaced(shop: Shop) -> None:
    (shop.folder / "loop.mfd").symlink_to(shop.folder / "loop.mfd")
    (shop.folder / "null.mfd").symlink_to("/dev/null")
    for name in ("loop.mfd", "null.mfd"):
        refused(shop, "invalid_input", 2, "card", "dump", "--force", "--output", str(shop.folder / name))
        assert (shop.folder / name).is_symlink()


def test_persian_names_of_files_are_fine(shop: Shop) -> None:
    folder = shop.folder / "پشتیبان کارت‌ها"
    folder.mkdir()
    path = folder / "کارت سارا.nfc"
    assert dump(shop, path)["output"] == str(path)
    assert shop.done("card", "restore", "--input", str(path), "--force")["blocks_verified"] == 64


def test_a_dump_warns_that_it_holds_keys(shop: Shop) -> None:
    answer = shop.ta("card", "dump", "--output", str(shop.folder / "a.mfd"), human=True)
    assert "64 blocks" in answer.out
    assert "holds the card's keys" in answer.err
    assert "holds the card's keys" in shop.ta("card", "dump", "--output", str(shop.folder / "b.mfd")).err


def test_a_partial_dump_says_how_much_is_missing(shop: Shop) -> None:
    image = blank_card(UID)
    image[9 * 64 + 48] ^= 1
    image[9 * 64 + 58] ^= 1
    shop.card.write_bytes(image)
    refused(shop, "key_rejected", 4, "card", "dump", "--output", str(shop.folder / "saved.mfd"))
    assert not (shop.folder / "saved.mfd").exists()
    answer = shop.ta("card", "dump", "--output", str(shop.folder / "saved.mct"), human=True)
    assert "60 blocks are in" in answer.out
    assert "4 could not be read whole" in answer.out
    path = str(shop.folder / "saved.mct")
    refused(shop, "dump_invalid", 1, "card", "restore", "--input", path, "--force")
    shop.card.write_bytes(blank_card(UID))
    assert shop.done("card", "restore", "--input", path, "--force", "--partial")["blocks_skipped"] == 4


# --- refusals


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("short.mfd", bytes(1000)),
        ("empty.mfd", b""),
        ("text.eml", b"not hex\n" * 64),
        ("torn.mct", b"+Sector: 0\n" + b"0" * 32),
        ("other.nfc", b"Filetype: Flipper SubGhz Key File\n"),
        ("deep.json", b"[" * 200_000),
        ("card.txt", bytes(1024)),
        ("large.mfd", bytes(2 * 1024 * 1024)),
        ("blocked.mfd", bytes(1024)),
    ],
)
def test_a_bad_dump_file_leaves_the_card_untouched(shop: Shop, name: str, content: bytes) -> None:
    shop.done("card", "issue")
    before = shop.card.read_bytes()
    path = shop.folder / name
    path.write_bytes(content)
    refused(shop, "dump_invalid", 1, "card", "restore", "--input", str(path), "--force")
    assert shop.card.read_bytes() == before


def test_the_daemon_refuses_a_bad_dump_in_the_same_words(shop: Shop) -> None:
    path = shop.folder / "large.json"
    path.write_bytes(b" " * (2 * 1024 * 1024))
    alone = shop.ta("card", "restore", "--input", str(path), "--force")
    shop.start_daemon()
    assert shop.ta("card", "restore", "--input", str(path), "--force").json == alone.json


def test_the_daemon_takes_two_dumps_of_the_largest_size(shop: Shop) -> None:
    path = shop.folder / "padded.json"
    dump(shop, path)
    path.write_bytes(path.read_bytes().ljust(MAX_DUMP_BYTES))
    shop.start_daemon()
    restore = ("card", "restore", "--input", str(path), "--keys-from", str(path), "--force")
    assert shop.done(*restore)["blocks_verified"] == 64


def test_a_bad_dump_is_refused_before_a_card_is_asked_for(shop: Shop) -> None:
    path = shop.folder / "bad.mfd"
    path.write_bytes(bytes(3))
    nowhere = f"sim:{shop.folder}/nowhere/card.mfd"
    refused(shop, "dump_invalid", 1, "card", "restore", "--reader", nowhere, "--input", str(path), "--force")


def test_a_dump_that_is_not_there(shop: Shop) -> None:
    for place in ("nowhere.mfd", "data"):
        answer = shop.ta("card", "restore", "--input", str(shop.folder / place), "--force")
        assert (answer.code, answer.exit_code) == ("invalid_input", 2)


def test_a_restore_is_confirmed(shop: Shop) -> None:
    dump(shop, shop.folder / "saved.mfd")
    refused(shop, "invalid_input", 2, "card", "restore", "--input", str(shop.folder / "saved.mfd"))


def test_genuine_cards_keep_their_block_0(shop: Shop) -> None:
    (shop.folder / "other.mfd").write_bytes(blank_card(UID))
    shop.card.write_bytes(blank_card(bytes.fromhex("51617181")))
    path = str(shop.folder / "other.mfd")
    refused(shop, "unsupported_card", 4, "card", "restore", "--input", path, "--force", "--with-block-0")
    answer = shop.ta("card", "restore", "--input", path, "--force")
    assert answer.json["blocks_skipped"] == 1
    assert "The dump is of card 1a2b3c4d" in answer.err


@pytest.mark.parametrize("with_daemon", [False, True], ids=["without daemon", "with daemon"])
def test_a_card_that_became_another_ones_copy_is_blank_again_with_the_keys_of_its_dump(
    shop: Shop, with_daemon: bool
) -> None:
    shop.done("card", "issue")
    dump(shop, shop.folder / "saved.nfc")
    blank = bytes(blank_card(UID))
    shop.card.write_bytes(blank)
    (shop.folder / "blank.mfd").write_bytes(blank)
    if with_daemon:
        shop.start_daemon()
    keys_from = ("--keys-from", str(shop.folder / "saved.nfc"))
    shop.done("card", "restore", "--input", str(shop.folder / "saved.nfc"), "--force")
    refused(shop, "not_our_card", 4, "card", "dump", "--output", str(shop.folder / "copy.mct"))
    assert dump(shop, shop.folder / "copy.mfd", *keys_from)["blocks_read"] == 64
    to_blank = ("card", "restore", "--input", str(shop.folder / "blank.mfd"), "--force")
    refused(shop, "key_rejected", 4, *to_blank)
    shop.done(*to_blank, *keys_from)
    assert shop.card.read_bytes() == blank
    (shop.folder / "bad.mfd").write_bytes(b"")
    refused(shop, "dump_invalid", 1, *to_blank, "--keys-from", str(shop.folder / "bad.mfd"))


def test_frozen_access_bits_are_written_only_when_told_to(shop: Shop) -> None:
    frozen = blank_card(UID)
    frozen[54:57] = bytes.fromhex("778F08")  # sector 0's trailer: 110, never to be written again
    (shop.folder / "frozen.mfd").write_bytes(frozen)
    shop.card.write_bytes(blank_card(UID))
    restore = ("card", "restore", "--input", str(shop.folder / "frozen.mfd"), "--force")
    refused(shop, "dump_invalid", 1, *restore)
    assert shop.card.read_bytes() == blank_card(UID)
    assert shop.done(*restore, "--allow-lock")["blocks_written"] == 1
    assert shop.card.read_bytes() == frozen


# --- over the air, and nothing said


@pytest.mark.pcsc
def test_no_key_is_said_logged_or_journaled_on_the_way(bare_shop: Shop, virtual_reader: VirtualReader) -> None:
    shop = bare_shop
    shop.init("pcsc:")
    virtual_reader.insert(VirtualCard.blank(UID))
    daemon = shop.start("--log-level", "debug", "run")
    wait_until(lambda: (shop.data_dir / "agent.sock").exists())
    said = [shop.ta("--log-level", "debug", "card", "issue", "--name", "Sara")]
    files = [shop.folder / f"saved.{suffix}" for suffix in FORMATS]
    said += [shop.ta("card", "dump", "--output", str(path)) for path in files]
    virtual_reader.remove()
    virtual_reader.insert(VirtualCard.blank(UID))
    said += [shop.ta("card", "restore", "--input", str(path), "--force") for path in files]
    (shop.folder / "bad.eml").write_bytes(files[1].read_bytes().replace(b"7788", b"77x8"))
    bad = shop.ta("card", "restore", "--input", str(shop.folder / "bad.eml"), "--force")
    assert bad.code == "dump_invalid"
    assert shop.done("card", "verify")["ok"]
    exit_code, log = shop.end(daemon)
    assert exit_code == 0
    assert [answer.exit_code for answer in said] == [0] * 11
    assert [answer.json["blocks_written"] for answer in said[6:]] == [20, 0, 0, 0, 0]

    spoken = "".join(answer.out + answer.err for answer in [*said, bad]).encode() + log.encode()
    journal = b"".join(path.read_bytes() for path in shop.data_dir.glob("journal.sqlite3*"))
    keys = CardKeys(1, UID, MasterKeyInMemory(bytes.fromhex((shop.data_dir / "keys" / "v1.key").read_text())))
    for sector in range(16):
        for key_type in KeyType:
            key = keys.sector_key(sector, key_type)
            assert all(any(form in path.read_bytes() for form in spellings(key)) for path in files)
            for form in spellings(key):
                assert form not in spoken
                assert form not in journal
