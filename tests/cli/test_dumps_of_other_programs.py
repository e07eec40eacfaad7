"""libnfc's nfc-mfclassic, which shares no code with us, takes our dumps and makes dumps that we take."""

from __future__ import annotations

import pytest

from drivers.mifare_classic import blank_card
from tests.cli.shop import Shop
from tests.pn532.chip import FieldCard
from tests.pn532.libnfc import read_card
from tests.pn532.serial_line import SerialPn532

pytestmark = [pytest.mark.nfcpy, pytest.mark.libnfc, pytest.mark.usefixtures("libnfc")]
UIDS = [bytes.fromhex("1A2B3C4D"), bytes.fromhex("04A1B2C3D4E5F6")]


@pytest.mark.parametrize("uid", UIDS, ids=["4 bytes", "7 bytes"])
def test_an_issued_card_is_read_by_nfc_mfclassic_with_the_keys_in_our_dump(
    bare_shop: Shop, pn532: SerialPn532, uid: bytes
) -> None:
    shop, reader = bare_shop, f"pn532:{pn532.link}"
    shop.init(reader)
    pn532.lay(FieldCard.blank(uid))
    shop.done("card", "issue")
    shop.done("purchase", "250000", "--receipt", "1")
    saved = shop.folder / "saved.mfd"
    assert shop.done("card", "dump", "--output", str(saved))["blocks_read"] == 64
    for key_type in "ab":
        assert read_card(pn532.path, shop.folder / "theirs.mfd", saved, key_type) == saved.read_bytes()


def test_a_dump_of_nfc_mfclassic_is_put_back_on_the_wiped_card(bare_shop: Shop, pn532: SerialPn532) -> None:
    shop = bare_shop
    shop.init(f"pn532:{pn532.link}")
    pn532.lay(FieldCard.blank(UIDS[0]))
    shop.done("card", "issue")
    saved, theirs = shop.folder / "saved.mfd", shop.folder / "theirs.mfd"
    shop.done("card", "dump", "--output", str(saved))
    read_card(pn532.path, theirs, saved)
    shop.done("card", "wipe", "--force")
    wiped = shop.folder / "wiped.mfd"
    wiped.write_bytes(blank_card(UIDS[0]))  # the keys it has now
    assert read_card(pn532.path, shop.folder / "blank.mfd", wiped) == wiped.read_bytes()
    assert shop.done("card", "restore", "--input", str(theirs), "--force")["blocks_verified"] == 64
    assert read_card(pn532.path, shop.folder / "again.mfd", saved) == saved.read_bytes()
