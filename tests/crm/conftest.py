"""A real CRM on loopback with a real database on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

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


@pytest.fixture(scope="session")
def app_and_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FastAPI, str]]:
    """One server for all tests: starting and stopping one takes longer than most tests."""
    first = open_store(tmp_path_factory.mktemp("crm"), SystemClock(), SystemIds())
    app = create_app(first, SystemClock(), SystemIds())
    with running(app) as url:
        yield app, url
    first.close()


@pytest.fixture
def crm(app_and_url: tuple[FastAPI, str], store: Store, tmp_path: Path) -> Crm:
    """The server on a database of this test's own."""
    app, url = app_and_url
    app.state.service.store = store
    return Crm(url, tmp_path / "crm")


@pytest.fixture
def terminal(crm: Crm) -> Iterator[Terminal]:
    enrolled = crm.enrol()
    with enrolled.session:
        yield enrolled
