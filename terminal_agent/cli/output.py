"""How a command speaks: stdout is the answer (text or one JSON document), stderr is talk."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from terminal_agent.errors import AgentError


@dataclass
class CliState:
    """What the options before the command said; kept as ``ctx.obj``."""

    config: Path | None = None
    json: bool = False
    log_level: str | None = None


def state() -> CliState:
    """The options of the command that is running."""
    found = click.get_current_context().find_root().obj
    return found if isinstance(found, CliState) else CliState()


def _set_json(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(CliState)
        root = ctx.find_root()
        if not isinstance(root.obj, CliState):
            root.obj = CliState()
        root.obj.json = True


def _json_option() -> click.Option:
    return click.Option(
        ["--json"], is_flag=True, expose_value=False, callback=_set_json, help="print one JSON document on stdout"
    )


class AgentCommand(click.Command):
    """A command that takes ``--json`` after its name too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_json_option())


class AgentGroup(click.Group):
    """A group whose commands all take ``--json``."""

    command_class = AgentCommand
    group_class = type

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_json_option())


def emit(document: Any, human: str | Callable[[], None]) -> None:
    """Print the answer: ``document`` with --json, else ``human`` (text, or a function that prints)."""
    if state().json:
        click.echo(json.dumps(document, ensure_ascii=False))
    elif callable(human):
        human()
    else:
        click.echo(human)


def say(text: str) -> None:
    """Talk to the person at the terminal; never part of the answer."""
    click.echo(text, err=True)


def print_error(error: AgentError, *, as_json: bool) -> None:
    """A problem: JSON on stdout when asked, always one sentence and the next action for people."""
    if as_json:
        click.echo(json.dumps(error.to_json(), ensure_ascii=False))
        return
    click.echo(f"Error: {error.message}", err=True)
    click.echo(f"Try: {error.hint}", err=True)


def is_terminal() -> bool:
    """Whether a person watches stderr."""
    return sys.stderr.isatty()
