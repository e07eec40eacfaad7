"""Every screen of the page, toured: checked by axe, kept to be looked at."""

from __future__ import annotations

import pytest
from playwright.sync_api import BrowserContext

from drivers.simulator import Torn
from tests.browser.conftest import Look
from tests.browser.till import Cashier, Till, pos_of
from tests.browser.tour import Tour
from tests.cli.shop import CrmProcess

pytestmark = [pytest.mark.browser, pytest.mark.pcsc]


class Visit:
    """The shop that is toured, and who stands on both sides of its counter."""

    def __init__(self, tour: Tour, cashier: Cashier, customer: Cashier, till: Till) -> None:
        self.tour = tour
        self.cashier = cashier
        self.customer = customer
        self.till = till

    def sees(self, screen: str, name: str | None = None, *, both: bool = False) -> None:
        """Wait for a screen and look at it well."""
        self.cashier.sees(screen)
        self.tour.see(self.cashier.page, name or screen)
        if both:
            self.customer.sees(screen)
            self.tour.see(self.customer.page, f"customer-{name or screen}")
            self.cashier.page.bring_to_front()


def pair(visit: Visit) -> None:
    """A browser that the till does not know, until it does."""
    visit.cashier.open()
    visit.customer.open("/customer")
    visit.cashier.page.bring_to_front()
    visit.sees("pair", both=True)
    visit.cashier.type("000000")
    visit.cashier.press("Enter")
    visit.cashier.reads("کد اتصال درست نیست")
    visit.sees("pair", "pair-refused")
    visit.cashier.pair()


def sell(visit: Visit) -> None:
    """A sale from the empty screen to the lifted card, on both views, with a wrong card on the way."""
    visit.sees("ready", both=True)
    visit.cashier.type("48000")
    visit.cashier.press("Enter")
    visit.sees("waiting", both=True)
    visit.till.lay_another("0A0B0C0D")
    visit.sees("problem", both=True)
    card = visit.till.lay_held()
    visit.cashier.sees("writing")
    visit.tour.glance(visit.cashier.page, "writing")
    visit.tour.glance(visit.customer.page, "customer-writing")
    card.held.set()
    visit.sees("done", both=True)
    visit.till.lift()
    visit.cashier.reads("انجام شد")
    visit.tour.glance(visit.cashier.page, "done-lifted")
    visit.customer.reads("سپاس از خرید شما")
    visit.tour.glance(visit.customer.page, "customer-thanks")
    visit.cashier.press("Enter")
    visit.cashier.sees("ready")


def spend(visit: Visit) -> None:
    """A card that lies there before the sale is begun, and pays a part of it; before it, one that is not ours."""
    visit.till.lay_another("0A0B0C0D")
    visit.cashier.reads("این کارت هنوز صادر نشده است.")
    visit.sees("ready", "ready-card-refused")
    visit.till.lift()
    visit.cashier.type("9900")
    visit.till.lay()
    visit.cashier.page.locator("button.spend").wait_for()
    visit.sees("ready", "ready-card")
    visit.cashier.page.locator("button.spend").click()
    visit.sees("done", "done-redeemed")
    visit.cashier.goes_on()


def fail(visit: Visit) -> None:
    """What the POS asked for in vain: nobody came; more points than there are; a receipt that was another sale's."""
    post = pos_of(visit.till)
    post("/v1/checkouts", {"amount": 480_000, "currency": "IRR", "receipt_no": "POS-1", "expires_in_s": 1})
    visit.sees("expired")
    visit.cashier.press("Enter")
    post("/v1/checkouts", {"amount": 480_000, "currency": "IRR", "receipt_no": "POS-2", "redeem_points": 90})
    visit.till.lay()
    visit.sees("failed")
    visit.cashier.goes_on()


def tear(visit: Visit, crm: CrmProcess) -> None:
    """The line is down, and a card is taken away too soon and never comes back."""
    crm.down()
    visit.till.shop.ta("sync")
    visit.sees("ready", "ready-offline")
    visit.cashier.page.locator("#receipt").fill("1001")
    visit.cashier.page.locator("#amount").focus()
    visit.cashier.type("31000")
    visit.cashier.press("Enter")
    visit.cashier.sees("waiting")
    visit.till.lay_torn(Torn.GARBAGE)
    visit.sees("in_doubt", both=True)
    visit.till.lift()
    visit.cashier.click("ادامه بدون کارت")
    visit.cashier.sees("ready")
    [doubt] = visit.till.shop.done("queue", "list")["checkouts_in_doubt"]
    visit.till.shop.done("queue", "close", doubt["checkout_id"])
    pos_of(visit.till)("/v1/checkouts", {"amount": 310_000, "currency": "IRR", "receipt_no": "1001"})
    visit.sees("closed")
    visit.cashier.press("Enter")


def look_into_sheets(visit: Visit) -> None:
    visit.cashier.sees("ready")
    visit.cashier.page.locator(".row").nth(1).click()
    visit.sees("ready", "sheet-sale")
    visit.cashier.press("Escape")
    visit.cashier.page.locator(".health").click()
    visit.sees("ready", "sheet-health")
    visit.cashier.press("Escape")


