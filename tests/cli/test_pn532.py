"""The product on a PN532: the same card as on any other reader, torn cards settled, a reader that comes and goes."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from drivers.mifare_classic import BLOCK_SIZE, SECTOR_COUNT, blank_card, trailer_of
from drivers.simulator import Fault, MemoryImage, Torn
from tests.card.independent_reader import sector_keys
from tests.cli.shop import Shop, wait_until
from tests.pcsc.virtual_reader import VirtualCard, VirtualReader
from tests.pn532.chip import FieldCard
from tests.pn532.libnfc import read_card
from tests.pn532.serial_line import SerialPn532

pytestmark = pytest.mark.nfcpy
UID = bytes.fromhex("1A2B3C4D")
MASTER_KEY = "0F1E2D3C4B5A69788796A5B4C3D2E1F0"
OPERATIONS_BEFORE_THE_WRITE = 4  # one authentication, three reads
OPERATIONS_OF_A_PURCHASE = 8


@pytest.fixture
def image() -> MemoryImage:
    """The memory of the one card of a test."""
    return MemoryImage(bytes(blank_card(UID)))


@pytest.fixture
def pn532_shop(bare_shop: Shop, pn532: SerialPn532, image: MemoryImage) -> Shop:
    """A shop with a PN532, and an issued card on it."""
    bare_shop.init(f"pn532:{pn532.link}")
    pn532.lay(FieldCard(image))
    bare_shop.done("card", "issue", "--name", "سارا")
    return bare_shop


def buy(shop: Shop, receipt: str, *arguments: str) -> Any:
    return shop.done("purchase", "250000", "--receipt", receipt, *arguments)


def test_what_a_pn532_shows_the_simulator_shows(pn532_shop: Shop, image: MemoryImage) -> None:
    buy(pn532_shop, "1")
    buy(pn532_shop, "2", "--redeem", "10")
    pn532_shop.card.write_bytes(image.content)
    for command in ("show", "verify"):
        on_pn532 = pn532_shop.done("card", command)
        assert on_pn532 == pn532_shop.done("card", command, "--reader", f"sim:{pn532_shop.card}")
    assert pn532_shop.done("card", "show")["points"] == 40
    assert pn532_shop.card.read_bytes() == image.content


@pytest.mark.pcsc
def test_a_card_issued_on_one_reader_is_at_home_on_the_others(
    pn532_shop: Shop, virtual_reader: VirtualReader, image: MemoryImage
) -> None:
    virtual_reader.insert(VirtualCard(image))
    on_pcsc = ("--reader", "pcsc:Virtual PCD 00 00")
    assert buy(pn532_shop, "1", *on_pcsc)["points_after"] == 25
    assert buy(pn532_shop, "2")["points_after"] == 50
    assert pn532_shop.done("card", "show", *on_pcsc) == pn532_shop.done("card", "show")
    assert pn532_shop.done("card", "verify", *on_pcsc)["ok"]
    pn532_shop.done("card", "wipe", "--force", *on_pcsc)
    assert pn532_shop.done("card", "issue")["points"] == 0
    assert pn532_shop.done("card", "verify", *on_pcsc)["ok"]


@pytest.mark.libnfc
@pytest.mark.parametrize("uid", [UID, bytes.fromhex("04A1B2C3D4E5F6")], ids=["4 bytes", "7 bytes"])
def test_libnfc_reads_an_issued_card_with_its_diversified_keys(
    bare_shop: Shop, pn532: SerialPn532, libnfc: None, tmp_path: Path, uid: bytes
) -> None:
    image = MemoryImage(bytes(blank_card(uid)))
    bare_shop.init(f"pn532:{pn532.link}")
    (tmp_path / "master.txt").write_text(MASTER_KEY)
    bare_shop.done("keys", "import", "--file", str(tmp_path / "master.txt"), "--activate")
    pn532.lay(FieldCard(image))
    bare_shop.done("card", "issue")
    buy(bare_shop, "1")
    keys = bytearray(blank_card(uid))
    for sector in range(SECTOR_COUNT):
        key_a, key_b = sector_keys(bytes.fromhex(MASTER_KEY), uid, sector)
        start = trailer_of(sector) * BLOCK_SIZE
        keys[start : start + BLOCK_SIZE] = key_a + keys[start + 6 : start + 10] + key_b
    (tmp_path / "keys.mfd").write_bytes(keys)
    for key_type in "ab":
        read = read_card(pn532.path, tmp_path / "read.mfd", tmp_path / "keys.mfd", key_type)
        assert read == bytes(image.content)


def test_a_card_pulled_away_anywhere_is_settled_at_the_next_tap(
    pn532_shop: Shop, pn532: SerialPn532, image: MemoryImage
) -> None:
    """Before, in the middle of, and after the write, with old, new and garbage content."""
    points, in_doubt = 0, 0
    for call in range(1, OPERATIONS_OF_A_PURCHASE + 2):
        for outcome in Torn:
            receipt = f"{call}-{outcome}"
            pn532.lay(FieldCard(image, fault=Fault(call, outcome)))
            torn = pn532_shop.ta("purchase", "250000", "--receipt", receipt, "--wait-s", "0")
            assert torn.exit_code in (0, 4), torn
            in_doubt += torn.json.get("state") == "in_doubt"
            pn532.lay(FieldCard(image))
            settled = buy(pn532_shop, receipt)
            points += 25
            assert (settled["points_after"], settled["state"]) == (points, "done"), receipt
            shown = pn532_shop.done("card", "show")
            assert (shown["points"], shown["sequence"], shown["problem"]) == (points, settled["sequence"], None)
    assert in_doubt == 2 * len(Torn), "pulled at the write, and at the read that checks it"
    queue = pn532_shop.done("queue", "list")
    assert queue["in_doubt"] == 0
    assert [event["type"] for event in queue["events"]].count("purchase.recorded") == points // 25
    assert pn532_shop.done("card", "verify")["ok"]


def test_a_reader_pulled_out_at_the_write_leaves_a_sale_that_is_settled(
    pn532_shop: Shop, pn532: SerialPn532, image: MemoryImage
) -> None:
    before = pn532.counts["write"]

    class Cut(MemoryImage):
        """Pulls the reader's plug when the card has taken the write, before anybody is told."""

        def write(self, block: int, data: bytes) -> None:
            super().write(block, data)
            pn532.answers = False

    cut = Cut(bytes(image.content))
    pn532.lay(FieldCard(cut))
    doubt = pn532_shop.ta("purchase", "250000", "--receipt", "7", "--wait-s", "0")
    assert (doubt.exit_code, doubt.json["state"], doubt.code) == (4, "in_doubt", "reader_lost"), doubt.out
    assert pn532.counts["write"] == before + 1
    pn532.answers = True
    pn532.lay(FieldCard(MemoryImage(bytes(cut.content))))
    assert buy(pn532_shop, "7")["points_after"] == 25


