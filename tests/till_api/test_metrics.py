"""Figures for Prometheus: what happened at the till is what they say."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.till_api.hand_reader import HandReader
from tests.till_api.pos import TEAR_AT_WRITE, Pos, Shop


def figures(pos: Pos) -> dict[str, float]:
    answer = pos.call("GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.text)
    return {
        f"{sample.name}{sample.labels.get('result', '')}": sample.value
        for family in families
        for sample in family.samples
        if "le" not in sample.labels
    }


def test_taps_queue_and_doubt_are_counted(shop: Shop, pos: Pos, reader: HandReader) -> None:
    card = shop.issue()
    reader.lay(card)
    pos.sell("R-1")
    reader.lift()
    reader.lay(card, TEAR_AT_WRITE)
    in_doubt = pos.wait_for(pos.open("R-2")["id"], "in_doubt", "done")
    if in_doubt["state"] == "in_doubt":
        assert figures(pos)["terminal_agent_sales_in_doubt"] == 1
    pos.wait_for(in_doubt["id"], "done")
    told = figures(pos)
    assert told["terminal_agent_taps_totaldone"] >= 2
    assert told["terminal_agent_taps_totalcard_removed_early"] == 1
    assert told["terminal_agent_tap_seconds_count"] == sum(n for name, n in told.items() if "taps_total" in name)
    assert told["terminal_agent_queue_pending"] == 4  # member, card, two sales
    assert (told["terminal_agent_reader_up"], told["terminal_agent_crm_up"]) == (1, 0)
    after = pos.get("/v1/events", wait_s=0)["last_id"]
    reader.unplug()
    assert pos.first(after, "reader.changed")["state"] == "lost"
    assert figures(pos)["terminal_agent_reader_up"] == 0


def test_figures_name_no_card_and_no_member(shop: Shop, pos: Pos, reader: HandReader) -> None:
    reader.lay(shop.issue("Sara Ahmadi"))
    sold = pos.sell("R-1")
    text = pos.call("GET", "/metrics").text
    for secret in (sold["card_no"], "Sara", "Ahmadi", "R-1"):
        assert secret not in text


def test_figures_need_a_token(pos: Pos) -> None:
    pos.token = "x"
    assert pos.call("GET", "/metrics").status_code == 401
