"""What the commands under ``crm`` have in common: which CRM they are about."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from terminal_agent.crm.place import DatabaseUrl, Place
from terminal_agent.errors import AgentError, ErrorCode

_data_dir = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="where the CRM keeps its database",
)
_database_url = click.option(
    "--database-url",
    metavar="URL",
    help="keep it in PostgreSQL instead: postgresql://USER@HOST/NAME, its password in ~/.pgpass",
)


def crm_place(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command ``place``, the CRM that --database-url or --data-dir names."""

    @_data_dir
    @_database_url
    @wraps(command)
    def wrapped(data_dir: Path | None, database_url: str | None, **given: Any) -> Any:
        return command(place=_place(data_dir, database_url), **given)

    return wrapped


def _place(data_dir: Path | None, database_url: str | None) -> Place:
    if database_url is not None:
        return DatabaseUrl(database_url)
    if data_dir is None:
        raise AgentError(
            ErrorCode.INVALID_INPUT,
            "Which CRM is meant is not said.",
            hint="Give --data-dir DIR, or --database-url URL for one on PostgreSQL.",
        )
    return data_dir
