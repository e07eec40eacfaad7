"""While a sale is in doubt every answer about its receipt says so, whatever stands in the way just then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.simulator import Fault, SimulatedReader, Torn
from terminal_agent.errors import AgentError, ErrorCode, ExitCode
from terminal_agent.service import card_lane
from terminal_agent.service.agent import Agent
from terminal_agent.service.initialise import initialise
from terminal_agent.service.operations import OPERATIONS
from terminal_agent.service.settings import load_settings
from tests.service.tills import WRITE

SALE = {"receipt_no": "R-1", "amount": 50_000}
RETURN = {"receipt_no": "R-1"}


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    config = tmp_path / "config.toml"
    values = {"data_dir": str(tmp_path / "data"), "terminal_id": "till-1", "reader": f"sim:{tmp_path}/card.mfd"}
    initialise(config, values, force=False)
    opened = Agent(load_settings(config), config)
    do(opened, "card.issue")
    yield opened
    opened.close()


def do(agent: Agent, operation: str, **params: Any) -> Any:
    return OPERATIONS[operation](agent, {"wait_s": 0, **params}, lambda _text: None)


def told(agent: Agent, operation: str, **params: Any) -> AgentError:
    with pytest.raises(AgentError) as caught:
        do(agent, operation, **params)
    return caught.value


def tear(agent: Agent, monkeypatch: pytest.MonkeyPatch, operation: str, **params: Any) -> None:
    """The card leaves in the middle of the write."""

    def open_reader(url: str) -> SimulatedReader:
        reader = SimulatedReader(url.removeprefix("sim:"))
        reader.fault = Fault(WRITE, Torn.GARBAGE)
        return reader

    agent.lane.close()
    with monkeypatch.context() as patch:
        patch.setattr(card_lane, "open_reader", open_reader)
        assert told(agent, operation, **params).details["state"] == "in_doubt"
    agent.lane.close()


@pytest.mark.parametrize("operation", ["purchase", "reverse"])
def test_without_a_reader_it_is_still_in_doubt(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, operation: str, tmp_path: Path
) -> None:
    params = SALE if operation == "purchase" else RETURN
    if operation == "reverse":
        do(agent, "purchase", **SALE)
    tear(agent, monkeypatch, operation, **params)
    without_reader = told(agent, operation, **params, reader=f"sim:{tmp_path}/no-such-folder/card.mfd")
    assert (without_reader.code, without_reader.exit_code) == (ErrorCode.READER_MISSING, ExitCode.CARD_PROBLEM)
    assert without_reader.details["state"] == "in_doubt"
    assert "queue close" in without_reader.hint
    assert do(agent, operation, **params)["state"] == "done"


def test_another_amount_on_the_receipt_in_doubt_is_another_sale(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    tear(agent, monkeypatch, "purchase", **SALE)
    conflict = told(agent, "purchase", **{**SALE, "amount": 1})
    assert (conflict.code, conflict.exit_code) == (ErrorCode.RECEIPT_CONFLICT, ExitCode.FAILURE)
    assert "state" not in conflict.details


def test_a_journal_that_cannot_be_read_is_told_as_that(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    tear(agent, monkeypatch, "purchase", **SALE)

    def io_error(*_: object) -> None:
        raise AgentError(ErrorCode.JOURNAL_FAILED, "disk I/O error", hint="Check the disk")

    with monkeypatch.context() as patch:
        patch.setattr(agent.journal.checkouts, "by_receipt", io_error)
        assert told(agent, "purchase", **SALE).code is ErrorCode.JOURNAL_FAILED
    assert do(agent, "purchase", **SALE)["state"] == "done"
