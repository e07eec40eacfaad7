"""The terminal's durable memory: events, intents, checkouts, what the CRM said. One SQLite file, one connection."""

from terminal_agent.journal.journal import Journal
from terminal_agent.journal.start import UnsureName

__all__ = ["Journal", "UnsureName"]
