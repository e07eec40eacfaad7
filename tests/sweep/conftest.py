"""A folder in memory for each sweep, and its numbers at the end of the test report."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sweep.sweep import Report
from tests.sweep.tables import memory

REPORTS = pytest.StashKey[list[Report]]()


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=memory()) as folder:
        yield Path(folder)


@pytest.fixture
def reports(request: pytest.FixtureRequest) -> list[Report]:
    """Add to it what is to be told."""
    return request.config.stash.setdefault(REPORTS, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reports = config.stash.get(REPORTS, [])
    if reports:
        calls, runs = sum(report.calls.total() for report in reports), sum(report.runs for report in reports)
        terminalreporter.section(f"sweep: {runs} runs for {calls} port calls")
        for report in reports:
            terminalreporter.write_line(str(report))
