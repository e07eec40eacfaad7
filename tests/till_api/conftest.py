"""A till with a real agent, a real server on loopback, and cards laid on by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers.base import Reader
from terminal_agent.service import card_lane
from terminal_agent.service import reader_watch as watch
from tests.till_api.hand_reader import HandReader
from tests.till_api.pos import Pos, Shop


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> HandReader:
    by_hand = HandReader()

    def opened(_url: str) -> Reader:
        return by_hand

    monkeypatch.setattr(card_lane, "open_reader", opened)
    monkeypatch.setattr(watch, "open_reader", opened)
    return by_hand


@pytest.fixture
def open_shop(tmp_path: Path, reader: HandReader) -> Iterator[Callable[[], Shop]]:
    """Opens the shop in the same folder, again and again; the one before is closed first."""
    opened: list[Shop] = []

    def open_again() -> Shop:
        if opened:
            opened.pop().close()
        opened.append(Shop(tmp_path, reader))
        return opened[0]

    yield open_again
    if opened:
        opened.pop().close()


@pytest.fixture
def shop(open_shop: Callable[[], Shop]) -> Shop:
    return open_shop()


@pytest.fixture
def pos(shop: Shop) -> Pos:
    return shop.pair()
