"""An image put back is a rollback, and stays one: what a shop knows of the card decides at its next tap."""

from __future__ import annotations

import pytest

from drivers.simulator import Fault, Torn
from terminal_agent.contract import EventType
from terminal_agent.desk import inspect
from terminal_agent.errors import AgentError, ErrorCode
from tests.desk.restoring import OTHER_UID, refused, restored
from tests.desk.test_dump import rekeyed
from tests.workbench import (
    Workbench,
    blank,
    copy_of,
    lay,
)

# --- a rollback stays one


def test_an_older_image_of_a_card_known_here_is_refused_at_the_next_tap(bench: Workbench) -> None:
    card = bench.issue(points=5)
    old = copy_of(card)
    bench.purchase(card, "R-1", 50_000)
    known = bench.rows("SELECT * FROM cards")
    restored(bench, card, old)
    assert bench.rows("SELECT * FROM cards") == known
    for number in range(2):
        refused(ErrorCode.CARD_ROLLED_BACK, "older", lambda n=number: bench.purchase(card, f"R-{n + 2}", 10_000))
    (anomaly,) = bench.events(EventType.CARD_ANOMALY)
    assert anomaly["data"]["kind"] == "rolled_back"
    with lay(card) as connection:
        assert inspect.show(bench.terminal, connection)["problem"] == "card_rolled_back"


def test_an_image_of_before_a_re_key_is_refused_when_a_tap_came_after_it(bench: Workbench) -> None:
    card = bench.issue(points=5)
    old = copy_of(card)
    rekeyed(bench, card)
    bench.purchase(card, "R-1", 50_000)
    restored(bench, card, old)
    refused(ErrorCode.CARD_ROLLED_BACK, "older", lambda: bench.purchase(card, "R-2", 50_000))


def test_the_newest_image_of_a_card_known_here_is_the_card(bench: Workbench) -> None:
    card = bench.issue(points=5)
    newest = copy_of(card)
    restored(bench, card, blank())
    restored(bench, card, newest)
    assert bench.purchase(card, "R-1", 50_000)["points_after"] == 10


def test_an_image_of_a_card_wiped_here_is_refused_at_the_next_tap(bench: Workbench) -> None:
    card = bench.issue(points=5)
    last = copy_of(card)
    with lay(card) as connection:
        inspect.wipe(bench.terminal, connection)
    restored(bench, card, last)
    refused(ErrorCode.CARD_ROLLED_BACK, "copy", lambda: bench.purchase(card, "R-1", 50_000))
    assert [row["status"] for row in bench.rows("SELECT status FROM cards")] == ["wiped"]


def test_an_image_of_before_the_card_was_issued_anew_is_refused_at_the_next_tap(bench: Workbench) -> None:
    card = bench.issue(points=5)
    last = copy_of(card)
    with lay(card) as connection:
        inspect.wipe(bench.terminal, connection)
    bench.encode(card)
    restored(bench, card, last)
    refused(ErrorCode.CARD_ROLLED_BACK, "copy", lambda: bench.purchase(card, "R-1", 50_000))


def test_an_image_of_before_a_sale_in_doubt_settles_it_as_not_landed(bench: Workbench) -> None:
    card = bench.issue(points=5)
    before = copy_of(card)
    with pytest.raises(AgentError):
        bench.purchase(card, "R-1", 50_000, fault=Fault(5, Torn.NEW))
    restored(bench, card, before)
    assert bench.purchase(card, "R-1", 50_000)["points_after"] == 10
    bench.check_books(card)


def test_an_image_on_another_uid_is_not_our_card(bench: Workbench) -> None:
    card, other = bench.issue(points=5), blank(OTHER_UID)
    restored(bench, other, card)
    refused(ErrorCode.NOT_OUR_CARD, "", lambda: bench.purchase(other, "R-1", 50_000))
