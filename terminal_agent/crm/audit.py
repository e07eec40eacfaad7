"""The audit log: who did what to whom, and when. Rows are only added, and never hold personal data."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, insert, select

from terminal_agent.crm.schema import audit_log

ADMIN = "admin"
"""Who runs ``terminal-agent crm``; a terminal is named by ``terminal:<terminal_id>``."""
MAX_ROWS = 1000


def terminal(terminal_id: str) -> str:
    """A terminal, as the log names it."""
    return f"terminal:{terminal_id}"


def note(connection: Connection, who: str, action: str, subject: str | None, now: str, **detail: Any) -> None:
    """Adds a line. ``subject`` is a member id, a card number or a terminal id: never a name or a phone."""
    text = json.dumps(detail, sort_keys=True)
    connection.execute(insert(audit_log).values(time=now, who=who, action=action, subject=subject, detail=text))


def read(connection: Connection, subject: str | None, limit: int) -> list[dict[str, Any]]:
    """The newest lines first, of one subject or of all: ``[{entry, time, who, action, subject, detail}]``."""
    query = select(audit_log).order_by(audit_log.c.entry.desc()).limit(limit)
    if subject is not None:
        query = query.where(audit_log.c.subject == subject)
    return [{**row, "detail": json.loads(row["detail"])} for row in connection.execute(query).mappings()]
