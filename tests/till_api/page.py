"""A cashier page as the till sees it: a token that stands for whoever is signed in."""

from __future__ import annotations

from typing import Any

import requests

from terminal_agent.service import staff
from terminal_agent.service.settings import Settings
from tests.till_api.pos import Pos, Shop, a_key


class Page(Pos):
    """A cashier page: a caller that stands for whoever is signed in."""

    session: str | None = None

    def call(self, method: str, path: str, *, key: str | None = None, **kwargs: Any) -> requests.Response:
        headers = {"Cashier-Session": self.session} if self.session else {}
        return super().call(method, path, key=key, headers={**headers, **kwargs.pop("headers", {})}, **kwargs)

    def sign_in(self, cashier: str, pin: str) -> requests.Response:
        return self._signed({"cashier": cashier, "pin": pin})

    def sign_in_by_card(self) -> requests.Response:
        return self._signed({"card": True})

    def _signed(self, asked: dict[str, Any]) -> requests.Response:
        answer = self.call("POST", "/v1/sessions", json=asked)
        self.session = answer.json().get("session")
        return answer

    def code_of(self, path: str, body: dict[str, Any], **headers: str) -> Any:
        """The problem's code, or the status of what was carried out."""
        answer = self.call("POST", path, key=a_key(), json=body, headers=headers)
        return answer.json().get("code") or answer.status_code


def pair_page(shop: Shop) -> Page:
    asked = {"code": shop.till.code()["code"], "name": "Page", "cashiers": True}
    answer = requests.post(f"{shop.till.url}/v1/pair", json=asked, timeout=10)
    return Page(shop.till.url, answer.json()["token"])


def add(shop: Shop, name: str, role: str = "cashier", pin: str = "4711") -> Any:
    return staff.cashier_add(shop.agent, {"name": name, "role": role, "pin": pin}, lambda _text: None)


def remove(shop: Shop, name: str) -> None:
    staff.cashier_remove(shop.agent, {"name": name}, lambda _text: None)


def give_card(shop: Shop, name: str) -> Any:
    """The card on the reader becomes theirs."""
    return staff.cashier_card(shop.agent, {"name": name, "wait_s": 0}, lambda _text: None)


def limit_returns(shop: Shop, limit: int) -> None:
    changed = {"till": {"listen": "127.0.0.1:0", "reversal_limit": limit}}
    shop.agent.settings = Settings.model_validate({**shop.agent.settings.model_dump(), **changed})


def audited(shop: Shop, action: str) -> list[dict[str, Any]]:
    """What the audit says of this, oldest first."""
    entries = staff.till_audit(shop.agent, {"limit": 100}, lambda _text: None)["entries"]
    return [each["detail"] for each in reversed(entries) if each["action"] == action]
