"""reader: what card readers this machine has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from terminal_agent.cli.output import AgentGroup, emit, state
from terminal_agent.errors import AgentError

if TYPE_CHECKING:
    from terminal_agent.service.settings import Settings


@click.group(cls=AgentGroup)
def reader() -> None:
    """Card readers of this machine."""


@reader.command("list")
def reader_list() -> None:
    """List the readers with the URL that --reader takes; of one that cannot be used, say why and what to do.

    \b
    Example:
      terminal-agent reader list
    """
    from terminal_agent.service.readers import reader_list as look

    rows = look(_settings())
    emit(rows, "\n".join(_listed(rows)))


def _listed(rows: list[dict[str, Any]]) -> list[str]:
    lines: list[str] = []
    for row in rows:
        lines.append(f"{row['state']:<8} {row['url']:<40} {row['name'] or ''}".rstrip())
        if row["problem"]:
            lines += [f"         {row['problem']}", f"      -> {row['hint']}"]
    if all(row["problem"] for row in rows):
        lines.append("No reader can be used yet. A simulated one needs nothing: --reader sim:card.mfd")
    return lines


def _settings() -> Settings | None:
    """What the config file says, where there is one; readers can be listed before ``init``."""
    from terminal_agent.service.settings import find_config, load_settings

    try:
        return load_settings(find_config(state().config))
    except AgentError:
        return None


COMMANDS = (reader,)
