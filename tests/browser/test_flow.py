"""The whole flow on the cashier's page, in a real browser on a real daemon and a real PC/SC stack."""

from __future__ import annotations

import pytest

from tests.browser.till import Cashier, Till

pytestmark = [pytest.mark.browser, pytest.mark.pcsc]


def test_a_sale_from_the_amount_to_the_lifted_card(cashier: Cashier, till: Till) -> None:
    cashier.type("25000")
    cashier.press("Enter")
    cashier.sees("waiting")
    cashier.reads("کارت را روی کارت‌خوان بگذارید")
    cashier.reads("۲۵٬۰۰۰ تومان")
    till.lay()
    cashier.sees("done")
    cashier.reads("سارا")
    cashier.reads("+۲۵")
    cashier.reads("کارت را بردارید")
    till.lift()
    cashier.sees("ready")
    assert till.points() == 25
