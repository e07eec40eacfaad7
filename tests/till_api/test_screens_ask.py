"""What a screen asks of the till beside its checkouts: how the shop speaks, the last sales, whose card lies there."""

from __future__ import annotations

from terminal_agent.service.settings import Settings
from tests.till_api.hand_reader import HandReader
from tests.till_api.pos import TEAR_AT_WRITE, Pos, Shop, a_key


def test_the_shop_says_how_it_speaks_and_what_points_are_worth(shop: Shop, pos: Pos) -> None:
    said = pos.get("/v1/shop")
    assert (said["terminal_id"], said["language"], said["currency"]) == ("till-1", "fa", "IRR")
    assert said["unit"] == {"name": {"fa": "ریال", "en": "rial"}, "places": 0, "exact": True}
    assert said["redeem"] == {"amount_per_point": 100, "minimum_points": 1, "maximum_share_percent": 100}
    assert said["offline_points_per_card"] == 200


def test_a_shop_that_counts_in_tomans_says_so(shop: Shop, pos: Pos) -> None:
    changed = {"shop": {"amounts_in": "toman"}}
    shop.agent.settings = Settings.model_validate({**shop.agent.settings.model_dump(), **changed})
    assert pos.get("/v1/shop")["unit"] == {"name": {"fa": "تومان", "en": "toman"}, "places": 1, "exact": False}


def test_the_last_sales_are_listed_newest_first(shop: Shop, pos: Pos, reader: HandReader) -> None:
    reader.lay(shop.issue("سارا احمدی"))
    for receipt_no in ("R-1", "R-2", "R-3"):
        pos.sell(receipt_no)
    listed = pos.get("/v1/checkouts", limit=2)
    assert listed["open"] is None
    assert [sale["receipt_no"] for sale in listed["checkouts"]] == ["R-3", "R-2"]
    newest = listed["checkouts"][0]
    assert (newest["points_earned"], newest["points_redeemed"], newest["state"]) == (25, 0, "done")
    assert newest["member"]["first_name"] == "سارا"


def test_the_list_names_the_checkout_that_is_open(shop: Shop, pos: Pos) -> None:
    opened = pos.open("R-1")
    listed = pos.get("/v1/checkouts")
    assert listed["open"] == opened
    assert listed["checkouts"] == []


def test_the_list_has_its_bounds(pos: Pos) -> None:
    assert pos.call("GET", "/v1/checkouts", params={"limit": 0}).status_code == 400
    assert pos.call("GET", "/v1/checkouts", params={"limit": 101}).status_code == 400


def test_a_card_that_lies_there_is_told_with_its_holder(shop: Shop, pos: Pos, reader: HandReader) -> None:
    assert pos.get("/v1/reader")["card_present"] is False
    after = pos.get("/v1/events", wait_s=0)["last_id"]
    reader.lay(shop.issue("سارا احمدی"))
    pos.first(after, "card.presented")
    assert pos.get("/v1/reader")["card_present"] is True
    assert pos.get("/v1/card")["member"] == {"first_name": "سارا", "tier": None}
    reader.lift()
    pos.first(after, "card.removed")
    assert pos.get("/v1/reader")["card_present"] is False


def test_a_sale_in_doubt_can_be_left_so_that_the_next_one_goes_on(shop: Shop, pos: Pos, reader: HandReader) -> None:
    card, other = shop.issue(), shop.issue()
    reader.lay(card, TEAR_AT_WRITE)
    torn = pos.open("R-1")
    pos.wait_for(torn["id"], "in_doubt")
    assert pos.call("POST", "/v1/checkouts", key=a_key(), json=sale_of("R-2")).status_code == 409
    left = pos.call("POST", f"/v1/checkouts/{torn['id']}/leave", key=a_key())
    assert (left.status_code, left.json()["state"]) == (200, "in_doubt")
    assert pos.call("POST", f"/v1/checkouts/{torn['id']}/leave", key=a_key()).status_code == 200
    reader.lay(other)
    assert pos.sell("R-2")["points_after"] == 25
    after = pos.get("/v1/events", wait_s=0)["last_id"]
    reader.lift()
    pos.first(after, "card.removed")
    reader.lay(card)
    pos.wait_for(torn["id"], "done")
    assert pos.get("/v1/card")["points"] == 25


def test_only_a_sale_in_doubt_can_be_left(shop: Shop, pos: Pos, reader: HandReader) -> None:
    opened = pos.open("R-1")
    assert pos.call("POST", f"/v1/checkouts/{opened['id']}/leave", key=a_key()).status_code == 409
    reader.lay(shop.issue())
    pos.wait_for(opened["id"], "done")
    assert pos.call("POST", f"/v1/checkouts/{opened['id']}/leave", key=a_key()).status_code == 409
    assert pos.call("POST", "/v1/checkouts/nonsense/leave", key=a_key()).status_code == 404
    assert pos.call("POST", f"/v1/checkouts/{opened['id']}/leave").status_code == 400


def test_a_redemption_that_is_too_large_says_what_would_be_granted(shop: Shop, pos: Pos, reader: HandReader) -> None:
    reader.lay(shop.issue())
    pos.sell("R-1")
    failed = pos.wait_for(pos.open("R-2", redeem_points=80)["id"], "failed")
    assert (failed["error"]["code"], failed["error"]["redeemable_points"]) == ("insufficient_points", 25)


def sale_of(receipt_no: str) -> dict[str, object]:
    return {"amount": 250_000, "currency": "IRR", "receipt_no": receipt_no}
