"""The whole flow on the cashier's page, in a real browser on a real daemon and a real PC/SC stack."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable

import pytest
from playwright.sync_api import APIResponse, BrowserContext, Route, expect

from drivers.simulator import Torn
from tests.browser.till import Cashier, Till, pos_of
from tests.cli.shop import CrmProcess, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.pcsc]

FILLED_ROW = """row => {
  const texts = {"bdi": "Alexandra-Constantina", ".sum": "99,999,999,999 rial", ".moves": "+10,000,014"};
  for (const [part, text] of Object.entries(texts)) row.querySelector(part).textContent = text;
  const name = row.querySelector("bdi"), style = getComputedStyle(name);
  const isCut = (part) => part.scrollWidth > part.clientWidth;
  return [style.direction, style.textOverflow, isCut(name), isCut(row.querySelector(".moves"))];
}"""
"""Fill a sale's row as far as can be; how its name is shortened, and whether its points are cut too."""
SUBMITTED_EMPTY = """() => {
  let isSilent = false;
  addEventListener("invalid", (event) => { isSilent = event.defaultPrevented; }, {capture: true, once: true});
  document.activeElement.blur();
  document.forms[0].requestSubmit();
  return [isSilent, document.activeElement.id];
}"""
"""Whether the browser keeps its own words about an empty field to itself, and where the focus is then."""


def test_a_sale_from_the_amount_to_the_lifted_card(cashier: Cashier, till: Till) -> None:
    cashier.sells("25000")
    cashier.reads("کارت را روی کارت‌خوان بگذارید")
    cashier.reads("۲۵٬۰۰۰ تومان")
    till.lay()
    cashier.sees("done")
    cashier.reads("سارا")
    cashier.reads("+۲۵")
    cashier.reads("کارت را بردارید")
    expect(cashier.page.locator("#spoken")).to_have_text("کارت را بردارید")
    till.lift()
    cashier.reads("انجام شد")
    cashier.sees("ready")
    cashier.reads("۲۵٬۰۰۰ تومان")
    assert till.points() == 25


def test_the_same_sale_in_english_with_the_keyboard_alone(cashier: Cashier, till: Till) -> None:
    cashier.page.locator(".language").focus()
    cashier.press("Enter")
    assert cashier.ask("() => [document.documentElement.lang, document.documentElement.dir]") == ["en", "ltr"]
    cashier.page.locator("#amount").focus()
    cashier.type("2500")
    cashier.press("Backspace")
    cashier.type("۰۰۰")  # a Persian keyboard's digits are digits
    cashier.press("Enter")
    cashier.sees("waiting")
    cashier.reads("250,000 toman")
    cashier.press("Escape")
    cashier.sees("ready")
    cashier.sells("12000")
    till.lay()
    cashier.sees("done")
    cashier.reads("Remove the card")
    assert cashier.focused() == "Next sale"
    cashier.press("Enter")
    cashier.sees("ready")
    cashier.reads("Card on the reader")
    assert cashier.focused() == "amount"


def test_touch_alone_types_and_the_next_enter_belongs_to_the_sale(cashier: Cashier, till: Till) -> None:
    for key in ("۷", "۰۰۰", "۵"):
        cashier.page.locator(".key", has_text=re.compile(f"^{key}$")).click()
    cashier.page.get_by_label("پاک کردن رقم آخر").click()
    expect(cashier.page.locator("#amount")).to_have_value("۷٬۰۰۰")
    cashier.press("Enter")
    cashier.sees("waiting")
    cashier.reads("۷٬۰۰۰ تومان")
    cashier.click("انصراف")
    cashier.sees("ready")


def test_an_answer_that_comes_late_does_not_bring_back_a_sale_that_was_cancelled(cashier: Cashier) -> None:
    """On a busy machine the events overtake it: the page would wait for ever for the card of a sale that is over."""
    late: list[tuple[Route, APIResponse]] = []
    cashier.page.route("**/v1/checkouts", lambda route: late.append((route, route.fetch())))
    cashier.sells("1000")
    cashier.press("Escape")
    cashier.sees("ready")
    [(route, answer)] = late
    with cashier.page.expect_response("**/v1/checkouts"):
        route.fulfill(response=answer)
    cashier.page.unroute("**/v1/checkouts")
    cashier.sells("2000")
    cashier.reads("۲٬۰۰۰ تومان")
    cashier.press("Escape")
    cashier.sees("ready")


