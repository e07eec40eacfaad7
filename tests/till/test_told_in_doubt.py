"""While a sale is in doubt every answer says so, whatever else went wrong: found by the seeded world (seed 116)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.contract import EventType
from terminal_agent.errors import ErrorCode
from terminal_agent.journal.journal import JOURNAL_FILE
from tests.till.support import refused, tear
from tests.workbench import Workbench, blank


@pytest.fixture
def card(bench: Workbench) -> MemoryImage:
    return bench.issue(points=300)


@contextmanager
def no_room_for_events(bench: Workbench) -> Iterator[None]:
    """The disk takes the intent and has no room left for the outcome."""
    with closing(sqlite3.connect(bench.data_dir / JOURNAL_FILE)) as other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        yield
        other.execute("DROP TRIGGER full")


def test_an_outcome_that_cannot_be_put_on_disk_is_told_in_doubt(bench: Workbench, card: MemoryImage) -> None:
    with no_room_for_events(bench):
        error = refused(bench, card, "R-1", 50_000)
    assert (error.code, error.details["state"]) == (ErrorCode.JOURNAL_FAILED, "in_doubt")
    assert bench.purchase(card, "R-1", 50_000)["points_after"] == 305
    bench.check_books(card)


def test_a_retry_whose_outcome_cannot_be_put_on_disk_is_told_in_doubt(bench: Workbench, card: MemoryImage) -> None:
    tear(bench, card, Torn.NEW)
    with no_room_for_events(bench):
        error = refused(bench, card, "R-1", 50_000)
    assert (error.code, error.details["state"]) == (ErrorCode.JOURNAL_FAILED, "in_doubt")


def test_a_retry_torn_before_its_write_is_still_told_in_doubt(bench: Workbench, card: MemoryImage) -> None:
    tear(bench, card, Torn.OLD)
    error = refused(bench, card, "R-1", 50_000, fault=Fault(2))
    assert (error.code, error.details["state"]) == (ErrorCode.CARD_REMOVED_EARLY, "in_doubt")


def test_a_retry_with_a_card_that_is_not_ours_is_still_told_in_doubt(bench: Workbench, card: MemoryImage) -> None:
    tear(bench, card, Torn.OLD)
    error = refused(bench, blank(bytes(4)), "R-1", 50_000)
    assert (error.code, error.details["state"]) == (ErrorCode.BLANK_CARD, "in_doubt")
    bench.purchase(card, "R-1", 50_000)
    bench.check_books(card)


def test_a_write_found_later_tells_what_was_tried(bench: Workbench, card: MemoryImage) -> None:
    tear(bench, card, Torn.NEW)
    bench.purchase(card, "R-1", 50_000)
    event = bench.events(EventType.PURCHASE_RECORDED)[-1]["data"]
    assert (event["card"]["sequence"], event["intent"]["sequence_after"]) == (3, 3)
    assert event["card"]["balance_after"] == event["intent"]["balance_after"]


def test_a_write_made_again_was_read_back_and_tells_of_no_doubt(bench: Workbench, card: MemoryImage) -> None:
    tear(bench, card, Torn.OLD)
    bench.purchase(card, "R-1", 50_000)
    assert "intent" not in bench.events(EventType.PURCHASE_RECORDED)[-1]["data"]
