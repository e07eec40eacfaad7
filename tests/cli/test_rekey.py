"""``card rekey`` from outside: with and without the daemon, torn on a real pcscd, and on a card that cannot have it."""

from __future__ import annotations

from typing import Any

import pytest

from drivers.mifare_classic import BLOCK_SIZE, blank_card, trailer_of
from drivers.simulator import Fault, MemoryImage, Torn
from tests.cli.shop import Shop
from tests.pcsc.virtual_reader import PERSONALITIES, VirtualCard, VirtualReader

FIELDS = {
    "uid",
    "card_no",
    "sequence",
    "points",
    "key_set_version",
    "previous_key_set_version",
    "rekeyed",
    "warnings",
}


def card_with_points(shop: Shop, *options: str) -> Any:
    """An issued card with 25 points; then a new key set comes into use."""
    shop.done("card", "issue", *options)
    shop.done("purchase", "250000", "--receipt", "1", *options)
    shown = shop.done("card", "show", *options)
    shop.done("keys", "generate", "--activate")
    return shown


def is_the_same_card(shop: Shop, shown: Any, *options: str) -> None:
    assert shop.done("card", "show", *options) == {**shown, "key_set_version": 2}
    assert shop.done("card", "verify", *options)["findings"] == []
    assert shop.done("purchase", "10000", "--receipt", "2", *options)["points_after"] == 26


@pytest.mark.parametrize("daemon", [False, True], ids=["alone", "with the daemon"])
def test_a_card_is_re_keyed_and_goes_on(shop: Shop, daemon: bool) -> None:
    shown = card_with_points(shop)
    process = shop.start_daemon() if daemon else None
    answer = shop.done("card", "rekey")
    assert set(answer) == FIELDS
    assert (answer["points"], answer["key_set_version"], answer["previous_key_set_version"]) == (25, 2, 1)
    assert shop.done("card", "rekey") == {**answer, "previous_key_set_version": 2}
    is_the_same_card(shop, shown)
    if process:
        shop.end(process)


def test_it_says_so_in_words(shop: Shop) -> None:
    card_with_points(shop)
    answer = shop.ta("card", "rekey", human=True)
    assert answer.exit_code == 0
    assert "is under key set 2. Remove the card." in answer.out


def test_a_card_whose_other_home_is_dead_is_told_and_goes_on(shop: Shop) -> None:
    card_with_points(shop)
    image = bytearray(shop.card.read_bytes())
    image[trailer_of(7) * BLOCK_SIZE + 10] ^= 1
    shop.card.write_bytes(image)
    answer = shop.ta("card", "rekey")
    assert (answer.exit_code, answer.json["rekeyed"], answer.json["key_set_version"]) == (4, False, 1)
    assert answer.json["warnings"][0].startswith("sector 7 does not take the new keys")
    assert shop.done("purchase", "10000", "--receipt", "2")["points_after"] == 26
    said = shop.ta("card", "rekey", human=True)
    assert "stays under key set 1: replace it in time" in said.out


@pytest.mark.pcsc
@pytest.mark.parametrize("personality", PERSONALITIES)
def test_a_card_torn_on_a_real_reader_is_finished(
    bare_shop: Shop, virtual_reader: VirtualReader, personality: str
) -> None:
    """Sampled: the sweep over every operation is in tests/desk/test_rekey_torn.py."""
    virtual_reader.use(PERSONALITIES[personality])
    image = MemoryImage(bytes(blank_card(bytes.fromhex("1A2B3C4D"))))
    bare_shop.init("pcsc:")
    virtual_reader.insert(VirtualCard(image))
    shown = card_with_points(bare_shop)
    tears = [(call, outcome) for call in (16, 23, 31, 34, 60) for outcome in (Torn.OLD, Torn.NEW)]
    for call, outcome in tears:
        virtual_reader.swap(VirtualCard(image, fault=Fault(call, outcome)))
        answer = bare_shop.ta("card", "rekey", "--wait-s", "0.5")
        assert (answer.exit_code, answer.code) == (4, "card_removed_early")
        virtual_reader.insert(VirtualCard(image))
        assert bare_shop.done("card", "show")["points"] == 25
    assert bare_shop.done("card", "rekey")["rekeyed"] is True
    is_the_same_card(bare_shop, shown)
