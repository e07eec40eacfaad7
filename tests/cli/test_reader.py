"""``reader test`` and ``reader list`` from outside: on every kind of reader, with and without the daemon."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers import open_reader
from drivers.mifare_classic import blank_card
from drivers.simulator import MemoryImage
from tests.cli.shop import Shop, wait_until
from tests.pcsc.service import PcscService
from tests.pcsc.virtual_reader import VirtualCard, VirtualReader
from tests.pn532.chip import FieldCard
from tests.pn532.serial_line import SerialPn532

UID = bytes.fromhex("1A2B3C4D")
PCSC = "pcsc:Virtual PCD 00 00"


def hand(lift: Callable[[], None], lay: Callable[[], None], said: Callable[[], str]) -> threading.Thread:
    """A person who does what the command asks for."""

    def follow() -> None:
        wait_until(lambda: "Lift the card." in said())
        lift()
        wait_until(lambda: "Put the card back." in said())
        lay()

    thread = threading.Thread(target=follow)
    thread.start()
    return thread


def test_a_card_in_a_file_is_tried_before_init_and_after(bare_shop: Shop) -> None:
    url = f"sim:{bare_shop.card}"
    blank = bare_shop.done("reader", "test", "--reader", url, "--rounds", "3")
    assert (blank["verdict"], blank["card"], blank["opened_with"]) == ("good", "other", "the maker's key A")
    bare_shop.init()
    bare_shop.done("card", "issue")
    bare_shop.done("purchase", "250000", "--receipt", "1")
    before = bare_shop.card.read_bytes()
    ours = bare_shop.done("reader", "test", "--rounds", "3")
    assert (ours["verdict"], ours["card"], ours["opened_with"]) == ("good", "ours", "key B of key set 1")
    assert ours["write_tried"]
    assert bare_shop.card.read_bytes() == before
    assert bare_shop.ta("reader", "test").code is None
    assert bare_shop.ta("reader", "test", "--sector", "16").exit_code == 2


def test_each_card_of_a_feeder_is_tried(bare_shop: Shop) -> None:
    folder = bare_shop.folder / "cards"
    folder.mkdir()
    assert bare_shop.done("reader", "test", "--reader", f"sim:{folder}/", "--rounds", "3")["rounds"] == 3


def test_a_reader_that_is_not_there_or_has_no_card_is_told(bare_shop: Shop) -> None:
    assert bare_shop.ta("reader", "test", "--reader", "nothing:").code == "reader_missing"
    without_reader = bare_shop.ta("reader", "test")
    assert without_reader.code == "config_invalid"


@pytest.mark.pcsc
@pytest.mark.parametrize("with_daemon", [False, True], ids=["alone", "daemon"])
def test_a_pcsc_reader_notices_what_the_hand_does(
    bare_shop: Shop, virtual_reader: VirtualReader, with_daemon: bool
) -> None:
    bare_shop.init(PCSC)
    card = VirtualCard(MemoryImage(bytes(blank_card(UID))))
    virtual_reader.insert(card)
    bare_shop.done("card", "issue")
    assert isinstance(card.image, MemoryImage)
    before = bytes(card.image.content)
    if with_daemon:
        bare_shop.start_daemon()
    err = bare_shop.folder / "err.txt"
    process = bare_shop.start("reader", "test", "--rounds", "5", "--lift", "--json", stderr=err)
    person = hand(virtual_reader.remove, lambda: virtual_reader.insert(card), err.read_text)
    out, _ = process.communicate(timeout=60)
    person.join()
    answer = json.loads(out)
    assert (answer["removal_noticed"], answer["return_noticed"]) == (True, True), answer
    assert (answer["rounds"], answer["card"], answer["reader"]["name"]) == (6, "ours", "Virtual PCD 00 00")
    assert answer["write_tried"]
    assert bytes(card.image.content) == before


@pytest.mark.nfcpy
def test_a_pn532_notices_what_the_hand_does(bare_shop: Shop, pn532: SerialPn532) -> None:
    card = FieldCard.blank(UID)
    pn532.lay(card)
    err = bare_shop.folder / "err.txt"
    url = f"pn532:{pn532.link}"
    process = bare_shop.start("reader", "test", "--reader", url, "--rounds", "5", "--lift", "--json", stderr=err)
    person = hand(pn532.lift, lambda: pn532.lay(FieldCard(card.image)), err.read_text)
    out, _ = process.communicate(timeout=60)
    person.join()
    answer = json.loads(out)
    assert (answer["removal_noticed"], answer["return_noticed"]) == (True, True), answer
    assert pn532.counts["write"] == answer["rounds"] == 6
    assert isinstance(card.image, MemoryImage)
    assert card.image.content == blank_card(UID)


@pytest.mark.nfcpy
def test_a_reader_that_another_program_holds_is_busy(bare_shop: Shop, pn532: SerialPn532) -> None:
    process = bare_shop.start("reader", "test", "--reader", f"pn532:{pn532.link}", "--wait-s", "0", "--json")
    with open_reader(f"pn532:{pn532.link}"):
        out, _ = process.communicate(timeout=60)
    assert json.loads(out)["error"]["code"] == "busy"


@pytest.mark.pcsc
def test_a_card_that_is_never_lifted_is_said_to_be_unnoticed(bare_shop: Shop, virtual_reader: VirtualReader) -> None:
    virtual_reader.insert(VirtualCard.blank(UID))
    answer = bare_shop.ta("reader", "test", "--reader", PCSC, "--rounds", "2", "--lift", "--wait-s", "1")
    assert (answer.exit_code, answer.json["verdict"], answer.json["removal_noticed"]) == (1, "unusable", False)
    assert answer.json["return_noticed"] is None


@pytest.mark.pcsc
def test_people_see_the_figures_and_the_verdict(bare_shop: Shop, virtual_reader: VirtualReader) -> None:
    virtual_reader.insert(VirtualCard.blank(UID))
    said = bare_shop.ta("reader", "test", "--reader", PCSC, "--rounds", "2", human=True).out
    for words in ("Virtual PCD 00 00", UID.hex(), "the maker's key A", "authenticate", "purchase", "verdict  good"):
        assert words in said, said


@pytest.mark.pcsc
def test_the_list_shows_what_can_be_used_beside_what_cannot(
    bare_shop: Shop, pcsc_service: PcscService, tmp_path: Path
) -> None:
    bare_shop.init(f"pn532:{tmp_path}/unplugged")
    rows = {row["url"]: row for row in bare_shop.done("reader", "list")}
    assert rows[PCSC]["problem"] is rows[PCSC]["hint"] is None
    unplugged = rows[f"pn532:{tmp_path}/unplugged"]
    assert (unplugged["state"], unplugged["problem"]) == ("unusable", f"there is no {tmp_path}/unplugged")
    said = bare_shop.ta("reader", "list", human=True).out
    assert f"there is no {tmp_path}/unplugged\n      -> Plug the reader in" in said
    assert "No reader can be used yet" not in said
