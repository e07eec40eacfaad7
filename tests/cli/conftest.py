"""Fixtures of the command line's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.shop import CrmProcess, Shop


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
