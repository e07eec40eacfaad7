"""One flipped bit in a row's text: SQLite keeps no checksums, so its own check is content. It stops no other row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.club.policy import default_policy
from terminal_agent.errors import AgentError
from terminal_agent.journal.alarms import AlarmCode
from terminal_agent.journal.rows import RowUnreadable
from tests.workbench import Workbench

WRITE = 5


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    bench = Workbench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def card(bench: Workbench) -> MemoryImage:
    return bench.issue(points=300)


def spoil(bench: Workbench, table: str, column: str, where: str = "1", first: str = "'['") -> None:
    """The first character becomes another one: another bracket, or what is no text."""
    with bench.journal.transaction():
        sql = f"UPDATE {table} SET {column} = CAST({first} || substr({column}, 2) AS TEXT) WHERE {where}"
        assert bench.journal._database.execute(sql) == 1
    assert bench.journal.integrity_problems() == []


def publish(bench: Workbench, version: str, **rules: object) -> None:
    with bench.journal.transaction():
        bench.journal.knowledge.remember_policy(version, {**default_policy("IRR"), "version": version, **rules})


@pytest.mark.parametrize("first", ["'['", "x'ff'"])
def test_a_policy_that_cannot_be_read_any_more_is_left_out_and_told(
    bench: Workbench, card: MemoryImage, first: str
) -> None:
    publish(bench, "v1")
    publish(bench, "v2", earn={"points": 2, "per_amount": 10_000, "basis": "gross"})
    spoil(bench, "policies", "document", "version = 'v2'", first)
    bench.restart()
    assert bench.purchase(card, "R-1", 50_000)["points_earned"] == 5
    assert [alarm.code for alarm in bench.journal.standing_alarms()] == [AlarmCode.POLICY_UNREADABLE]
    publish(bench, "v2", earn={"points": 2, "per_amount": 10_000, "basis": "gross"})
    assert bench.purchase(card, "R-2", 50_000)["points_earned"] == 10
    assert bench.journal.standing_alarms() == []


def test_a_sale_made_under_it_can_be_taken_back_all_the_same(bench: Workbench, card: MemoryImage) -> None:
    publish(bench, "v1")
    bench.purchase(card, "R-1", 50_000)
    spoil(bench, "policies", "document")
    assert bench.reverse(card, "R-1")["points_after"] == 300


def test_a_card_of_which_nothing_can_be_read_here_goes_on_and_stops_no_other(
    bench: Workbench, card: MemoryImage
) -> None:
    spoil(bench, "cards", "state")
    assert bench.journal.knowledge.recent_cards(10) == []
    assert bench.purchase(card, "R-1", 50_000)["state"] == "done"
    assert len(bench.journal.knowledge.recent_cards(10)) == 1, "and is known again"


def test_a_card_whose_sale_in_doubt_cannot_be_read_goes_on(bench: Workbench, card: MemoryImage) -> None:
    with pytest.raises(AgentError):
        bench.purchase(card, "R-1", 50_000, fault=Fault(WRITE, Torn.OLD))
    spoil(bench, "intents", "document", "state = 'open'")
    assert bench.purchase(card, "R-2", 50_000)["state"] == "done"


def test_a_sale_that_cannot_be_read_is_told_alone(bench: Workbench, card: MemoryImage) -> None:
    for receipt_no in ("R-1", "R-2"):
        bench.purchase(card, receipt_no, 50_000)
    spoil(bench, "checkouts", "result", "receipt_no = 'R-1'", "x'ff'")
    with pytest.raises(RowUnreadable) as told:
        bench.purchase(card, "R-1", 50_000)
    assert told.value.hint
    assert bench.purchase(card, "R-2", 50_000)["replayed"] is True
    card_no = bench.journal.knowledge.recent_cards(1)[0].card_no
    known = {sale.receipt_no for sale in bench.journal.checkouts.of_card(card_no)}
    assert "R-2" in known
    assert "R-1" not in known
