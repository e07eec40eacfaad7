"""Who stands at the till, as the page shows it: staff cards, a supervisor's word, the administrator's sheet."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.till import Cashier, Till

pytestmark = [pytest.mark.browser, pytest.mark.pcsc]


def test_people_are_looked_after_from_the_page_and_sign_in_with_their_cards(
    new_cashier: Cashier, new_till: Till
) -> None:
    cashier, till, page = new_cashier, new_till, new_cashier.page
    till.name_cashier("مینا", "123456", "administrator")
    page.reload()
    cashier.signs_in("مینا", "123456")
    page.get_by_label("همکاران و دسترسی‌ها").click()
    cashier.click_on("summary", "افزودن همکار")
    page.locator("#newcomer").fill("نسرین")
    page.locator("#newcomer-pin").fill("12")
    cashier.press("Enter")
    cashier.reads("مقدار واردشده درست نیست")
    page.locator("#newcomer-pin").fill("۴۷۱۱")
    cashier.press("Enter")
    cashier.click_on("summary", "نسرین")
    till.lay()
    cashier.click("کارت روی کارت‌خوان، کارت او شود")
    cashier.reads("کارت دارد")
    cashier.click_on("summary", "مینا")
    page.locator("details", has_text="مینا").get_by_text("حذف همکار").click()
    cashier.reads("آخرین مدیر را نمی‌توان برداشت")
    cashier.press("Escape")
    till.lift()
    till.sees_no_card()
    page.get_by_label(re.compile("مینا")).click()
    cashier.sees("sign-in")
    till.lay()
    cashier.sees("ready")
    expect(page.locator("header")).to_contain_text("نسرین")
    expect(page.get_by_label("همکاران و دسترسی‌ها")).to_have_count(0)


def test_a_supervisor_approves_in_place_and_the_cashier_stays_signed_in(new_cashier: Cashier, new_till: Till) -> None:
    cashier, till, page = new_cashier, new_till, new_cashier.page
    till.name_cashier("نسرین", "4711", "cashier")
    till.name_cashier("رضا", "998877", "supervisor")
    page.reload()
    cashier.signs_in("نسرین", "4711")
    cashier.sells("50000")
    till.lay()
    cashier.sees("done")
    cashier.goes_on()
    page.locator(".row").first.click()
    cashier.click("مرجوعی کامل")
    cashier.reads("اجازهٔ سرپرست")
    assert page.locator("#supervisor option").all_inner_texts() == ["رضا"]
    assert cashier.focused() == "approval-pin"  # there is nobody to choose between
    page.locator("#approval-pin").fill("0000")
    cashier.press("Enter")
    cashier.reads("نام یا رمز درست نیست")
    page.locator("#approval-pin").fill("998877")
    cashier.press("Enter")
    cashier.sees("waiting")
    till.lay()
    cashier.sees("done")
    expect(page.locator("header")).to_contain_text("نسرین")
    cashier.goes_on()
    assert till.points() == 0
