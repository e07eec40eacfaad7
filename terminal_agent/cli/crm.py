"""``terminal-agent crm``: the reference CRM and its administration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from terminal_agent.cli import crm_club, crm_office
from terminal_agent.cli.crm_grant import grant, tiers
from terminal_agent.cli.crm_hold import hold
from terminal_agent.cli.crm_options import crm_place
from terminal_agent.cli.crm_policy import policy
from terminal_agent.cli.output import AgentCommand, AgentGroup, emit
from terminal_agent.crm.place import Place
from terminal_agent.errors import AgentError, ErrorCode, ExitCode

_reason = click.option("--reason", required=True, help="why, for the record and the terminals")


@click.group(cls=AgentGroup)
def crm() -> None:
    """The reference CRM, and its administration."""


for command in (policy, grant, hold, tiers, *crm_club.COMMANDS, *crm_office.COMMANDS):
    crm.add_command(command)


@crm.command(cls=AgentCommand)
@crm_place
@click.option("--listen", default="127.0.0.1:7412", show_default=True, help="HOST:PORT; port 0 is any free one")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="processes, on PostgreSQL")
def serve(place: Place, listen: str, workers: int) -> None:
    """Serve the CRM until SIGTERM.

    \b
    Example:
      terminal-agent crm serve --data-dir crm --listen 127.0.0.1:8000
      terminal-agent crm serve --database-url postgresql://crm@db/club --workers 4
    """
    from terminal_agent.crm import server

    host, port = _parse_listen(listen)
    server.serve(place, host, port, workers)


@crm.command(cls=AgentCommand)
@crm_place
@click.option("--expires-in-s", type=int, default=24 * 3600, show_default=True, help="how long the code is good")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["members", "privacy", "none"]),
    help="what else the terminal may do: look members up, export and erase them; all if not given",
)
def code(place: Place, expires_in_s: int, scopes: tuple[str, ...]) -> None:
    """Make a one-time code that lets one terminal join.

    \b
    Example:
      terminal-agent crm code --data-dir crm > code.txt
    """
    from terminal_agent.crm import admin
    from terminal_agent.crm.enrolment import ALL_SCOPES, Scope

    chosen = [Scope(name) for name in scopes if name != "none"] if scopes else ALL_SCOPES
    answer = admin.make_code(place, expires_in_s, chosen)
    emit(answer, answer["code"])


@crm.command("import", cls=AgentCommand)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--receipt", type=click.Path(path_type=Path, dir_okay=False), help="file to write the terminal's answer to"
)
@crm_place
def import_(file: Path, receipt: Path | None, place: Place) -> int:
    """Book the queue that a terminal exported to FILE, with the verdicts that it would get over the line.

    Doing it again changes nothing. The receipt is what the terminal may take its events out of the queue for:
    terminal-agent queue acknowledge RECEIPT. Exit code 7 when an event was rejected or must come again.

    \b
    Example:
      terminal-agent crm import till-1.queue --receipt till-1.receipt --data-dir crm
    """
    from terminal_agent.crm import admin
    from terminal_agent.sealed import MAX_FILE_BYTES
    from terminal_agent.service.dump_files import check_output, write_dump
    from terminal_agent.service.files import read_up_to

    if receipt is not None:
        check_output(receipt, force=False)
    taken = admin.import_events(place, read_up_to(file, MAX_FILE_BYTES))
    if receipt is not None:
        write_dump(receipt, taken.receipt, force=False)
    answer = {**taken.to_json(), "receipt": None if receipt is None else str(receipt)}
    emit(
        answer,
        f"{answer['events']} events of {answer['terminal_id']}: {answer['accepted']} accepted, {answer['duplicate']} "
        f"known already, {answer['rejected']} rejected, {answer['fork']} forked, {answer['retry']} to come again",
    )
    return ExitCode.NEEDS_ATTENTION if answer["rejected"] or answer["retry"] else ExitCode.DONE


@crm.command(cls=AgentCommand)
@click.argument("card_no")
@crm_place
def card(card_no: str, place: Place) -> None:
    """Show a card: balance, status, points on hold, and every event about it.

    \b
    Example:
      terminal-agent crm card 7398036535671225 --data-dir crm
    """
    from terminal_agent.crm import admin

    answer = admin.show_card(place, card_no)
    lines = [f"{card_no}  {answer['status']}  {answer['balance']} points  counter {answer['sequence']}"]
    if answer["holds"]:
        lines.append(f"  {answer['available']} points are not on hold")
    lines += [_hold_line(hold) for hold in answer["holds"]]
    lines += [_event_line(event) for event in answer["events"]]
    emit(answer, "\n".join(lines))


@crm.command(cls=AgentCommand)
@crm_place
def ledger(place: Place) -> None:
    """Show every account; together they hold 0 points.

    \b
    Example:
      terminal-agent crm ledger --data-dir crm
    """
    from terminal_agent.crm import admin

    answer = admin.show_ledger(place)
    lines = [f"{row['account']}  {row['balance']}" for row in answer["accounts"]]
    emit(answer, "\n".join([*lines, f"sum  {answer['sum']}"]))


@crm.command(cls=AgentCommand, context_settings={"ignore_unknown_options": True})
@click.argument("card_no")
@click.argument("points", type=int)
@_reason
@crm_place
def adjust(card_no: str, points: int, reason: str, place: Place) -> None:
    """Give a card points, or take some with a negative number; they reach it at its next tap.

    \b
    Example:
      terminal-agent crm adjust 7398036535671225 40 --reason "a gift" --data-dir crm
    """
    from terminal_agent.crm import admin

    answer = admin.adjust_card(place, card_no, points, reason)
    emit(answer, f"Adjustment {answer['number']} of {points} points; the balance is {answer['balance']}.")


@crm.command(cls=AgentCommand)
@click.argument("card_no")
@_reason
@crm_place
def block(card_no: str, reason: str, place: Place) -> None:
    """Put a card on the hotlist of every terminal.

    \b
    Example:
      terminal-agent crm block 7398036535671225 --reason lost --data-dir crm
    """
    from terminal_agent.crm import admin

    answer = admin.block_card(place, card_no, reason)
    emit(answer, f"Card {card_no} is blocked{'' if answer['changed'] else ' already'}.")


@crm.command(cls=AgentCommand)
@click.argument("card_no")
@click.option("--reason", default="unblocked", show_default=True, help="why, for the record and the terminals")
@crm_place
def unblock(card_no: str, reason: str, place: Place) -> None:
    """Take a card off the hotlist.

    \b
    Example:
      terminal-agent crm unblock 7398036535671225 --data-dir crm
    """
    from terminal_agent.crm import admin

    answer = admin.unblock_card(place, card_no, reason)
    emit(answer, f"Card {card_no} is {'free again' if answer['changed'] else 'not blocked'}.")


def _hold_line(hold: dict[str, Any]) -> str:
    until = hold["expires_at"] if hold["state"] == "held" else "its event arrives"
    return f"  {hold['points']} points on hold until {until}  {hold['terminal_id']}"


def _event_line(event: dict[str, Any]) -> str:
    """When, what, the points it moved on the card, where; what is odd about it stands at the end."""
    moved = [f"{points:+d}" for points in (event["earned"], -event["redeemed"]) if points]
    parts = [event["time"], event["type"], " ".join(moved) or "0", event["terminal_id"]]
    if event["reverses"]:
        parts.append(f"takes back {event['reverses']}")
    if event["code"]:
        parts.append(f"! {event['code']}")
    return "  " + "  ".join(parts)


def _parse_listen(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise AgentError(
            ErrorCode.INVALID_INPUT,
            f"{text} is not HOST:PORT.",
            hint="Give --listen an address like 127.0.0.1:7412.",
        )
    return host.strip("[]"), int(port)
