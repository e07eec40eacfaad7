"""The queue on foot, as commands ask for it. Who runs the command reads and writes the files: the daemon may not."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from typing import Any

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service.agent import Agent
from terminal_agent.sync import courier
from terminal_agent.sync.client import Credentials


def queue_export(agent: Agent, params: dict[str, Any], talk: Callable[[str], None]) -> Any:
    """``{content, export_id, events, through, left}``; ``content`` is the whole file."""
    export = courier.export_queue(
        agent.journal, _credentials(agent), agent.clock, agent.ids, int(params.get("after") or 0)
    )
    facts = {"export_id": export.export_id, "events": export.events, "through": export.through, "left": export.left}
    return {"content": export.content.decode(), **facts}


def queue_acknowledge(agent: Agent, params: dict[str, Any], talk: Callable[[str], None]) -> Any:
    """``{acknowledged, quarantined, unchanged}``; ``content`` is a receipt in base64."""
    return courier.acknowledge(agent.journal, _credentials(agent), b64decode(params["content"]))


def _credentials(agent: Agent) -> Credentials:
    if agent.credentials is None:
        raise AgentError(
            ErrorCode.NOT_ENROLLED,
            "this terminal has not joined a CRM, which could know it by its seal",
            hint="Join it once: terminal-agent enroll --crm-url URL --code-file FILE",
        )
    return agent.credentials


OPERATIONS = {"queue.export": queue_export, "queue.acknowledge": queue_acknowledge}
