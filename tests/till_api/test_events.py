"""The till's events: each with an id, read as a stream or by long polls, replayed to who comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from terminal_agent.journal.intents import CheckoutState
from terminal_agent.sync.adapters.base import CrmUnreachable
from terminal_agent.till_api.counter import Counter
from terminal_agent.till_api.hub import KEPT, EventName, Hub
from terminal_agent.till_api.routes import MAX_STREAMS
from tests.cli.shop import wait_until
from tests.till_api.hand_reader import HandReader
from tests.till_api.pos import Pos, Shop


@contextmanager
def stream(pos: Pos, **headers: str) -> Iterator[Iterator[dict[str, str]]]:
    """The events of one connection, as ``{id, event, data}``."""
    answer = pos.call("GET", "/v1/events", headers={"Accept": "text/event-stream", **headers}, stream=True)
    with answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        lines = answer.iter_lines(decode_unicode=True)
        assert next(lines) == ": connected"
        yield _parsed(lines)


def _parsed(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    event: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line and name:
            event[name] = value
        elif "id" in event:
            yield event
            event = {}


def test_a_stream_and_a_long_poll_tell_the_same(shop: Shop, pos: Pos, reader: HandReader) -> None:
    after = pos.get("/v1/events", wait_s=0)["last_id"]
    with stream(pos) as events:
        reader.lay(shop.issue())
        pos.sell("R-1")
        streamed = [next(events)["id"] for _ in range(5)]
    assert streamed == [event["id"] for event in pos.events(after)][:5]
    assert len(set(streamed)) == 5


def test_who_comes_back_gets_what_was_missed(shop: Shop, pos: Pos, reader: HandReader) -> None:
    with stream(pos) as events:
        reader.lay(shop.issue())
        last = next(events)["id"]
    pos.sell("R-1")
    with stream(pos, **{"Last-Event-ID": last}) as events:
        missed = [next(events) for _ in range(4)]
    assert [event["event"] for event in missed] == ["checkout.changed"] * 4


def test_a_new_stream_begins_with_what_is_new(shop: Shop, pos: Pos, reader: HandReader) -> None:
    after = pos.get("/v1/events", wait_s=0)["last_id"]
    reader.lay(shop.issue())
    pos.first(after, "card.presented")
    with stream(pos) as events:
        reader.lift()
        assert next(events)["event"] == "card.removed"


def test_a_long_poll_waits_for_the_first_event(shop: Shop, pos: Pos, reader: HandReader) -> None:
    after = pos.get("/v1/events", wait_s=0)["last_id"]
    card = shop.issue()
    threading.Timer(0.2, reader.lay, [card]).start()
    assert [event["event"] for event in pos.events(after, wait_s=20)] == ["card.presented"]


def test_a_long_poll_that_hears_nothing_says_where_to_go_on(pos: Pos) -> None:
    after = pos.get("/v1/events", wait_s=0)["last_id"]
    assert pos.get("/v1/events", after=after, wait_s=0.1) == {"events": [], "last_id": after}


def test_an_id_of_an_earlier_run_gets_everything_of_this_one(open_shop: Callable[[], Shop], reader: HandReader) -> None:
    shop = open_shop()
    pos = shop.pair()
    reader.lay(shop.issue())
    pos.sell("R-1")
    old = pos.get("/v1/events", wait_s=0)["last_id"]
    shop = open_shop()
    pos.url = shop.till.url
    pos.sell("R-2")
    states = [event["data"].get("state") for event in pos.events(old) if event["event"] == "checkout.changed"]
    assert states[-1] == "done"


def test_a_checkout_that_waits_on_after_a_restart_is_told_again(open_shop: Callable[[], Shop]) -> None:
    pos = open_shop().pair()
    opened = pos.open("R-1")
    old = pos.get("/v1/events", wait_s=0)["last_id"]
    pos.url = open_shop().till.url
    told = pos.first(old, "checkout.changed")
    assert (told["id"], told["state"]) == (opened["id"], "waiting_for_card")


def test_a_sale_that_was_done_as_the_till_died_is_told_after_its_start(
    open_shop: Callable[[], Shop], reader: HandReader
) -> None:
    shop = open_shop()
    pos = shop.pair()
    old = pos.get("/v1/events", wait_s=0)["last_id"]
    with pytest.MonkeyPatch.context() as dies:
        dies.setattr(Counter, "_end", lambda _counter, _opened, document: document)  # recorded, and nobody hears of it
        reader.lay(shop.issue())
        opened = pos.open("R-1")
        recorded = shop.agent.journal.checkouts.by_id
        wait_until(lambda: (found := recorded(opened["id"])) is not None and found.state is CheckoutState.DONE)
        reader.lift()
        pos.url = open_shop().till.url
    told = pos.first(old, "checkout.changed")
    assert (told["id"], told["state"], told["points_after"]) == (opened["id"], "done", 25)


def test_a_stopping_till_ends_its_streams(open_shop: Callable[[], Shop]) -> None:
    shop = open_shop()
    with stream(shop.pair()) as events:
        open_shop()
        assert list(events) == []


def test_too_many_streams_at_once_are_refused_and_sales_go_on(shop: Shop, pos: Pos, reader: HandReader) -> None:
    reader.lay(shop.issue())
    with ExitStack() as opened:
        for _ in range(MAX_STREAMS):
            opened.enter_context(stream(pos))
        refused = pos.call("GET", "/v1/events")
        assert (refused.status_code, refused.json()["code"]) == (503, "too_many_streams")
        assert pos.sell("R-1")["points_after"] == 25


def test_the_ring_forgets_the_oldest_and_never_repeats() -> None:
    hub = Hub("boot")
    for number in range(KEPT + 5):
        hub.publish(EventName.SYNC_CHANGED, {"number": number})
    numbers: list[Any] = [event.data["number"] for event in hub.after("")]
    assert numbers == list(range(5, KEPT + 5))
    assert hub.after(hub.now()) == []
    assert [event.data["number"] for event in hub.after(f"boot-{KEPT + 4}")] == [KEPT + 4]
    assert [event.data["number"] for event in hub.after("boot-1")] == numbers
    assert hub.after("boot-99999999") == []


def test_an_exchange_with_the_crm_is_told(shop: Shop, pos: Pos, reader: HandReader) -> None:
    reader.lay(shop.issue())
    pos.sell("R-1")
    after = pos.get("/v1/events", wait_s=0)["last_id"]
    shop.join_a_crm_that_is_down()
    with pytest.raises(CrmUnreachable):
        shop.agent.sync.exchange_now()
    [told] = [event["data"] for event in pos.events(after) if event["event"] == "sync.changed"]
    assert (told["crm"]["state"], told["pending"], told["quarantined"]) == ("down", 3, 0)  # member, card, sale
