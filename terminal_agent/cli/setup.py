"""init, enroll, keys: a terminal comes into being, joins a CRM, holds keys."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import click

from terminal_agent.cli.backend import absolute_reader, call, set_up_logging
from terminal_agent.cli.output import AgentCommand, AgentGroup, emit, state
from terminal_agent.errors import AgentError, ErrorCode

LONGEST_SECRET_LINE = 200
CODE_FORM = "Put the one-time code on its first line"


def _text(raw: bytes) -> str:
    """What a file of ours holds is ASCII; anything else is refused without being shown."""
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        hint = "Check that it is the right file"
        raise AgentError(ErrorCode.INVALID_INPUT, "the file is no text", hint=hint) from None


@click.command(cls=AgentCommand)
@click.option(
    "--data-dir", type=click.Path(path_type=Path, file_okay=False), required=True, help="folder to keep data in"
)
@click.option("--terminal-id", metavar="T", help="name of this terminal [default: a random one]")
@click.option(
    "--currency", default="IRR", show_default=True, metavar="CODE", help="ISO 4217 code of the shop's currency"
)
@click.option("--reader", metavar="URL", help="default reader, as in pcsc: or sim:card.mfd")
@click.option("--till", metavar="HOST:PORT", help="where the till API listens [default: 127.0.0.1:7411]")
@click.option("-f", "--force", is_flag=True, help="write the config file anew; keys and journal are always kept")
def init(
    data_dir: Path, terminal_id: str | None, currency: str, reader: str | None, till: str | None, force: bool
) -> None:
    """Create the config file and the data directory with a fresh master key set.

    \b
    Examples:
      terminal-agent init --data-dir /var/lib/terminal-agent --reader pcsc:
      terminal-agent --config shop.toml init --data-dir shop --terminal-id till-1
    """
    from terminal_agent.service.initialise import initialise
    from terminal_agent.service.settings import config_to_write

    set_up_logging()
    if data_dir == Path():
        raise AgentError(ErrorCode.INVALID_INPUT, "--data-dir names no folder of its own", hint="As in --data-dir shop")
    answer = initialise(
        config_to_write(state().config).absolute(),
        {
            "data_dir": str(data_dir.absolute()),
            "terminal_id": terminal_id or f"till-{secrets.token_hex(4)}",
            "currency": currency,
            "reader": absolute_reader(reader) if reader else None,
            "till": {"listen": till} if till else {},
        },
        force=force,
    )
    emit(
        answer,
        f"Terminal {answer['terminal_id']} is set up.\n"
        f"  config file     {answer['config']}\n"
        f"  data directory  {answer['data_dir']}\n"
        f"  key set         version {answer['key_set_version']}, check value {answer['kcv']}\n"
        "Next: terminal-agent enroll --crm-url URL --code-file FILE, or terminal-agent card issue",
    )


@click.command(cls=AgentCommand)
@click.option("--crm-url", required=True, metavar="URL", help="address of the CRM, without /v1")
@click.option(
    "--code-file", type=click.File("rb"), required=True, help="file with the one-time code, - for standard input"
)
def enroll(crm_url: str, code_file: Any) -> None:
    """Join a CRM with a one-time code.

    \b
    Examples:
      terminal-agent enroll --crm-url https://crm.example --code-file code.txt
      terminal-agent enroll --crm-url http://127.0.0.1:8000 --code-file -
    """
    code = _text(code_file.readline(LONGEST_SECRET_LINE)).strip()
    if not code:
        raise AgentError(ErrorCode.INVALID_INPUT, "the code file is empty", hint=CODE_FORM)
    answer = call("enroll", crm_url=crm_url, code=code)
    emit(answer, f"Terminal {answer['terminal_id']} has joined the CRM at {answer['crm_url']}.")


@click.group(cls=AgentGroup)
def keys() -> None:
    """Master key sets: made, imported, listed by check value. Keys themselves are never shown."""


@keys.command("list")
def keys_list() -> None:
    """List the key sets by their check values.

    \b
    Example:
      terminal-agent keys list
    """
    _show(call("keys.list"))


@keys.command("generate")
@click.option("--activate", is_flag=True, help="issue cards under it from now on")
def keys_generate(activate: bool) -> None:
    """Make a new random key set under the next free version.

    \b
    Example:
      terminal-agent keys generate --activate
    """
    _tell(call("keys.generate", activate=activate), "made")


@keys.command("import")
@click.option(
    "--file", "file", type=click.File("rb"), required=True, help="file with 32 hex digits, - for standard input"
)
@click.option(
    "--version",
    type=click.IntRange(1, 255),
    metavar="N",
    help="version to keep it under [default: the one it has here, else the next free]",
)
@click.option("--activate", is_flag=True, help="issue cards under it from now on")
@click.option("--no-issue", is_flag=True, help="use cards under it here, and make none")
def keys_import(file: Any, version: int | None, activate: bool, no_issue: bool) -> None:
    """Bring in a key set from head office.

    \b
    Example:
      terminal-agent keys import --file club.key --version 1 --activate
    """
    key = _text(file.read(LONGEST_SECRET_LINE))
    _tell(call("keys.import", key=key, version=version, activate=activate, no_issue=no_issue), "imported")


@keys.command("activate")
@click.argument("version", type=click.IntRange(1, 255))
def keys_activate(version: int) -> None:
    """Issue cards under VERSION from now on; cards of other versions stay good.

    \b
    Example:
      terminal-agent keys activate 2
    """
    _tell(call("keys.activate", version=version), "in use")


@keys.command("limit")
@click.argument("version", type=click.IntRange(1, 255))
@click.option("--issue/--no-issue", "may_issue", required=True, help="whether cards are made under it here")
def keys_limit(version: int, may_issue: bool) -> None:
    """Say whether this terminal makes cards under VERSION: issues them, or brings others under it. Taps go on.

    \b
    Example:
      terminal-agent keys limit 2 --no-issue
    """
    _tell(call("keys.limit", version=version, may_issue=may_issue), "changed")


@keys.command("retire")
@click.argument("version", type=click.IntRange(1, 255))
@click.option("--undo", is_flag=True, help="take its cards again")
def keys_retire(version: int, undo: bool) -> None:
    """Take cards under VERSION no more at this terminal: its key is no longer a secret. Its owners get new cards.

    \b
    Example:
      terminal-agent keys retire 1
    """
    _tell(call("keys.retire", version=version, retired=not undo), "changed")


@keys.command("unlock")
def keys_unlock() -> None:
    """Try the PIN of the PKCS#11 token again, once it was put right: one that was refused is not tried by itself.

    \b
    Example:
      terminal-agent keys unlock
    """
    _show(call("keys.unlock"))


def _show(rows: list[dict[str, Any]]) -> None:
    lines = [f"{row['version']:>7}  {row['kcv']}{_how_used(row)}" for row in rows]
    emit(rows, "\n".join(["version  check value", *lines]))


def _how_used(key_set: dict[str, Any]) -> str:
    if key_set["retired"]:
        return ", retired: its cards are taken no more"
    return (", active" if key_set["active"] else "") + ("" if key_set["may_issue"] else ", makes no cards here")


def _tell(key_set: dict[str, Any], what: str) -> None:
    emit(key_set, f"Key set {key_set['version']} {what}{_how_used(key_set)}. Check value: {key_set['kcv']}")


COMMANDS = (init, enroll, keys)
