"""run, status, completion: the daemon, and what it is doing."""

from __future__ import annotations

import sys
from typing import Any

import click

from terminal_agent.cli.backend import set_up_logging
from terminal_agent.cli.output import AgentCommand, emit, say, state
from terminal_agent.errors import AgentError


@click.command(cls=AgentCommand)
def run() -> None:
    """Run the daemon in the foreground: watches the reader, syncs, answers the other commands.

    SIGTERM finishes the card in hand and ends with exit code 0.

    \b
    Example:
      terminal-agent --config shop.toml run
    """
    from terminal_agent.service import signals

    signals.hold()  # before the libraries below: one may start a thread as it is imported
    from terminal_agent.service.backend import own_data_dir
    from terminal_agent.service.logs import daemon_handler
    from terminal_agent.service.settings import find_config, load_settings

    set_up_logging("info", daemon_handler(sys.stderr))
    config = find_config(state().config)
    with own_data_dir(load_settings(config), config.absolute()) as agent:
        from terminal_agent.service.daemon import Daemon

        Daemon(agent).run()


@click.command(cls=AgentCommand)
def status() -> None:
    """Show how the terminal is; works without the daemon.

    \b
    Example:
      terminal-agent status --json
    """
    from terminal_agent.service.doctor import diagnosis
    from terminal_agent.service.settings import find_config

    set_up_logging()
    try:
        answer = diagnosis.status(find_config(state().config))
    except AgentError as error:
        for problem in [] if state().json else error.details.get("problems", []):
            say(f"{problem['id']}: {problem['detail']}\n  -> {problem['fix']}")
        raise
    emit(answer, lambda: _print_status(answer))


def _print_status(answer: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    reader, crm, age = answer["reader"], answer["crm"], answer["oldest_pending_age_s"]
    waiting = f"{answer['pending']} pending, {answer['in_doubt']} in doubt, {answer['quarantined']} quarantined"
    rows = (
        ("terminal", f"{answer['terminal_id']} (version {answer['version']})"),
        ("daemon", answer["state"]),
        ("reader", escape(f"{reader['state']}  {reader['name'] or reader['url'] or ''}")),
        *((("", escape(f"{reader['problem']}. {reader['hint']}")),) if "problem" in reader else ()),
        ("till", answer["till_url"] or answer["till_problem"] or "not running"),
        ("CRM", f"{crm['state']}  {crm['url'] or ''}"),
        ("queue", waiting + (f", oldest {age:.0f} s" if age is not None else "")),
        ("data", answer["data_dir"]),
        ("journal", _journal_line(answer["journal"])),
        *(("problem", escape(f"{each['detail']}. {each['fix']}")) for each in answer["problems"]),
        *(("alarm", escape(f"{alarm['detail']}. {alarm['fix']}")) for alarm in answer["journal"]["alarms"]),
    )
    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(f"[dim]{name}[/]", value)
    Console().print(table)


def _journal_line(journal: dict[str, Any]) -> str:
    copy = f"last copy {journal['last_backup_at'][:10]}" if journal["last_backup_at"] else "no copy yet"
    return f"{journal['state']}, {journal['events']:,} events, {journal['free_bytes'] / 1e6:,.0f} MB free, {copy}"


@click.command(cls=AgentCommand)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the shell completion script.

    \b
    Example:
      terminal-agent completion bash > ~/.local/share/bash-completion/completions/terminal-agent
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    root = click.get_current_context().find_root().command
    if kind is not None:
        click.echo(kind(root, {}, "terminal-agent", "_TERMINAL_AGENT_COMPLETE").source())


COMMANDS = (run, status, completion)
