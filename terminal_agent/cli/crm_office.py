"""``terminal-agent crm report|expire|terminal|rejected|resolve``: what head office asks and decides."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import click

from terminal_agent.cli.crm_club import limit, print_rows
from terminal_agent.cli.crm_options import crm_place
from terminal_agent.cli.output import AgentCommand, AgentGroup, emit, say
from terminal_agent.crm.place import Place
from terminal_agent.errors import AgentError, ErrorCode

REPORTS = ["members", "points", "shops", "offers", "outstanding"]


@click.command(cls=AgentCommand)
@click.argument("name", type=click.Choice(REPORTS), default="points")
@click.option("--from", "first_day", metavar="DAY", help="the first day, as in 2026-11-22; the beginning if not given")
@click.option("--to", "last_day", metavar="DAY", help="the last day; today if not given")
@click.option(
    "--csv", "output", type=click.Path(dir_okay=False, path_type=Path), metavar="F", help="file to write as CSV"
)
@crm_place
def report(name: str, first_day: str | None, last_day: str | None, output: Path | None, place: Place) -> None:
    """Show members, points (if nothing is named), shops by day, offers, or the points outstanding; nobody is named.

    \b
    Examples:
      terminal-agent crm report outstanding --data-dir crm
      terminal-agent crm report shops --from 2026-11-01 --to 2026-11-30 --csv shops.csv --data-dir crm
    """
    from terminal_agent.crm import admin_office

    answer = admin_office.report(place, name, first_day, last_day)
    rows = answer["rows"]
    if output is not None:
        _write_csv(output, rows)
        say(f"{len(rows)} rows are in {click.format_filename(output)}.")
    emit(answer, lambda: print_rows(rows, tuple(rows[0])) if rows else click.echo("Nothing to report."))


def _write_csv(output: Path, rows: list[dict[str, Any]]) -> None:
    try:
        with output.open("w", encoding="utf-8-sig", newline="") as file:  # spreadsheets take others for another script
            writer = csv.DictWriter(file, list(rows[0]) if rows else [])
            writer.writeheader()
            writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    except OSError as error:
        hint = "Choose a place you may write to and that has room"
        raise AgentError(ErrorCode.INVALID_INPUT, f"cannot write {output}: {error.strerror}", hint=hint) from error


def _cell(value: Any) -> Any:
    """A spreadsheet takes text that begins so for a formula; a terminal may call itself what it likes."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t")) else value


@click.command(cls=AgentCommand)
@click.option("--through", metavar="DAY", help="only what was due by the end of this day; now if not given")
@click.option("--dry-run", is_flag=True, help="only say what would expire")
@crm_place
def expire(through: str | None, dry_run: bool, place: Place) -> None:
    """Let points expire that are older than the policy's expiry.after_days; safe to run as often as you like.

    \b
    Examples:
      terminal-agent crm expire --dry-run --data-dir crm
      terminal-agent crm expire --data-dir crm
    """
    from terminal_agent.crm import admin_office

    answer = admin_office.expire(place, through, dry_run=dry_run)
    if answer["after_days"] is None:
        emit(answer, "By the policy in force no points expire.")
    else:
        done = "would expire" if dry_run else "expired"
        emit(answer, f"{answer['points']:,} points of {answer['cards']} cards {done}.")


@click.command(cls=AgentCommand)
@click.argument("card_no")
@click.argument("name")
@click.option("--reference", required=True, metavar="R", help="which one, as a survey's number; the same counts once")
@crm_place
def activity(card_no: str, name: str, reference: str, place: Place) -> None:
    """Give a card the points the policy has for an activity, such as a survey; they reach it at its next tap.

    \b
    Example:
      terminal-agent crm activity 7398036535671225 survey --reference 2026-11 --data-dir crm
    """
    from terminal_agent.crm import admin_office

    answer = admin_office.count_activity(place, card_no, name, reference)
    emit(answer, f"{answer['points']} points for {name}." if answer["counted"] else "That was counted before.")


@click.group(cls=AgentGroup)
def terminal() -> None:
    """The terminals that joined: list them, revoke one (with --data-dir)."""


@terminal.command("list", cls=AgentCommand)
@crm_place
def list_(place: Place) -> None:
    """List the terminals, what their tokens may do, and which are revoked.

    \b
    Example:
      terminal-agent crm terminal list --data-dir crm
    """
    from terminal_agent.crm import admin_office

    rows = admin_office.list_terminals(place)
    shown = [{**row, "scopes": " ".join(row["scopes"]) or "-"} for row in rows]
    emit(rows, lambda: print_rows(shown, ("terminal_id", "name", "scopes", "enrolled_at", "revoked_at")))


@terminal.command(cls=AgentCommand)
@click.argument("terminal_id")
@crm_place
def revoke(terminal_id: str, place: Place) -> None:
    """Take a terminal's token away, as when it was stolen; with a new code it joins again and tells what waits.

    \b
    Example:
      terminal-agent crm terminal revoke till-1 --data-dir crm
    """
    from terminal_agent.crm import admin_office

    answer = admin_office.revoke_terminal(place, terminal_id)
    emit(answer, f"Terminal {terminal_id} is revoked{'' if answer['changed'] else ' already'}.")


@click.command(cls=AgentCommand)
@limit
@crm_place
def rejected(limit: int, place: Place) -> None:
    """List the events that could not be booked and wait in their terminals' quarantine.

    \b
    Example:
      terminal-agent crm rejected --data-dir crm
    """
    from terminal_agent.crm import admin_office

    rows = admin_office.list_rejected(place, limit)
    emit(rows, lambda: print_rows(rows, ("time", "terminal_id", "sequence", "type", "code", "id")))


@click.command(cls=AgentCommand)
@click.argument("event_id")
@click.option("--terminal", "terminal_id", required=True, metavar="T", help="the terminal that holds it in quarantine")
@click.option("--retry", "action", flag_value="retry", help="the terminal sends it again")
@click.option("--drop", "action", flag_value="drop", help="the terminal lets it be; it stays in both journals")
@click.option("--reason", required=True, help="why, for the record and the terminal")
@crm_place
def resolve(event_id: str, terminal_id: str, action: str | None, reason: str, place: Place) -> None:
    """Decide on an event in a terminal's quarantine; it acts on it at its next exchange.

    \b
    Example:
      terminal-agent crm resolve 01a3f1c2-7a10-7cc3-9d54-0d9f1c2b3a45 --terminal till-1 --drop --reason "a test" \\
          --data-dir crm
    """
    from terminal_agent.crm import admin_office
    from terminal_agent.crm.resolutions import Resolution

    if action is None:
        hint = "terminal-agent crm resolve --help"
        raise AgentError(ErrorCode.INVALID_INPUT, "what to do is not said: --retry or --drop", hint=hint)
    answer = admin_office.resolve(place, terminal_id, event_id, Resolution(action), reason)
    unknown = "" if answer["known"] else "; this CRM has no such event, the terminal may"
    emit(answer, f"Terminal {terminal_id} is told to {action} it{unknown}.")


COMMANDS = (report, expire, activity, terminal, rejected, resolve)
