"""``terminal-agent crm grant`` and ``crm tiers``: offers for single cards, codes, and who is in which tier."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from terminal_agent.cli.crm_options import crm_place
from terminal_agent.cli.output import AgentCommand, AgentGroup, emit
from terminal_agent.crm.place import Place
from terminal_agent.errors import AgentError, ErrorCode

_until = click.option("--valid-to", metavar="TIME", help="when it ends, as in 2027-03-28T00:00+03:30")


@click.group(cls=AgentGroup)
def grant() -> None:
    """Offers given to single cards, and single-use codes (with --data-dir)."""


@grant.command(cls=AgentCommand)
@click.argument("offer_id")
@click.argument("card_no")
@click.option("--valid-from", metavar="TIME", help="when it begins; at once if not given")
@_until
@click.option("--uses", type=click.IntRange(1, 1000), default=1, show_default=True, help="how often it may be used")
@click.option("--reason", default="", help="why, for the record")
@crm_place
def give(offer_id: str, card_no: str, place: Place, **given: Any) -> None:
    """Give a card an offer of the policy, such as its birthday's; the tills apply it by themselves.

    \b
    Example:
      terminal-agent crm grant give birthday 7398036535671225 --valid-to 2027-03-28T00:00+03:30 --data-dir crm
    """
    from terminal_agent.crm import admin

    times = {name: _moment(given.pop(name)) for name in ("valid_from", "valid_to")}
    answer = admin.give_grant(place, offer_id, card_no, **given, **times)
    emit(answer, f"Grant {answer['grant_id']}: {offer_id} for card {card_no}.")


@grant.command(cls=AgentCommand)
@click.argument("offer_id")
@click.option("--count", type=int, default=1, show_default=True, help="how many")
@_until
@crm_place
def codes(offer_id: str, count: int, valid_to: str | None, place: Place) -> None:
    """Make single-use codes for a coupon. They are shown this once; the CRM keeps only their hashes.

    \b
    Example:
      terminal-agent crm grant codes spring --count 500 --data-dir crm > codes.txt
    """
    from terminal_agent.crm import admin

    answer = admin.make_coupons(place, offer_id, count, _moment(valid_to))
    emit(answer, "\n".join(answer["codes"]))


@grant.command("list", cls=AgentCommand)
@click.option("--card", "card_no", metavar="CARD_NO", help="only those of this card")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="at most so many")
@crm_place
def list_(card_no: str | None, limit: int, place: Place) -> None:
    """Show grants, the newest first; ! was used more often than it was given.

    \b
    Example:
      terminal-agent crm grant list --card 7398036535671225 --data-dir crm
    """
    from terminal_agent.crm import admin

    rows = admin.list_grants(place, card_no, limit)
    lines = [
        f"{'!' if row['used'] > row['uses'] else ' '} {row['grant_id']}  {row['offer_id']}  "
        f"{row['card_no'] or 'code'}  used {row['used']} of {row['uses']}"
        for row in rows
    ]
    emit(rows, "\n".join(lines))


@grant.command(cls=AgentCommand)
@click.argument("grant_id")
@crm_place
def revoke(grant_id: str, place: Place) -> None:
    """End a grant or a code; what was used stands.

    \b
    Example:
      terminal-agent crm grant revoke 01a3b8f2-6f6b-7000-8000-000000000000 --data-dir crm
    """
    from terminal_agent.crm import admin

    answer = admin.revoke_grant(place, grant_id)
    emit(answer, f"Grant {grant_id} may no longer be used.")


@click.command(cls=AgentCommand)
@crm_place
def tiers(place: Place) -> None:
    """Decide everybody's tier anew by the policy in force; sales decide by themselves for whoever buys.

    Run it after a policy with other thresholds has begun to hold, and each night, so that tiers nobody keeps up end.

    \b
    Example:
      terminal-agent crm tiers --data-dir crm
    """
    from terminal_agent.crm import admin

    answer = admin.decide_tiers(place)
    emit(
        answer, f"{answer['changed']} of {answer['members']} members are in another tier (policy {answer['version']})."
    )


def _moment(text: str | None) -> str | None:
    """A time with its zone, as it was given."""
    try:
        if text is None or datetime.fromisoformat(text).tzinfo is not None:
            return text
    except ValueError:
        pass
    raise AgentError(ErrorCode.INVALID_INPUT, f"{text} is no time with a zone", hint="As in 2027-03-28T00:00+03:30")
