"""Policies as head office publishes them: whole or not at all, each version for ever the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from terminal_agent.cli.crm import crm as group
from terminal_agent.club.policy import default_policy
from terminal_agent.crm import admin, policies
from terminal_agent.errors import AgentError, ErrorCode
from tests.crm.test_cli import run, run_json
from tests.crm.world import Crm, Terminal

RULES = {**default_policy(), "version": "2", "earn": {"points": 3, "per_amount": 1_000}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rules.json"


def load(crm: Path, file: Path, **changed: Any) -> dict[str, Any]:
    file.write_text(json.dumps({**RULES, **changed}))
    answer: dict[str, Any] = run_json(crm, "policy", "load", str(file))
    return answer


def refused(crm: Path, file: Path, text: str | None = None, **changed: Any) -> AgentError:
    file.write_text(json.dumps({**RULES, **changed}) if text is None else text)
    error = run(crm, "policy", "load", str(file)).exception
    assert isinstance(error, AgentError)
    assert error.code is ErrorCode.INVALID_INPUT
    return error


def test_a_policy_reaches_the_terminals(crm: Crm, terminal: Terminal, file: Path) -> None:
    answer = load(crm.place, file)
    assert answer == {
        "version": "2",
        "valid_from": "2026-01-01T00:00:00.000Z",
        "currency": "IRR",
        "published": True,
        "unknown_keys": [],
    }
    last = terminal.get("/v1/feed")["items"][-1]
    assert last == {"kind": "policy", "version": "2", "valid_from": RULES["valid_from"], "document": RULES}


def test_the_same_document_again_publishes_nothing(crm: Crm, terminal: Terminal, file: Path) -> None:
    load(crm.place, file)
    before = terminal.get("/v1/feed")["items"]
    assert load(crm.place, file)["published"] is False
    assert terminal.get("/v1/feed")["items"] == before


def test_a_version_keeps_its_content(crm: Crm, file: Path) -> None:
    load(crm.place, file)
    assert "other content" in refused(crm.place, file, earn={"points": 4}).message
    assert "other content" in refused(crm.place, file, version="default").message
    assert run_json(crm.place, "policy", "show", "2") == RULES


def test_a_club_keeps_its_currency_once_it_has_rules_of_its_own(crm: Crm, file: Path) -> None:
    assert load(crm.place, file, currency="EUR")["published"] is True
    assert "EUR" in refused(crm.place, file, version="3").message
    assert load(crm.place, file, version="3", currency="EUR")["published"] is True


def test_a_mistake_names_its_place_and_publishes_nothing(crm: Crm, terminal: Terminal, file: Path) -> None:
    before = terminal.get("/v1/feed")["items"]
    offers = [{"id": "x", "reward": {"points": 1}}, {"id": "y", "reward": {"points": "many"}, "weekdays": ["funday"]}]
    error = refused(crm.place, file, offers=offers)
    places = [problem["pointer"] for problem in error.details["problems"]]
    assert places == ["/offers/1/weekdays/0", "/offers/1/reward/points"]
    assert all(place in error.message for place in places)
    assert terminal.get("/v1/feed")["items"] == before
    assert len(run_json(crm.place, "policy", "list")) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1,}', "null"])
def test_a_file_that_is_no_policy_is_refused(crm: Crm, file: Path, text: str) -> None:
    assert "JSON" in refused(crm.place, file, text).message


def test_a_file_that_is_no_text_is_refused(crm: Crm, file: Path) -> None:
    file.write_bytes(b"\xff\xfe{}")
    assert isinstance(run(crm.place, "policy", "load", str(file)).exception, AgentError)


def test_an_unknown_key_is_told_and_kept(crm: Crm, file: Path) -> None:
    file.write_text(json.dumps({**RULES, "earn": {"points": 3, "per_visit": 1}}))
    result = run(crm.place, "policy", "load", str(file))
    assert "/earn/per_visit means nothing" in result.stderr
    assert run_json(crm.place, "policy", "show", "2")["earn"] == {"points": 3, "per_visit": 1}


def test_the_latest_that_has_begun_is_in_force(crm: Crm, file: Path) -> None:
    load(crm.place, file, version="b", valid_from="2026-03-01T00:00:00+03:30")
    load(crm.place, file, version="a", valid_from="2026-02-01T00:00:00Z")
    load(crm.place, file, version="c", valid_from="9000-01-01T00:00:00Z")
    rows = run_json(crm.place, "policy", "list")
    assert [row["version"] for row in rows if row["in_force"]] == ["b"]
    assert len(rows) == 4
    assert run_json(crm.place, "policy", "show")["version"] == "b"
    assert "* b" in run(crm.place, "policy", "list").stdout
    error = run(crm.place, "policy", "show", "d").exception
    assert isinstance(error, AgentError)
    assert error.code is ErrorCode.NOT_FOUND


def test_of_two_policies_with_one_moment_the_later_published_is_in_force(tmp_path: Path) -> None:
    with admin.opened(tmp_path / "crm", create=True) as store, store.writing() as connection:
        for second, version in enumerate(("z", "a")):
            policies.load(connection, {**RULES, "version": version}, f"2099-11-22T00:00:0{second}.000Z")
        assert policies.in_force(connection, "2099-11-22T00:00:05.000Z").version == "a"


def tried(*arguments: str, rules: dict[str, Any] = RULES) -> Any:
    result = CliRunner().invoke(group, ["policy", "try", "-", *arguments, "--json"], input=json.dumps(rules))
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def test_a_purchase_is_tried_on_paper() -> None:
    stamps = [{"id": "cups", "count": 2, "reward_points": 9, "skus": ["cup"]}]
    offers = [{"id": "gold", "tiers": ["gold"], "weekdays": ["sun"], "reward": {"points": 5}}]
    rules = {**RULES, "stamps": stamps, "offers": offers, "tiers": [{"tier": "gold", "level": 1}]}
    options = ["--line", "cup:1:500", "--stamps", "cups:1", "--tier", "gold", "--at", "2026-11-22T12:00+03:30"]
    answer = tried("1000", "--redeem", "2", "--balance", "7", *options, rules=rules)
    assert (answer["earned"], answer["redeemed"], answer["points_after"]) == (17, 2, 22)
    assert [(reason["rule"], reason["points"]) for reason in answer["explanation"]] == [
        ("earn", 3),
        ("offer", 5),
        ("stamps", 9),
        ("redeem", -2),
    ]
    assert tried("1000", "--redeem", "8", "--balance", "7") == {"refused": "insufficient_points", "limit": 7}


@pytest.mark.parametrize("arguments", [["0"], ["much"], ["5", "--at", "soon"], ["5", "--stamps", "x"]])
def test_a_case_that_is_none_is_named(arguments: list[str], file: Path) -> None:
    file.write_text(json.dumps(RULES))
    error = CliRunner().invoke(group, ["policy", "try", str(file), *arguments]).exception
    assert isinstance(error, AgentError)
    assert error.code is ErrorCode.INVALID_INPUT
