"""What stands on a receipt, in both languages, and that every line fits the paper."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent import taps
from terminal_agent.club.policy import default_policy, parse_policy
from terminal_agent.contract import NO_TIER
from terminal_agent.errors import AgentError
from terminal_agent.journal.intents import Checkout, CheckoutState
from terminal_agent.journal.knowledge import Member
from terminal_agent.till.checkout import Line
from terminal_agent.till.locale import AmountsIn, Language
from terminal_agent.till.messages import Words
from terminal_agent.till.receipt import Change, Receipt, Shop, receipt_of
from terminal_agent.till.receipt_text import COLUMNS, cells, text, wrap
from tests.till.receipts import INVISIBLE, SHOP, full_receipt, plain
from tests.workbench import Workbench

FA, EN = Language.FA, Language.EN
POLICY = parse_policy(
    default_policy()
    | {
        "tiers": [{"tier": "gold", "level": 2, "name": {"fa": "طلایی"}}],
        "offers": [
            {"id": "tea", "name": {"fa": "چای عصرانه", "en": "Afternoon tea"}, "reward": {"points": 50}},
            {"id": "plain", "reward": {"points": 5}},
        ],
    }
)


def recorded(bench: Workbench, receipt_no: str, kind: str = taps.PURCHASE, key: str = "") -> Checkout:
    checkout = bench.journal.checkouts.by_receipt(kind, receipt_no, key)
    assert checkout is not None
    return checkout


def receipt(checkout: Checkout, shop: Shop = SHOP, member: Member | None = None) -> Receipt:
    return receipt_of(checkout, shop, "till-1", POLICY, member=member)


def test_a_persian_receipt_line_by_line() -> None:
    assert plain(text(full_receipt(), FA, 32)) == [
        "           کافه سارا",
        "           رسید خرید",
        "شمارهٔ رسید                A-1001",
        "تاریخ           ۱۴۰۵/۰۹/۰۱ ۱۳:۰۰",
        "صندوق                     till-1",
        "--------------------------------",
        "tea × ۲             ۱۲٬۰۰۰ تومان",
        "قهوه                ۱۳٬۰۰۰ تومان",
        "مبلغ خرید           ۲۵٬۰۰۰ تومان",
        "--------------------------------",
        "کارت                   **** 4821",
        "مشتری                       سارا",
        "سطح عضویت                  طلایی",
        "امتیاز قبلی                  ۳۰۰",
        "امتیاز این خرید              +۲۵",
        "چای عصرانه                   +۵۰",
        "امتیاز خرج\u200cشده                −۵۰",
        "امتیاز فعلی                  ۳۲۵",
        "حساب باشگاه شما:",
        "https://club.example/me",
    ]


def test_an_english_receipt_line_by_line() -> None:
    shop = Shop("Cafe Sara", AmountsIn.RIAL, "https://club.example/me")
    english = replace(full_receipt(), shop=shop, lines=(Line("tea", 2, 120_000),), first_name=None, copy=True)
    assert text(english, EN, 42) == [
        "                Cafe Sara",
        "                 Receipt",
        "               *** Copy ***",
        "Receipt no.                         A-1001",
        "Date                      2026-11-22 13:00",
        "Till                                till-1",
        "------------------------------------------",
        "tea x 2                       120,000 rial",
        "Total                         250,000 rial",
        "------------------------------------------",
        "Card                             **** 4821",
        "Tier                                  Gold",
        "Points before                          300",
        "Earned                                 +25",
        "Afternoon tea                          +50",
        "Redeemed                               -50",
        "Points now                             325",
        "Your club account:",
        "https://club.example/me",
    ]
    assert all(line.isascii() for line in text(english, EN, 42))


def test_a_receipt_says_what_the_journal_recorded(bench: Workbench, card: MemoryImage) -> None:
    bench.purchase(card, "R-1", 250_000, redeem=20)
    shown = receipt(recorded(bench, "R-1"))
    assert (shown.points_before, shown.points_after, shown.amount) == (300, 305, 250_000)
    assert shown.changes == (Change("earn", 25), Change("redeem", -20))
    assert (shown.lines, shown.tier, shown.first_name, shown.copy) == ((), None, None, False)
    lines = plain(text(shown, EN))
    assert "Redeemed                               -20" in lines
    assert not any(recorded(bench, "R-1").card_no[:-4] in line for line in lines), "the whole card number is printed"


def test_a_return_says_what_it_took_back(bench: Workbench, card: MemoryImage) -> None:
    bench.purchase(card, "R-1", 250_000, redeem=20)
    bench.reverse(card, "R-1")
    lines = plain(text(receipt(recorded(bench, "R-1", taps.REVERSAL, "rest")), EN, 32))
    assert "         Return receipt" in lines
    assert lines[-6:-2] == [
        "Points before                305",
        "Taken back                   -25",
        "Given back                   +20",
        "Points now                   300",
    ]


@pytest.mark.parametrize("closed", [False, True])
def test_a_sale_whose_points_are_not_on_the_card_says_so(bench: Workbench, card: MemoryImage, closed: bool) -> None:
    with pytest.raises(AgentError):
        bench.purchase(card, "R-1", 50_000, fault=Fault(5, Torn.OLD))
    if closed:
        bench.close_in_doubt()
    shown = receipt(recorded(bench, "R-1"))
    assert shown.state is (CheckoutState.CLOSED if closed else CheckoutState.IN_DOUBT)
    english = " ".join(text(shown, EN))
    assert "Points now" not in english
    assert ("booked at the club" if closed else "present the same card again") in english
    assert "امتیاز فعلی" not in " ".join(text(shown, FA))


def test_points_from_head_office_and_a_sale_known_by_its_event_are_told(bench: Workbench, card: MemoryImage) -> None:
    bench.purchase(card, "R-1", 250_000, redeem=20)
    checkout = recorded(bench, "R-1")
    salvaged = replace(checkout, result={**checkout.result, "explanation": [], "points_adjusted": 7})
    assert receipt(salvaged).changes == (Change("adjustment", 7), Change("earn", 25), Change("redeem", -20))


def test_offers_stamps_and_tiers_have_the_policys_names(bench: Workbench, card: MemoryImage) -> None:
    bench.purchase(card, "R-1", 250_000)
    checkout = recorded(bench, "R-1")
    why = [("earn", 25), ("offer", 50), ("offer", 5), ("offer", 1), ("novel", 2)]
    offers = [{"offer_id": name, "points": 1} for name in ("tea", "plain", "gone")]
    explanation = [{"rule": rule, "points": points, "detail": ""} for rule, points in why]
    result = {**checkout.result, "explanation": explanation, "offers": offers}
    shown = receipt(replace(checkout, result=result), member=Member("m", None, "سارا احمدی", "gold"))
    assert shown.changes[1:] == (
        Change("offer", 50, Words("چای عصرانه", "Afternoon tea")),
        Change("offer", 5, Words("plain", "plain")),
        Change("offer", 1),
        Change("novel", 2),
    )
    assert shown.tier == Words("طلایی", "طلایی")
    assert [line.split()[0] for line in plain(text(shown, EN))[-6:-3]] == ["plain", "Offer", "Other"]


def test_a_member_without_a_tier_has_none_on_the_receipt(bench: Workbench, card: MemoryImage) -> None:
    bench.purchase(card, "R-1", 250_000)
    checkout = recorded(bench, "R-1")
    assert receipt(checkout, member=Member("m", None, "سارا احمدی", NO_TIER)).tier is None
    assert receipt(checkout, member=Member("m", None, "سارا احمدی", "bronze")).tier == Words("bronze", "bronze")


def test_of_the_member_at_most_the_first_name_is_printed(bench: Workbench, card: MemoryImage) -> None:
    bench.purchase(card, "R-1", 250_000)
    member = Member("m", "09125554433", "Sara Ahmadi", None)
    for shows in (False, True):
        shown = receipt(recorded(bench, "R-1"), replace(SHOP, shows_first_name=shows), member=member)
        lines = " ".join(plain(text(shown, EN)))
        assert ("Sara" in lines) is shows
        assert not {"Ahmadi", "0912", "5554433"} & set(lines.split())
        assert "Ahmadi" not in lines
    assert Shop().shows_first_name is False
    nameless = receipt(recorded(bench, "R-1"), member=Member("m", None, " ", None))
    assert nameless.first_name is None


def first_strong(line: str) -> str:
    """The direction of the first letter that has one, isolates skipped."""
    depth = 0
    for c in line:
        depth += (c in "\u2066\u2068") - (c == "\u2069")
        kind = unicodedata.bidirectional(c)
        if depth == 0 and kind in ("L", "R", "AL"):
            return kind
    return ""


WORD = st.text(alphabet="abسارا\u200c۱2-/\u0301漢", min_size=1, max_size=60)


@given(st.lists(WORD, min_size=1, max_size=4).map(" ".join), st.sampled_from(COLUMNS), st.sampled_from(Language))
def test_whatever_the_names_are_every_line_fits_and_nothing_is_lost(
    name: str, columns: int, language: Language
) -> None:
    named = replace(full_receipt(), shop=replace(SHOP, name=name, member_page="https://x.example/" + "a" * 90))
    named = replace(named, lines=(Line(name, 3, 10),), tier=Words(name, name), receipt_no="9" * 64)
    lines = text(named, language, columns)
    for line in lines:
        assert cells(line) <= columns, line
        depth = 0
        for c in line:
            depth += (c in "\u2066\u2068") - (c == "\u2069")
            assert depth >= 0
        assert depth == 0, "an isolate stays open and turns the next line"
        assert language is EN or first_strong(line) != "L", "a program that guesses would turn this line around"
    squeezed = "".join(plain(lines)).replace(" ", "")
    assert squeezed.count(name.translate(INVISIBLE).replace(" ", "")) >= 2


@given(st.text(alphabet="ab \u2066\u2069", max_size=40), st.integers(1, 10))
def test_wrapping_keeps_every_letter(content: str, width: int) -> None:
    lines = wrap(content, width, cells)
    assert "".join(plain(lines)).replace(" ", "") == content.translate(INVISIBLE).replace(" ", "")
    assert all(cells(line) <= width for line in lines)
