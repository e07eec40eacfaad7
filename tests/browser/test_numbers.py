"""Numbers, money, dates and the screen's state, as the page's own modules have them, in the browser."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from terminal_agent.till import locale
from terminal_agent.till.locale import AmountsIn, Language
from tests.browser.till import Cashier

pytestmark = [pytest.mark.browser, pytest.mark.pcsc]

VALUES = (0, 7, 10, 999, 1000, 12_345, 250_000, 9_999_999_999, -25, -1_000)
CURRENCIES = (("IRR", AmountsIn.RIAL), ("IRR", AmountsIn.TOMAN), ("EUR", AmountsIn.RIAL), ("KWD", AmountsIn.RIAL))
ASK = "async ([module, name, ...args]) => (await import(`/static/${module}.js`))[name](...args)"


def test_the_page_writes_numbers_money_and_dates_as_the_receipts_do(cashier: Cashier) -> None:
    def page(name: str, *arguments: Any) -> Any:
        return cashier.page.evaluate(ASK, ["numbers", name, *arguments])

    start = datetime(2026, 3, 20, 20, 29, tzinfo=UTC)  # the last minute of the year 1404 in Tehran
    for language in Language:
        for value in VALUES:
            assert page("number", value, language.value) == locale.number(value, language)
            for currency, amounts_in in CURRENCIES:
                unit = locale.unit_of(currency, amounts_in)
                told = {**unit._asdict(), "name": unit.name._asdict()}
                expected = locale.money(value, currency, language, amounts_in)
                assert page("moneyText", value, told, language.value) == expected
        for moment in (start + timedelta(days=37 * n, minutes=n) for n in range(12)):
            assert page("date", moment.isoformat(), language.value) == locale.date(moment, language)
            assert page("timeOfDay", moment.isoformat(), language.value) == locale.time_of_day(moment, language)


def test_what_is_typed_is_folded_to_the_smallest_unit(cashier: Cashier) -> None:
    def page(name: str, *arguments: Any) -> Any:
        return cashier.page.evaluate(ASK, ["numbers", name, *arguments])

    toman, euro = {"places": 1, "exact": False}, {"places": 2, "exact": True}
    assert page("typedAmount", "۰۰۱٬۲٣4 تومان") == "1234"
    assert page("amountOf", "1234", toman) == 12_340
    assert page("amountOf", "1234", euro) == 1_234
    assert page("typedShown", "1234", toman, "fa") == "۱٬۲۳۴"
    assert page("typedShown", "5", euro, "en") == "0.05"


def test_an_event_of_the_stream_is_read_whole_or_not_at_all(cashier: Cashier) -> None:
    event = cashier.page.evaluate(ASK, ["stream", "parseEvent", ': ping\nid: b-7\nevent: card.removed\ndata: {"a":1}'])
    assert event == {"name": "card.removed", "data": '{"a":1}', "id": "b-7"}
