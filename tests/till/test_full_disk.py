"""A disk that is full when something must be noted: the reserve is given away, and it is noted all the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.errors import AgentError, ErrorCode
from tests.workbench import Workbench, blank, copy_of, full_disk_once

WRITE = 5


def a_sale_is_closed(bench: Workbench, card: MemoryImage) -> None:
    assert bench.close_in_doubt()["state"] == "closed"


def what_became_of_a_closed_sale_is_told(bench: Workbench, card: MemoryImage) -> None:
    assert bench.purchase(card, "R-2", 50_000)["state"] == "done"


def a_rolled_back_card_is_reported(bench: Workbench, card: MemoryImage) -> None:
    with pytest.raises(AgentError) as refused:
        bench.purchase(card, "R-2", 50_000)
    assert refused.value.code is ErrorCode.CARD_ROLLED_BACK


def a_card_is_issued(bench: Workbench, card: MemoryImage) -> None:
    bench.encode(blank(bytes([7, 7, 7, 7])))


@pytest.mark.parametrize(
    "noted",
    [
        a_sale_is_closed,
        what_became_of_a_closed_sale_is_told,
        a_rolled_back_card_is_reported,
        a_card_is_issued,
    ],
    ids=lambda noted: noted.__name__,
)
def test_what_must_be_noted_is_noted_on_a_full_disk(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, noted: Callable[[Workbench, MemoryImage], None]
) -> None:
    card = bench.issue(points=300)
    older = copy_of(card)
    if noted is a_rolled_back_card_is_reported:
        bench.purchase(card, "R-1", 50_000)
        card = older
    elif noted is not a_card_is_issued:
        with pytest.raises(AgentError):
            bench.purchase(card, "R-1", 50_000, fault=Fault(WRITE, Torn.NEW))
    if noted is what_became_of_a_closed_sale_is_told:
        bench.close_in_doubt()
    before = bench.journal.position()
    full_disk_once(bench.journal, monkeypatch, skip=1 if noted is a_card_is_issued else 0)
    noted(bench, card)
    assert bench.journal.position() > before
