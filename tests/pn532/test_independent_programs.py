"""libnfc and libfreefare judge the reader we test with, and read the cards we wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers import KeyType, open_reader
from drivers.mifare_classic import (
    BLOCK_SIZE,
    CARD_SIZE,
    SECTOR_COUNT,
    TRANSPORT_KEY,
    AccessBits,
    SectorTrailer,
    blank_card,
    data_blocks,
    trailer_of,
)
from drivers.simulator import MemoryImage
from tests.pn532.chip import FieldCard
from tests.pn532.libnfc import read_card, run_on
from tests.pn532.serial_line import SerialPn532

pytestmark = [pytest.mark.nfcpy, pytest.mark.libnfc, pytest.mark.usefixtures("libnfc")]
UIDS = [bytes.fromhex("1A2B3C4D"), bytes.fromhex("04A1B2C3D4E5F6")]


@pytest.mark.parametrize("uid", UIDS, ids=["4 bytes", "7 bytes"])
def test_nfc_list_sees_the_card_on_the_reader(pn532: SerialPn532, uid: bytes) -> None:
    assert "NFC device" in run_on(pn532.path, "nfc-list")
    pn532.lay(FieldCard.blank(uid))
    said = run_on(pn532.path, "nfc-list", "-v")
    assert "UID (NFCID1): " + "  ".join(f"{byte:02x}" for byte in uid) in said
    assert "* MIFARE Classic 1K" in said


def test_nfc_mfclassic_reads_with_each_sectors_own_keys_exactly_what_we_wrote(
    pn532: SerialPn532, tmp_path: Path
) -> None:
    card = FieldCard.blank(UIDS[0])
    pn532.lay(card)
    access = AccessBits((0b100, 0b100, 0b100, 0b011))
    keys = blank_card(UIDS[0])
    with open_reader(f"pn532:{pn532.link}") as reader, reader.connect() as connection:
        for sector in range(SECTOR_COUNT):
            connection.authenticate(trailer_of(sector), KeyType.A, TRANSPORT_KEY)
            for block in data_blocks(sector):
                connection.write_block(block, bytes([block]) * BLOCK_SIZE)
            trailer = SectorTrailer(bytes([sector, *b"key a"]), access, bytes([sector, *b"key b"])).encode()
            connection.write_block(trailer_of(sector), trailer)
            start = trailer_of(sector) * BLOCK_SIZE
            keys[start : start + BLOCK_SIZE] = trailer
    (tmp_path / "keys.mfd").write_bytes(keys)
    assert isinstance(card.image, MemoryImage)
    for key_type in "ab":
        read = read_card(pn532.path, tmp_path / "read.mfd", tmp_path / "keys.mfd", key_type)
        assert len(read) == CARD_SIZE
        assert read == bytes(card.image.content)
        assert read[5 * BLOCK_SIZE : 6 * BLOCK_SIZE] == b"\x05" * BLOCK_SIZE


def test_mifare_classic_format_works_and_we_read_what_it_made(pn532: SerialPn532) -> None:
    card = FieldCard.blank(UIDS[0])
    pn532.lay(card)
    with open_reader(f"pn532:{pn532.link}") as reader, reader.connect() as connection:
        connection.authenticate(4, KeyType.A, TRANSPORT_KEY)
        connection.write_block(4, b"\x55" * BLOCK_SIZE)
    assert "Formatting 16 sectors" in run_on(pn532.path, "mifare-classic-format", "-y")
    with open_reader(f"pn532:{pn532.link}") as reader, reader.connect() as connection:
        connection.authenticate(4, KeyType.A, TRANSPORT_KEY)
        assert connection.read_block(4) == bytes(BLOCK_SIZE)
