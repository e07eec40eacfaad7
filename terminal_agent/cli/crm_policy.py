"""``terminal-agent crm policy``: the club's rules as head office writes, tries and publishes them."""

from __future__ import annotations

import json
from typing import Any

import click

from terminal_agent.cli.backend import whole_number
from terminal_agent.cli.crm_options import crm_place
from terminal_agent.cli.output import AgentCommand, AgentGroup, emit, say
from terminal_agent.cli.purchase import parse_line
from terminal_agent.crm.place import Place
from terminal_agent.errors import AgentError, ErrorCode

_file = click.argument("file", type=click.File(encoding="utf-8"))


@click.group(cls=AgentGroup)
def policy() -> None:
    """The club's rules: try them, publish them, see what was published (with --data-dir)."""


@policy.command(cls=AgentCommand)
@_file
@crm_place
def load(file: Any, place: Place) -> None:
    """Publish the policy in FILE (- is stdin); every terminal gets it with its next exchange.

    A published version never changes: a document that is changed needs a version of its own.

    \b
    Example:
      terminal-agent crm policy load rules.json --data-dir crm
    """
    from terminal_agent.crm import admin

    answer = admin.load_policy(place, _text(file))
    for pointer in answer["unknown_keys"]:
        say(f"Warning: {pointer} means nothing to this version; it is published as it stands.")
    done = "is published" if answer["published"] else "was published before, unchanged"
    emit(answer, f"Policy {answer['version']} {done}; it holds from {answer['valid_from']}.")


@policy.command("list", cls=AgentCommand)
@crm_place
def list_(place: Place) -> None:
    """Show every version that was published; * is in force.

    \b
    Example:
      terminal-agent crm policy list --data-dir crm
    """
    from terminal_agent.crm import admin

    rows = admin.list_policies(place)
    lines = [f"{'*' if row['in_force'] else ' '} {row['version']}  from {row['valid_from']}" for row in rows]
    emit(rows, "\n".join(lines))


@policy.command(cls=AgentCommand)
@click.argument("version", required=False)
@crm_place
def show(version: str | None, place: Place) -> None:
    """Print the document published as VERSION, or the one in force.

    \b
    Example:
      terminal-agent crm policy show 2026-11-22.1 --data-dir crm
    """
    from terminal_agent.crm import admin

    document = admin.show_policy(place, version)
    emit(document, json.dumps(document, ensure_ascii=False, indent=2))


@policy.command(cls=AgentCommand)
def schema() -> None:
    """Print the JSON Schema of a policy; it needs no --data-dir.

    \b
    Example:
      terminal-agent crm policy schema > policy.schema.json
    """
    from terminal_agent.crm import policies

    document = policies.schema()
    emit(document, json.dumps(document, ensure_ascii=False, indent=2))


@policy.command("try", cls=AgentCommand)
@_file
@click.argument("amount")
@click.option("--redeem", default="0", metavar="POINTS", help="points to pay with")
@click.option("--line", "lines", multiple=True, metavar="SKU:QTY:AMOUNT", help="a line of the bill; may be repeated")
@click.option("--at", metavar="TIME", help="when, as in 2027-03-21T18:00+03:30; a clock nobody trusts if not given")
@click.option("--coupon", metavar="CODE", help="a code that is shown")
@click.option("--balance", default="0", metavar="POINTS", help="points on the card")
@click.option("--tier", help="the holder's tier")
@click.option("--first-purchase", is_flag=True, help="the card was never used")
@click.option("--grant", "grants", multiple=True, metavar="OFFER", help="an offer given to the card; may be repeated")
@click.option("--stamps", multiple=True, metavar="ID:N", help="stamps the card has already; may be repeated")
def try_(file: Any, amount: str, **given: Any) -> None:
    """Say what the policy in FILE does to a purchase of AMOUNT, and why; nothing is published, no --data-dir needed.

    \b
    Example:
      terminal-agent crm policy try rules.json 250000 --tier gold --line tea:2:120000
    """
    from terminal_agent.crm import policies

    emit(*_both(policies.try_out(_text(file), _case(amount, given))))


def _case(amount: str, given: dict[str, Any]) -> dict[str, Any]:
    purchase = {
        "amount": whole_number(amount, "the amount"),
        "redeem": whole_number(given["redeem"], "the number of points"),
        "lines": [parse_line(text) for text in given["lines"]],
        "at": given["at"],
        "coupon": given["coupon"],
    }
    holder = {
        "balance": whole_number(given["balance"], "the balance"),
        "tier": given["tier"],
        "first_purchase": given["first_purchase"],
        "grants": given["grants"],
        "stamps": dict(_count(text) for text in given["stamps"]),
    }
    return {"purchase": purchase, "holder": holder}


def _count(text: str) -> tuple[str, int]:
    name, _, number = text.rpartition(":")
    return name, whole_number(number, "a number of stamps")


def _both(answer: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The answer, and what people read."""
    if "refused" in answer:
        return answer, f"Refused: {answer['refused']} (limit {answer['limit']})"
    lines = [f"  {reason['points']:+,} {reason['rule']}: {reason['detail']}" for reason in answer["explanation"]]
    total = answer["earned"] - answer["redeemed"]
    return answer, "\n".join([*lines, f"{total:+,} points; {answer['points_after']:,} after"])


def _text(file: Any) -> str:
    try:
        return str(file.read())
    except UnicodeDecodeError as error:
        hint = "Save the file as UTF-8"
        raise AgentError(ErrorCode.INVALID_INPUT, "the policy file is not UTF-8", hint=hint) from error
