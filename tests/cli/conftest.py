"""Fixtures of the command line's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.mifare_classic import blank_card
from drivers.simulator import MemoryImage
from tests.cli.shop import CrmProcess, Shop
from tests.pcsc.virtual_reader import VirtualCard, VirtualReader


@pytest.fixture
def bare_shop(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A shop that has not run ``init`` yet."""
    monkeypatch.delenv("TERMINAL_AGENT_CONFIG", raising=False)
    shop = Shop(tmp_path, capsys)
    yield shop
    shop.close()


@pytest.fixture
def shop(bare_shop: Shop) -> Shop:
    """A shop with a simulated reader."""
    bare_shop.init()
    return bare_shop


@pytest.fixture
def crm(shop: Shop) -> CrmProcess:
    """A running CRM."""
    crm = CrmProcess(shop)
    crm.up()
    return crm


@pytest.fixture
def image() -> MemoryImage:
    """The memory of the one card of a test."""
    return MemoryImage(bytes(blank_card(bytes.fromhex("1A2B3C4D"))))


@pytest.fixture
def pcsc_shop(bare_shop: Shop, virtual_reader: VirtualReader, image: MemoryImage) -> Shop:
    """A shop with a virtual PC/SC reader and an issued card on it."""
    bare_shop.init("pcsc:")
    virtual_reader.insert(VirtualCard(image))
    bare_shop.done("card", "issue")
    return bare_shop
