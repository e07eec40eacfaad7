"""The daemon when its reader goes away: it says so, refuses sales in hand clearly, and uses the reader again by itself.

Every recovery is held to the promised 5 s, from the moment the reader is back, not counting the time in which the
machine had more to do than it could; ``-s`` shows what it took.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from drivers.mifare_classic import blank_card
from drivers.simulator import Fault, MemoryImage
from tests.cli.shop import Shop, wait_until
from tests.pcsc.service import PcscService
from tests.pcsc.virtual_reader import VirtualCard, VirtualReader
from tests.pn532.chip import FieldCard
from tests.pn532.serial_line import SerialPn532

RECOVERY_S = 5.0
AT_MOST_S = 60.0
UNCONNECTED_CARD_UNPOWERED_S = 6.0
"""pcscd takes the power from a card that nobody uses after 5 s."""


@pytest.fixture
def pn532_shop(bare_shop: Shop, pn532: SerialPn532, image: MemoryImage) -> Shop:
    """A shop with a PN532, and an issued card on it."""
    bare_shop.init(f"pn532:{pn532.link}")
    pn532.lay(FieldCard(image))
    bare_shop.done("card", "issue")
    return bare_shop


@pytest.fixture
def mended(pcsc_service: PcscService) -> Iterator[PcscService]:
    """The card service, to be broken: the next test finds it as it was."""
    yield pcsc_service
    pcsc_service.kill()
    pcsc_service.start()


def reader_of(shop: Shop) -> Any:
    return shop.done("status")["reader"]


def wait_for_reader(shop: Shop, state: str) -> Any:
    """``status`` of a daemon that sees its reader so."""
    wait_until(lambda: bool(reader_of(shop)["state"] == state))
    return shop.done("status")


def buy(shop: Shop, receipt: str, *arguments: str) -> Any:
    return shop.done("purchase", "250000", "--receipt", receipt, *arguments)


def recovered(shop: Shop, what: str) -> None:
    """The reader is back now: ``status`` says so in the promised time, but for what a busy machine takes of it."""
    began, stalled = time.monotonic(), stalled_s()
    wait_until(lambda: bool(reader_of(shop)["state"] == "ready"), AT_MOST_S)
    took_s, busy_s = time.monotonic() - began, stalled_s() - stalled
    assert shop.done("status")["state"] == "ready"
    assert sys.__stderr__ is not None
    sys.__stderr__.write(f"{what}: ready after {took_s:.2f} s, the machine busy for {busy_s:.2f} s of it\n")
    assert took_s - busy_s < RECOVERY_S


def stalled_s() -> float:
    """Seconds since the machine was started in which somebody waited for a processor (the kernel's accounting/psi.rst);
    0 where it does not tell."""
    try:
        return int(Path("/proc/pressure/cpu").read_text().split()[4].removeprefix("total=")) / 1e6
    except OSError:
        return 0.0


def descriptors(process: subprocess.Popen[str]) -> int:
    return len(os.listdir(f"/proc/{process.pid}/fd"))


def lines(log: str, word: str) -> int:
    return log.count(f"reader={word}")


@pytest.mark.pcsc
def test_a_card_service_that_dies_is_told_once_and_used_again_when_it_is_back(
    pcsc_shop: Shop, virtual_reader: VirtualReader, image: MemoryImage, mended: PcscService
) -> None:
    daemon = pcsc_shop.start_daemon()
    assert wait_for_reader(pcsc_shop, "ready")["state"] == "ready"
    virtual_reader.remove()
    mended.kill()
    status = wait_for_reader(pcsc_shop, "lost")
    assert status["state"] == "degraded"
    assert status["reader"]["name"] == "Virtual PCD 00 00"
    assert "smart-card service" in status["reader"]["problem"]
    assert "pcscd" in status["reader"]["hint"]
    since = status["reader"]["since"]
    refused = pcsc_shop.ta("purchase", "10000", "--receipt", "1", "--wait-s", "0.2")
    assert (refused.exit_code, refused.code) == (3, "service_unavailable")
    time.sleep(2)  # time for the watch to try again, and again
    assert reader_of(pcsc_shop)["since"] == since
    assert "smart-card service" in pcsc_shop.ta("status", human=True).out
    mended.start()
    recovered(pcsc_shop, "pcscd killed and started")
    virtual_reader.insert(VirtualCard(image))
    assert buy(pcsc_shop, "1")["points_after"] == 25
    _, err = pcsc_shop.end(daemon)
    assert (lines(err, "lost"), lines(err, "ready")) == (1, 2), err


@pytest.mark.pcsc
def test_a_sale_that_waits_for_its_card_is_told_when_the_card_service_dies(
    pcsc_shop: Shop, virtual_reader: VirtualReader, image: MemoryImage, mended: PcscService
) -> None:
    virtual_reader.remove()
    pcsc_shop.start_daemon()
    sale = pcsc_shop.start("purchase", "250000", "--receipt", "1", "--wait-s", "60", "--json")
    assert sale.stderr is not None
    assert "Put the card" in sale.stderr.readline()
    mended.kill()
    out, _ = sale.communicate(timeout=60)
    assert sale.returncode == 3
    assert '"service_unavailable"' in out
    mended.start()
    virtual_reader.insert(VirtualCard(image))
    recovered(pcsc_shop, "pcscd killed during a sale")
    queue = pcsc_shop.done("queue", "list")
    assert (queue["in_doubt"], [event["type"] for event in queue["events"]].count("purchase.recorded")) == (0, 0)
    assert buy(pcsc_shop, "1")["points_after"] == 25


@pytest.mark.pcsc
def test_a_checkout_of_the_till_outlives_the_card_service(
    pcsc_shop: Shop, virtual_reader: VirtualReader, image: MemoryImage, mended: PcscService
) -> None:
    """It tells why it waits, and goes on when the reader is back."""
    virtual_reader.remove()
    pcsc_shop.start_daemon()
    till = f"{wait_for_reader(pcsc_shop, 'ready')['till_url'].rstrip('/')}/v1"
    token = requests.post(f"{till}/pair", json={"code": pcsc_shop.done("till", "code")["code"]}, timeout=10).json()
    headers = {"Authorization": f"Bearer {token['token']}", "Idempotency-Key": "1"}
    asked = {"amount": 250000, "currency": "IRR", "receipt_no": "1", "expires_in_s": 60}
    opened = requests.post(f"{till}/checkouts", json=asked, headers=headers, timeout=10).json()

    def checkout() -> Any:
        return requests.get(f"{till}/checkouts/{opened['id']}", headers=headers, timeout=10).json()

    mended.kill()
    wait_until(lambda: bool(checkout()["error"]))
    told = checkout()
    assert (told["state"], told["error"]["code"]) == ("waiting_for_card", "service_unavailable")
    assert requests.get(f"{till}/reader", headers=headers, timeout=10).json()["state"] == "lost"
    mended.start()
    recovered(pcsc_shop, "pcscd killed under a checkout")
    wait_until(lambda: checkout()["error"] is None)
    virtual_reader.insert(VirtualCard(image))
    wait_until(lambda: checkout()["state"] == "done")
    assert (checkout()["points_after"], checkout()["error"]) == (25, None)


@pytest.mark.slow
@pytest.mark.pcsc
def test_a_card_service_that_hangs_is_told_and_used_again_when_it_answers(
    pcsc_shop: Shop, virtual_reader: VirtualReader, image: MemoryImage, mended: PcscService
) -> None:
    daemon = pcsc_shop.start_daemon()
    wait_for_reader(pcsc_shop, "ready")
    mended.freeze()
    status = wait_for_reader(pcsc_shop, "lost")
    assert status["state"] == "degraded"
    assert "does not answer" in status["reader"]["problem"]
    assert "restart pcscd" in status["reader"]["hint"]
    refused = pcsc_shop.ta("purchase", "250000", "--receipt", "1", "--wait-s", "0.2")
    assert (refused.exit_code, refused.code) == (3, "service_unavailable")
    mended.thaw()
    recovered(pcsc_shop, "pcscd hung")
    assert buy(pcsc_shop, "1")["points_after"] == 25
    _, err = pcsc_shop.end(daemon)
    assert (lines(err, "lost"), lines(err, "ready")) == (1, 2), err


@pytest.mark.slow
@pytest.mark.pcsc
def test_a_card_service_that_hangs_keeps_no_daemon_from_stopping(pcsc_shop: Shop, mended: PcscService) -> None:
    daemon = pcsc_shop.start_daemon()
    wait_for_reader(pcsc_shop, "ready")
    mended.freeze()
    exit_code, err = pcsc_shop.end(daemon)
    assert exit_code == 0, err


@pytest.mark.pcsc
def test_a_card_service_killed_at_the_write_leaves_a_sale_that_settles_itself(
    pcsc_shop: Shop, virtual_reader: VirtualReader, image: MemoryImage, mended: PcscService
) -> None:
    """The card stays where it is: when the service is back, the daemon settles it without being asked."""

    class Cut(MemoryImage):
        """Kills pcscd when the card has taken the write, before anybody is told."""

        def write(self, block: int, data: bytes) -> None:
            super().write(block, data)
            mended.kill()

    cut = Cut(bytes(image.content))
    pcsc_shop.start_daemon()
    wait_for_reader(pcsc_shop, "ready")
    virtual_reader.swap(VirtualCard(cut))
    doubt = pcsc_shop.ta("purchase", "250000", "--receipt", "7", "--wait-s", "0.2")
    assert (doubt.exit_code, doubt.json["state"]) == (4, "in_doubt"), doubt.out
    assert doubt.code in ("service_unavailable", "card_removed_early")
    assert pcsc_shop.done("queue", "list")["in_doubt"] == 1
    mended.start()
    virtual_reader.insert(VirtualCard(MemoryImage(bytes(cut.content))))
    recovered(pcsc_shop, "pcscd killed at the write")
    wait_until(lambda: pcsc_shop.done("queue", "list")["in_doubt"] == 0)
    again = buy(pcsc_shop, "7")
    assert (again["points_after"], again["state"], again["replayed"]) == (25, "done", True)


@pytest.mark.pcsc
def test_a_reader_that_comes_back_under_another_name_is_found_by_the_part_that_stayed(
    bare_shop: Shop, virtual_reader: VirtualReader, image: MemoryImage, mended: PcscService
) -> None:
    bare_shop.init("pcsc:virtual")
    virtual_reader.insert(VirtualCard(image))
    bare_shop.done("card", "issue")
    bare_shop.start_daemon()
    wait_for_reader(bare_shop, "ready")
    buy(bare_shop, "1")
    virtual_reader.remove()
    mended.kill()
    wait_for_reader(bare_shop, "lost")
    mended.start(name="Virtual PCD 01")
    recovered(bare_shop, "reader renamed")
    assert reader_of(bare_shop)["name"] == "Virtual PCD 01 00 00"
    virtual_reader.insert(VirtualCard(image))
    assert buy(bare_shop, "2")["points_after"] == 50


@pytest.mark.pcsc
def test_a_reader_with_another_name_is_not_taken_for_ours(
    bare_shop: Shop, virtual_reader: VirtualReader, mended: PcscService
) -> None:
    bare_shop.init("pcsc:Virtual PCD 00 00")
    bare_shop.start_daemon()
    wait_for_reader(bare_shop, "ready")
    virtual_reader.remove()
    mended.kill()
    mended.start(name="Other Till")
    status = wait_for_reader(bare_shop, "lost")
    wait_until(lambda: "found: Other Till 00 00" in reader_of(bare_shop)["problem"])
    assert status["state"] == "degraded"
    assert bare_shop.ta("purchase", "10000", "--receipt", "1").code == "reader_missing"


@pytest.mark.pcsc
def test_a_daemon_that_starts_before_its_reader_takes_it_when_it_comes(
    pcsc_shop: Shop, virtual_reader: VirtualReader, image: MemoryImage, mended: PcscService
) -> None:
    virtual_reader.remove()
    mended.kill()
    daemon = pcsc_shop.start_daemon()
    wait_for_reader(pcsc_shop, "lost")
    mended.start()
    recovered(pcsc_shop, "reader there after the daemon")
    virtual_reader.insert(VirtualCard(image))
    assert buy(pcsc_shop, "1")["points_after"] == 25
    _, err = pcsc_shop.end(daemon)
    assert (lines(err, "lost"), lines(err, "ready")) == (1, 1), err


@pytest.mark.pcsc
def test_two_readers_do_not_get_in_each_others_way(
    pcsc_shop: Shop, virtual_reader: VirtualReader, image: MemoryImage, pcsc_service: PcscService
) -> None:
    """The card on the other reader is no card on ours, unless the command names that reader."""
    other = ("--reader", "pcsc:Virtual PCD 00 01")
    virtual_reader.remove()
    second = VirtualReader(pcsc_service.port + 1)
    second.insert(VirtualCard(image))
    try:
        pcsc_shop.start_daemon()
        assert wait_for_reader(pcsc_shop, "ready")["reader"]["name"] == "Virtual PCD 00 00"
        assert pcsc_shop.ta("purchase", "250000", "--receipt", "1", "--wait-s", "1").exit_code == 4
        assert buy(pcsc_shop, "1", *other)["points_after"] == 25
        second.remove()
        virtual_reader.insert(VirtualCard(image))
        assert buy(pcsc_shop, "2")["points_after"] == 50
        assert pcsc_shop.ta("purchase", "250000", "--receipt", "3", "--wait-s", "1", *other).exit_code == 4
        assert pcsc_shop.done("card", "show")["points"] == 50
    finally:
        second.remove()


@pytest.mark.pcsc
def test_a_card_in_doubt_that_lies_on_the_reader_at_the_start_is_settled(
    pcsc_shop: Shop, virtual_reader: VirtualReader, image: MemoryImage
) -> None:
    virtual_reader.swap(VirtualCard(image, fault=Fault(5)))  # after one authentication and three reads: the write
    assert pcsc_shop.ta("purchase", "250000", "--receipt", "7", "--wait-s", "0.5").json["state"] == "in_doubt"
    virtual_reader.insert(VirtualCard(image))
    pcsc_shop.start_daemon()
    wait_until(lambda: pcsc_shop.done("queue", "list")["in_doubt"] == 0)
    assert buy(pcsc_shop, "7")["replayed"] is True


@pytest.mark.pcsc
def test_another_card_put_down_for_the_torn_one_takes_none_of_its_sale(
    pcsc_shop: Shop, virtual_reader: VirtualReader, image: MemoryImage
) -> None:
    """Swapped faster than pcscd looks: nobody but the card itself can tell."""
    other = MemoryImage(bytes(blank_card(bytes.fromhex("55667788"))))
    virtual_reader.swap(VirtualCard(other))
    pcsc_shop.done("card", "issue")
    pcsc_shop.start_daemon()
    virtual_reader.swap(VirtualCard(image, fault=Fault(5)))
    assert pcsc_shop.ta("purchase", "250000", "--receipt", "7", "--wait-s", "0.5").json["state"] == "in_doubt"
    virtual_reader.insert(VirtualCard(other))
    untouched = bytes(other.content)
    wrong = pcsc_shop.ta("purchase", "250000", "--receipt", "7", "--wait-s", "2")
    assert (wrong.exit_code, wrong.json["state"]) == (4, "in_doubt"), wrong.out
    assert bytes(other.content) == untouched
    assert buy(pcsc_shop, "8")["points_after"] == 25, "the till goes on with the other card"
    virtual_reader.swap(VirtualCard(image))
    assert buy(pcsc_shop, "7")["points_after"] == 25


@pytest.mark.slow
@pytest.mark.pcsc
def test_a_card_that_is_never_lifted_serves_sale_after_sale(pcsc_shop: Shop) -> None:
    """Who leaves the card on the reader buys with it: a sale asks for a card, not for a movement."""
    daemon = pcsc_shop.start_daemon()
    for number in range(1, 5):
        if number == 3:
            time.sleep(UNCONNECTED_CARD_UNPOWERED_S)
        assert buy(pcsc_shop, str(number), "--wait-s", "2")["points_after"] == 25 * number
    _, err = pcsc_shop.end(daemon)
    assert (lines(err, "lost"), lines(err, "ready")) == (0, 1), err


@pytest.mark.slow
@pytest.mark.pcsc
def test_a_service_that_comes_and_goes_costs_the_daemon_no_descriptors(
    pcsc_shop: Shop, virtual_reader: VirtualReader, image: MemoryImage, mended: PcscService
) -> None:
    daemon = pcsc_shop.start_daemon()
    at_first = 0
    for number in range(1, 7):
        wait_for_reader(pcsc_shop, "ready")
        virtual_reader.insert(VirtualCard(image))
        assert buy(pcsc_shop, str(number))["points_after"] == 25 * number
        at_first = at_first or descriptors(daemon)
        virtual_reader.remove()
        mended.kill()
        wait_for_reader(pcsc_shop, "lost")
        mended.start()
    wait_for_reader(pcsc_shop, "ready")
    wait_until(lambda: descriptors(daemon) <= at_first)
    _, err = pcsc_shop.end(daemon)
    assert (lines(err, "lost"), lines(err, "ready")) == (6, 7), err


@pytest.fixture
def another_terminal() -> Iterator[Callable[[], None]]:
    """Takes the number that a terminal just gave back, so that the next one gets another."""
    taken: list[int] = []
    yield lambda: taken.extend(os.openpty())
    for descriptor in taken:
        os.close(descriptor)


@pytest.mark.nfcpy
@pytest.mark.parametrize("sale_first", [False, True], ids=["watch first", "sale first"])
def test_a_reader_that_comes_back_as_another_device_under_its_name_is_used_again(
    pn532_shop: Shop, pn532: SerialPn532, another_terminal: Callable[[], None], sale_first: bool
) -> None:
    """As /dev/ttyUSB0 comes back as /dev/ttyUSB1 under the name that udev keeps."""
    daemon = pn532_shop.start_daemon()
    wait_for_reader(pn532_shop, "ready")
    assert buy(pn532_shop, "1")["points_after"] == 25
    old = pn532.path
    pn532.unplug()
    status = wait_for_reader(pn532_shop, "lost")
    assert status["state"] == "degraded"
    assert status["reader"]["problem"]
    if not sale_first:
        assert pn532_shop.ta("purchase", "250000", "--receipt", "2", "--wait-s", "0.2").exit_code == 3
    another_terminal()
    pn532.plug()
    assert pn532.path != old
    if sale_first:
        assert buy(pn532_shop, "2")["points_after"] == 50
    recovered(pn532_shop, "PN532 unplugged and plugged in")
    assert buy(pn532_shop, "3")["points_before"] == (50 if sale_first else 25)
    exit_code, err = pn532_shop.end(daemon)
    assert exit_code == 0
    assert (lines(err, "lost"), lines(err, "ready")) == (1, 2), err


@pytest.mark.nfcpy
def test_a_chip_that_comes_back_at_a_killed_programs_speed_is_used_again(pn532_shop: Shop, pn532: SerialPn532) -> None:
    pn532_shop.start_daemon()
    wait_for_reader(pn532_shop, "ready")
    pn532.answers = False
    wait_for_reader(pn532_shop, "lost")
    pn532.chip.baudrate = 921600
    pn532.answers = True
    recovered(pn532_shop, "PN532 left at 921600 baud")
    assert buy(pn532_shop, "1")["points_after"] == 25


@pytest.mark.nfcpy
def test_two_cards_at_once_are_refused_until_one_is_taken_away(
    pn532_shop: Shop, pn532: SerialPn532, image: MemoryImage
) -> None:
    other = FieldCard.blank(bytes.fromhex("04A1B2C3D4E5F6"))
    pn532_shop.start_daemon()
    pn532.lay(FieldCard(image), other)
    refused = pn532_shop.ta("purchase", "250000", "--receipt", "1", "--wait-s", "1")
    assert (refused.exit_code, refused.code, refused.json["error"]["retryable"]) == (4, "multiple_cards", True)
    pn532.lay(FieldCard(image))
    assert buy(pn532_shop, "1")["points_after"] == 25


@pytest.mark.nfcpy
def test_a_card_held_on_a_pn532_serves_sale_after_sale(pn532_shop: Shop, pn532: SerialPn532) -> None:
    daemon = pn532_shop.start_daemon()
    for number in range(1, 4):
        assert buy(pn532_shop, str(number), "--wait-s", "2")["points_after"] == 25 * number
        time.sleep(0.5)  # some looks of the watch in between
    wait_until(lambda: not pn532.chip.field_on)  # between two looks
    _, err = pn532_shop.end(daemon)
    assert (lines(err, "lost"), lines(err, "ready")) == (0, 1), err
