"""``terminal-agent crm settings|member|audit``: how the club is run, and who is in it."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from terminal_agent.cli.crm_options import crm_place
from terminal_agent.cli.output import AgentCommand, AgentGroup, emit
from terminal_agent.crm.place import Place
from terminal_agent.errors import AgentError, ErrorCode

limit = click.option("--limit", type=int, default=200, show_default=True, help="how many rows to show at most")
_member = click.argument("member_id")


@click.command(cls=AgentCommand)
@click.option("--club", type=click.Choice(["open", "closed"]), help="whether new members wait for an approval")
@crm_place
def settings(club: str | None, place: Place) -> None:
    """Show how the club is run, or change it: in a closed club new members wait for an approval.

    \b
    Example:
      terminal-agent crm settings --club closed --data-dir crm
    """
    from terminal_agent.crm import admin_club
    from terminal_agent.crm.membership import Club

    answer = admin_club.settings(place, Club(club) if club else None)
    emit(answer, f"The club is {answer['club']}.")


@click.group(cls=AgentGroup)
def member() -> None:
    """Members: list them, take them in or not, forget them (with --data-dir)."""


@member.command("list", cls=AgentCommand)
@click.option(
    "--status",
    type=click.Choice(["active", "pending", "rejected", "erased", "named"]),
    help="only members in this state; named: a phone given at a sale, under which nobody enrolled",
)
@limit
@crm_place
def list_(status: str | None, limit: int, place: Place) -> None:
    """List members by their enrolment; that it was done is written into the audit log.

    \b
    Example:
      terminal-agent crm member list --status pending --data-dir crm
    """
    from terminal_agent.crm import admin_club

    rows = admin_club.list_members(place, status, limit)
    emit(rows, lambda: print_rows(rows, ("member_id", "name", "phone", "tier", "status", "enrolled_at")))


@member.command(cls=AgentCommand)
@_member
@crm_place
def approve(member_id: str, place: Place) -> None:
    """Take a member in who waits or was rejected; their cards may redeem from now on.

    \b
    Example:
      terminal-agent crm member approve 01a3f1c2-7a10-7cc3-9d54-0d9f1c2b3a45 --data-dir crm
    """
    from terminal_agent.crm import admin_club

    answer = admin_club.approve_member(place, member_id)
    emit(answer, f"The member is approved, with {len(answer['cards'])} cards.")


@member.command(cls=AgentCommand)
@_member
@click.option("--reason", required=True, help="why, for the record")
@crm_place
def reject(member_id: str, reason: str, place: Place) -> None:
    """Do not take a member in; their cards are blocked, the points stay.

    \b
    Example:
      terminal-agent crm member reject 01a3f1c2-7a10-7cc3-9d54-0d9f1c2b3a45 --reason "no resident" --data-dir crm
    """
    from terminal_agent.crm import admin_club

    answer = admin_club.reject_member(place, member_id, reason)
    emit(answer, f"The member is rejected, {len(answer['cards'])} cards are blocked.")


@member.command(cls=AgentCommand)
@_member
@click.option("-f", "--force", is_flag=True, help="do not ask")
@crm_place
def erase(member_id: str, force: bool, place: Place) -> None:
    """Forget a member for good, here and on every terminal; their cards are blanked at their next tap.

    \b
    Example:
      terminal-agent crm member erase 01a3f1c2-7a10-7cc3-9d54-0d9f1c2b3a45 --force --data-dir crm
    """
    from terminal_agent.crm import admin_club

    if not force:
        if not sys.stdin.isatty():
            hint = "terminal-agent crm member erase --force"
            raise AgentError(ErrorCode.INVALID_INPUT, "crm member erase needs --force", hint=hint)
        click.confirm("WARNING! This forgets the member for good, and their points. Go on?", abort=True, err=True)
    answer = admin_club.erase_member(place, member_id)
    emit(answer, f"The member is forgotten; cards to be blanked when they are tapped: {len(answer['card_nos'])}.")


@click.command(cls=AgentCommand)
@click.option("--subject", metavar="ID", help="only lines about this member, card or terminal")
@limit
@crm_place
def audit(subject: str | None, limit: int, place: Place) -> None:
    """Show who did what to whom, the newest first; it holds no names and no phones.

    \b
    Example:
      terminal-agent crm audit --subject 7398036535671225 --data-dir crm
    """
    from terminal_agent.crm import admin_club

    answer = admin_club.show_audit(place, subject, limit)
    rows = [{**row, "detail": json.dumps(row["detail"])} for row in answer["entries"]]
    emit(answer, lambda: print_rows(rows, ("time", "who", "action", "subject", "detail")))


WIDTH_OF_A_PIPE = 160


def print_rows(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    """A table of these columns, for people."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_edge=False)
    for name in columns:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text("-" if row[name] is None else str(row[name])) for name in columns))
    (Console() if sys.stdout.isatty() else Console(width=WIDTH_OF_A_PIPE)).print(table)


COMMANDS = (settings, member, audit)
