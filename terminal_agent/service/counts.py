"""What waits at this terminal, and how the CRM was found last: for status, doctor, daemon and till alike."""

from __future__ import annotations

from typing import Any

from terminal_agent.journal.events import OutboxState
from terminal_agent.service.agent import Agent


def crm_seen(agent: Agent) -> dict[str, Any]:
    """``{url, state}`` of the CRM, as the last exchange found it."""
    return {"url": agent.crm_url, "state": agent.sync.state.value}


def counts(agent: Agent) -> dict[str, Any]:
    """What waits, for the CRM or for a person."""
    events = agent.journal.events
    return {
        "pending": events.count(OutboxState.PENDING),
        "in_doubt": agent.journal.intents.count_open(),
        "quarantined": events.count(OutboxState.QUARANTINED),
        "oldest_pending_age_s": events.oldest_pending_age_s(),
    }
