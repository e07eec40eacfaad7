"""A POS prints the receipt of a checkout: as text, as bytes for a receipt printer, as a picture."""

from __future__ import annotations

import sys

import pytest
import requests

from tests.till.escpos_printer import print_out
from tests.till.receipts import plain
from tests.till_api.hand_reader import HandReader
from tests.till_api.pos import Pos, Shop

PNG = b"\x89PNG\r\n\x1a\n"


def receipt_of(pos: Pos, checkout_id: str, accept: str = "*/*", **params: str) -> requests.Response:
    return pos.call("GET", f"/v1/checkouts/{checkout_id}/receipt", params=params, headers={"Accept": accept})


def problem_of(answer: requests.Response) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["code"]


@pytest.fixture
def sold(shop: Shop, pos: Pos, reader: HandReader) -> str:
    """The id of a sale of 250 000."""
    reader.lay(shop.issue())
    return str(pos.sell("1001")["id"])


def test_a_sale_is_printed_as_text_and_marked_as_a_copy_only_on_request(pos: Pos, sold: str) -> None:
    answer = receipt_of(pos, sold, language="en", width="32")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    lines = answer.text.splitlines()
    assert "Receipt no.                 1001" in lines
    assert "Total               250,000 rial" in lines
    assert "Points now                    25" in lines
    assert "Copy" not in answer.text
    assert "*** Copy ***" in receipt_of(pos, sold, language="en", copy="true").text


def test_without_a_word_of_it_the_receipt_is_in_the_shops_language_and_width(pos: Pos, sold: str) -> None:
    lines = plain(receipt_of(pos, sold).text.splitlines())
    assert "رسید خرید" in lines[0]
    assert "-" * 42 in lines
    assert any("۲۵۰٬۰۰۰" in line for line in lines)


def test_a_receipt_printer_is_fed_its_own_bytes(pos: Pos, sold: str) -> None:
    for width, dots in (("32", 384), ("48", 576)):
        answer = receipt_of(pos, sold, format="escpos", width=width)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/octet-stream")
        paper = print_out(answer.content, dots)
        assert (paper.width, paper.cuts) == (dots, 1)
        assert any(row[dots - 9] for row in paper.rows), "it fills the paper"


def test_what_a_program_accepts_decides_where_it_names_no_form(pos: Pos, sold: str) -> None:
    for accept, media_type in (
        ("image/png", "image/png"),
        ("image/*;q=0.9, text/plain;q=0.8", "image/png"),
        ("application/octet-stream", "application/octet-stream"),
        ("text/html, */*;q=0.1", "text/plain; charset=utf-8"),
        ("*/*, text/plain;q=0", "application/octet-stream"),
    ):
        answer = receipt_of(pos, sold, accept)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, media_type), accept
    assert receipt_of(pos, sold, "text/html", format="png").content.startswith(PNG), "a form that is named goes before"
    for accept in ("text/html", "application/json", "text/plain;q=0", "text/plain;q=x", "nonsense"):
        assert problem_of(receipt_of(pos, sold, accept)) == (406, "not_acceptable"), accept


def test_a_form_a_language_or_a_width_that_is_not_offered_is_named(pos: Pos, sold: str) -> None:
    for name, value in (("format", "pdf"), ("language", "de"), ("width", "40"), ("width", "wide"), ("copy", "perhaps")):
        answer = receipt_of(pos, sold, **{name: value})
        assert problem_of(answer) == (400, "invalid")
        assert answer.json()["detail"].startswith(f"{name}:")


def test_what_was_not_recorded_has_no_receipt(pos: Pos, sold: str, reader: HandReader) -> None:
    assert problem_of(receipt_of(pos, "no-such-checkout")) == (404, "not_found")
    reader.lift()
    waiting = pos.open("1002")["id"]
    assert problem_of(receipt_of(pos, waiting)) == (404, "not_found")


def test_a_return_has_a_receipt_of_its_own(pos: Pos, sold: str) -> None:
    opened = pos.call("POST", "/v1/reversals", key="back", json={"receipt_no": "1001", "amount": 50_000}).json()
    pos.wait_for(opened["id"], "done")
    assert "Return receipt" in receipt_of(pos, opened["id"], language="en").text
    assert "Return receipt" not in receipt_of(pos, sold, language="en").text


def test_without_the_library_of_pictures_text_is_still_printed(
    pos: Pos, sold: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    for form in ("escpos", "png"):
        answer = receipt_of(pos, sold, format=form)
        assert problem_of(answer) == (500, "config_invalid")
        assert "terminal-agent[receipts]" in answer.json()["hint"]
    assert receipt_of(pos, sold, format="text").status_code == 200


def test_a_program_without_a_token_or_the_right_to_read_gets_none(shop: Shop, pos: Pos, sold: str) -> None:
    path = f"{pos.url}/v1/checkouts/{sold}/receipt"
    assert problem_of(requests.get(path, timeout=10)) == (401, "unauthorized")
    code = shop.till.code(("checkout",))["code"]
    token = requests.post(f"{pos.url}/v1/pair", json={"code": code}, timeout=10).json()["token"]
    assert problem_of(receipt_of(Pos(pos.url, token), sold)) == (403, "forbidden")
