"""No event is too late: a till that was dark for years, or whose clock was wrong, is believed what it sold."""

from __future__ import annotations

import pytest

from tests.crm.world import CARD, Crm, Terminal


@pytest.mark.parametrize("time", ["1970-01-01T00:00:00.000Z", "2016-02-29T23:59:59.999Z", "2107-01-01T00:00:00.000Z"])
def test_an_event_of_long_ago_is_booked_like_any_other(crm: Crm, terminal: Terminal, time: str) -> None:
    assert terminal.verdicts(terminal.purchase(1, earned=50) | {"time": time}) == ["accepted"]
    assert crm.card()["balance"] == 50


def test_events_that_come_after_those_of_other_shops_count_and_set_no_card_back(crm: Crm, terminal: Terminal) -> None:
    other = crm.enrol("shop-2")
    late = [terminal.purchase(1, earned=50), terminal.purchase(2, earned=5, redeemed=20, before=50)]
    assert other.verdicts(other.purchase(3, earned=10, before=35)) == ["accepted"]
    assert terminal.verdicts(*reversed(late)) == ["accepted", "accepted"]
    card = crm.card(CARD)
    assert (card["balance"], card["sequence"], card["status"]) == (45, 3, "active")
