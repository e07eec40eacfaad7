"""purchase and reverse: one checkout by tap."""

from __future__ import annotations

from typing import Any

import click

from terminal_agent.cli.backend import call, reader_options, whole_number
from terminal_agent.cli.output import AgentCommand, emit
from terminal_agent.errors import AgentError, ErrorCode, ExitCode


@click.command(cls=AgentCommand)
@click.argument("amount")
@click.option(
    "--receipt", "receipt_no", required=True, metavar="NO", help="number of the receipt, unique on this terminal"
)
@click.option("--redeem", default="0", metavar="POINTS", help="points to pay with")
@click.option("--phone", metavar="P", help="a sale without the card: the member's telephone number, in any spelling")
@click.option("--coupon", metavar="CODE", help="the code of a coupon that is shown")
@click.option("--line", "lines", multiple=True, metavar="SKU:QTY:AMOUNT", help="a line of the bill; may be repeated")
@reader_options
def purchase(
    amount: str,
    receipt_no: str,
    redeem: str,
    phone: str | None,
    coupon: str | None,
    lines: tuple[str, ...],
    reader: str | None,
    wait_s: float,
) -> int:
    """Record a purchase of AMOUNT (smallest unit of the currency) with the member's card, or by --phone without it.

    The same receipt again gives the same answer and moves no points; one that was left in doubt is settled with the
    card now on the reader.

    \b
    Examples:
      terminal-agent purchase 250000 --receipt 1001
      terminal-agent purchase 250000 --receipt 1002 --redeem 50 --line tea:2:120000
      terminal-agent purchase 250000 --receipt 1003 --phone 09125554433
    """
    answer = call(
        "purchase",
        amount=whole_number(amount, "the amount"),
        receipt_no=receipt_no,
        redeem=whole_number(redeem, "the number of points"),
        coupon=coupon,
        phone=phone,
        lines=[parse_line(text) for text in lines],
        reader=reader,
        wait_s=wait_s,
    )
    emit(answer, _human(answer))
    return ExitCode.NEEDS_ATTENTION if answer["state"] == "closed" else ExitCode.DONE


def parse_line(text: str) -> dict[str, Any]:
    """``SKU:QTY:AMOUNT`` as ``{sku, quantity, amount}``. Raises AgentError ``invalid_input``."""
    sku, _, rest = text.partition(":")
    quantity, _, amount = rest.partition(":")
    if not sku or not quantity or not amount or len(sku) > 64:
        raise AgentError(ErrorCode.INVALID_INPUT, f"a line is SKU:QTY:AMOUNT, not {text!r}", hint="As in tea:2:120000")
    return {"sku": sku, "quantity": whole_number(quantity, "a quantity"), "amount": whole_number(amount, "an amount")}


@click.command(cls=AgentCommand)
@click.option("--receipt", "receipt_no", required=True, metavar="NO", help="receipt number of the purchase")
@click.option("--amount", metavar="AMOUNT", help="how much of it is returned; all that is left if not given")
@click.option(
    "--reference",
    metavar="NO",
    help="number of this return; needed only to return the same amount of one receipt twice",
)
@reader_options
def reverse(receipt_no: str, amount: str | None, reference: str | None, reader: str | None, wait_s: float) -> int:
    """Take a purchase back, whole or in part, with the card it was made with.

    Points it earned go, points that paid for it come back, as policy says; works offline. The same return again gives
    the same answer and moves no points.

    \b
    Examples:
      terminal-agent reverse --receipt 1001
      terminal-agent reverse --receipt 1001 --amount 50000
      terminal-agent reverse --receipt 1001 --amount 50000 --reference R-7
    """
    answer = call(
        "reverse",
        receipt_no=receipt_no,
        amount=None if amount is None else whole_number(amount, "the amount"),
        reference=reference,
        reader=reader,
        wait_s=wait_s,
    )
    emit(answer, _human(answer))
    return ExitCode.NEEDS_ATTENTION if answer["state"] == "closed" else ExitCode.DONE


def _human(answer: dict[str, Any]) -> str:
    if answer["state"] == "closed":
        moved = answer["points_earned"] - answer["points_redeemed"]
        return (
            f"This sale was closed without its card: {moved:+,} points are booked at the CRM\n"
            "and reach the card at its next tap."
        )
    again = " (recorded before, nothing was booked twice)" if answer["replayed"] else ""
    if answer["card_no"] is None:
        moved = answer["points_earned"] - answer["points_redeemed"]
        return f"Recorded without a card: {moved:+,} points, booked at the CRM{again}."
    lines = [
        f"Card {answer['card_no']}: {answer['points_before']:,} -> {answer['points_after']:,} points{again}",
        *(f"  {reason['points']:+,} {reason['rule']}: {reason['detail']}" for reason in answer["explanation"]),
    ]
    if answer["points_adjusted"]:
        lines.insert(1, f"  {answer['points_adjusted']:+,} from head office")
    return "\n".join([*lines, "Remove the card."])


COMMANDS = (purchase, reverse)
