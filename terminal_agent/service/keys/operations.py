"""What ``keys`` commands ask of the agent: one function for each, JSON in and out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from terminal_agent.service.agent import Agent
from terminal_agent.service.keys.store import parse_key

Params = dict[str, Any]
Talk = Callable[[str], None]


def keys_list(agent: Agent, params: Params, talk: Talk) -> Any:
    return [key_set.to_json() for key_set in agent.keys.list()]


def keys_generate(agent: Agent, params: Params, talk: Talk) -> Any:
    key_set = agent.keys.generate(activate=params["activate"])
    talk(f"{agent.keys.only_copy(key_set.version)}: without it no card can be read.")
    return _audited(agent, "keys.generated", key_set.to_json())


def keys_import(agent: Agent, params: Params, talk: Talk) -> Any:
    key_set = agent.keys.add(parse_key(params["key"]), params.get("version"), activate=params["activate"])
    if params.get("no_issue"):
        key_set = agent.keys.limit(key_set.version, may_issue=False)
    return _audited(agent, "keys.imported", key_set.to_json())


def keys_activate(agent: Agent, params: Params, talk: Talk) -> Any:
    return _audited(agent, "keys.activated", agent.keys.activate(params["version"]).to_json())


def keys_limit(agent: Agent, params: Params, talk: Talk) -> Any:
    key_set = agent.keys.limit(params["version"], may_issue=params["may_issue"])
    return _audited(agent, "keys.limited", key_set.to_json())


def keys_retire(agent: Agent, params: Params, talk: Talk) -> Any:
    key_set = agent.keys.retire(params["version"], retired=params["retired"])
    return _audited(agent, "keys.retired" if key_set.retired else "keys.taken_up", key_set.to_json())


def keys_unlock(agent: Agent, params: Params, talk: Talk) -> Any:
    agent.keys.unlock()
    with agent.journal.transaction():
        agent.journal.audit("keys.unlocked", place=agent.keys.place)
    return keys_list(agent, params, talk)


def _audited(agent: Agent, action: str, answer: dict[str, Any]) -> dict[str, Any]:
    with agent.journal.transaction():
        agent.journal.audit(action, version=answer["version"], kcv=answer["kcv"], may_issue=answer["may_issue"])
    return answer


OPERATIONS = {
    "keys.list": keys_list,
    "keys.generate": keys_generate,
    "keys.import": keys_import,
    "keys.activate": keys_activate,
    "keys.limit": keys_limit,
    "keys.retire": keys_retire,
    "keys.unlock": keys_unlock,
}
