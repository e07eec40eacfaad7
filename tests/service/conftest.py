"""Tills beside a CRM for the service's tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from fastapi import FastAPI

from drivers.simulator import MemoryImage
from terminal_agent.crm import admin
from terminal_agent.crm.api import create_app
from terminal_agent.crm.server import running
from terminal_agent.crm.store import open_store
from terminal_agent.ports import SystemClock, SystemIds
from terminal_agent.service import redemption
from tests.service.tills import Till


@pytest.fixture
def crm_dir(tmp_path: Path) -> Path:
    return tmp_path / "crm"


@pytest.fixture(scope="session")
def app_and_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FastAPI, str]]:
    """One server for all tests: starting and stopping one takes longer than most tests."""
    first = open_store(tmp_path_factory.mktemp("crm"), SystemClock(), SystemIds())
    app = create_app(first, SystemClock(), SystemIds())
    with running(app) as url:
        yield app, url
    first.close()


@pytest.fixture
def tills(
    app_and_url: tuple[FastAPI, str], tmp_path: Path, crm_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Till]]:
    """The server on a database of this test's own, and two tills that have joined. Their patience with it is that of a
    test: a busy machine may take longer over an answer than a customer waits for."""
    monkeypatch.setattr(redemption, "PATIENCE_S", 60.0)
    app, url = app_and_url
    with ExitStack() as stack:
        store = stack.enter_context(closing(open_store(crm_dir, SystemClock(), SystemIds())))
        app.state.service.store = store
        made = [Till(tmp_path, name, url, admin.make_code(crm_dir)["code"]) for name in ("till-1", "till-2")]
        for till in made:
            stack.callback(lambda till=till: till.agent.close())
        yield made


@pytest.fixture
def card(tills: list[Till]) -> MemoryImage:
    """A card with 1 000 points, known to the CRM."""
    image = tills[0].issue()
    tills[0].buy(image, "R-0", 10_000_000)
    tills[0].sync()
    return image
