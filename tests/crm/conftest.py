"""A real CRM on loopback with a real database on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from terminal_agent.crm.api import create_app
from terminal_agent.crm.server import running
from terminal_agent.crm.store import Store, open_store
from terminal_agent.ports import SystemClock, SystemIds
from tests.crm.world import Crm, Terminal


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "crm", SystemClock(), SystemIds())
    yield opened
    opened.close()


@pytest.fixture
def crm(store: Store, tmp_path: Path) -> Iterator[Crm]:
    with running(create_app(store, SystemClock(), SystemIds())) as url:
        yield Crm(url, tmp_path / "crm")


@pytest.fixture
def terminal(crm: Crm) -> Iterator[Terminal]:
    enrolled = crm.enrol()
    with enrolled.session:
        yield enrolled
