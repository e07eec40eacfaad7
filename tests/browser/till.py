"""A till with its daemon and a card on a virtual PC/SC reader, and the pages it serves, as a browser shows them."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import requests
from playwright.sync_api import ConsoleMessage, Page, expect

from drivers.mifare_classic import blank_card
from drivers.simulator import Fault, MemoryImage, Torn
from tests.cli.shop import Shop, wait_until
from tests.pcsc.virtual_reader import VirtualCard, VirtualReader
from tests.ports import free_ports

SHOP_NAME = "کافه نارنج"
PATIENCE_S = 30.0
"""How long what is bound to come is waited for, however busy the machine is."""
WRITE = 5
"""The commit point among the operations of a tap: one authentication, three reads, the write."""

POLICY = {
    "version": "browser-1",
    "currency": "IRR",
    "earn": {"points": 1, "per_amount": 10000, "basis": "gross"},
    "redeem": {"amount_per_point": 500, "minimum_points": 10, "maximum_share_percent": 50},
    "tiers": [
        {"tier": "silver", "level": 1, "name": {"fa": "نقره‌ای", "en": "Silver"}, "threshold_points": 100},
        {
            "tier": "gold",
            "level": 3,
            "name": {"fa": "طلایی", "en": "Gold"},
            "threshold_points": 500,
            "multiplier_percent": 150,
        },
    ],
    "offers": [
        {
            "id": "morning",
            "name": {"fa": "قهوهٔ صبح", "en": "Morning coffee"},
            "minimum_amount": 100000,
            "reward": {"points": 15},
        }
    ],
}


class HeldImage(MemoryImage):
    """A card whose writes are slow: as long as nobody lets go."""

    def __init__(self, image: MemoryImage) -> None:
        self.content = image.content
        self.held = threading.Event()

    def write(self, block: int, data: bytes) -> None:
        self.held.wait(4)  # pcscd is given up after 5
        super().write(block, data)


class Till:
    """One shop with a running daemon; ``lay`` and ``lift`` move its customer's card."""

    def __init__(self, shop: Shop, reader: VirtualReader, image: MemoryImage) -> None:
        self.shop = shop
        self.image = image
        self.card_no = ""
        self._reader = reader

    def configure(self, language: Literal["fa", "en"] = "fa", amounts_in: str = "toman") -> None:
        """Write the config file as a shop would have it, on a port that stays its own."""
        self.shop.init("pcsc:")
        text = re.sub(r"\[till\]\nlisten = .*\n", "", self.shop.config.read_text())
        text += f'\n[till]\nlisten = "127.0.0.1:{free_ports()}"\nreversal_limit = 400000\n'
        shop = f'[shop]\nname = "{SHOP_NAME}"\nlanguage = "{language}"\namounts_in = "{amounts_in}"\n'
        self.shop.config.write_text(f"{text}\n{shop}")

    def lay(self, fault: Fault | None = None) -> None:
        self._reader.insert(VirtualCard(self.image, fault=fault))

    def lay_torn(self, outcome: Torn) -> None:
        """The card will be taken away while its state is written."""
        self.lay(Fault(WRITE, outcome))

    def lay_held(self) -> HeldImage:
        """The card is slow: its write waits until ``held`` is set."""
        image = HeldImage(self.image)
        self._reader.insert(VirtualCard(image))
        return image

    def lay_another(self, uid: str) -> None:
        """A card that is not ours."""
        self._reader.insert(VirtualCard.blank(bytes.fromhex(uid)))

    def lift(self) -> None:
        self._reader.remove()

    def opens(self, number: int = 1) -> None:
        """The daemon runs, and the first customer has her card."""
        self.issue("--name", "سارا احمدی", "--phone", f"0912111{number:04}", "--tier", "gold")
        self.shop.start_daemon()

    def welcomes(self, number: int) -> None:
        """Another Sara with a card of her own, so that no test sees the points of the one before."""
        self.image = MemoryImage(bytes(blank_card(number.to_bytes(4))))
        self.issue("--name", "سارا احمدی", "--phone", f"0912222{number % 10000:04}", "--tier", "gold")

    def sees_no_card(self) -> None:
        """pcscd looks for cards only every 0.4 s."""
        wait_until(lambda: not self.shop.done("status")["reader"].get("card_present"))

    def issue(self, *arguments: str) -> Any:
        """The customer's card, issued on another reader."""
        path = self.shop.folder / "card.mfd"
        path.write_bytes(self.image.content)
        issued = self.shop.done("card", "issue", "--reader", f"sim:{path}", *arguments)
        self.image.content = bytearray(path.read_bytes())
        self.card_no = str(issued["card_no"])
        return issued

    def name_cashier(self, name: str, pin: str, role: str) -> None:
        """Somebody who may sign in."""
        path = self.shop.folder / "pin"
        path.write_text(f"{pin}\n")
        self.shop.done("till", "cashier", "add", name, "--role", role, "--pin-file", str(path))

    def publish(self, data_dir: str, document: dict[str, Any]) -> None:
        """Head office publishes a policy, and the till hears of it."""
        path = self.shop.folder / "policy.json"
        valid_from = datetime.now(UTC).isoformat()  # newer than the one a fresh CRM publishes
        path.write_text(json.dumps({**document, "valid_from": valid_from}, ensure_ascii=False))
        self.shop.done("crm", "policy", "load", str(path), "--data-dir", data_dir)
        self.shop.done("sync")

    def points(self) -> int:
        """On the card, as a command reads it; laid down when the reader has seen that the one before is gone."""
        self.sees_no_card()
        self.lay()
        points: int = self.shop.done("card", "show")["points"]
        self.lift()
        return points


