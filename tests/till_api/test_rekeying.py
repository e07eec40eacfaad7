"""New keys at the till: the cashier is told of the sale first, and hears nothing of the keys."""

from __future__ import annotations

import threading

from drivers.base import ClassicConnection
from drivers.mifare_classic import is_trailer
from drivers.simulator import Fault, Torn
from tests.card.independent_reader import read_card
from tests.till_api.hand_reader import HandReader
from tests.till_api.pos import PATIENCE_S, Pos, Shop
from tests.workbench import RecordingConnection

NEXT = bytes(range(16))


class Gate(RecordingConnection):
    """No trailer is written until the gate is open."""

    def __init__(self, inner: ClassicConnection, is_open: threading.Event) -> None:
        super().__init__(inner)
        self._is_open = is_open

    def write_block(self, block: int, data: bytes) -> None:
        if is_trailer(block):
            assert self._is_open.wait(PATIENCE_S)
        super().write_block(block, data)


def test_the_cashier_is_told_before_the_card_gets_its_new_keys(shop: Shop, pos: Pos, reader: HandReader) -> None:
    card, is_open = shop.issue(), threading.Event()
    shop.agent.keys.add(NEXT, 10, activate=True)
    reader.wrap = lambda connection: Gate(connection, is_open)
    reader.lay(card)
    sold = pos.wait_for(pos.open("R-1")["id"], "done")
    assert (sold["points_after"], sold["error"]) == (25, None)
    assert read_card(bytes(card.content), NEXT).home is None, "the keys come later"
    is_open.set()
    assert pos.sell("R-2")["points_after"] == 50, "a sale that is opened meanwhile waits for its turn"
    assert read_card(bytes(card.content), NEXT).foreign_trailers == []


def test_a_card_taken_away_at_done_is_nobodys_trouble(shop: Shop, pos: Pos, reader: HandReader) -> None:
    card = shop.issue()
    shop.agent.keys.add(NEXT, 10, activate=True)
    reader.lay(card, Fault(30, Torn.NEW))
    sold = pos.wait_for(pos.open("R-1")["id"], "done")
    reader.lift()
    assert sold["error"] is None
    reader.lay(card)
    assert pos.sell("R-2")["points_after"] == 50
    assert pos.get(f"/v1/checkouts/{sold['id']}")["state"] == "done"
