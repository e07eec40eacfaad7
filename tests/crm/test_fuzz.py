"""Whatever JSON a terminal sends: a verdict per event, never a failure, never a point out of nowhere."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from terminal_agent.contract import EventType, source_of
from terminal_agent.crm import inbox, ledger
from terminal_agent.crm.bodies import parse_json
from terminal_agent.crm.store import Store
from tests.crm.world import CARD, EPOCH

NOW = "2026-11-22T09:30:00.000Z"
VERDICTS = {"accepted", "duplicate", "fork", "rejected"}

texts = st.one_of(st.text(max_size=8), st.sampled_from([CARD, "i-1", "\x00", "\ud800", "۱۲", "09125554433"]))
numbers = st.one_of(st.integers(-3, 5), st.integers(), st.floats(), st.sampled_from([2**63, -(2**63), 10**12]))
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
small = st.integers(0, 4)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly right, sometimes anything."""
    return st.one_of(strategy, strategy, strategy, strategy, anything)


cards = st.fixed_dictionaries(
    {"card_no": maybe(st.just(CARD)), "sequence": maybe(small)},
    optional={"balance_before": maybe(small), "balance_after": maybe(small), "adjustments_through": maybe(small)},
)
intents = st.fixed_dictionaries(
    {"intent_id": st.sampled_from(["i-1", "i-2"]), "card_no": maybe(st.just(CARD))}
    | {name: maybe(small) for name in ("sequence_before", "sequence_after", "balance_before", "balance_after")},
    optional={"adjustments_through": maybe(small)},
)
data = st.fixed_dictionaries(
    {},
    optional={
        "card": maybe(st.one_of(st.none(), cards)),
        "intent": maybe(intents),
        "points": maybe(st.fixed_dictionaries({}, optional={"earned": maybe(small), "redeemed": maybe(small)})),
        "purchase": maybe(st.just({"amount": 1})),
        "member": maybe(st.fixed_dictionaries({"member_id": maybe(st.just("m-1"))}, optional={"phone": maybe(texts)})),
        "card_no": maybe(st.just(CARD)),
        "intent_id": maybe(st.sampled_from(["i-1", "i-2"])),
        "landed": maybe(st.booleans()),
        "kind": maybe(st.just("rolled_back")),
        "hold_id": maybe(st.just("h-1")),
        "reversal": maybe(st.just({"reversed_event_id": "e-1", "amount": 1, "currency": "IRR"})),
    },
)
events = st.fixed_dictionaries(
    {
        "specversion": st.just("1.0"),
        "id": maybe(st.one_of(st.uuids().map(str), st.just("e-1"))),
        "source": maybe(st.just(source_of("shop-1", EPOCH))),
        "type": maybe(st.sampled_from([kind.value for kind in EventType])),
        "time": maybe(st.just(NOW)),
        "sequence": maybe(st.integers(1, 30).map(str)),
        "data": maybe(data),
    },
    optional={"subject": maybe(st.just(f"cards/{CARD}")), "previous_hash": anything},
)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(st.one_of(events, events, events, anything), max_size=8))
def test_any_batch_gets_verdicts_and_keeps_the_ledger_at_zero(batch: list[Any], store: Store) -> None:
    body = json.dumps(batch).replace("NaN", "0").replace("-Infinity", "0").replace("Infinity", "0")
    documents = parse_json(body.encode())
    with store.writing() as connection:
        results, acked_through = inbox.receive(connection, "shop-1", documents, NOW)
    assert len(results) == len(batch)
    assert {result.status.value for result in results} <= VERDICTS
    assert acked_through >= 0
    with store.reading() as connection:
        balances = {row.account: row.balance for row in ledger.balances(connection)}
        assert ledger.total(connection) == sum(balances.values()) == 0
    for result in results:
        result.model_dump_json()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(events, min_size=1, max_size=6))
def test_what_was_acknowledged_changes_nothing_when_it_comes_again(batch: list[Any], store: Store) -> None:
    body = json.dumps(batch).replace("NaN", "0").replace("-Infinity", "0").replace("Infinity", "0")
    documents = parse_json(body.encode())
    with store.writing() as connection:
        first, _ = inbox.receive(connection, "shop-1", documents, NOW)
        before = ledger.balances(connection)
        again, _ = inbox.receive(connection, "shop-1", documents, NOW)
        assert ledger.balances(connection) == before
    for verdict, repeated in zip(first, again, strict=True):
        assert repeated.status.value == ("rejected" if verdict.status.value == "rejected" else "duplicate")