def test_the_daemon_shares_the_reader_between_its_watch_and_its_sales(
    pn532_shop: Shop, pn532: SerialPn532, image: MemoryImage
) -> None:
    daemon = pn532_shop.start_daemon()
    for number in range(1, 6):
        assert buy(pn532_shop, str(number))["points_after"] == 25 * number
    assert pn532_shop.done("status")["reader"] == {
        "url": f"pn532:{pn532.link}",
        "name": f"PN532v1.6 at {pn532.link}",
        "state": "ready",
        "card_present": True,
    }
    (row,) = [row for row in pn532_shop.done("reader", "list") if row["url"].startswith("pn532:")]
    assert (row["state"], row["problem"]) == ("in_use", None), "commands reach it through the daemon"
    exit_code, err = pn532_shop.end(daemon)
    assert exit_code == 0, err
    (row,) = [row for row in pn532_shop.done("reader", "list") if row["url"].startswith("pn532:")]
    assert (row["state"], row["problem"]) == ("card", None)
    pn532.unplug()
    (row,) = [row for row in pn532_shop.done("reader", "list") if row["url"].startswith("pn532:")]
    assert (row["state"], row["problem"]) == ("unusable", f"there is no {pn532.link}")
    assert "/dev/serial/by-id" in row["hint"]


