"""docs/card-format.md is held to our code and to the independent reader: its vectors are read out of the page."""

from __future__ import annotations

import re
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from drivers.mifare_classic import KeyType
from terminal_agent.card import layout
from terminal_agent.card.keys import CardKeys, MasterKeyInMemory, check_value, diversify_aes128
from terminal_agent.desk.issue import issued_trailer
from tests.card import independent_reader

PAGE = (Path(__file__).parents[2] / "docs" / "card-format.md").read_text()
VECTORS: dict[str, Any] = tomllib.loads(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0])
MASTER = bytes.fromhex(VECTORS["master"]["master_key"])
CARDS = [pytest.param(card, id=card["uid"]) for card in VECTORS["card"]]


def card_keys(card: dict[str, Any]) -> CardKeys:
    return CardKeys(card["key_set_version"], bytes.fromhex(card["uid"]), MasterKeyInMemory(MASTER))


@pytest.mark.parametrize("vector", VECTORS["an10922"])
def test_the_published_vectors_come_out_of_both(vector: dict[str, str]) -> None:
    master, message, key = (bytes.fromhex(vector[name]) for name in ("master_key", "input", "key"))
    assert diversify_aes128(master, message) == key
    assert independent_reader.derive(master, message) == key


def test_the_check_value_comes_out() -> None:
    assert check_value(MASTER) == VECTORS["master"]["check_value"]


@pytest.mark.parametrize("card", CARDS)
def test_every_key_of_the_page_comes_out_of_both(card: dict[str, Any]) -> None:
    keys, uid = card_keys(card), bytes.fromhex(card["uid"])
    assert diversify_aes128(MASTER, bytes.fromhex(card["state_key_input"])) == keys.state_key
    for name, label in (("identity", b"IDENTITY"), ("state", b"STATE"), ("history", b"HISTORY")):
        expected = bytes.fromhex(card[f"{name}_key"])
        assert getattr(keys, f"{name}_key") == independent_reader.card_key(MASTER, uid, label) == expected
    for row in card["sector_keys"]:
        a, b = bytes.fromhex(row["a"]), bytes.fromhex(row["b"])
        assert independent_reader.sector_keys(MASTER, uid, row["sector"]) == (a, b)
        assert keys.sector_key(row["sector"], KeyType.A) == a
        assert keys.sector_key(row["sector"], KeyType.B) == b
        assert diversify_aes128(MASTER, bytes.fromhex(row["input_a"]))[:6] == a


@pytest.mark.parametrize("card", CARDS)
def test_the_trailer_of_the_page_comes_out_of_both(card: dict[str, Any]) -> None:
    expected = bytes.fromhex(card["sector_1_trailer"])
    assert issued_trailer(card_keys(card), 1).encode() == expected
    assert independent_reader.trailer(MASTER, bytes.fromhex(card["uid"]), 1) == expected


@pytest.mark.parametrize("card", CARDS)
def test_the_identity_of_the_page_comes_out_of_both(card: dict[str, Any]) -> None:
    row = card["identity"]
    sealed, key = bytes.fromhex(row["sealed"]), card_keys(card).identity_key
    fields = {name: row[name] for name in ("key_set_version", "programme", "card_no")}
    assert row["block"] == layout.home_of(row["key_set_version"]).identity_block
    assert layout.encode_identity(key, layout.Identity(**fields)) == sealed
    assert layout.decode_identity(key, sealed) == layout.Identity(**fields)
    assert independent_reader.open_identity(key, sealed) == fields


@pytest.mark.parametrize("card", CARDS)
def test_the_states_of_the_page_come_out_of_both(card: dict[str, Any]) -> None:
    key, home = card_keys(card).state_key, layout.home_of(card["key_set_version"])
    for row in card["states"]:
        fields = {name: value for name, value in row.items() if name not in ("block", "sealed")}
        state, sealed = layout.CardState.from_json(fields), bytes.fromhex(row["sealed"])
        assert home.state_blocks[state.slot] == row["block"]
        assert layout.encode_state(key, state) == sealed
        assert layout.decode_state(key, sealed, state.slot) == state
        assert independent_reader.open_state(key, sealed, state.slot) == fields


@pytest.mark.parametrize("card", CARDS)
def test_the_marks_of_arrival_of_the_page_come_out_of_both(card: dict[str, Any]) -> None:
    key, home = card_keys(card).state_key, layout.home_of(card["key_set_version"])
    for slot, row in enumerate(card["arrivals"]):
        fields = {name: value for name, value in row.items() if name not in ("block", "sealed")}
        older, sealed = layout.CardState.from_json(fields), bytes.fromhex(row["sealed"])
        assert home.state_blocks[slot] == row["block"]
        assert layout.encode_arrival(key, older) == sealed
        assert layout.decode_arrival(key, sealed) == older
        assert independent_reader.open_state(key, sealed, slot, b"LAR1") == fields
        assert independent_reader.open_state(key, sealed, slot) is None


@pytest.mark.parametrize("card", CARDS)
def test_the_history_of_the_page_comes_out_of_both(card: dict[str, Any]) -> None:
    key = card_keys(card).history_key
    for row in card["history"]:
        fields = {n: v for n, v in row.items() if n not in ("block", "sealed", "newest_sequence")}
        sealed, block, newest = bytes.fromhex(row["sealed"]), row["block"], row["newest_sequence"]
        entry = layout.HistoryEntry(
            **{**fields, "time": datetime.fromisoformat(row["time"]), "kind": layout.HistoryKind(row["kind"])}
        )
        assert entry.block == block
        assert layout.encode_history(key, entry) == sealed
        assert layout.decode_history(key, sealed, block, newest) == entry
        assert independent_reader.open_history(key, sealed, block, newest) == fields


def test_the_vectors_reach_the_limits_the_page_names() -> None:
    states = [state for card in VECTORS["card"] for state in card["states"]]
    assert min(s["balance"] for s in states) == layout.MIN_BALANCE
    assert max(s["balance"] for s in states) == layout.MAX_BALANCE
    assert max(s["sequence"] for s in states) == layout.MAX_SEQUENCE
    assert max(s["adjustments_through"] for s in states) == layout.MAX_ADJUSTMENT
    assert max(s["redeemed_offline"] for s in states) == layout.MAX_REDEEMED_OFFLINE


def test_the_ring_of_the_page_is_ours() -> None:
    row = next(line for line in PAGE.splitlines() if "history ring, places" in line)
    blocks = tuple(int(number) for number in re.findall(r"\d+", row.split("|")[1]))
    assert blocks == layout.HISTORY_BLOCKS == tuple(independent_reader.RING)


def test_the_homes_of_the_page_are_ours() -> None:
    rows = [line for line in PAGE.splitlines() if re.match(r"\| [\d, ]+ \| (first|second) home", line)]
    blocks = sorted(int(number) for row in rows for number in re.findall(r"\d+", row.split("|")[1]))
    assert blocks == sorted(block for home in layout.HOMES for block in home.blocks)
    assert {layout.home_of(card["key_set_version"]) for card in VECTORS["card"]} == set(layout.HOMES)


def test_the_page_gives_the_directory_s_block() -> None:
    assert layout.DIRECTORY[:16].hex(" ").upper() in PAGE
    assert not any(layout.DIRECTORY[16:])