def test_points_are_spent_with_one_touch(cashier: Cashier, till: Till) -> None:
    cashier.sells("400000")
    till.lay()
    cashier.sees("done")
    cashier.goes_on()
    cashier.type("3000")
    till.lay()
    cashier.click("خرج ۲۰۰ امتیاز")  # the cap of a card off the line, of 400 points
    cashier.sees("done")
    cashier.reads("قابل پرداخت")
    cashier.reads("۱٬۰۰۰ تومان")
    till.lift()
    assert till.points() == 400 - 200 + 3


@pytest.mark.parametrize("outcome", list(Torn))
def test_a_torn_card_is_asked_for_again_and_completes_the_sale(cashier: Cashier, till: Till, outcome: Torn) -> None:
    cashier.sells("25000")
    till.lay_torn(outcome)
    cashier.sees("in_doubt")
    cashier.reads("همان کارت را دوباره بگذارید")
    expect(cashier.page.get_by_role("timer")).to_contain_text(re.compile("[۰-۲]:[۰-۵][۰-۹]"))
    till.lay()
    cashier.sees("done")
    cashier.goes_on()
    assert till.points() == 25


def test_another_card_than_the_torn_one_is_told_and_changes_nothing(cashier: Cashier, till: Till) -> None:
    cashier.sells("25000")
    till.lay_torn(Torn.OLD)
    cashier.sees("in_doubt")
    till.lay_another("0A0B0C0D")
    cashier.reads("این کارت هنوز صادر نشده است.")
    cashier.reads("همان کارت را دوباره بگذارید")
    till.lay()
    cashier.sees("done")


def test_a_sale_whose_card_does_not_come_back_keeps_nobody_waiting(cashier: Cashier, till: Till) -> None:
    cashier.sells("25000")
    till.lay_torn(Torn.OLD)
    cashier.sees("in_doubt")
    cashier.click("ادامه بدون کارت")
    cashier.sees("ready")
    cashier.reads("در انتظار کارت")
    till.lift()
    till.sees_no_card()
    till.lay()  # the customer comes back: the daemon settles it without being asked
    wait_until(lambda: bool(till.shop.done("queue", "list")["in_doubt"] == 0))
    till.lift()
    assert till.points() == 25


def test_without_the_crm_sales_go_on_under_a_banner(new_till: Till, crm: CrmProcess, new_cashier: Cashier) -> None:
    cashier, till = new_cashier, new_till
    banner = cashier.page.locator(".banner")
    expect(banner).to_be_hidden()
    crm.down()
    till.shop.ta("sync")
    expect(banner).to_contain_text("بدون ارتباط با مرکز")
    cashier.sells("25000")
    till.lay()
    cashier.sees("done")
    cashier.reads("قهوهٔ صبح")
    cashier.reads("طلایی")
    cashier.reads("+۵۲")  # 25, half as much for her tier, and 15 of the offer
    cashier.goes_on()
    expect(cashier.page.locator(".health")).to_contain_text("۱ در انتظار")
    crm.up()
    till.shop.done("sync")
    expect(banner).to_be_hidden()


def test_a_card_that_is_not_ours_is_told_and_the_sale_waits_on(cashier: Cashier, till: Till) -> None:
    cashier.sells("25000")
    till.lay_another("0A0B0C0D")
    cashier.sees("problem")
    cashier.reads("این کارت هنوز صادر نشده است.")
    screens = cashier.ask("""() => new Promise((told) => { const seen = [], root = document.documentElement;
        new MutationObserver(() => seen.push(root.dataset.screen)).observe(root, { attributeFilter: ["data-screen"] });
        setTimeout(() => told(seen), 1500); })""")
    assert screens == []  # it is tried twice a second; nothing flickers, nothing is said again
    till.lay()
    cashier.sees("done")


