"""till: pairing POS software and browsers with the till's API."""

from __future__ import annotations

from typing import Any

import click

from terminal_agent.cli.backend import call, reader_options
from terminal_agent.cli.output import AgentCommand, AgentGroup, emit

SCOPES = ["read", "checkout", "reverse", "members"]
ROLES = ["cashier", "supervisor", "administrator"]
LONGEST_PIN_LINE = 64


@click.group(cls=AgentGroup)
def till() -> None:
    """The till's API: pair POS software or a browser, see and revoke what is paired."""


@till.command("code", cls=AgentCommand)
@click.option(
    "--scope", "scopes", type=click.Choice(SCOPES), multiple=True, default=SCOPES, help="what it may do [all]"
)
def till_code(scopes: tuple[str, ...]) -> None:
    """Show a code that pairs one program or browser with this till, from the running daemon.

    It works once and for two minutes. Enter it on the cashier page, or have the program POST it to /v1/pair.

    \b
    Examples:
      terminal-agent till code
      terminal-agent till code --scope read --scope checkout
    """
    answer = call("till.code", scopes=list(scopes))
    emit(answer, lambda: _print_code(answer))


def _print_code(answer: dict[str, Any]) -> None:
    click.echo(f"{answer['code']}   (for {answer['till_url']}, within {answer['expires_in_s']} s)")


@till.command("tokens", cls=AgentCommand)
def till_tokens() -> None:
    """List what was paired, with the id to revoke it by.

    \b
    Example:
      terminal-agent till tokens --json
    """
    answer = call("till.tokens")
    emit(answer, lambda: _print_tokens(answer["tokens"]))


def _print_tokens(tokens: list[dict[str, Any]]) -> None:
    for token in tokens:
        ended = f"revoked {token['revoked_at']}" if token["revoked_at"] else " ".join(token["scopes"])
        click.echo(f"{token['token_id']}  {token['created_at']}  {token['name']}  {ended}")
    if not tokens:
        click.echo("Nothing is paired. Pair a program with: terminal-agent till code")


@till.command("revoke", cls=AgentCommand)
@click.argument("token_id")
def till_revoke(token_id: str) -> None:
    """Take a program's access away, at once.

    \b
    Example:
      terminal-agent till revoke 0192d000-0000-7000-8000-000000000000
    """
    answer = call("till.revoke", token_id=token_id)
    emit(answer, lambda: click.echo(f"{token_id} no longer works."))


@till.command("audit", cls=AgentCommand)
@click.option("--receipt", "receipt_no", metavar="NO", help="only what concerns this receipt")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="how many entries at most")
def till_audit(receipt_no: str | None, limit: int) -> None:
    """Show who did what at the till: who signed in, opened a sale or return, approved it, changed cashiers.

    \b
    Examples:
      terminal-agent till audit
      terminal-agent till audit --receipt 1001
    """
    answer = call("till.audit", receipt_no=receipt_no, limit=limit)
    emit(answer, lambda: _print_audit(answer["entries"]))


def _print_audit(entries: list[dict[str, Any]]) -> None:
    for each in entries:
        detail = " ".join(f"{name}={value}" for name, value in each["detail"].items() if value is not None)
        click.echo(f"{each['time']}  {each['action'].removeprefix('till.')}  {detail}")
    if not entries:
        click.echo("Nothing was done at the till.")


@till.group("cashier", cls=AgentGroup)
def cashier() -> None:
    """Who may sign in at the cashier page. Where nobody is named, a paired page sells without."""


@cashier.command("add", cls=AgentCommand)
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), default=ROLES[0], show_default=True, help="what they may do")
@click.option("--pin-file", type=click.File("r"), help="file with the PIN in its first line, - for standard input")
def cashier_add(name: str, role: str, pin_file: Any) -> None:
    """Name a cashier, or give one a new PIN and role. Without --pin-file it asks for the PIN.

    \b
    Examples:
      terminal-agent till cashier add Nasrin
      terminal-agent till cashier add Sara --role supervisor --pin-file pin.txt
    """
    pin = pin_file.readline(LONGEST_PIN_LINE).strip() if pin_file else _ask_pin()
    answer = call("till.cashier.add", name=name, role=role, pin=pin)
    emit(answer, lambda: click.echo(f"{answer['name']} can sign in as {answer['role']}."))


def _ask_pin() -> str:
    pin: str = click.prompt("PIN, 4 to 12 digits", hide_input=True, confirmation_prompt=True, err=True)
    return pin


@cashier.command("list", cls=AgentCommand)
def cashier_list() -> None:
    """List who may sign in.

    \b
    Example:
      terminal-agent till cashier list
    """
    answer = call("till.cashier.list")
    emit(answer, lambda: _print_cashiers(answer["cashiers"]))


def _print_cashiers(cashiers: list[dict[str, Any]]) -> None:
    for each in cashiers:
        click.echo(f"{each['role']:<14} {each['name']}{'  (staff card)' if each['card'] else ''}")
    if not cashiers:
        click.echo("Nobody is named: a paired page sells without. Name one: terminal-agent till cashier add NAME")


@cashier.command("remove", cls=AgentCommand)
@click.argument("name")
def cashier_remove(name: str) -> None:
    """Let a cashier sign in no more, at once.

    \b
    Example:
      terminal-agent till cashier remove Nasrin
    """
    answer = call("till.cashier.remove", name=name)
    emit(answer, lambda: click.echo(f"{name} can no longer sign in."))


@cashier.command("card", cls=AgentCommand)
@click.argument("name")
@click.option("--remove", is_flag=True, help="take the card away from them")
@reader_options
def cashier_card(reader: str | None, wait_s: float, name: str, remove: bool) -> None:
    """Make the issued card on the reader a cashier's staff card: it signs them in, with the rights of a cashier.

    \b
    Examples:
      terminal-agent till cashier card Nasrin
      terminal-agent till cashier card Nasrin --remove
    """
    answer = call("till.cashier.card", name=name, remove=remove, reader=reader, wait_s=wait_s)
    emit(answer, lambda: click.echo(f"{name} signs in with this card." if answer["card"] else f"{name} has no card."))


COMMANDS = (till,)
