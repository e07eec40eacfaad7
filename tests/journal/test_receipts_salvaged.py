"""A receipt of a damaged journal is not sold twice, even where only its event can still be found."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.simulator import Fault, Torn
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.journal import JOURNAL_FILE
from tests.workbench import Workbench


def test_a_receipt_whose_row_is_lost_is_known_by_its_event(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    card = bench.issue(points=300)
    sold = bench.purchase(card, "R-1", 100_000, redeem=40)
    with pytest.raises(AgentError):
        bench.purchase(card, "R-2", 50_000, redeem=5, fault=Fault(5, Torn.OLD))
    closed = bench.close_in_doubt()
    bench.close()
    file = tmp_path / JOURNAL_FILE
    content = bytearray(file.read_bytes())
    content[:100] = bytes(100)
    file.write_bytes(content)
    bench = Workbench(tmp_path)
    told = (
        "state",
        "amount",
        "card_no",
        "points_before",
        "points_earned",
        "points_redeemed",
        "points_after",
        "sequence",
    )
    for receipt_no, amount, before in (("R-1", 100_000, sold), ("R-2", 50_000, closed)):
        again = bench.purchase(card, receipt_no, amount)
        assert again["replayed"] is True
        assert {name: again[name] for name in told} == {name: before[name] for name in told}
    with pytest.raises(AgentError) as caught:
        bench.purchase(card, "R-1", 7)
    assert caught.value.code is ErrorCode.RECEIPT_CONFLICT
    assert bench.journal.checkouts.redeemed_offline_by(sold["card_no"]) == 40
    bench.close()
