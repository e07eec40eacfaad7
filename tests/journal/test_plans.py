"""A tap and a sync cost the same after years: no question reads what is long finished."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from drivers.simulator import Fault, Torn
from terminal_agent.errors import AgentError
from terminal_agent.journal.events import OutboxState
from tests.workbench import UID_7, Workbench

SMALL = {"policies", "meta", "hotlist"}
"""Tables that do not grow with the sales."""
WAITING = {"outbox_waiting", "intents_unsettled", "checkouts_redeemed_offline"}
"""Indexes of the few rows that somebody still waits for."""
TEAR = Fault(5, Torn.OLD)


def work(bench: Workbench) -> None:
    """Everything a shop asks its journal in a day."""
    card = bench.issue(points=50, phone="09125554433")
    bench.issue(UID_7)
    bench.purchase(card, "R-1", 100_000, redeem=5)
    for receipt_no in ("R-2", "R-3"):
        with pytest.raises(AgentError):
            bench.purchase(card, receipt_no, 10_000, fault=TEAR)
        if receipt_no == "R-2":
            bench.close_in_doubt()
    journal = bench.journal
    assert journal.intents.count_open() == len(journal.checkouts.in_doubt()) == 1
    assert journal.checkouts.latest("purchase", "R-2") is not None
    assert len(journal.intents.open_checkouts_outside("0", "0")) == 1
    (first, *_others) = journal.events.next_batch(10, 1_000_000)
    with journal.transaction():
        journal.events.attempted([first.event_id])
        journal.events.settle(first.event_id, OutboxState.ACKNOWLEDGED, None)
    assert journal.events.entries(None, 10)
    assert journal.events.entries(OutboxState.PENDING, 10)
    assert journal.events.count(OutboxState.QUARANTINED) == 0
    assert journal.events.oldest_pending_age_s() is not None
    bench.purchase(card, "R-4", 10_000)


def reads_everything(step: str) -> bool:
    """Whether a step of a query plan walks through a table, or one end of it, that grows with every sale."""
    index = re.search(r"INDEX (\w+)", step)
    if index and index[1] in WAITING:
        return False
    scanned = re.match(r"SCAN (\w+)", step)
    if scanned:
        return scanned[1] not in SMALL
    condition = re.search(r"\(([^)]*)\)", step)
    return step.startswith("SEARCH") and condition is not None and "=" not in condition[1]


def test_no_question_reads_what_is_long_finished(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    connection: sqlite3.Connection = bench.journal._database._connection
    asked: set[str] = set()
    connection.set_trace_callback(asked.add)
    work(bench)
    connection.set_trace_callback(None)
    steps = {
        (step[3], statement)
        for statement in asked
        if statement.startswith(("SELECT", "UPDATE", "INSERT", "DELETE"))
        for step in connection.execute(f"EXPLAIN QUERY PLAN {statement}")
    }
    bench.close()
    assert len(steps) > 20
    assert [f"{step}: {statement}" for step, statement in steps if reads_everything(step)] == []


@pytest.mark.parametrize(
    ("step", "bad"),
    [
        ("SCAN intents", True),
        ("SEARCH q USING INDEX sqlite_autoindex_outbox_2 (position<?)", True),
        ("SEARCH intents USING INDEX intents_of_checkout (checkout_id=?)", False),
        ("SCAN outbox USING INDEX outbox_waiting", False),
        ("SCAN policies", False),
    ],
)
def test_the_check_knows_a_walk_from_a_look(step: str, bad: bool) -> None:
    assert reads_everything(step) is bad
