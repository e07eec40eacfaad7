"""A failed call to the CRM as a person is told it."""

from __future__ import annotations

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.sync.adapters import base as crm


def crm_problem(error: crm.CrmError, url: str | None) -> AgentError:
    """A failed call to the CRM as a person is told it."""
    if isinstance(error, crm.CrmUnauthorized):
        return AgentError(
            ErrorCode.CRM_UNAUTHORIZED,
            f"the CRM no longer accepts this terminal: {error}",
            hint="Get a new code from head office: terminal-agent enroll --crm-url URL --code-file FILE",
        )
    if isinstance(error, crm.CrmBlocked):
        return AgentError(
            ErrorCode.CRM_UNREACHABLE,
            f"the CRM takes no events: {error}",
            hint="Nothing is lost. Ask who runs the network or the CRM what stands between, then: terminal-agent sync",
        )
    return AgentError(
        ErrorCode.CRM_UNREACHABLE,
        f"the CRM cannot be reached: {error}",
        hint=f"Nothing is lost, everything waits in the queue. Check the line to {url}",
    )
