"""demo: the whole story on a simulated reader with an embedded CRM."""

from __future__ import annotations

import click

from terminal_agent.cli.output import AgentCommand, emit


@click.command(cls=AgentCommand)
def demo() -> None:
    """Show the whole story: a card issued, tapped with the CRM down, synced, and everything agreeing to the point.

    Uses a simulated reader and an embedded CRM in a temporary folder, and leaves nothing behind.

    \b
    Example:
      terminal-agent demo
    """
    from terminal_agent.demo import run_demo

    answer = run_demo()
    emit(answer, "")


COMMANDS = (demo,)
