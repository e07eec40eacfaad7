"""Requests that the till's OpenAPI document allows, and some that it forbids, sent by schemathesis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.till_api.hand_reader import HandReader
from tests.till_api.page import Page, add, pair_page
from tests.till_api.pos import Pos, Shop

EXAMPLES = 20
# A currency of another shop, a receipt never sold, a code never shown: more than schemas say. And what is forbidden may
# be the token that was left out, which is sent all the same.
TOO_STRICT: list[Callable[..., Any]] = [positive_data_acceptance, negative_data_rejection]


FOR_ADMINISTRATORS = ("/v1/cashiers", "/v1/tokens")


def exercise(operation: Any, mode: GenerationMode, pos: Pos, page: Page) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    def every_answer_is_described(case: Any) -> None:
        if case.path == "/v1/events":  # a stream never ends
            case.query = {**(case.query or {}), "wait_s": 0}
        headers = {"Authorization": f"Bearer {pos.token}"}
        if case.path.startswith(FOR_ADMINISTRATORS):
            headers = {"Authorization": f"Bearer {page.token}", "Cashier-Session": page.session}
        case.call_and_validate(headers=headers, excluded_checks=TOO_STRICT)

    every_answer_is_described()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
def test_every_answer_is_one_that_the_document_describes(
    mode: GenerationMode, shop: Shop, pos: Pos, reader: HandReader
) -> None:
    reader.lay(shop.issue())
    add(shop, "omid", "administrator")
    page = pair_page(shop)
    page.sign_in("omid", "4711")
    document = pos.get("/openapi.json")
    described = schemathesis.openapi.from_dict(document)
    described.config.update(base_url=pos.url)
    for found in described.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.POSITIVE or operation.definition.raw.get("parameters") or operation.body:
            exercise(operation, mode, pos, page)
    assert page.get("/v1/tokens"), "the administrator was asked as one to the end"
