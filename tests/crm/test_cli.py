"""``terminal-agent crm``, as people and programs run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from terminal_agent.cli.crm import crm as group
from terminal_agent.crm.place import Place
from terminal_agent.errors import AgentError, ErrorCode
from tests.crm.world import CARD, Crm, Terminal


def run(place: Place, *arguments: str) -> Result:
    where = ["--data-dir", str(place)] if isinstance(place, Path) else ["--database-url", place.text]
    return CliRunner().invoke(group, [*arguments, *where])


def run_json(place: Place, *arguments: str) -> Any:
    result = run(place, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_code_is_made_where_there_was_no_crm(tmp_path: Path) -> None:
    answer = run_json(tmp_path / "crm", "code", "--expires-in-s", "60")
    assert [len(part) for part in answer["code"].split("-")] == [4, 4, 4]
    assert answer["expires_in_s"] == 60
    assert len(run(tmp_path / "crm", "code").stdout.strip()) == 14


def test_a_card_shows_its_events(crm: Crm, terminal: Terminal) -> None:
    event = terminal.purchase(3, earned=10, redeemed=2)
    terminal.post(event)
    answer = run_json(crm.place, "card", CARD)
    assert (answer["card_no"], answer["balance"], answer["sequence"], answer["status"]) == (CARD, 8, 3, "active")
    [shown] = answer["events"]
    assert (shown["id"], shown["type"], shown["sequence"]) == (event["id"], "purchase.recorded", 1)
    assert (shown["card_sequence"], shown["earned"], shown["redeemed"]) == (3, 10, 2)
    assert "8 points" in run(crm.place, "card", CARD).stdout


def test_a_card_shows_its_points_on_hold(crm: Crm, terminal: Terminal) -> None:
    terminal.post(terminal.purchase(1, earned=10))
    got = terminal.call("POST", "/v1/holds", json={"card_no": CARD, "points": 4}).json()
    answer = run_json(crm.place, "card", CARD)
    assert (answer["balance"], answer["available"], answer["holds"][0]["hold_id"]) == (10, 6, got["hold_id"])
    assert f"4 points on hold until {got['expires_at']}  shop-1" in run(crm.place, "card", CARD).stdout
    terminal.call("POST", f"/v1/holds/{got['hold_id']}/confirm")
    assert "4 points on hold until its event arrives  shop-1" in run(crm.place, "card", CARD).stdout


def test_the_ledger_shows_every_account_and_the_sum(crm: Crm, terminal: Terminal) -> None:
    terminal.post(terminal.purchase(1, earned=10))
    assert run_json(crm.place, "ledger") == {
        "sum": 0,
        "accounts": [{"account": f"card:{CARD}", "balance": 10}, {"account": "programme:issued", "balance": -10}],
    }
    assert "sum  0" in run(crm.place, "ledger").stdout


def test_points_can_be_taken_and_cards_blocked_while_the_server_runs(crm: Crm, terminal: Terminal) -> None:
    terminal.post(terminal.purchase(1, earned=10))
    answer = run_json(crm.place, "adjust", CARD, "-4", "--reason", "mistake")
    assert answer == {"card_no": CARD, "number": 1, "points": -4, "reason": "mistake", "balance": 6}
    assert run_json(crm.place, "block", CARD, "--reason", "lost")["changed"] is True
    assert terminal.get(f"/v1/cards/{CARD}")["status"] == "blocked"
    assert run_json(crm.place, "unblock", CARD)["changed"] is True
    assert run_json(crm.place, "unblock", CARD)["changed"] is False
    assert terminal.get(f"/v1/cards/{CARD}")["status"] == "active"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["card", "unknown"], ErrorCode.NOT_FOUND),
        (["block", "unknown", "--reason", "x"], ErrorCode.NOT_FOUND),
        (["code", "--expires-in-s", "0"], ErrorCode.INVALID_INPUT),
        (["serve", "--listen", "nonsense"], ErrorCode.INVALID_INPUT),
        (["serve", "--listen", "127.0.0.1:99999"], ErrorCode.INVALID_INPUT),
    ],
)
def test_a_mistake_is_named_with_the_next_action(arguments: list[str], code: ErrorCode, crm: Crm) -> None:
    error = run(crm.place, *arguments).exception
    assert isinstance(error, AgentError)
    assert error.code is code
    assert error.hint


@pytest.mark.parametrize("command", sorted(group.commands))
def test_every_command_has_help(command: str) -> None:
    result = CliRunner().invoke(group, [command, "--help"])
    assert result.exit_code == 0
    assert "--data-dir" in result.output


def test_holds_are_listed_and_freed(crm: Crm, terminal: Terminal) -> None:
    terminal.post(terminal.purchase(1, earned=100))
    placed = terminal.call("POST", "/v1/holds", json={"card_no": CARD, "points": 60}).json()
    [row] = run_json(crm.place, "hold", "list")
    assert row == {name: placed[name] for name in ("hold_id", "card_no", "points", "state", "expires_at")} | {
        "terminal_id": "shop-1",
        "placed_at": row["placed_at"],
    }
    assert "shop-1" in run(crm.place, "hold", "list").stdout
    freed = run(crm.place, "hold", "free", placed["hold_id"], "--reason", "till stolen")
    assert freed.stdout == f"60 points of card {CARD} are free again.\n"
    assert run_json(crm.place, "hold", "list") == []
