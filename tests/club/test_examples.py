"""The worked examples of docs/policy.md are what the rules do, and the schema beside them is the models' own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from terminal_agent.club.policy import PolicyInvalid, default_policy, parse_policy, policy_schema, unknown_keys
from terminal_agent.club.trial import Trial, try_purchase

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = (DOCS / "policy.md").read_text()
POLICIES = sorted((DOCS / "policies").glob("*.json"))
SCHEMA = json.loads((DOCS / "policy.schema.json").read_text())
VALIDATOR = jsonschema_rs.validator_for(SCHEMA)


def cases() -> list[Any]:
    return [
        pytest.param(path, case, id=f"{path.stem}: {case['case']}")
        for path in POLICIES
        for case in json.loads((path.parent / "cases" / path.name).read_text())
    ]


@pytest.mark.parametrize(("path", "case"), cases())
def test_an_example_is_what_the_rules_do(path: Path, case: dict[str, Any]) -> None:
    policy = parse_policy(json.loads(path.read_text()))
    trial = Trial.model_validate({"purchase": case["purchase"], "holder": case["holder"]})
    assert try_purchase(policy, trial) == case["expect"]


@pytest.mark.parametrize(("path", "case"), cases())
def test_the_guide_tells_each_example_as_it_is(path: Path, case: dict[str, Any]) -> None:
    """A row of its table: what is bought, and the points of each rule."""
    told = [f"{reason['points']:+d} {reason['rule']}" for reason in case["expect"].get("explanation", [])]
    result = ", ".join(told) or f"refused: {case['expect']['refused']}, at most {case['expect']['limit']}"
    assert f"| {case['case']} | {result} |" in GUIDE
    assert f"policies/{path.name}" in GUIDE


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_an_example_is_a_policy_without_loose_ends(path: Path) -> None:
    document = json.loads(path.read_text())
    assert unknown_keys(parse_policy(document)) == []
    VALIDATOR.validate(document)


def test_the_schema_in_the_documents_is_the_models_own() -> None:
    assert policy_schema() == SCHEMA, "terminal-agent crm policy schema > docs/policy.schema.json"


@pytest.mark.parametrize(
    "changed",
    [
        {"version": ""},
        {"earn": {"per_amount": 0}},
        {"offers": [{"id": "x", "reward": {}}]},
        {"offers": [{"id": "x", "reward": {"points": 1, "points_per_item": 1}}]},
        {"offers": [{"id": "x", "reward": {"points": 1}, "hours": {"from": "10", "to": "12"}}]},
        {"stamps": [{"id": "x", "reward_points": 1}]},
    ],
)
def test_schema_and_program_refuse_the_same(changed: dict[str, Any]) -> None:
    document = {**default_policy(), **changed}
    assert not VALIDATOR.is_valid(document)
    with pytest.raises(PolicyInvalid):
        parse_policy(document)


def test_the_guide_names_every_key() -> None:
    keys = {key for part in [SCHEMA, *SCHEMA["$defs"].values()] for key in part["properties"]}
    assert {key for key in keys if f"`{key}`" not in GUIDE} == set()
