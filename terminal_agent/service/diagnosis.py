"""``doctor`` from outside: through the daemon where one runs, and what can be said where nothing opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from terminal_agent.errors import AgentError
from terminal_agent.service.backend import open_backend
from terminal_agent.service.doctor import Finding, Status
from terminal_agent.service.settings import load_settings


def diagnose(config: Path, params: dict[str, Any]) -> dict[str, Any]:
    """Every check that can be made: of the config file, then of what it names, through the daemon where one runs."""
    try:
        settings = load_settings(config)
    except AgentError as problem:
        return {"checks": [Finding(Status.FAIL, problem.message, problem.hint).to_json("config")]}
    checks = [Finding(Status.OK, f"{config} is read").to_json("config")]
    try:
        with open_backend(settings, config.absolute()) as backend:
            return {"checks": checks + backend.call("doctor", params, _say_nothing)["checks"]}
    except AgentError as problem:
        return {"checks": [*checks, Finding(Status.FAIL, problem.message, problem.hint).to_json("start")]}


def _say_nothing(_text: str) -> None:
    """What is found is the answer itself."""
