"""Customers without a card in hand: somebody who joins, and somebody who left theirs at home."""

from __future__ import annotations

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.till import Cashier, Till
from tests.cli.shop import CrmProcess

pytestmark = [pytest.mark.browser, pytest.mark.pcsc]


def test_somebody_joins_with_a_card_or_without_and_the_customers_screen_welcomes_them(
    cashier: Cashier, till: Till, context: BrowserContext
) -> None:
    customer = Cashier(context.new_page(), till)
    customer.page.goto(cashier.page.url + "customer")
    cashier.page.bring_to_front()
    cashier.click("عضو جدید")
    assert cashier.focused() == "phone"
    for key in ("۰۹", "۳", "۵", "۵"):
        cashier.page.locator("dialog .key", has_text=key).first.click()
    cashier.type("۱۲۳۴۵۶۷")
    expect(cashier.page.locator("#phone")).to_have_value("۰۹۳۵۵۱۲۳۴۵۶۷")
    cashier.page.get_by_label("پاک کردن رقم آخر").last.click()
    cashier.page.locator("#name").fill("نیما یوشیج")
    cashier.press("Enter")
    cashier.sees("waiting")
    cashier.reads("کارت خالی را روی کارت‌خوان بگذارید")
    cashier.reads("…۵۶")
    customer.reads("کارت شما آماده می‌شود")
    till.lay_another("0A0B0C0D")
    cashier.sees("done")
    cashier.reads("نیما")
    customer.reads("به باشگاه ما خوش آمدید")
    customer.reads("نیما")
    shown = cashier.page.locator("body").inner_text() + customer.page.locator("body").inner_text()
    assert not [told for told in ("یوشیج", "۳۵۵۱۲۳", "355123") if told in shown]
    number = till.shop.done("card", "show")["card_no"]
    cashier.goes_on()
    cashier.click("عضو جدید")
    cashier.type("09355123456")
    cashier.click("بدون کارت")
    cashier.reads("از پیش عضو باشگاه است")
    cashier.reads("این عضو یک کارت فعال دارد")
    cashier.sees("ready")
    till.lift()
    till.shop.done("card", "block", number, "--reason", "lost")
    cashier.click("عضو جدید")
    cashier.type("09355123456")
    cashier.press("Enter")
    cashier.sees("waiting")
    till.lay_another("0A0B0C0E")
    cashier.sees("done")
    cashier.reads("امتیازهای کارت مسدودشده")
    cashier.goes_on()
    cashier.click("عضو جدید")
    cashier.type("0935")
    expect(cashier.page.get_by_role("button", name="عضویت با کارت")).to_be_disabled()
    cashier.type("5000001")
    cashier.click("بدون کارت")
    cashier.sees("done")
    cashier.reads("به باشگاه خوش آمد")
    assert customer.problems == []


def test_a_customer_whose_card_is_at_home_is_found_by_phone_and_off_the_line_nothing_stops_the_sale(
    new_till: Till, crm: CrmProcess, new_cashier: Cashier
) -> None:
    cashier, till, page = new_cashier, new_till, new_cashier.page
    expect(page.get_by_role("button", name="کارت همراه نیست")).to_be_disabled()
    cashier.sells("120000")
    cashier.click("کارت همراه نیست")  # it turns out while the till waits for the card
    expect(page.locator("#phone")).to_be_focused()
    cashier.type("09121110001")
    cashier.press("Enter")
    cashier.reads("طلایی")
    cashier.reads("امتیازها در مراجعهٔ بعدی به کارت می‌رسد.")
    cashier.press("Enter")
    cashier.sees("done")
    cashier.reads("+۱۹۵")  # 120, half as much for her tier, and 15 of the offer
    cashier.press("Enter")
    cashier.sees("ready")
    page.locator(".row").first.click()
    cashier.reads("بدون کارت")
    cashier.press("Escape")
    till.shop.done("sync")
    assert till.shop.crm_card(crm, till.card_no)["balance"] == 195
    crm.down()
    till.shop.ta("sync")
    cashier.type("50000")
    cashier.click("کارت همراه نیست")
    cashier.type("09350000000")
    cashier.press("Enter")
    cashier.reads("بدون ارتباط با مرکز نمی‌توان گفت")
    cashier.click("ثبت خرید با این شماره")
    cashier.sees("done")
    cashier.reads("+۵۰")
    cashier.reads("صاحب این شماره را مرکز پیدا می‌کند.")
    assert "۰۹۳۵" not in page.locator("body").inner_text()
