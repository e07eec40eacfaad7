"""Every screen in both languages, light and dark, on POS screens and phones: checked by axe, kept to be looked at."""

from __future__ import annotations

from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page

from drivers.simulator import Torn
from tests.browser.conftest import Look
from tests.browser.till import Cashier, Till
from tests.cli.shop import CrmProcess

pytestmark = [pytest.mark.browser, pytest.mark.pcsc]

SIZES = {"pos": (1024, 600), "wide": (1920, 1080), "phone": (390, 844)}
WCAG_2_2_AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
SMALLEST_TARGET_PX = 44
TARGETS = """() => [...document.querySelectorAll("button, input, a")].map((it) => it.getBoundingClientRect())
    .filter((box) => box.width && (box.width < 43.9 || box.height < 43.9)).map((box) => [box.width, box.height])"""
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


class Tour:
    """Looks at a page in every size and both colour schemes."""

    def __init__(self, look: Look, language: str) -> None:
        self._look = look
        self._language = language

    def see(self, page: Page, name: str) -> None:
        for size, (width, height) in SIZES.items():
            page.set_viewport_size({"width": width, "height": height})
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                what = f"{name}-{self._language}-{size}-{scheme}"
                self._look(page, what)
                found = Axe().run(page, options={"runOnly": WCAG_2_2_AA})
                assert found.violations_count == 0, f"{what}: {found.generate_report()}"
            assert page.evaluate(OVERFLOW) <= 0, f"{name} on {size} is wider than its screen"
            assert page.evaluate(TARGETS) == [], f"{name} on {size} has targets below {SMALLEST_TARGET_PX} px"
        page.set_viewport_size({"width": 1024, "height": 600})


def sell_before_the_customer(tour: Tour, cashier: Cashier, till: Till, customer: Page) -> None:
    """A sale from the empty screen to the lifted card, on both views, with a wrong card on the way."""
    page = cashier.page
    tour.see(page, "ready-empty")
    tour.see(customer, "customer-ready")
    page.bring_to_front()
    cashier.type("48000")
    cashier.press("Enter")
    cashier.sees("waiting")
    tour.see(page, "waiting")
    tour.see(customer, "customer-waiting")
    till.lay_another("0A0B0C0D")
    cashier.sees("problem")
    tour.see(page, "problem")
    till.lay()
    cashier.sees("done")
    tour.see(page, "done")
    tour.see(customer, "customer-done")
    lift(cashier, till)


def spend_points(tour: Tour, cashier: Cashier, till: Till) -> None:
    """A card that lies there before the sale is begun, and pays a part of it."""
    page = cashier.page
    cashier.type("9900")
    till.lay()
    page.locator("button.spend").wait_for()
    tour.see(page, "ready-card")
    page.locator("button.spend").click()
    cashier.sees("done")
    tour.see(page, "done-redeemed")
    lift(cashier, till)


def tear_without_a_line(tour: Tour, cashier: Cashier, till: Till, crm: CrmProcess) -> None:
    """The line is down and a card is taken away too soon, then put back."""
    crm.down()
    till.shop.ta("sync")
    cashier.type("31000")
    cashier.press("Enter")
    cashier.sees("waiting")
    till.lay_torn(Torn.GARBAGE)
    cashier.sees("in_doubt")
    tour.see(cashier.page, "in-doubt")
    till.lay()
    cashier.sees("done")
    lift(cashier, till)


def lift(cashier: Cashier, till: Till) -> None:
    till.lift()
    cashier.sees("ready")


@pytest.mark.slow
@pytest.mark.parametrize("language", ["fa", "en"])
def test_every_screen_can_be_used_by_everybody(
    language: Literal["fa", "en"],
    till: Till,
    crm: CrmProcess,
    cashier: Cashier,
    context: BrowserContext,
    look: Look,
) -> None:
    tour, page = Tour(look, language), cashier.page
    if language == "en":
        cashier.click("English")
    page.emulate_media(reduced_motion="reduce")
    customer = context.new_page()
    customer.goto(page.url + "customer")
    page.bring_to_front()
    sell_before_the_customer(tour, cashier, till, customer)
    spend_points(tour, cashier, till)
    tear_without_a_line(tour, cashier, till, crm)
    cashier.reads("بدون ارتباط" if language == "fa" else "Working offline")
    tour.see(page, "ready-offline")
    page.locator(".row").first.click()
    tour.see(page, "sale")
    cashier.press("Escape")
    page.locator(".health").click()
    tour.see(page, "health")
    cashier.press("Escape")
