"""A CRM seen from outside, and terminals that talk to it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

import requests

from terminal_agent import contract
from terminal_agent.crm import admin
from terminal_agent.crm.place import Place
from terminal_agent.ports import SystemIds

EPOCH = "0190d000-0000-7000-8000-000000000001"
CARD = "1000000000000009"


@dataclass
class Crm:
    """A running CRM."""

    url: str
    place: Place

    def ledger(self) -> dict[str, int]:
        """The accounts' balances; checks on the way that they sum to 0."""
        answer = admin.show_ledger(self.place)
        assert answer["sum"] == 0
        return {row["account"]: row["balance"] for row in answer["accounts"]}

    def card(self, card_no: str = CARD) -> dict[str, Any]:
        return admin.show_card(self.place, card_no)

    def enrol(self, terminal_id: str | None = "shop-1", code: str | None = None) -> Terminal:
        body = {"code": code or admin.make_code(self.place)["code"], "terminal_id": terminal_id}
        answer = requests.post(self.url + "/v1/terminals/enroll", json=body, headers={"Request-Id": "e-1"}, timeout=10)
        assert answer.status_code == 200, answer.text
        got = answer.json()
        secret = base64.b64decode(got["secret"])
        signature = answer.headers.get(contract.SIGNATURE_HEADER)
        assert contract.signature_is_valid(secret, "e-1", answer.content, signature)
        return Terminal(self.url, got["terminal_id"], got["token"], secret)


@dataclass
class Terminal:
    """What a terminal does, and a check of every signature on the way."""

    url: str
    terminal_id: str
    token: str
    secret: bytes
    epoch: str = EPOCH
    sequence: int = 0
    tries: int = 0
    session: requests.Session = field(default_factory=requests.Session)

    def call(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        self.tries += 1
        request_id = f"{self.terminal_id}-{self.tries}"
        headers = {"Authorization": f"Bearer {self.token}", "Request-Id": request_id, **kwargs.pop("headers", {})}
        answer = self.session.request(method, self.url + path, headers=headers, timeout=30, **kwargs)
        if answer.ok:
            signature = answer.headers.get(contract.SIGNATURE_HEADER)
            assert contract.signature_is_valid(self.secret, request_id, answer.content, signature)
        else:
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert {"type", "title", "status", "detail", "code", "retryable"} <= set(answer.json())
        return answer

    def get(self, path: str, **params: Any) -> Any:
        answer = self.call("GET", path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, *events: Any) -> dict[str, Any]:
        answer = self.call("POST", "/v1/events", data=json.dumps(events), headers={"Content-Type": "application/json"})
        assert answer.status_code == 200, answer.text
        got: dict[str, Any] = answer.json()
        return got

    def verdicts(self, *events: Any) -> list[str]:
        return [result["status"] for result in self.post(*events)["results"]]

    def event(self, kind: str, data: dict[str, Any], card_no: str = CARD, **changes: Any) -> dict[str, Any]:
        """A well-formed event with the terminal's next sequence."""
        self.sequence += 1
        return {
            "specversion": "1.0",
            "id": SystemIds().uuid(),
            "source": contract.source_of(self.terminal_id, self.epoch),
            "type": kind,
            "subject": contract.subject_of(card_no),
            "time": "2026-11-22T09:30:00.000Z",
            "sequence": str(self.sequence),
            "datacontenttype": "application/json",
            "data": data,
        } | changes

    def purchase(
        self, counter: int, earned: int, redeemed: int = 0, before: int = 0, card_no: str = CARD
    ) -> dict[str, Any]:
        """A purchase whose card write is known to have landed."""
        state = {
            "card_no": card_no,
            "sequence": counter,
            "balance_before": before,
            "balance_after": before + earned - redeemed,
            "adjustments_through": 0,
        }
        data = {"card": state, "purchase": {"amount": 1000}, "points": {"earned": earned, "redeemed": redeemed}}
        return self.event("purchase.recorded", data, card_no)

    def purchase_in_doubt(self, intent_id: str, counter: int, earned: int, before: int = 0) -> dict[str, Any]:
        """A purchase that wanted to write ``counter`` to the card and never heard whether it did."""
        intent = {
            "intent_id": intent_id,
            "card_no": CARD,
            "sequence_before": counter - 1,
            "sequence_after": counter,
            "balance_before": before,
            "balance_after": before + earned,
        }
        points = {"earned": earned, "redeemed": 0}
        data = {"card": None, "intent": intent, "purchase": {"amount": 1000}, "points": points}
        return self.event("purchase.recorded", data)
