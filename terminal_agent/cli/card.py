"""card: issue, show, verify, wipe."""

from __future__ import annotations

import sys
from typing import Any

import click

from terminal_agent.cli.backend import call, reader_options
from terminal_agent.cli.output import AgentGroup, emit
from terminal_agent.errors import AgentError, ErrorCode, ExitCode


@click.group(cls=AgentGroup)
def card() -> None:
    """Cards: issue, show, verify, wipe."""


@card.command("issue")
@reader_options
@click.option("--phone", metavar="P", help="the member's telephone number, in any spelling")
@click.option("--name", metavar="N", help="the member's name; kept at the CRM, never on the card")
@click.option("--tier", metavar="T", help="the member's tier")
@click.option("--mad", is_flag=True, help="write an application directory, whose key is public")
def card_issue(
    reader: str | None, wait_s: float, phone: str | None, name: str | None, tier: str | None, mad: bool
) -> None:
    """Make a blank card a member's card, every block verified.

    Interrupted? Run it again with the same card: it finishes, or says why it cannot.

    \b
    Examples:
      terminal-agent card issue --phone 09125554433 --name "Sara"
      terminal-agent card issue --reader pcsc:ACR122 --wait-s 30
    """
    answer = call("card.issue", reader=reader, wait_s=wait_s, phone=phone, name=name, tier=tier, mad=mad)
    emit(answer, f"Card {answer['card_no']} is issued and verified. Remove the card.")


@card.command("show")
@reader_options
def card_show(reader: str | None, wait_s: float) -> None:
    """Read the card and check it; changes nothing.

    \b
    Example:
      terminal-agent card show --reader sim:card.mfd
    """
    answer = call("card.show", reader=reader, wait_s=wait_s)
    emit(answer, lambda: _print_card(answer))


def _print_card(answer: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    facts = Table.grid(padding=(0, 2))
    problem = answer["problem"] or "none"
    for name, value in (
        ("card", answer["card_no"]),
        ("points", f"{answer['points']:,}"),
        ("tier", answer["tier"] or "-"),
        ("taps", str(answer["sequence"])),
        ("status", answer["status"]),
        ("problem", problem),
        ("UID", answer["uid"]),
    ):
        facts.add_row(f"[dim]{name}[/]", value)
    console.print(facts)
    if not answer["history"]:
        return
    table = Table(title="History on the card", title_justify="left", show_edge=False)
    for heading, justify in (
        ("tap", "right"),
        ("time (UTC)", "left"),
        ("what", "left"),
        ("amount", "right"),
        ("points", "right"),
    ):
        table.add_column(heading, justify="right" if justify == "right" else "left")
    for line in answer["history"]:
        time = line["time"][:16].replace("T", " ")
        table.add_row(str(line["sequence"]), time, line["kind"], f"{line['amount']:,}", f"{line['points']:+,}")
    console.print(table)


@card.command("verify")
@reader_options
def card_verify(reader: str | None, wait_s: float) -> int:
    """Read all 64 blocks and check keys, access bits and format. Exit code 4 when something is wrong.

    \b
    Example:
      terminal-agent card verify --reader pcsc:
    """
    answer = call("card.verify", reader=reader, wait_s=wait_s)
    findings = [f"  sector {f['sector']:>2}, block {f['block']:>2}: {f['problem']}" for f in answer["findings"]]
    if answer["ok"]:
        emit(answer, "\n".join([f"The card is good: {answer['blocks_read']} blocks read and checked.", *findings]))
        return ExitCode.DONE
    emit(answer, "\n".join(["The card is not as it should be:", *findings]))
    return ExitCode.CARD_PROBLEM


@card.command("wipe")
@reader_options
@click.option("-f", "--force", is_flag=True, help="do not ask")
def card_wipe(reader: str | None, wait_s: float, force: bool) -> None:
    """Return a card of ours to the maker's blank state; the points stay at the CRM.

    \b
    Example:
      terminal-agent card wipe --reader pcsc: --force
    """
    if not force:
        if not sys.stdin.isatty():
            raise AgentError(
                ErrorCode.INVALID_INPUT, "wiping a card needs --force", hint="terminal-agent card wipe --force"
            )
        click.confirm("WARNING! This erases the card on the reader. Go on?", abort=True, err=True)
    answer = call("card.wipe", reader=reader, wait_s=wait_s)
    emit(answer, f"The card {answer['uid']} is blank again. Remove the card.")


COMMANDS = (card,)
