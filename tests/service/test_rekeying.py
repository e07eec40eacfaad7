"""A card of an older key set gets the active one behind a sale: told first, one try, and nobody is in doubt when it is
cut short."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.base import ClassicConnection
from drivers.errors import AccessDenied
from drivers.mifare_classic import BLOCK_SIZE, trailer_of
from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.desk.rekey import MOST_REFUSALS
from terminal_agent.service import card_lane
from terminal_agent.service.agent import Agent
from terminal_agent.service.initialise import initialise
from terminal_agent.service.operations import OPERATIONS
from terminal_agent.service.rekeying import HOLD_STILL
from terminal_agent.service.settings import KeySettings, Rekey, load_settings
from tests.card.independent_reader import read_card
from tests.till_api.hand_reader import HandReader
from tests.workbench import MASTER_KEY, RecordingConnection, blank, block_of

NEXT = bytes(range(16))
THIRD = bytes(range(1, 17))
SALE_CALLS = 9
"""Calls to the card of a sale with its history, under the set before: two homes are looked at."""


class Shop:
    """A till with a card under key set 1, and key set 2 in use since."""

    def __init__(self, folder: Path, reader: HandReader, rekey: str) -> None:
        config = folder / "config.toml"
        values = {"data_dir": str(folder / "data"), "terminal_id": "till-1", "reader": "sim:by-hand"}
        initialise(config, values, force=False)
        for made in (folder / "data" / "keys").iterdir():
            made.unlink()
        config.write_text(config.read_text() + f'\n[keys]\nrekey = "{rekey}"\n')
        self.agent = Agent(load_settings(config), config)
        self.agent.keys.add(MASTER_KEY, 1, activate=True)
        self.agent.keys.add(NEXT, 2, activate=False)
        self.reader, self.card, self.said = reader, blank(), list[str]()
        self.take_a_card(0)

    def take_a_card(self, number: int) -> None:
        """One that was issued before key set 2 came into use."""
        self.card = blank(bytes((0x1A, 0x2B, 0x3C, number)))
        self.agent.keys.activate(1)
        self.do("card.issue")
        self.agent.keys.activate(2)

    def do(self, operation: str, fault: Fault | None = None, **params: Any) -> Any:
        self.reader.lay(self.card, fault)
        return OPERATIONS[operation](self.agent, {"wait_s": 0, **params}, self.said.append)

    def buy(self, receipt_no: str, fault: Fault | None = None) -> Any:
        return self.do("purchase", fault, receipt_no=receipt_no, amount=50_000)

    @property
    def home(self) -> int | None:
        return read_card(bytes(self.card.content), MASTER_KEY, NEXT).home

    @property
    def under_old_keys(self) -> list[int]:
        return read_card(bytes(self.card.content), NEXT).foreign_trailers

    def audit(self, like: str) -> int:
        (row,) = self.agent.journal._database.query("SELECT count(*) AS n FROM audit WHERE action LIKE ?", like)
        return int(row["n"])


@pytest.fixture
def open_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Shop]]:
    shops: list[Shop] = []

    def opened(name: str = "shop", rekey: str = "lazy") -> Shop:
        folder, reader = tmp_path / name, HandReader()
        folder.mkdir()
        monkeypatch.setattr(card_lane, "open_reader", lambda _url: reader)
        shops.append(Shop(folder, reader, rekey))
        return shops[-1]

    yield opened
    for shop in shops:
        shop.agent.close()


def test_a_card_of_an_older_set_has_the_active_one_after_its_next_sale(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop()
    answer = shop.buy("R-1")
    assert (answer["state"], shop.said) == ("done", [HOLD_STILL])
    assert (shop.home, shop.under_old_keys) == (7, [])
    assert shop.do("card.show")["key_set_version"] == 2
    before = bytes(shop.card.content)
    shop.said.clear()
    assert shop.buy("R-1")["replayed"] is True
    assert (bytes(shop.card.content), shop.said) == (before, [])
    shop.buy("R-2")
    assert (shop.said, shop.audit("card.rekey_begun")) == ([], 1), "once"


def test_a_return_does_it_too(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(rekey="off")
    shop.buy("R-1")
    assert shop.home == 1
    shop.agent.settings = shop.agent.settings.model_copy(update={"keys": KeySettings(rekey=Rekey.LAZY)})
    shop.do("reverse", receipt_no="R-1")
    assert (shop.home, shop.under_old_keys) == (7, [])


def test_switched_off_a_sale_leaves_the_keys_alone(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(rekey="off")
    shop.buy("R-1")
    assert (shop.home, shop.said, shop.audit("card.rekey%")) == (1, [], 0)


def test_a_till_that_is_behind_does_not_take_a_card_back(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop()
    shop.buy("R-1")
    shop.agent.keys.activate(1)
    shop.buy("R-2")
    assert (shop.home, shop.under_old_keys) == (7, [])


@pytest.mark.parametrize("outcome", [Torn.OLD, Torn.NEW])
def test_torn_anywhere_the_sale_is_done_and_the_next_tap_finishes_the_keys(
    open_shop: Callable[..., Shop], outcome: Torn
) -> None:
    """Told as if nothing had been: every seventh call of the re-key, so that all its stages are met."""
    shop = open_shop()
    for number, call in enumerate(range(SALE_CALLS + 1, 128, 7), 1):
        shop.take_a_card(number)
        answer = shop.buy(f"R-{number}", Fault(call, outcome))
        assert (answer["state"], answer["points_after"]) == ("done", 5), call
        assert shop.under_old_keys, "it was cut short"
        after = shop.buy(f"S-{number}")
        assert (after["state"], after["points_before"]) == ("done", 5)
        assert (shop.home, shop.under_old_keys) == (7, []), call


def test_what_one_shop_began_another_finishes(open_shop: Callable[..., Shop]) -> None:
    """The last sectors are those of the history: a tap that writes there sees that they were left behind."""
    first = open_shop("first")
    first.buy("R-1", Fault(125, Torn.OLD))
    left = first.under_old_keys
    assert (first.home, bool(left)) == (7, True)
    assert set(left) <= set(range(2, 7)), "the history is left for last"
    second = open_shop("second")
    second.card = first.card
    for number in range(16):
        second.buy(f"R-{number}")
    assert (second.home, second.under_old_keys) == (7, [])


def test_a_card_that_goes_on_refusing_is_asked_three_times(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop()
    ruined = bytearray(block_of(shop.card, trailer_of(7)))
    ruined[7] ^= 0x01
    _put(shop.card, trailer_of(7), bytes(ruined))
    for number in range(MOST_REFUSALS + 2):
        assert shop.buy(f"R-{number}")["state"] == "done"
    assert (shop.home, shop.said) == (1, [HOLD_STILL] * MOST_REFUSALS)
    shop.agent.keys.add(THIRD, 3, activate=True)
    shop.buy("S-1")
    assert len(shop.said) == MOST_REFUSALS + 1, "another set, another chance"


@pytest.mark.parametrize("sector", [7, 3, 12], ids=["the other home", "history", "an empty sector"])
def test_a_sector_that_refuses_once_is_finished_at_a_later_sale(open_shop: Callable[..., Shop], sector: int) -> None:
    """A card that lies badly refuses a block and takes it the next time: nobody need run ``card rekey``."""
    shop, refused = open_shop(), list[int]()
    shop.reader.wrap = lambda connection: RefusingOnce(connection, trailer_of(sector), refused)
    assert shop.buy("R-1")["state"] == "done"
    assert sector in shop.under_old_keys
    assert shop.buy("R-2")["state"] == "done"
    assert (shop.home, shop.under_old_keys, refused) == (7, [], [trailer_of(sector)])
    assert shop.do("card.verify")["findings"] == []
    shop.said.clear()
    shop.buy("R-3")
    assert shop.said == [], "it is finished"


def test_a_refusal_noted_by_an_earlier_version_is_one(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop()
    with shop.agent.journal.transaction():
        shop.agent.journal.set_meta(f"rekey:{bytes(shop.card.content)[:4].hex()}", "refused 2")
    shop.buy("R-1")
    assert (shop.home, shop.under_old_keys) == (7, [])


class RefusingOnce(RecordingConnection):
    """One write to ``block`` is refused; ``refused`` remembers over taps that it was."""

    def __init__(self, inner: ClassicConnection, block: int, refused: list[int]) -> None:
        super().__init__(inner)
        self._block, self._refused = block, refused

    def write_block(self, block: int, data: bytes) -> None:
        if block == self._block and not self._refused:
            self._refused.append(block)
            raise AccessDenied(block, "write")
        super().write_block(block, data)


def _put(image: MemoryImage, block: int, data: bytes) -> None:
    image.content[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE] = data
