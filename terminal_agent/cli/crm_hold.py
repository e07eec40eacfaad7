"""``terminal-agent crm hold``: points set aside for redemptions, and how head office frees them."""

from __future__ import annotations

import click

from terminal_agent.cli.crm_club import limit, print_rows
from terminal_agent.cli.crm_options import crm_place
from terminal_agent.cli.output import AgentCommand, AgentGroup, emit
from terminal_agent.crm.place import Place


@click.group(cls=AgentGroup)
def hold() -> None:
    """Points set aside for redemptions not told of yet (with --data-dir)."""


@hold.command("list", cls=AgentCommand)
@limit
@crm_place
def list_(limit: int, place: Place) -> None:
    """List what sets points aside, the oldest first.

    \b
    Example:
      terminal-agent crm hold list --data-dir crm
    """
    from terminal_agent.crm import admin_holds

    rows = admin_holds.list_holds(place, limit)
    emit(rows, lambda: print_rows(rows, ("hold_id", "terminal_id", "card_no", "points", "state", "placed_at")))


@hold.command(cls=AgentCommand)
@click.argument("hold_id")
@click.option("--reason", required=True, help="why, for the record")
@crm_place
def free(hold_id: str, reason: str, place: Place) -> None:
    """Free the points of a hold, once it is sure that its terminal will never tell of the redemption.

    A terminal that is only late still tells: then the points are booked all the same, and the account may fall below 0.

    \b
    Example:
      terminal-agent crm hold free 01a3f1c2-7a10-7cc3-9d54-0d9f1c2b3a45 --reason "till stolen" --data-dir crm
    """
    from terminal_agent.crm import admin_holds

    answer = admin_holds.free_hold(place, hold_id, reason)
    emit(answer, f"{answer['points']} points of card {answer['card_no']} are free again.")
