"""Edited, copied, foreign: what is told of a card that is not what it says, and what is not tried to find out."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.mifare_classic import (
    BLOCK_SIZE,
    SECTOR_COUNT,
    TRANSPORT_KEY,
    KeyType,
    manufacturer_block,
    trailer_of,
)
from drivers.simulator import MemoryImage
from terminal_agent import taps
from terminal_agent.card.keys import CardKeys, MasterKeyInMemory
from terminal_agent.card.layout import HOMES
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.taps import present
from tests.till.support import refused
from tests.workbench import MASTER_KEY, UID, UID_7, RecordingConnection, Workbench, copy_of, flip, lay

OTHER_UID = bytes.fromhex("01020304")


def carry(source: MemoryImage, target: MemoryImage, blocks: tuple[int, ...]) -> None:
    for block in blocks:
        target.write(block, source.read(block))


def number_of(bench: Workbench, card: MemoryImage) -> str:
    identity = bench.read(card).identity
    assert identity is not None
    return str(identity["card_no"])


@pytest.mark.parametrize("uid", [OTHER_UID, UID_7])
@pytest.mark.parametrize("blocks", [HOMES[0].blocks, HOMES[0].state_blocks, (4,)], ids=["all", "states", "identity"])
def test_the_content_of_another_card_is_told_by_its_number(
    bench: Workbench, uid: bytes, blocks: tuple[int, ...]
) -> None:
    rich, poor = bench.issue(points=500), bench.issue(uid)
    number = number_of(bench, rich)
    carry(rich, poor, blocks)
    before = bytes(poor.content)
    error = refused(bench, poor, "R-1", 50_000)
    assert error.code is ErrorCode.DATA_CORRUPT
    assert f"the content of another card (its number ends in {number[-4:]}): it was copied" in error.message
    assert number not in error.message + error.hint
    assert bytes(poor.content) == before


def test_the_content_of_a_card_under_an_older_key_set_is_told_too(bench: Workbench) -> None:
    rich = bench.issue(points=500)
    bench.keys.add(bytes(range(16)), 2, activate=True)
    poor = bench.issue(OTHER_UID)
    for source, target in zip(HOMES[0].blocks, HOMES[1].blocks, strict=True):
        poor.write(target, rich.read(source))
    assert "it was copied" in refused(bench, poor, "R-1", 50_000).message


def test_an_edited_card_is_damaged_and_no_copy(bench: Workbench) -> None:
    bench.issue(OTHER_UID, points=5)
    for bits in ([(4, 3)], [(5, 0), (6, 77)]):
        card = bench.issue(bytes([len(bits), 2, 3, 5]))
        for block, bit in bits:
            flip(card, block, bit)
        error = refused(bench, card, "R-1", 50_000)
        assert error.code is ErrorCode.DATA_CORRUPT
        assert error.message.startswith("what is on this card is damaged or was edited: ")


def test_the_content_of_a_card_nobody_saw_here_is_damage(bench: Workbench, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shop = Workbench(folder, terminal_id="shop-2")
    rich, poor = shop.issue(points=500), bench.issue(OTHER_UID)
    carry(rich, poor, HOMES[0].blocks)
    assert "damaged or was edited" in refused(bench, poor, "R-1", 50_000).message
    shop.close()


def test_only_the_cards_seen_last_are_compared(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = []
    for number in range(3):
        bench.clock.advance(minutes=1)
        cards.append(bench.issue(bytes([1, 2, 3, 10 + number])))
    poor = bench.issue(OTHER_UID)
    carry(cards[0], poor, HOMES[0].blocks)
    monkeypatch.setattr(taps, "MOST_CARDS_COMPARED", 3)
    assert "damaged or was edited" in refused(bench, poor, "R-1", 50_000).message
    monkeypatch.setattr(taps, "MOST_CARDS_COMPARED", 4)
    assert "it was copied" in refused(bench, poor, "R-1", 50_000).message


def test_nothing_is_compared_at_a_tap_of_a_sound_card(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    card = bench.issue(points=5)

    def asked(*_: object) -> None:
        raise AssertionError("an ordinary tap asks for other cards")

    monkeypatch.setattr(taps, "content_owner", asked)
    assert bench.purchase(card, "R-1", 50_000)["state"] == "done"


class Listening(RecordingConnection):
    """A card that notes the keys that are tried on it."""

    def __init__(self, image: MemoryImage) -> None:
        super().__init__(lay(image))
        self.keys: set[bytes] = set()

    def authenticate(self, block: int, key_type: KeyType, key: bytes) -> None:
        self.keys.add(key)
        super().authenticate(block, key_type, key)


def test_no_key_of_another_card_is_ever_tried_on_a_card(bench: Workbench) -> None:
    """A card that only listens learns the keys it is tried with: they must be good for itself alone."""
    bench.keys.add(bytes(range(16)), 2, activate=False)
    whole = bench.issue(points=500)
    foreign = copy_of(whole)
    for sector in range(SECTOR_COUNT):
        flip(foreign, trailer_of(sector), 0)
        flip(foreign, trailer_of(sector), 10 * 8)
    for image in (whole, foreign):
        image.content[:BLOCK_SIZE] = manufacturer_block(OTHER_UID)
        listening = Listening(image)
        with pytest.raises(AgentError) as caught:
            present(bench.terminal, listening)
        assert caught.value.code is ErrorCode.NOT_OUR_CARD
        own = [
            CardKeys(n, OTHER_UID, MasterKeyInMemory(master)) for n, master in ((1, MASTER_KEY), (2, bytes(range(16))))
        ]
        allowed = {keys.sector_key(home.sector, KeyType.B) for keys in own for home in HOMES} | {TRANSPORT_KEY}
        assert listening.keys <= allowed
    assert UID != OTHER_UID


def test_a_card_whose_keys_were_changed_is_ours_by_its_uid(bench: Workbench) -> None:
    card = bench.issue(points=5)
    for sector in range(SECTOR_COUNT):
        flip(card, trailer_of(sector), 10 * 8)
    error = refused(bench, card, "R-1", 50_000)
    assert error.code is ErrorCode.KEY_REJECTED
    assert "one of ours, but it refuses its keys" in error.message


def test_a_card_whose_home_is_locked_is_ours_by_its_other_sectors(bench: Workbench, tmp_path: Path) -> None:
    card = bench.issue(points=5)
    flip(card, trailer_of(1), 10 * 8)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shop = Workbench(folder, terminal_id="shop-2")
    assert refused(shop, card, "R-1", 50_000).code is ErrorCode.KEY_REJECTED
    shop.close()
