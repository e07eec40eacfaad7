"""``receipt`` from outside: a recorded sale printed again, as text, for a printer, and as a picture."""

from __future__ import annotations

import base64
import subprocess
import sys

import pytest

from terminal_agent.errors import ExitCode
from tests.cli.shop import Shop
from tests.till.escpos_printer import print_out
from tests.till.receipts import plain

SHOP = """
[shop]
name = "کافه سارا"
language = "en"
amounts_in = "toman"
receipt_columns = 32
first_name_on_receipts = true
member_page = "https://club.example"
"""


@pytest.fixture
def sold(shop: Shop) -> Shop:
    """A shop with a member's purchase of two lines, and a part of it taken back twice."""
    shop.config.write_text(shop.config.read_text() + SHOP)
    shop.done("card", "issue", "--name", "Sara Ahmadi", "--phone", "09125554433")
    shop.done("purchase", "250000", "--receipt", "1001", "--line", "tea:2:120000", "--line", "cake:1:130000")
    shop.done("reverse", "--receipt", "1001", "--amount", "50000")
    shop.done("reverse", "--receipt", "1001", "--amount", "20000")
    return shop


@pytest.mark.parametrize("with_daemon", [False, True], ids=["without daemon", "with daemon"])
def test_a_receipt_is_printed_again_as_a_copy_and_nothing_changes(sold: Shop, with_daemon: bool) -> None:
    if with_daemon:
        sold.start_daemon()
    before = sold.done("status")["journal"]["events"]
    answer = sold.done("receipt", "۱۰۰۱")
    assert (answer["receipt_no"], answer["kind"], answer["state"]) == ("1001", "purchase", "done")
    assert (answer["language"], answer["columns"], answer["format"]) == ("en", 32, "text")
    lines = plain(answer["lines"])
    for expected in (
        "           کافه سارا",
        "          *** Copy ***",
        "Receipt no.                 1001",
        "tea x 2             12,000 toman",
        "Total               25,000 toman",
        "Customer                    Sara",
        "Earned                       +25",
        "Points now                    25",
        "https://club.example",
    ):
        assert expected in lines, expected
    assert "Ahmadi" not in str(answer)
    assert sold.ta("receipt", "1001", human=True).out == "\n".join(answer["lines"]) + "\n"
    assert sold.done("status")["journal"]["events"] == before


def test_the_receipt_of_a_return_is_that_of_the_last_one(sold: Shop) -> None:
    lines = sold.done("receipt", "1001", "--return", "--columns", "42")["lines"]
    assert "Returned                       2,000 toman" in lines
    assert "Points before                           20" in lines
    assert "Taken back                              -2" in lines


def test_a_persian_receipt_has_persian_digits_and_the_jalali_date(sold: Shop) -> None:
    lines = " ".join(plain(sold.done("receipt", "1001", "--language", "fa")["lines"]))
    assert "۲۵٬۰۰۰ تومان" in lines
    assert "۱۴۰" in lines, "a Jalali year"
    assert "رونوشت" in lines


@pytest.mark.parametrize(("columns", "dots"), [("32", 384), ("42", 576), ("48", 576)])
def test_a_printers_bytes_go_straight_to_its_file(sold: Shop, columns: str, dots: int) -> None:
    path = sold.folder / "lp0"
    options = ("--format", "escpos", "--columns", columns)
    answer = sold.done("receipt", "1001", *options, "--output", str(path))
    assert answer["bytes"] == path.stat().st_size
    assert "content" not in answer
    paper = print_out(path.read_bytes(), dots)
    assert (paper.width, paper.cuts) == (dots, 1)
    assert any(row[dots - 9] for row in paper.rows), "it fills the paper"
    assert base64.b64decode(sold.done("receipt", "1001", *options)["content"]) == path.read_bytes()


def test_a_picture_can_be_piped(sold: Shop) -> None:
    command = [sys.executable, "-m", "terminal_agent", "--config", str(sold.config), "receipt", "1001"]
    piped = subprocess.run([*command, "--format", "png"], capture_output=True, check=True, timeout=60).stdout
    assert piped.startswith(b"\x89PNG\r\n\x1a\n")


def test_what_was_never_recorded_is_not_printed(sold: Shop) -> None:
    for arguments in (("1002",), ("1002", "--return")):
        answer = sold.ta("receipt", *arguments)
        assert (answer.exit_code, answer.code) == (ExitCode.FAILURE, "not_found")
    assert sold.ta("receipt", "\u202e1").code == "invalid_input"


@pytest.mark.parametrize("arguments", [("--language", "de"), ("--columns", "40"), ("--format", "pdf")])
def test_what_is_not_offered_is_a_usage_error(sold: Shop, arguments: tuple[str, str]) -> None:
    assert sold.ta("receipt", "1001", *arguments).exit_code == ExitCode.USAGE


def test_a_printer_that_is_not_there_is_told(sold: Shop) -> None:
    answer = sold.ta("receipt", "1001", "--output", str(sold.folder / "no" / "printer"))
    assert answer.code == "invalid_input"
    assert "printer" in answer.json["error"]["hint"]
