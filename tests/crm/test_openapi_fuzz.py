"""Requests that the CRM's OpenAPI document allows, and some that it forbids, sent to a real server by schemathesis.

It checks that no answer is a 5xx and that every answer is one that the document describes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.crm.world import Crm, Terminal

EXAMPLES = 25
# A card's number, a phone, a cursor: text to a schema, more than that to the CRM, which refuses what is none. And what
# is forbidden may be one event of a batch, which gets its own verdict, or a query parameter that nobody reads.
TOO_STRICT: list[Callable[..., Any]] = [positive_data_acceptance, negative_data_rejection]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """What answers look like is not the database's doing."""
    return tmp_path / "crm"


def exercise(operation: Any, mode: GenerationMode, token: str) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    def every_answer_is_described(case: Any) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, excluded_checks=TOO_STRICT)

    every_answer_is_described()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
def test_every_answer_is_one_that_the_document_describes(mode: GenerationMode, crm: Crm, terminal: Terminal) -> None:
    described = schemathesis.openapi.from_url(f"{crm.url}/openapi.json")
    operations = [found.ok() for found in described.get_all_operations()]
    assert "POST /v1/events" in [operation.label for operation in operations]
    for operation in operations:
        if mode is GenerationMode.POSITIVE or operation.definition.raw.get("parameters") or operation.body:
            exercise(operation, mode, terminal.token)
