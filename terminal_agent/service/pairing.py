"""Pairing codes and tokens of the till's API, as commands ask for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from terminal_agent.club.text import TextInvalid, fold_digits, plain_text
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.till import Cashier
from terminal_agent.ports import rfc3339
from terminal_agent.service.agent import Agent
from terminal_agent.till_api.access import LONGEST_NAME
from terminal_agent.till_api.cashiers import PIN_FORM, Role, hash_pin

TILL_CODE = "till.code"


def till_code(agent: Agent, params: dict[str, Any], talk: Callable[[str], None]) -> Any:
    """Only the running daemon knows codes; it answers this one itself."""
    raise AgentError(
        ErrorCode.BUSY,
        "the till's API is served by the daemon, and none runs here",
        hint="Start it: systemctl start terminal-agent, or: terminal-agent run",
    )


def till_tokens(agent: Agent, params: dict[str, Any], talk: Callable[[str], None]) -> Any:
    return {"tokens": [dict(vars(token)) for token in agent.journal.till.tokens()]}


def till_revoke(agent: Agent, params: dict[str, Any], talk: Callable[[str], None]) -> Any:
    token_id = params["token_id"]
    with agent.journal.transaction():
        revoked = agent.journal.till.revoke(token_id)
        if revoked:
            agent.journal.audit("till.revoked", token_id=token_id)
    if not revoked:
        raise AgentError(ErrorCode.NOT_FOUND, f"no token {token_id} works", hint="See them: terminal-agent till tokens")
    return {"token_id": token_id, "revoked": True}


def cashier_add(agent: Agent, params: dict[str, Any], talk: Callable[[str], None]) -> Any:
    """``{name, role}``; one of that name gets the new PIN and role. Raises AgentError ``invalid_input``."""
    try:
        name, pin = plain_text(params["name"], LONGEST_NAME), fold_digits(params["pin"]).strip()
    except TextInvalid as error:
        raise AgentError(ErrorCode.INVALID_INPUT, f"the name {error}", hint="As in: Nasrin") from error
    if not PIN_FORM.fullmatch(pin):
        raise AgentError(ErrorCode.INVALID_INPUT, "a PIN is 4 to 12 digits", hint="Choose another one")
    cashier = Cashier(name, Role(params["role"]).value, hash_pin(pin), rfc3339(agent.clock.now()))
    with agent.journal.transaction():
        agent.journal.till.put_cashier(cashier)
        agent.journal.audit("till.cashier_added", cashier=name, role=cashier.role)
    return {"name": name, "role": cashier.role}


def cashier_list(agent: Agent, params: dict[str, Any], talk: Callable[[str], None]) -> Any:
    """Nothing of their PINs."""
    shown = ("name", "role", "created_at")
    return {"cashiers": [{key: getattr(one, key) for key in shown} for one in agent.journal.till.cashiers()]}


def cashier_remove(agent: Agent, params: dict[str, Any], talk: Callable[[str], None]) -> Any:
    name = params["name"]
    with agent.journal.transaction():
        removed = agent.journal.till.remove_cashier(name)
        if removed:
            agent.journal.audit("till.cashier_removed", cashier=name)
    if not removed:
        hint = "See them: terminal-agent till cashier list"
        raise AgentError(ErrorCode.NOT_FOUND, "there is no cashier of that name", hint=hint)
    return {"name": name, "removed": True}


OPERATIONS = {
    TILL_CODE: till_code,
    "till.tokens": till_tokens,
    "till.revoke": till_revoke,
    "till.cashier.add": cashier_add,
    "till.cashier.list": cashier_list,
    "till.cashier.remove": cashier_remove,
}