class Cashier:
    """The cashier's page in a browser."""

    def __init__(self, page: Page, till: Till) -> None:
        self.page = page
        self._till = till
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda said: self._note(said))

    def _note(self, said: ConsoleMessage) -> None:
        """Chromium calls every refused request an error; those that the page is asked to expect are none."""
        if said.type == "error" and not said.text.startswith("Failed to load resource"):
            self.problems.append(said.text)

    def open(self, path: str = "/") -> None:
        self.page.goto(self._till.shop.done("till", "code")["till_url"] + path)

    def pair(self) -> None:
        """Open the page and type the code that the till shows."""
        code = self._till.shop.done("till", "code")
        self.page.goto(code["till_url"])
        self.page.locator("#code").fill(code["code"])
        self.page.keyboard.press("Enter")
        self.sees("ready")

    def sees(self, screen: str) -> None:
        """Wait for this screen."""
        expect(self.page.locator("html")).to_have_attribute("data-screen", screen)

    def type(self, keys: str) -> None:
        """Key by key, wherever the focus is."""
        self.page.keyboard.type(keys)

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)

    def click(self, words: str) -> None:
        self.page.get_by_role("button", name=words).first.click()

    def click_on(self, selector: str, words: str) -> None:
        self.page.locator(selector, has_text=words).first.click()

    def signs_in(self, name: str, pin: str) -> None:
        self.sees("sign-in")
        self.click(name)
        self.type(pin)
        self.press("Enter")
        self.sees("ready")

    def reads(self, text: str | re.Pattern[str]) -> None:
        """The words are on the screen."""
        expect(self.page.locator("#app")).to_contain_text(text)

    def ask(self, script: str) -> Any:
        return self.page.evaluate(script)

    def goes_on(self) -> None:
        """The card is taken away; nobody waits for the screen to leave by itself."""
        self._till.lift()
        self._till.sees_no_card()
        self.press("Enter")
        self.sees("ready")

    def sells(self, keys: str) -> None:
        """An amount by the keyboard, until the page asks for the card."""
        self.type(keys)
        self.press("Enter")
        self.sees("waiting")

    def focused(self) -> str:
        """What has the focus: its id, or its words."""
        focused: str = self.ask("() => document.activeElement.id || document.activeElement.textContent.trim()")
        return focused

    def wait_until(self, condition: Callable[[], bool]) -> None:
        for _ in range(200):
            if condition():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError("it did not happen in time")


def pos_of(till: Till) -> Callable[[str, dict[str, Any]], Any]:
    """POS software beside the page, with a token of its own."""
    code = till.shop.done("till", "code")
    url = code["till_url"]
    token = requests.post(f"{url}/v1/pair", json={"code": code["code"]}, timeout=10).json()["token"]

    def post(path: str, body: dict[str, Any]) -> Any:
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": path + str(body)}
        answer = requests.post(url + path, json=body, headers=headers, timeout=10)
        assert answer.ok, answer.text
        return answer.json()

    return post
