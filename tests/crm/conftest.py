"""A real CRM on loopback with a real database on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import delete

from terminal_agent.crm.api import create_app
from terminal_agent.crm.place import DatabaseUrl, Place
from terminal_agent.crm.schema import metadata
from terminal_agent.crm.server import running
from terminal_agent.crm.store import Store, open_store
from terminal_agent.ports import SystemClock, SystemIds, rfc3339
from tests.crm.postgres import PostgresServer
from tests.crm.world import Crm, Terminal


@pytest.fixture(scope="session")
def shared_database(postgres: PostgresServer) -> Iterator[tuple[DatabaseUrl, Store]]:
    """A CRM on PostgreSQL with whatever the test before left in it."""
    url = postgres.create("club")
    store = open_store(url, SystemClock(), SystemIds())
    yield url, store
    store.close()


@pytest.fixture
def database(shared_database: tuple[DatabaseUrl, Store]) -> DatabaseUrl:
    """A fresh CRM on PostgreSQL; emptied, because making its tables takes longer than most tests."""
    url, store = shared_database
    with store.writing() as connection:
        for table in metadata.tables.values():
            connection.execute(delete(table))
        store.fill(connection, rfc3339(SystemClock().now()), SystemIds().uuid())
    return url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where this test's CRM is: each test runs on both databases."""
    return tmp_path / "crm" if request.param == "sqlite" else request.getfixturevalue("database")


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    opened = open_store(place, SystemClock(), SystemIds())
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
def crm(app_and_url: tuple[FastAPI, str], store: Store, place: Place) -> Crm:
    """The server on a database of this test's own."""
    app, url = app_and_url
    app.state.service.store = store
    return Crm(url, place)


@pytest.fixture
def terminal(crm: Crm) -> Iterator[Terminal]:
    enrolled = crm.enrol()
    with enrolled.session:
        yield enrolled
