"""Receipts on paper: the bytes carried out by a printer of the tests' own, shaping judged by HarfBuzz's own programs,
the QR code read by zbar."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.intents import CheckoutState
from terminal_agent.till import receipt_picture
from terminal_agent.till.checkout import Line
from terminal_agent.till.escpos import Bitmap, encode
from terminal_agent.till.locale import Language
from terminal_agent.till.receipt import Receipt, Shop
from terminal_agent.till.receipt_picture import FONTS, picture, png
from terminal_agent.till.receipt_text import text
from tests.till.escpos_printer import print_out
from tests.till.receipts import MEMBER_PAGE, SHOP, full_receipt

FA, EN = Language.FA, Language.EN
Dots = set[tuple[int, int]]
MARGIN = 8
ALIKE, UNLIKE = 0.7, 0.5
"""The same letters by another program's edges, and other letters or another order: see the tests that measure both."""
HEADING_ROWS = 36
"""Dots of one line on paper of 384."""
REGULAR, BOLD = FONTS / "Vazirmatn-Regular.ttf", FONTS / "Vazirmatn-Bold.ttf"


def ink(bitmap: Bitmap, top: int = 0, bottom: int | None = None) -> Dots:
    """The black dots between two rows, as (x, y)."""
    across = bitmap.width // 8
    return {
        (8 * n % bitmap.width + bit, n // across)
        for n in range(top * across, (bottom or bitmap.height) * across)
        for bit in range(8)
        if bitmap.dots[n] & 128 >> bit
    }


def at_origin(dots: Dots) -> Dots:
    left, top = min(x for x, _ in dots), min(y for _, y in dots)
    return {(x - left, y - top) for x, y in dots}


def likeness(one: Dots, other: Dots) -> float:
    """What two shapes share of what they cover together, laid over each other as well as a dot either way allows."""
    one, other = at_origin(one), at_origin(other)
    moves = [(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
    moved = ({(x + dx, y + dy) for x, y in other} for dx, dy in moves)
    return max(len(one & shape) / len(one | shape) for shape in moved)


def heading(name: str, language: Language) -> Dots:
    """The first line of a receipt of a shop of that name: bold, 24 dots high."""
    receipt = replace(full_receipt(), shop=Shop(name))
    return ink(picture(receipt, language, 384), MARGIN, MARGIN + HEADING_ROWS)


def by_harfbuzz(content: str, *, rtl: bool, font: Path = BOLD) -> Dots:
    """The same by hb-view, HarfBuzz's own program."""
    direction = ["--direction=rtl", "--language=fa"] if rtl else ["--direction=ltr", "--language=en"]
    command = ["hb-view", "--font-size=24", "--output-format=png", *direction, str(font), content]
    image = Image.open(BytesIO(subprocess.run(command, capture_output=True, check=True).stdout)).convert("L")
    return {(x, y) for x in range(image.width) for y in range(image.height) if image.getpixel((x, y)) < 128}


@pytest.mark.parametrize("name", ["کافه سارا", "شیرینی\u200cسرای گل\u200cها", "لالهٔ پژمردهٔ چغندر", "قنادی طلایی"])
def test_persian_letters_are_joined_and_in_order(printing: None, name: str) -> None:
    joined = by_harfbuzz(name, rtl=True)
    assert likeness(heading(name, FA), joined) > ALIKE
    assert likeness(heading(name, EN), joined) > ALIKE, "a Persian name on an English receipt"
    assert likeness(joined, by_harfbuzz("\u200c".join(name), rtl=True)) < UNLIKE, (
        "the measure cannot tell unjoined letters"
    )
    assert likeness(joined, by_harfbuzz(name[::-1], rtl=True)) < UNLIKE, "the measure cannot tell the wrong order"


def test_numbers_and_codes_stand_left_to_right_in_a_persian_line(printing: None) -> None:
    for code in ("A-1001", "R/7-B", "12-A", "till-1"):
        assert likeness(heading(code, FA), by_harfbuzz(code, rtl=False)) > ALIKE
        assert likeness(heading(code, FA), by_harfbuzz(code[::-1], rtl=False)) < UNLIKE
    for shown in ("۲۵۰٬۰۰۰", "۱۴۰۵/۰۹/۰۱"):
        assert likeness(heading(shown, FA), by_harfbuzz(shown, rtl=False)) > ALIKE


def line_of(receipt: Receipt, number: int, language: Language) -> tuple[Dots, Dots]:
    """Left and right half of a line of the receipt."""
    top = MARGIN + number * HEADING_ROWS
    dots = ink(picture(receipt, language, 384), top, top + HEADING_ROWS)
    return {d for d in dots if d[0] < 192}, {d for d in dots if d[0] >= 192}


def test_a_line_begins_right_in_persian_and_left_in_english(printing: None) -> None:
    left, right = line_of(full_receipt(), 2, FA)
    assert likeness(right, by_harfbuzz("شمارهٔ رسید", rtl=True, font=REGULAR)) > ALIKE
    assert likeness(left, by_harfbuzz("A-1001", rtl=False, font=REGULAR)) > ALIKE
    left, right = line_of(full_receipt(), 2, EN)
    assert likeness(left, by_harfbuzz("Receipt no.", rtl=False, font=REGULAR)) > ALIKE
    assert likeness(right, by_harfbuzz("A-1001", rtl=False, font=REGULAR)) > ALIKE


def test_a_persian_line_reads_from_the_right_word_by_word(printing: None) -> None:
    left, _label = line_of(full_receipt(), 3, FA)
    columns = sorted({x for x, _ in left})
    _gap, space = max((after - before, before) for before, after in pairwise(columns))
    assert likeness({d for d in left if d[0] <= space}, by_harfbuzz("۱۳:۰۰", rtl=False, font=REGULAR)) > ALIKE
    assert likeness({d for d in left if d[0] > space}, by_harfbuzz("۱۴۰۵/۰۹/۰۱", rtl=False, font=REGULAR)) > ALIKE


def test_a_sign_stands_left_of_its_points(printing: None) -> None:
    unshopped = replace(full_receipt(), shop=Shop(), lines=(), tier=None, first_name=None)
    top = MARGIN + 7 * HEADING_ROWS + 2 * 24
    dots = ink(picture(unshopped, FA, 384), top, top + HEADING_ROWS)
    assert likeness({d for d in dots if d[0] < 192}, by_harfbuzz("+۲۵", rtl=False, font=REGULAR)) > ALIKE


@pytest.mark.parametrize("font", [REGULAR, BOLD])
def test_the_font_has_every_character_we_print(printing: None, font: Path) -> None:
    receipts = [full_receipt(), replace(full_receipt(), kind="reversal", copy=True)]
    receipts += [replace(full_receipt(), state=state) for state in (CheckoutState.IN_DOUBT, CheckoutState.CLOSED)]
    lines = [line for receipt in receipts for language in Language for line in text(receipt, language)]
    lines += ["۰۱۲۳۴۵۶۷۸۹٬٫/:+\u2212", "ابپتثجچحخدذرزژسشصضطظعغفقکگلمنوهیءآأؤئهٔ،؛؟«»", "".join(map(chr, range(33, 127)))]
    command = ["hb-shape", "--no-positions", "--no-clusters", str(font), "--text-file=-"]
    shaped = subprocess.run(command, input="\n".join(lines), text=True, capture_output=True, check=True).stdout
    assert "uni" in shaped
    # What only sets directions has no glyph of its own, and takes no room.
    assert ".notdef" not in shaped


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("dots", [384, 576])
def test_a_printer_prints_the_picture_and_cuts(printing: None, language: Language, dots: int) -> None:
    drawn = picture(full_receipt(), language, dots)
    paper = print_out(encode(drawn), dots)
    assert {(x, y) for y, row in enumerate(paper.rows) for x, black in enumerate(row) if black} == ink(drawn)
    assert (len(paper.rows), paper.bands, paper.cuts) == (drawn.height, -(-drawn.height // 128), 1)
    assert paper.lines_fed >= 3
    assert {x for x, _ in ink(drawn)} == set(range(MARGIN, dots - MARGIN)), "the rulers go from margin to margin"


@given(
    st.integers(1, 8).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.binary(min_size=n, max_size=n), max_size=300))
    )
)
@settings(max_examples=50)
def test_every_picture_survives_the_way_to_the_paper(shape: tuple[int, list[bytes]]) -> None:
    across, rows = shape
    drawn = Bitmap(across * 8, len(rows), b"".join(rows))
    paper = print_out(encode(drawn), 64, buffer_bytes=1024)
    printed = [bytes(sum(row[8 * n + bit] << 7 - bit for bit in range(8)) for n in range(across)) for row in paper.rows]
    assert printed == rows


def test_a_picture_that_is_none_is_not_sent() -> None:
    for width, height, size in ((12, 1, 2), (16, 2, 3), (16, 2, 5)):
        with pytest.raises(ValueError, match="no picture"):
            Bitmap(width, height, bytes(size))


def decoded_by_zbar(image: bytes) -> str:
    command = ["zbarimg", "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", "png:-"]
    done = subprocess.run(command, input=image, capture_output=True, check=False)
    return done.stdout.decode().strip()


@pytest.mark.parametrize("dots", [384, 576])
@pytest.mark.parametrize("page", [MEMBER_PAGE, "https://club.example/m?" + "k=0123456789&" * 13])
def test_the_members_page_is_read_back_from_the_paper(printing: None, dots: int, page: str) -> None:
    receipt = replace(full_receipt(), shop=replace(SHOP, member_page=page))
    assert decoded_by_zbar(png(picture(receipt, FA, dots))) == page
    without = replace(receipt, shop=replace(SHOP, member_page=None))
    assert decoded_by_zbar(png(picture(without, FA, dots))) == ""


def test_a_code_too_dense_to_read_is_left_out_and_its_address_printed(printing: None) -> None:
    receipt = replace(full_receipt(), shop=replace(SHOP, member_page="https://club.example/" + "a1" * 300))
    drawn = picture(receipt, EN, 384)
    assert decoded_by_zbar(png(drawn)) == ""
    assert max(x for x, _ in ink(drawn)) < 384 - MARGIN


def test_a_png_shows_the_same_dots(printing: None) -> None:
    drawn = picture(full_receipt(), FA, 384)
    image = Image.open(BytesIO(png(drawn)))
    assert (image.format, image.mode, image.size) == ("PNG", "1", (384, drawn.height))
    black = {(x, y) for x in range(384) for y in range(drawn.height) if image.getpixel((x, y)) == 0}
    assert black == ink(drawn)


LONG = "نام بسیار بلند یک محصول که در یک خط جا نمی\u200cشود"


@pytest.mark.parametrize("language", Language)
def test_long_names_are_wrapped_and_stay_on_the_paper(printing: None, language: Language) -> None:
    lines = (Line(LONG, 3, 10), Line("W" * 64, 1, 10**15))
    drawn = picture(replace(full_receipt(), lines=lines, receipt_no="9" * 64), language, 384)
    columns = {x for x, _ in ink(drawn)}
    assert (min(columns), max(columns)) == (MARGIN, 384 - MARGIN - 1)
    assert drawn.height > picture(full_receipt(), language, 384).height + 5 * HEADING_ROWS


def refusal() -> AgentError:
    with pytest.raises(AgentError) as caught:
        picture(full_receipt(), FA)
    assert caught.value.code is ErrorCode.CONFIG_INVALID
    return caught.value


@pytest.mark.parametrize("library", ["PIL", "segno"])
def test_a_missing_library_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    assert library in refusal().message
    assert "terminal-agent[receipts]" in refusal().hint


def test_persian_is_never_printed_unjoined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "version", lambda name: None)
    assert "libfribidi0" in refusal().hint
    monkeypatch.setattr(features, "check", lambda name: False)
    assert "FriBiDi" in refusal().message


def test_a_missing_font_is_told(printing: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(receipt_picture, "FONTS", tmp_path)
    receipt_picture._font.cache_clear()
    assert "Vazirmatn" in refusal().message
    assert "again" in refusal().hint
