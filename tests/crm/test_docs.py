"""docs/crm-api.md tells the truth."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from terminal_agent import contract
from terminal_agent.contract import EventType, Verdict
from terminal_agent.crm.wire import HoldState
from tests.crm.world import Crm

TEXT = (Path(__file__).parents[2] / "docs" / "crm-api.md").read_text(encoding="utf-8")


def example(name: str) -> str:
    found = re.search(rf"^\| {re.escape(name)} \| `(.+)` \|$", TEXT, re.MULTILINE)
    assert found, name
    return found[1]


def test_the_worked_signature_is_right() -> None:
    secret, body = base64.b64decode(example("secret (base64)")), example("body").encode()
    assert contract.sign(secret, example("`Request-Id`"), body) == example("`Terminal-Signature`")


def test_every_call_is_described(crm: Crm) -> None:
    import requests

    paths = requests.get(crm.url + "/openapi.json", timeout=10).json()["paths"]
    for path, methods in paths.items():
        for method in methods:
            assert f"{method.upper()} {path}" in TEXT


def test_every_verdict_event_type_and_state_is_described() -> None:
    for name in [*Verdict, *EventType, *HoldState]:
        assert f"`{name.value}`" in TEXT