def test_the_daemon_settles_a_torn_sale_when_the_card_is_laid_down(
    pn532_shop: Shop, pn532: SerialPn532, image: MemoryImage
) -> None:
    pn532_shop.start_daemon()
    pn532.lay(FieldCard(image, fault=Fault(OPERATIONS_BEFORE_THE_WRITE + 1, Torn.GARBAGE)))
    doubt = pn532_shop.ta("purchase", "250000", "--receipt", "7", "--wait-s", "0.5")
    assert doubt.json["state"] == "in_doubt"
    pn532.lay(FieldCard(image))
    wait_until(lambda: pn532_shop.done("queue", "list")["in_doubt"] == 0)
    replay = buy(pn532_shop, "7")
    assert (replay["state"], replay["replayed"]) == ("done", True)


def test_the_daemon_notices_a_reader_pulled_out_and_plugged_in_again(pn532_shop: Shop, pn532: SerialPn532) -> None:
    daemon = pn532_shop.start_daemon()

    def reader_is(state: str) -> bool:
        return bool(pn532_shop.done("status")["reader"]["state"] == state)

    wait_until(lambda: reader_is("ready"))
    pn532.unplug()
    wait_until(lambda: reader_is("lost"))
    assert pn532_shop.done("status")["state"] == "degraded"
    assert pn532_shop.ta("purchase", "250000", "--receipt", "1", "--wait-s", "0.2").exit_code == 3
    pn532.plug()
    wait_until(lambda: reader_is("ready"))
    assert buy(pn532_shop, "1")["points_after"] == 25
    _, err = pn532_shop.end(daemon)
    assert (err.count("reader=lost"), err.count("reader=ready")) == (1, 2), err


def test_a_relative_path_means_the_same_with_the_daemon_elsewhere(
    pn532_shop: Shop, pn532: SerialPn532, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pn532.link is not None
    pn532_shop.start_daemon()
    monkeypatch.chdir(pn532.link.parent)
    assert buy(pn532_shop, "1", "--reader", f"pn532:{pn532.link.name}")["points_after"] == 25


def test_the_product_works_on_a_reader_on_usb(bare_shop: Shop, nfcpy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.pn532.usb import Acr122u, plug_in

    usb = Acr122u()
    plug_in(monkeypatch, usb)
    usb.lay(FieldCard.blank(UID))
    bare_shop.init("usb:072f:2200")
    bare_shop.done("card", "issue")
    assert buy(bare_shop, "1")["points_after"] == 25
    assert bare_shop.done("card", "verify")["ok"]


def test_the_doctor_says_what_keeps_a_reader_from_opening(
    bare_shop: Shop, nfcpy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import usb1

    from tests.pn532.usb import Acr122u, hold, plug_in

    usb = Acr122u()
    usb.claim_error = usb1.USBErrorBusy()
    plug_in(monkeypatch, usb)
    hold(tmp_path / "sysfs", monkeypatch, "pn533_usb")
    bare_shop.init("usb:072f:2200")
    answer = bare_shop.ta("doctor")
    (check,) = [check for check in answer.json["checks"] if check["id"] == "reader"]
    assert check["status"] == "fail"
    assert "the kernel's module pn533_usb holds the reader 072f:2200" in check["detail"]
    assert "modprobe -r pn533_usb" in check["fix"]


def test_a_killed_daemon_leaves_the_reader_usable(pn532_shop: Shop, pn532: SerialPn532) -> None:
    daemon = pn532_shop.start_daemon()
    buy(pn532_shop, "1")
    pn532_shop.end(daemon, signal.SIGKILL)
    assert pn532.chip.baudrate == 115200
    assert buy(pn532_shop, "2")["points_after"] == 50
