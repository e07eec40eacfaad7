"""Pairing by the command line, and a sale through the API of a real daemon."""

from __future__ import annotations

import socket

import requests

from tests.cli.shop import Shop, wait_until


def pair(shop: Shop) -> tuple[str, dict[str, str]]:
    """The till's URL and the headers of a paired program."""
    url: str = shop.done("status")["till_url"]
    code = shop.done("till", "code")["code"]
    answer = requests.post(f"{url}/v1/pair", json={"code": code, "name": "test"}, timeout=10)
    return url, {"Authorization": f"Bearer {answer.json()['token']}"}


def test_a_paired_program_sells_through_the_daemon_until_it_is_revoked(shop: Shop) -> None:
    shop.start_daemon()
    issued = shop.done("card", "issue")
    url, headers = pair(shop)
    sale = {"amount": 250_000, "currency": "IRR", "receipt_no": "R-1"}
    keyed = headers | {"Idempotency-Key": "1"}
    opened = requests.post(f"{url}/v1/checkouts", json=sale, headers=keyed, timeout=10).json()
    where = f"{url}/v1/checkouts/{opened['id']}"
    wait_until(lambda: requests.get(where, headers=headers, timeout=10).json()["state"] == "done")
    assert shop.done("card", "show")["points"] == 25
    again = shop.done("purchase", "250000", "--receipt", "R-1")
    assert (again["checkout_id"], again["replayed"], again["card_no"]) == (opened["id"], True, issued["card_no"])
    [token] = shop.done("till", "tokens")["tokens"]
    assert (token["name"], token["scopes"]) == ("test", ["read", "checkout", "reverse", "members"])
    shop.done("till", "revoke", token["token_id"])
    assert requests.get(where, headers=headers, timeout=10).status_code == 401
    assert shop.ta("till", "revoke", token["token_id"]).code == "not_found"


def test_codes_come_from_the_running_daemon_only(shop: Shop) -> None:
    answer = shop.ta("till", "code")
    assert (answer.exit_code, answer.code) == (1, "busy")
    assert "terminal-agent run" in answer.json["error"]["hint"]


def test_a_port_of_another_program_stops_no_sale_and_is_told(shop: Shop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        shop.config.write_text(shop.config.read_text().replace("127.0.0.1:0", taken))
        shop.start_daemon()
        status = shop.done("status")
        assert (status["state"], status["till_url"]) == ("degraded", None)
        assert taken in status["till_problem"]
        shop.done("card", "issue")
        assert shop.done("purchase", "250000", "--receipt", "R-1")["state"] == "done"
        assert shop.ta("till", "code").code == "busy"
    wait_until(lambda: (now := shop.done("status"))["state"] == "ready" and now["till_url"] == f"http://{taken}")


def test_cashiers_are_named_with_a_pin_from_a_file_and_removed_again(shop: Shop) -> None:
    pin = shop.folder / "pin"
    pin.write_text("۴۷۱۱۸۸\n")
    added = shop.done("till", "cashier", "add", "نسرین", "--role", "supervisor", "--pin-file", str(pin))
    assert added == {"name": "نسرین", "role": "supervisor"}
    [listed] = shop.done("till", "cashier", "list")["cashiers"]
    assert (listed["name"], listed["role"]) == ("نسرین", "supervisor")
    assert "نسرین" in shop.ta("till", "cashier", "list", human=True).out
    pin.write_text("12\n")
    assert shop.ta("till", "cashier", "add", "Sara", "--pin-file", str(pin)).code == "invalid_input"
    assert shop.ta("till", "cashier", "card", "نسرین").code == "blank_card"
    shop.done("card", "issue")
    assert shop.done("till", "cashier", "card", "نسرین") == {"name": "نسرین", "card": True}
    assert "staff card" in shop.ta("till", "cashier", "list", human=True).out
    assert shop.done("till", "cashier", "card", "نسرین", "--remove") == {"name": "نسرین", "card": False}
    assert shop.ta("till", "cashier", "card", "Sara").code == "not_found"
    shop.done("till", "cashier", "remove", "نسرین")
    assert shop.ta("till", "cashier", "remove", "نسرین").code == "not_found"
    newest, *_, oldest = shop.done("till", "audit")["entries"]
    assert (newest["action"], oldest["action"]) == ("till.cashier_removed", "till.cashier_added")
    assert "cashier=نسرین" in shop.ta("till", "audit", human=True).out
    assert shop.done("till", "audit", "--receipt", "R-1")["entries"] == []
