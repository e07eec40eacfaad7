"""The daemon closes a sale in doubt whose card never comes back, in the time the policy gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.simulator import Fault, Torn
from terminal_agent.desk.issue import IssueRequest, issue
from terminal_agent.errors import AgentError
from terminal_agent.service.agent import Agent
from terminal_agent.service.initialise import initialise
from terminal_agent.service.operations import close_overdue
from terminal_agent.service.settings import load_settings
from terminal_agent.till.checkout import PurchaseRequest, purchase, recorded
from tests.workbench import CountingIds, FixedClock, blank, lay, offline

OPERATIONS_BEFORE_THE_WRITE = 4


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def agent(tmp_path: Path, clock: FixedClock) -> Iterator[Agent]:
    config = tmp_path / "config.toml"
    initialise(config, {"data_dir": str(tmp_path / "data"), "terminal_id": "till-1"}, force=False)
    agent = Agent(load_settings(config), config, clock, CountingIds())
    yield agent
    agent.close()


def in_doubt(agent: Agent, receipt_no: str = "R-1") -> PurchaseRequest:
    """A sale whose card was taken away during its write."""
    card = blank()
    with lay(card) as connection:
        issue(agent.terminal, connection, IssueRequest())
    request = PurchaseRequest(receipt_no, 50_000)
    torn = Fault(OPERATIONS_BEFORE_THE_WRITE + 1, Torn.OLD)
    with lay(card, torn) as connection, pytest.raises(AgentError):
        purchase(agent.terminal, connection, request, offline)
    return request


def test_a_sale_in_doubt_is_closed_when_its_time_is_over_and_not_before(agent: Agent, clock: FixedClock) -> None:
    request = in_doubt(agent)
    wait_s = agent.journal.knowledge.policy().in_doubt.close_after_s
    clock.advance(seconds=wait_s - 1)
    assert close_overdue(agent) == 0
    clock.advance(seconds=2)
    assert close_overdue(agent) == 1
    assert close_overdue(agent) == 0
    answer = recorded(agent.terminal, request)
    assert answer is not None
    assert (answer["state"], answer["points_earned"]) == ("closed", 5)


def test_a_sale_begun_before_the_clock_was_set_back_by_years_is_closed_too(agent: Agent, clock: FixedClock) -> None:
    in_doubt(agent)
    clock.advance(seconds=-60)
    assert close_overdue(agent) == 0
    clock.advance(days=-365)
    assert close_overdue(agent) == 1


def test_a_sale_that_cannot_be_closed_keeps_no_other_open(agent: Agent, clock: FixedClock) -> None:
    in_doubt(agent, "R-1")
    request = in_doubt(agent, "R-2")
    with agent.journal.transaction():
        spoil = "UPDATE intents SET document = '[' || substr(document, 2) WHERE checkout_id = ?"
        assert agent.journal._database.execute(spoil, agent.journal.checkouts.in_doubt()[0].checkout_id) == 1
    clock.advance(seconds=agent.journal.knowledge.policy().in_doubt.close_after_s + 1)
    assert close_overdue(agent) == 1
    answer = recorded(agent.terminal, request)
    assert answer is not None
    assert answer["state"] == "closed"
