"""No key, token, secret or name stands where it is not needed: canaries are planted and looked for everywhere."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from drivers.mifare_classic import KeyType
from terminal_agent.card.keys import CardKeys, MasterKeyInMemory
from tests.cli.shop import CrmProcess, Shop, wait_until
from tests.pcsc.virtual_reader import VirtualCard, VirtualReader

MASTER_KEY = bytes.fromhex("C0FFEE00112233445566778899AABBCC")
NAME = "Canary Khanoom"
UID = bytes.fromhex("1A2B3C4D")


def spellings(secret: bytes) -> set[bytes]:
    """The ways a secret may turn up: raw, hex in either case and spaced, base64, as a Python list."""
    spaced = secret.hex(" ")
    return {
        secret,
        secret.hex().encode(),
        secret.hex().upper().encode(),
        spaced.encode(),
        spaced.upper().encode(),
        base64.b64encode(secret),
        str(list(secret))[1:-1].encode(),
    }


def secrets_of(shop: Shop) -> dict[str, set[bytes]]:
    stored = json.loads((shop.data_dir / "crm.json").read_text())
    keys = CardKeys(2, UID, MasterKeyInMemory(MASTER_KEY))
    found = {"master key": spellings(MASTER_KEY), "crm token": {stored["token"].encode()}}
    found["crm secret"] = spellings(base64.b64decode(stored["secret"]))
    for sector in range(16):
        for key_type in KeyType:
            found[f"sector {sector} key {key_type}"] = spellings(keys.sector_key(sector, key_type))
    for name in ("identity_key", "state_key", "history_key"):
        found[name] = spellings(getattr(keys, name))
    return found


@pytest.mark.pcsc
def test_canaries_are_found_only_where_they_belong(bare_shop: Shop, virtual_reader: VirtualReader) -> None:
    shop = bare_shop
    shop.init("pcsc:")
    key_file = shop.folder / "club.key"
    key_file.write_text(MASTER_KEY.hex())
    crm = CrmProcess(shop)
    crm.up()
    virtual_reader.insert(VirtualCard.blank(UID))
    daemon = shop.start("--log-level", "debug", "run")
    wait_until(lambda: (shop.data_dir / "agent.sock").exists())

    said = [shop.ta("keys", "import", "--file", str(key_file), "--activate")]
    shop.join(crm)
    arguments = Path(f"/proc/{daemon.pid}/cmdline").read_bytes() + Path(f"/proc/{daemon.pid}/environ").read_bytes()
    said += [shop.ta("card", "issue", "--name", NAME, "--phone", "09125554433")]
    said += [shop.ta("purchase", "10000", "--receipt", "1"), shop.ta("card", "show"), shop.ta("card", "verify")]
    said += [shop.ta("sync"), shop.ta("status"), shop.ta("queue", "list"), shop.ta("keys", "list")]
    card = virtual_reader.counts
    assert card["auth"] > 0, "the card was really used"
    exit_code, log = shop.end(daemon)
    assert exit_code == 0

    spoken = "".join(answer.out + answer.err for answer in said).encode() + log.encode() + arguments
    journal = b"".join(path.read_bytes() for path in shop.data_dir.glob("journal.sqlite3*"))
    for what, forms in secrets_of(shop).items():
        for form in forms:
            assert form not in spoken, f"the {what} was said"
            assert form not in journal, f"the {what} stands in the journal"
    assert NAME not in log
    assert "09125554433" not in log


def test_a_blank_reader_of_the_card_image_finds_no_plain_number_or_name(shop: Shop) -> None:
    issued = shop.done("card", "issue", "--name", NAME, "--phone", "09125554433")
    shop.done("purchase", "1234560000", "--receipt", "1")
    image = shop.card.read_bytes()
    number = int(issued["card_no"]).to_bytes(8, "big")
    points = (123456).to_bytes(4, "big")
    for plain in (number, points, issued["card_no"].encode(), NAME.encode(), b"09125554433"):
        assert plain not in image
