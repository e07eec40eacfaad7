"""``doctor`` and ``status`` from outside: through the daemon where one runs, and what is seen where nothing opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from terminal_agent.errors import AgentError
from terminal_agent.service.backend import open_backend
from terminal_agent.service.doctor.finding import Status, fail, ok
from terminal_agent.service.doctor.surroundings import Surroundings, around
from terminal_agent.service.settings import Settings, load_settings


def diagnose(config: Path, params: dict[str, Any]) -> dict[str, Any]:
    """Every check that can be made: of the config file, of the machine, then of the agent, in the daemon if it runs."""
    try:
        settings = load_settings(config)
    except AgentError as problem:
        return {"checks": [fail(problem.message, problem.hint).to_json("config")]}
    status, inside = _asked(settings, config, params)
    outside = around(Surroundings(settings, config.absolute(), status))
    return {"checks": [ok(f"{config} is read").to_json("config"), *outside, *inside]}


def _asked(
    settings: Settings, config: Path, params: dict[str, Any]
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The agent's status and its own checks; instead of both, why it cannot be opened."""
    try:
        with open_backend(settings, config.absolute()) as backend:
            status = backend.call("status", {}, _say_nothing)
            return status, backend.call("doctor", params, _say_nothing)["checks"]
    except AgentError as problem:
        return None, [fail(problem.message, problem.hint).to_json("start")]


def status(config: Path) -> dict[str, Any]:
    """The answer of ``status``, and as ``problems`` what the quick checks find.

    Raises AgentError where the agent cannot be opened; ``problems`` then stand beside the error.
    """
    settings = load_settings(config)
    try:
        with open_backend(settings, config.absolute()) as backend:
            answer: dict[str, Any] = backend.call("status", {}, _say_nothing)
    except AgentError as problem:
        problem.details["problems"] = _problems(settings, config, None)
        raise
    return {**answer, "problems": [*_problems(settings, config, answer), *answer["problems"]]}


def _problems(settings: Settings, config: Path, answer: dict[str, Any] | None) -> list[dict[str, Any]]:
    found = around(Surroundings(settings, config.absolute(), answer), only_quick=True)
    return [each for each in found if each["status"] != Status.OK.value]


def _say_nothing(_text: str) -> None:
    """What is found is the answer itself."""
