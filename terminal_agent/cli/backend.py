"""From a command to the agent: settings found, the daemon or the data directory opened, the reader named."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from terminal_agent.cli.output import say, state
from terminal_agent.errors import AgentError, ErrorCode

Command = TypeVar("Command", bound=Callable[..., Any])
DEFAULT_WAIT_S = 10.0
LONGEST_WAIT_S = 3600.0


def call(operation: str, **params: Any) -> Any:
    """Carry out an operation of the agent; gives its JSON answer. Raises AgentError."""
    return call_and_hear(say, operation, **params)


def call_and_hear(talk: Callable[[str], None], operation: str, **params: Any) -> Any:
    """The same; ``talk`` hears what is said meanwhile."""
    with calls(talk) as ask:
        return ask(operation, **params)


@contextmanager
def calls(talk: Callable[[str], None] = say) -> Iterator[Callable[..., Any]]:
    """:func:`call` for many operations, with the agent kept open in between."""
    from terminal_agent.service.backend import open_backend
    from terminal_agent.service.settings import find_config, load_settings

    set_up_logging()
    config = find_config(state().config)
    with open_backend(load_settings(config), config.absolute()) as backend:
        yield lambda operation, **params: backend.call(operation, params, talk)


def set_up_logging(default: str = "warning", handler: logging.Handler | None = None) -> None:
    """Talk on stderr, one line each; or by ``handler``."""
    from terminal_agent.service.logs import level_of, text_handler

    logging.basicConfig(level=level_of(state().log_level or default), handlers=[handler or text_handler()])
    logging.getLogger("urllib3").setLevel(logging.WARNING)  # it tells paths, and with them cards and phones


def reader_options(command: Command) -> Command:
    """``--reader`` and ``--wait-s``, for every command that needs a card."""
    wait = click.option(
        "--wait-s",
        type=click.FloatRange(0, LONGEST_WAIT_S),
        default=DEFAULT_WAIT_S,
        show_default=True,
        metavar="S",
        help="how long to wait for the card, in seconds",
    )
    reader = click.option(
        "--reader", metavar="URL", callback=_absolute_reader, help="reader to use, as in pcsc: or sim:card.mfd"
    )
    return reader(wait(command))


def _absolute_reader(_ctx: click.Context, _param: click.Parameter, url: str | None) -> str | None:
    return None if url is None else absolute_reader(url)


def absolute_reader(url: str) -> str:
    """A reader's path made absolute: the daemon does not share our working directory."""
    scheme, _, place = url.partition(":")
    if scheme not in ("sim", "pn532") or not place:
        return url
    return f"{scheme}:" + os.path.abspath(place) + ("/" if place.endswith("/") else "")


def whole_number(text: str, what: str) -> int:
    """A whole number in Latin, Persian or Arabic digits, thousands separated or not. Raises AgentError."""
    digits = text.translate({ord(c): None for c in " _,،٬'"})
    if digits.isdecimal() and len(digits) <= 18:
        return int(digits)
    if digits.isdecimal():
        raise AgentError(ErrorCode.INVALID_INPUT, f"{what} is too large", hint="Check it for digits too many")
    raise AgentError(ErrorCode.INVALID_INPUT, f"{what} is a whole number, not {text!r}", hint="As in 250000 or ۲۵۰٬۰۰۰")