def join(visit: Visit) -> None:
    """Somebody becomes a member with a blank card; and again, without."""
    visit.cashier.click("عضو جدید")
    visit.sees("ready", "sheet-enrol")
    visit.cashier.type("۰۹۳۵۵۱۲۳۴۵۶")
    visit.cashier.page.locator("#name").fill("نیما یوشیج")
    visit.cashier.press("Enter")
    visit.sees("waiting", "enrol-waiting", both=True)
    visit.till.lay_another("0A0B0C0D")
    visit.sees("done", "enrolled", both=True)
    visit.cashier.goes_on()
    visit.cashier.click("عضو جدید")
    visit.cashier.type("09355123456")
    visit.cashier.click("بدون کارت")
    visit.cashier.reads("از پیش عضو باشگاه است")
    visit.tour.glance(visit.cashier.page, "enrolled-before")
    visit.cashier.press("Enter")


def forget(visit: Visit) -> None:
    """The card is at home: a number that nobody has, one that is known, and the sale."""
    visit.cashier.sees("ready")
    visit.cashier.type("48000")
    visit.cashier.click("کارت همراه نیست")
    visit.cashier.type("09120000000")
    visit.cashier.press("Enter")
    visit.cashier.reads("عضوی با این شمارهٔ تلفن پیدا نشد")
    visit.sees("ready", "sheet-forgotten-unknown")
    visit.cashier.page.locator("#phone").fill("09121110001")
    visit.cashier.press("Enter")
    visit.cashier.reads("ثبت خرید برای این عضو")
    visit.sees("ready", "sheet-forgotten")
    visit.cashier.press("Enter")
    visit.cashier.reads("امتیازها در مراجعهٔ بعدی به کارت می‌رسد.")
    visit.tour.glance(visit.cashier.page, "done-by-phone")
    visit.tour.glance(visit.customer.page, "customer-done-by-phone")
    visit.cashier.press("Enter")


def forget_off_the_line(visit: Visit) -> None:
    visit.cashier.sees("ready")
    visit.cashier.type("48000")
    visit.cashier.click("کارت همراه نیست")
    visit.cashier.type("09120000000")
    visit.cashier.press("Enter")
    visit.cashier.reads("بدون ارتباط با مرکز نمی‌توان گفت")
    visit.sees("ready", "sheet-forgotten-offline")
    visit.cashier.press("Enter")
    visit.cashier.sees("done")
    visit.tour.glance(visit.cashier.page, "done-by-phone-offline")
    visit.cashier.press("Enter")
    visit.cashier.sees("ready")


def sign_in(visit: Visit) -> None:
    """Who stands there: a card that is nobody's, a wrong PIN, then the administrator's sheet."""
    visit.till.name_cashier("نسرین", "4711", "cashier")
    visit.till.name_cashier("رضا", "998877", "administrator")
    visit.cashier.page.reload()
    visit.sees("sign-in")
    visit.till.lay()
    visit.cashier.reads("این کارت، کارت همکار نیست.")
    visit.sees("sign-in", "sign-in-card")
    visit.till.lift()
    visit.cashier.click("نسرین")
    visit.cashier.type("0000")
    visit.cashier.press("Enter")
    visit.cashier.reads("نام یا رمز درست نیست.")
    visit.sees("sign-in", "sign-in-pin")
    visit.cashier.page.reload()
    visit.cashier.signs_in("رضا", "998877")
    visit.cashier.page.get_by_label("همکاران و دسترسی‌ها").click()
    visit.cashier.reads("افزودن همکار")
    visit.sees("ready", "sheet-staff")
    visit.cashier.click_on("summary", "نسرین")
    visit.sees("ready", "sheet-staff-person")
    visit.cashier.press("Escape")


def approve(visit: Visit) -> None:
    """A return above the cashier's limit."""
    page = visit.cashier.page
    page.get_by_label("رضا").click()
    visit.cashier.signs_in("نسرین", "4711")
    page.locator(".row").filter(has_text="۴۸٬۰۰۰").last.click()
    visit.cashier.click("مرجوعی کامل")
    visit.cashier.reads("اجازهٔ سرپرست")
    visit.sees("ready", "sheet-approval")
    visit.cashier.press("Escape")


def lose_the_till(visit: Visit) -> None:
    """A page that begins while the till is slow to answer, then one whose daemon is gone."""
    page = visit.cashier.page
    page.route("**/v1/shop", lambda route: route.abort())
    page.reload()
    visit.sees("connecting")
    page.unroute("**/v1/shop")
    page.reload()
    visit.cashier.sees("ready")
    visit.till.shop.close()
    visit.cashier.reads("این صفحه با صندوق قطع است")
    visit.sees("ready", "ready-lost")


@pytest.mark.slow
def test_every_screen_can_be_used_by_everybody(
    new_till: Till, crm: CrmProcess, context: BrowserContext, look: Look
) -> None:
    new_till.opens()
    cashier, customer, elsewhere = (Cashier(context.new_page(), new_till) for _ in range(3))
    elsewhere.open("/static/icon.svg")
    tour = Tour(look, elsewhere.page)
    visit = Visit(tour, cashier, customer, new_till)
    for act in (pair, sell, spend, fail, join, forget):
        act(visit)
    tear(visit, crm)
    for act in (forget_off_the_line, look_into_sheets, sign_in, approve, lose_the_till):
        act(visit)
    assert tour.problems + cashier.problems + customer.problems == []
