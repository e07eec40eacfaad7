"""The cashier page, end to end: from the card on the reader to what the cashier reads, in a real browser.

The reader is the virtual one of a real pcscd, slowed to a real one's pace. All moments are of the machine's one clock.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from bench.api import request_rate
from bench.measure import Figure, Samples
from bench.purchase import READER
from bench.rig import UID, Left, Rig
from tests.pcsc.virtual_reader import KIND_OF_INS, POWER_ON, VirtualCard, VirtualReader

SALES = 40
FEEDBACK_TARGET_MS, MEMBER_TARGET_MS, REMOVE_TARGET_MS = 100.0, 300.0, 700.0
CABLE_S = 0.008
PACE_S = {"uid": CABLE_S, "load_key": CABLE_S, "auth": CABLE_S + 0.002, "read": CABLE_S + 0.0025}
PACE_S["write"] = CABLE_S + 0.0055
"""NXP's typical times of the card (MF1S50yyX/V1, table 2), and 8 ms a command for a full-speed USB reader."""

_WATCH = """() => {
    window.seen = {};
    const now = () => performance.timeOrigin + performance.now();
    const look = () => {
        const screen = document.documentElement.dataset.screen;
        const there = { card: screen === "reading" || screen === "writing" || screen === "done",
            member: document.querySelector(".stage .name"), remove: screen === "done" };
        const painted = (what) => setTimeout(() => { window.seen[what] ??= now(); });
        for (const [what, is] of Object.entries(there))
            if (is && !window.seen[what]) requestAnimationFrame(() => painted(what));
    };
    new MutationObserver(look).observe(document, { subtree: true, childList: true, attributes: true });
}"""


class _PacedReader(VirtualReader):
    """Takes a real reader's time, and remembers when pcscd first powered the card."""

    powered: float | None = None

    def _reply(self, message: bytes) -> bytes | None:
        if message[0] == POWER_ON and len(message) == 1 and self.powered is None:
            self.powered = time.time()
        reply = super()._reply(message)
        if len(message) > 1:
            time.sleep(PACE_S.get(KIND_OF_INS.get(message[1], ""), CABLE_S))
        return reply


def _play(pipe: Connection, port: int) -> None:
    reader, card = _PacedReader(port), VirtualCard.blank(UID)
    reader.insert(card)
    pipe.send(None)
    while (asked := pipe.recv()) != "end":
        if asked == "lay":
            reader.powered, laid = None, time.time()
            reader.insert(card)
            pipe.send(laid)
        elif asked == "lift":
            reader.remove()
            pipe.send(None)
        else:
            pipe.send(reader.powered)
    reader.remove()


@contextmanager
def _reader(port: int) -> Iterator[Connection]:
    """The paced reader in a process of its own, with a blank card on it."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_play, args=(theirs, port), daemon=True)
    process.start()
    ours.recv()
    try:
        yield ours
    finally:
        ours.send("end")
        process.join(5)


@contextmanager
def _page(code: dict[str, Any]) -> Iterator[Any]:
    """The paired page in chromium."""
    path = shutil.which("chromium")
    if path is None:
        raise Left("chromium is not installed; run: apt-get install --no-install-recommends chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        page = browser.new_page(viewport={"width": 1024, "height": 600})
        page.goto(code["till_url"])
        page.locator("#code").fill(code["code"])
        page.keyboard.press("Enter")
        page.wait_for_selector("html[data-screen=ready]")
        page.evaluate(_WATCH)
        yield page
        browser.close()


def _told(hand: Connection, moment: str) -> Any:
    hand.send(moment)
    return hand.recv()


def _sale(page: Any, hand: Connection) -> dict[str, float]:
    """Milliseconds from the card laid down, and from the moment pcscd powered it, to each thing on the screen."""
    page.keyboard.type("25000")
    page.keyboard.press("Enter")
    page.wait_for_selector("html[data-screen=waiting]")
    page.evaluate("() => { window.seen = {}; }")
    laid = _told(hand, "lay")
    page.wait_for_function("() => window.seen.remove")
    seen, powered = page.evaluate("() => window.seen"), _told(hand, "powered")
    _told(hand, "lift")
    page.wait_for_selector("html[data-screen=ready]")
    from_hand = {f"{what} after laid": moment - laid * 1000 for what, moment in seen.items()}
    return {**from_hand, **{what: moment - powered * 1000 for what, moment in seen.items()}}


def run(rig: Rig) -> Iterator[Figure]:
    with _reader(rig.pcscd_port) as hand:
        shop = rig.shop("till", READER)
        _told(hand, "lift")
        with shop.daemon():
            with _page(shop.done("till", "code")) as page:
                sales = [_sale(page, hand) for _ in range(SALES)]
            yield from _latencies(sales)
            yield request_rate(shop)


def _latencies(sales: list[dict[str, float]]) -> Iterator[Figure]:
    for what, told, target in (
        ("card", "card detected → hold it still", FEEDBACK_TARGET_MS),
        ("member", "card detected → member on screen", MEMBER_TARGET_MS),
        ("remove", "card detected → remove the card", REMOVE_TARGET_MS),
    ):
        laid = Samples.of([sale[f"{what} after laid"] for sale in sales])
        details = {"from the hand, ms": {"median": round(laid.median), "p95": round(laid.p95)}}
        yield Figure("till", told, "ms", Samples.of([s[what] for s in sales]), target=target, details=details)