def test_two_tabs_show_the_same_and_either_may_cancel(cashier: Cashier, till: Till, context: BrowserContext) -> None:
    other = Cashier(context.new_page(), till)
    other.page.goto(cashier.page.url)
    other.sees("ready")
    cashier.sells("25000")
    other.sees("waiting")
    other.click("انصراف")
    cashier.sees("ready")
    other.page.bring_to_front()
    other.sells("31000")
    till.lay()
    cashier.sees("done")
    cashier.reads("+۳۱")
    assert other.problems == []


def _dies_and_comes_back(till: Till, meanwhile: Callable[[], None] = lambda: None) -> None:
    [daemon] = till.shop._processes
    till.shop.end(daemon, signal.SIGKILL)
    meanwhile()
    (till.shop.data_dir / "agent.sock").unlink()
    till.shop.start_daemon()


def test_a_daemon_that_dies_comes_back_with_its_sale(new_cashier: Cashier, new_till: Till) -> None:
    cashier, till = new_cashier, new_till
    cashier.sells("25000")
    _dies_and_comes_back(till, lambda: expect(cashier.page.locator(".banner")).to_contain_text("دوباره وصل می‌شود"))
    expect(cashier.page.locator(".banner")).to_be_hidden()
    cashier.sees("waiting")
    till.lay()
    cashier.sees("done")
    cashier.goes_on()
    _loses_the_end_of_a_sale(cashier, till)
    assert till.points() == 25


def _loses_the_end_of_a_sale(cashier: Cashier, till: Till) -> None:
    """It ends while the page hears nothing, and no event tells of it afterwards."""
    post, online = pos_of(till), threading.Event()
    opened = post("/v1/checkouts", {"amount": 300_000, "currency": "IRR", "receipt_no": "POS-8"})
    cashier.sees("waiting")

    def anew(route: Route) -> None:
        headers = {name: value for name, value in route.request.headers.items() if name != "last-event-id"}
        if online.is_set():
            route.continue_(headers=headers)
        else:
            route.abort()

    cashier.page.route("**/v1/events", anew)
    _dies_and_comes_back(till)
    wait_until(lambda: till.shop.done("status")["till_url"] is not None)
    post(f"/v1/checkouts/{opened['id']}/cancel", {})
    online.set()
    cashier.sees("ready")


def test_a_token_that_was_taken_away_leads_back_to_pairing(new_cashier: Cashier, new_till: Till) -> None:
    cashier, till = new_cashier, new_till
    [token] = till.shop.done("till", "tokens")["tokens"]
    till.shop.done("till", "revoke", token["token_id"])
    cashier.sees("pair")
    assert cashier.ask("() => localStorage.getItem('token')") is None
    assert cashier.ask(SUBMITTED_EMPTY) == [True, "code"]  # in no language but the page's
    cashier.page.locator("#code").fill("000000")
    cashier.press("Enter")
    cashier.reads("کد اتصال درست نیست")
    cashier.type(till.shop.done("till", "code")["code"])  # in place of the wrong one
    cashier.press("Enter")
    cashier.sees("ready")


def test_a_sale_of_the_pos_is_on_the_page_by_itself(cashier: Cashier, till: Till) -> None:
    sale = {"amount": 480_000, "currency": "IRR", "receipt_no": "POS-7"}
    pos_of(till)("/v1/checkouts", sale)
    cashier.sees("waiting")
    cashier.reads("POS-7")
    till.lay()
    cashier.sees("done")
    cashier.reads("+۴۸")


def test_a_sale_is_returned_from_the_list_in_part_and_whole(cashier: Cashier, till: Till) -> None:
    cashier.sells("50000")
    till.lay()
    cashier.sees("done")
    cashier.goes_on()
    cashier.page.locator(".row", has_text="۵۰٬۰۰۰").first.click()
    groups = " ".join(re.findall("....", till.card_no))
    expect(cashier.page.locator("dialog")).to_contain_text(groups)
    cashier.page.locator("#part").fill("20000")
    cashier.click("مرجوعی بخشی از مبلغ")
    cashier.sees("waiting")
    cashier.reads("کارت همان خرید را روی کارت‌خوان بگذارید")
    cashier.reads("۲۰٬۰۰۰ تومان")
    till.lay()
    cashier.sees("done")
    cashier.reads("−۲۰")
    cashier.goes_on()
    cashier.reads("مرجوعی")
    assert till.points() == 30


