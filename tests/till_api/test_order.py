"""What is told of a checkout, and when: in the order in which it happens, however busy the machine is."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from drivers.base import ClassicConnection
from terminal_agent.till_api.counter import Counter
from terminal_agent.till_api.hub import EventName, Hub
from tests.cli.shop import wait_until
from tests.till_api.hand_reader import HandReader
from tests.till_api.pos import PATIENCE_S, Pos, Shop, a_key
from tests.workbench import blank


def changes(pos: Pos, after: str) -> list[dict[str, Any]]:
    return [event["data"] for event in pos.events(after) if event["event"] == "checkout.changed"]


def test_every_step_of_a_sale_is_told_in_order(shop: Shop, pos: Pos, reader: HandReader) -> None:
    after = pos.get("/v1/events", wait_s=0)["last_id"]
    reader.lay(shop.issue("Sara"))
    opened = pos.open("R-1")
    pos.wait_for(opened["id"], "done")
    told = changes(pos, after)
    assert [data["state"] for data in told] == ["waiting_for_card", "reading", "writing", "done"]
    assert told[2]["member"] == {"first_name": "Sara", "tier": None}
    assert told[3] == pos.get(f"/v1/checkouts/{opened['id']}")


class Laggard:
    """Whoever tells of this ``state`` first is held up until another has told of ``overtaking``, or half a second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, state: str, *, error: bool, overtaking: str) -> None:
        publish, held, overtaken = Hub.publish, threading.Event(), threading.Event()

        def late(hub: Hub, name: EventName, data: dict[str, Any]) -> None:
            if data.get("state") == state and bool(data["error"]) == error and not held.is_set():
                held.set()
                overtaken.wait(0.5)
            publish(hub, name, data)
            if data.get("state") == overtaking:
                overtaken.set()

        monkeypatch.setattr(Hub, "publish", late)
        self.held = held


def test_no_step_is_told_before_the_one_that_it_follows(
    shop: Shop, pos: Pos, reader: HandReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card that lies there is read while the request that opened the sale is still at work, on a busy machine."""
    after = pos.get("/v1/events", wait_s=0)["last_id"]
    reader.lay(shop.issue())
    Laggard(monkeypatch, "waiting_for_card", error=False, overtaking="done")
    pos.sell("R-1")
    states = [data["state"] for data in changes(pos, after)]
    assert states == ["waiting_for_card", "reading", "writing", "done"]


def test_a_sale_that_is_cancelled_as_its_card_is_refused_is_told_as_cancelled(
    pos: Pos, reader: HandReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = pos.get("/v1/events", wait_s=0)["last_id"]
    laggard = Laggard(monkeypatch, "waiting_for_card", error=True, overtaking="cancelled")
    opened = pos.open("R-1")
    reader.lay(blank())
    assert laggard.held.wait(PATIENCE_S)
    wait_until(lambda: pos.call("POST", f"/v1/checkouts/{opened['id']}/cancel", key=a_key()).ok)
    states = [data["state"] for data in changes(pos, after)]
    assert states == ["waiting_for_card", "reading", "waiting_for_card", "cancelled"]


def test_who_asks_as_soon_as_it_is_told_gets_what_was_told(
    shop: Shop, pos: Pos, reader: HandReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end is told before it is on disk, and a disk may be slow."""
    keep, on_disk = Counter._keep_ended, threading.Event()

    def slowly(counter: Counter, document: dict[str, Any]) -> None:
        assert on_disk.wait(PATIENCE_S)
        keep(counter, document)

    monkeypatch.setattr(Counter, "_keep_ended", slowly)
    after = pos.get("/v1/events", wait_s=0)["last_id"]
    reader.lay(shop.issue())
    opened = pos.open("R-1", redeem_points=5)
    wait_until(lambda: changes(pos, after)[-1]["state"] == "failed")
    assert pos.get(f"/v1/checkouts/{opened['id']}")["state"] == "failed"
    on_disk.set()
    assert pos.sell("R-1")["points_after"] == 25


def test_a_sale_that_begins_while_its_card_is_looked_at_has_no_problem(
    shop: Shop, pos: Pos, reader: HandReader
) -> None:
    """The page looks at every card that is laid down; on a slow machine that takes its time."""
    looking, looked = threading.Event(), threading.Event()

    def slow(connection: ClassicConnection) -> ClassicConnection:
        looking.set()
        assert looked.wait(PATIENCE_S)
        return connection

    reader.lay(shop.issue())
    reader.wrap = slow
    look = threading.Thread(target=pos.get, args=("/v1/card",))
    look.start()
    assert looking.wait(PATIENCE_S)
    after = pos.get("/v1/events", wait_s=0)["last_id"]
    opened = pos.open("R-1")
    threading.Timer(0.7, looked.set).start()
    assert pos.wait_for(opened["id"], "done")["points_after"] == 25
    look.join()
    assert [data["error"] for data in changes(pos, after)] == [None] * 4


@pytest.mark.parametrize(("card", "answer", "state"), [("wrong", 200, "cancelled"), ("ours", 409, "done")])
def test_who_cancels_while_a_card_is_read_is_refused_only_where_it_is_served(
    shop: Shop, pos: Pos, reader: HandReader, card: str, answer: int, state: str
) -> None:
    """A wrong card that lies there is tried twice a second: no button may fail by chance."""
    reading, cancelling = threading.Event(), threading.Event()

    def slow(connection: ClassicConnection) -> ClassicConnection:
        reading.set()
        assert cancelling.wait(PATIENCE_S)
        return connection

    reader.lay(shop.issue() if card == "ours" else blank())
    reader.wrap = slow
    opened = pos.open("R-1")
    assert reading.wait(PATIENCE_S)
    threading.Timer(0.2, cancelling.set).start()
    assert pos.call("POST", f"/v1/checkouts/{opened['id']}/cancel", key=a_key()).status_code == answer
    assert pos.wait_for(opened["id"], state)
