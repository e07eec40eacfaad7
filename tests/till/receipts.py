"""A receipt with everything on it, for the tests of its print."""

from __future__ import annotations

from datetime import UTC, datetime

from terminal_agent import taps
from terminal_agent.journal.intents import CheckoutState
from terminal_agent.till.checkout import Line
from terminal_agent.till.locale import AmountsIn
from terminal_agent.till.messages import Words
from terminal_agent.till.receipt import Change, Receipt, Shop

MEMBER_PAGE = "https://club.example/me"
SHOP = Shop("کافه سارا", AmountsIn.TOMAN, MEMBER_PAGE, shows_first_name=True)
INVISIBLE = {ord(c): None for c in "\u2066\u2068\u2069\u200f"}


def full_receipt() -> Receipt:
    return Receipt(
        shop=SHOP,
        terminal_id="till-1",
        kind=taps.PURCHASE,
        state=CheckoutState.DONE,
        receipt_no="A-1001",
        at=datetime(2026, 11, 22, 9, 30, tzinfo=UTC),
        amount=250_000,
        currency="IRR",
        card_no="1234567890124821",
        points_before=300,
        points_after=325,
        changes=(
            Change("earn", 25),
            Change("offer", 50, Words("چای عصرانه", "Afternoon tea")),
            Change("redeem", -50),
        ),
        lines=(Line("tea", 2, 120_000), Line("قهوه", 1, 130_000)),
        tier=Words("طلایی", "Gold"),
        first_name="سارا",
    )


def plain(lines: list[str]) -> list[str]:
    """What is seen of lines: without the marks that only set directions."""
    return [line.translate(INVISIBLE) for line in lines]
