"""Pairing codes and tokens of the till's API, as commands ask for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service.agent import Agent

TILL_CODE = "till.code"


def till_code(agent: Agent, params: dict[str, Any], talk: Callable[[str], None]) -> Any:
    """Only the running daemon knows codes; it answers this one itself."""
    raise AgentError(
        ErrorCode.BUSY,
        "the till's API is served by the daemon, and none runs here",
        hint="Start it: sudo systemctl start terminal-agent, or: terminal-agent run",
    )


def till_tokens(agent: Agent, params: dict[str, Any], talk: Callable[[str], None]) -> Any:
    return {"tokens": [dict(vars(token)) for token in agent.journal.till.tokens()]}


def till_revoke(agent: Agent, params: dict[str, Any], talk: Callable[[str], None]) -> Any:
    """``by``: the administrator at the page who wants it; None for a command."""
    token_id = params["token_id"]
    with agent.journal.transaction():
        revoked = agent.journal.till.revoke(token_id)
        if revoked:
            agent.journal.audit("till.revoked", token_id=token_id, by=params.get("by"))
    if not revoked:
        raise AgentError(ErrorCode.NOT_FOUND, f"no token {token_id} works", hint="See them: terminal-agent till tokens")
    return {"token_id": token_id, "revoked": True}


OPERATIONS = {
    TILL_CODE: till_code,
    "till.tokens": till_tokens,
    "till.revoke": till_revoke,
}
