"""Where a CRM is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DatabaseUrl:
    """Which PostgreSQL database, as libpq writes it: ``postgresql://USER@HOST:PORT/NAME``. It holds no password."""

    text: str


Place = Path | DatabaseUrl
"""A directory, with a CRM on SQLite in it, or a database."""