def test_the_customer_sees_the_first_name_and_nothing_else_of_the_person(
    cashier: Cashier, till: Till, context: BrowserContext
) -> None:
    customer = Cashier(context.new_page(), till)
    customer.page.goto(cashier.page.url + "customer")
    customer.sees("ready")
    cashier.page.bring_to_front()
    cashier.sells("25000")
    customer.sees("waiting")
    till.lay()
    customer.sees("done")
    customer.reads("سارا")
    customer.reads("+۲۵")
    shown = customer.page.locator("body").inner_text()
    assert not [told for told in ("احمدی", "0912", "۰۹۱۲", till.card_no) if told in shown]
    assert customer.page.locator("button, input, a").count() == 0
    till.lift()
    customer.reads("سپاس از خرید شما")
    assert customer.problems == []


def test_where_cashiers_are_named_one_signs_in_first(new_cashier: Cashier, new_till: Till) -> None:
    cashier, till = new_cashier, new_till
    till.name_cashier("نسرین", "4711", "cashier")
    till.name_cashier("رضا", "998877", "supervisor")
    cashier.page.reload()
    cashier.sees("sign-in")
    cashier.click("نسرین")
    cashier.type("0000")
    cashier.press("Enter")
    cashier.reads("نام یا رمز درست نیست.")
    cashier.type("۴۷۱۱")
    cashier.press("Enter")
    cashier.sees("ready")
    cashier.page.reload()
    cashier.sees("ready")
    cashier.sells("1000")
    cashier.press("Escape")
    cashier.sees("ready")
    till.shop.done("till", "cashier", "remove", "نسرین")
    cashier.type("1000")
    cashier.press("Enter")
    cashier.sees("sign-in")
    expect(cashier.page.get_by_role("button", name="نسرین")).to_have_count(0)


@pytest.mark.parametrize("language", ["fa", "en"])
def test_a_long_name_beside_a_large_sum_is_shortened_at_its_end(cashier: Cashier, till: Till, language: str) -> None:
    cashier.sells("25000")
    till.lay()
    cashier.sees("done")
    cashier.goes_on()
    if language == "en":
        cashier.click("English")
    assert cashier.page.locator(".row").first.evaluate(FILLED_ROW) == ["ltr", "ellipsis", True, False]


def test_a_sale_that_is_looked_at_is_not_returned_by_a_stray_enter(cashier: Cashier, till: Till) -> None:
    cashier.sells("1000")
    till.lay()
    cashier.sees("done")
    cashier.goes_on()
    cashier.page.locator(".row").first.click()
    expect(cashier.page.locator("dialog")).to_be_visible()
    assert cashier.focused() == "بستن"
    cashier.press("Enter")
    expect(cashier.page.locator("dialog")).to_have_count(0)


def test_the_page_asks_nothing_of_any_other_host(cashier: Cashier) -> None:
    asked: list[str] = []
    cashier.page.on("request", lambda request: asked.append(request.url))
    cashier.page.reload()
    cashier.sees("ready")
    assert asked
    origin = cashier.page.url.rstrip("/")
    assert [url for url in asked if not url.startswith(origin + "/")] == []


COUNT_TONES = """() => { window.tones = 0; const start = OscillatorNode.prototype.start;
    OscillatorNode.prototype.start = function (at) { window.tones += 1; return start.call(this, at); }; }"""


def test_a_card_is_seen_and_heard_before_anything_is_known_of_it(cashier: Cashier, till: Till) -> None:
    cashier.ask(COUNT_TONES)
    cashier.page.route("**/v1/card", lambda route: None)  # the answer never comes
    till.lay()
    cashier.reads("در حال خواندن کارت…")
    assert cashier.ask("() => window.tones") == 1


def test_sounds_can_be_muted_and_stay_so(cashier: Cashier, till: Till) -> None:
    cashier.ask(COUNT_TONES)
    cashier.page.get_by_label("صدا روشن است").click()
    cashier.page.reload()
    cashier.sees("ready")
    cashier.ask(COUNT_TONES)
    cashier.sells("1000")
    till.lay()
    cashier.sees("done")
    assert cashier.ask("() => window.tones") == 0
    cashier.page.get_by_label("صدا خاموش است").click()
    assert cashier.ask("() => window.tones") == 2
