"""reader: what card readers this machine has."""

from __future__ import annotations

import click

from terminal_agent.cli.output import AgentGroup, emit, state
from terminal_agent.errors import AgentError


@click.group(cls=AgentGroup)
def reader() -> None:
    """Card readers of this machine."""


@reader.command("list")
def reader_list() -> None:
    """List the readers that can be used, with the URL that --reader takes.

    \b
    Example:
      terminal-agent reader list
    """
    from terminal_agent.service.operations import reader_list as look

    rows = look(_configured_reader())
    if not rows:
        emit(rows, "No reader is connected. Plug one in; a simulated one needs none: --reader sim:card.mfd")
        return
    emit(rows, "\n".join(f"{row['state']:<8} {row['url']:<40} {row['name'] or ''}".rstrip() for row in rows))


def _configured_reader() -> str | None:
    """The default reader, where there is a config file; readers can be listed before ``init``."""
    from terminal_agent.service.settings import find_config, load_settings

    try:
        return load_settings(find_config(state().config)).reader
    except AgentError:
        return None


COMMANDS = (reader,)
