"""What terminal and CRM share: an enrolment without its person still stands for the one that was minted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from terminal_agent.contract import canonical_json, fingerprint, minted_fingerprint, redact_enrolment, redacted_from

MEMBER = {"member_id": "m-1", "phone": "09125554433", "name": "Sara", "tier": "gold", "referrer_member_id": "m-0"}
EVENT: dict[str, Any] = {
    "id": "e-1",
    "type": "member.enrolled",
    "sequence": "7",
    "data": {"member": MEMBER, "previous_hash": "0" * 64},
}
BODY = canonical_json(EVENT)
REDACTED = redact_enrolment(BODY, fingerprint(BODY))


def test_a_redacted_enrolment_names_nobody_and_stands_for_what_was_minted() -> None:
    assert json.loads(REDACTED)["data"]["member"] == {
        "member_id": "m-1",
        "tier": "gold",
        "referrer_member_id": "m-0",
    }
    assert minted_fingerprint(REDACTED) == minted_fingerprint(BODY) == fingerprint(BODY)
    assert redacted_from(BODY) is None


def test_redacting_again_changes_nothing() -> None:
    assert redact_enrolment(REDACTED, minted_fingerprint(REDACTED)) == REDACTED


@pytest.mark.parametrize(
    "change",
    [
        lambda event: event["data"]["member"].update(member_id="m-2"),
        lambda event: event.update(sequence="8"),
        lambda event: event.update(type="purchase.recorded"),
        lambda event: event["data"]["redacted"].update(fingerprint="f" * 64),
        lambda event: event["data"]["redacted"].pop("check"),
        lambda event: event["data"].update(redacted=[]),
    ],
)
def test_a_redacted_enrolment_that_was_changed_stands_for_nothing(change: Any) -> None:
    event = json.loads(REDACTED)
    change(event)
    changed = canonical_json(event)
    assert minted_fingerprint(changed) == fingerprint(changed)


def test_what_is_no_enrolment_cannot_pass_for_a_redacted_one() -> None:
    purchase = {**EVENT, "type": "purchase.recorded", "data": {"member": {"member_id": "m-1"}, "previous_hash": ""}}
    body = redact_enrolment(canonical_json(purchase), "a" * 64)
    assert minted_fingerprint(body) == fingerprint(body)
