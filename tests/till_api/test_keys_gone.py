"""Master keys that cannot be used for a while: the cashier is told, and the checkout waits for them."""

from __future__ import annotations

from typing import NoReturn

import pytest

from terminal_agent.card.keys import KeysUnavailable
from terminal_agent.errors import ErrorCode
from terminal_agent.service.keys.store import FileKeyStore
from tests.till_api.hand_reader import HandReader
from tests.till_api.pos import Pos, Shop

SALE = {"amount": 250_000, "currency": "IRR", "receipt_no": "R-1"}


def unplugged(*_: object) -> NoReturn:
    raise KeysUnavailable(ErrorCode.KEYS_UNAVAILABLE, "the token is not plugged in", hint="Plug it in")


def test_a_checkout_waits_for_the_token_with_the_keys(
    shop: Shop, pos: Pos, reader: HandReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = shop.issue()
    with monkeypatch.context() as gone:
        gone.setattr(FileKeyStore, "card_keys", unplugged)
        after, opened = pos.get("/v1/events", wait_s=0)["last_id"], pos.open("R-1")["id"]
        reader.lay(card)
        problem = pos.first(after, "card.problem")["error"]
        assert (problem["code"], problem["retryable"]) == ("keys_unavailable", True)
        reader.lift()
    reader.lay(card)
    assert pos.wait_for(opened, "done")["points_after"] == 25


def test_before_the_token_was_ever_reached_no_checkout_is_opened(
    shop: Shop, pos: Pos, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as gone:
        gone.setattr(FileKeyStore, "versions", unplugged)
        refused = pos.call("POST", "/v1/checkouts", key="k-1", json=SALE)
        assert (refused.status_code, refused.json()["code"]) == (503, "keys_unavailable")
    assert pos.call("POST", "/v1/checkouts", key="k-1", json=SALE).status_code == 201
