"""A journal on disk, a CRM on loopback, and a client between them that does not wait between tries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import tenacity.nap
from pytest_httpserver import HTTPServer

from terminal_agent.journal import Journal
from terminal_agent.sync.adapters.native import NativeCrm
from terminal_agent.sync.exchange import exchange
from tests.journal.support import CountedIds, ManualClock
from tests.sync.support import Exchange, ScriptedCrm, client_of, scripted


@pytest.fixture(autouse=True)
def _no_waits_between_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenacity.nap, "time", SimpleNamespace(sleep=lambda _seconds: None))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ids() -> CountedIds:
    return CountedIds()


@pytest.fixture
def journal(tmp_path: Path, clock: ManualClock, ids: CountedIds) -> Iterator[Journal]:
    opened = Journal(tmp_path, "till-1", "IRR", clock, ids)
    yield opened
    opened.close()


@pytest.fixture
def crm(httpserver: HTTPServer) -> ScriptedCrm:
    return scripted(httpserver)


@pytest.fixture
def client(crm: ScriptedCrm, ids: CountedIds) -> Iterator[NativeCrm]:
    made = client_of(crm.url, ids)
    yield made
    made.close()


@pytest.fixture
def run(journal: Journal, client: NativeCrm, clock: ManualClock) -> Exchange:
    """One exchange with the CRM."""
    return lambda: exchange(journal, client, clock)
