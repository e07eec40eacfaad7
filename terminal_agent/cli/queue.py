"""queue and sync: what waits for the CRM, and sending it now."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from terminal_agent.cli.backend import call, call_and_hear
from terminal_agent.cli.output import AgentCommand, AgentGroup, emit, is_terminal, say
from terminal_agent.errors import ExitCode

WIDTH_OF_A_PIPE = 160
STATES = ["pending", "in_doubt", "quarantined", "acknowledged"]


@click.group(cls=AgentGroup)
def queue() -> None:
    """What waits for the CRM, what is in doubt, what is quarantined."""


@queue.command("list")
@click.option("--state", type=click.Choice(STATES), help="only what is in this state")
def queue_list(state: str | None) -> None:
    """List the events that the CRM has not acknowledged.

    \b
    Examples:
      terminal-agent queue list
      terminal-agent queue list --state quarantined
    """
    answer = call("queue.list", state=state)
    emit(answer, lambda: _print_queue(answer))


def _print_queue(answer: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console() if sys.stdout.isatty() else Console(width=WIDTH_OF_A_PIPE)
    console.print(f"{answer['pending']} pending, {answer['in_doubt']} in doubt, {answer['quarantined']} quarantined")
    if answer["events"]:
        table = Table(show_edge=False)
        for heading in ("no.", "type", "card", "state", "tries", "reason", "id"):
            table.add_column(heading, overflow="fold")
        for row in answer["events"]:
            number, tries = str(row["sequence"]), str(row["attempts"])
            table.add_row(
                number, row["type"], row["card_no"] or "-", row["state"], tries, row["reason"] or "", row["id"]
            )
        console.print(table)
    for row in answer["checkouts_in_doubt"]:
        console.print(
            f"in doubt: receipt {row['receipt_no']}, card {row['card_no']}: put that card on the reader, "
            f"or terminal-agent queue close {row['checkout_id']}"
        )


@queue.command("retry")
@click.argument("event_id", metavar="ID")
def queue_retry(event_id: str) -> None:
    """Send a quarantined event once more.

    \b
    Example:
      terminal-agent queue retry 01a3f1c2-7a10-7cc3-9d54-0d9f1c2b3a45
    """
    emit(call("queue.retry", id=event_id), f"Event {event_id} waits for the CRM again.")


@queue.command("close")
@click.argument("checkout_id")
def queue_close(checkout_id: str) -> int:
    """End a sale in doubt without its card: the points are credited at the CRM.

    \b
    Example:
      terminal-agent queue close 01a3f1c2-7a10-7cc3-9d54-0d9f1c2b3a45
    """
    answer = call("queue.close", checkout_id=checkout_id)
    emit(
        answer,
        f"The sale of receipt {answer['receipt_no']} is {answer['state']}: {answer['points_earned']} points earned.",
    )
    return ExitCode.DONE


@queue.command("export")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--after", type=click.IntRange(0), default=0, help="go on behind this position, where a file was full")
def queue_export(file: Path, after: int) -> None:
    """Write what waits to FILE, to be carried to the CRM when the line stays down for days.

    The file is sealed, and private: it names customers. The queue stays as it is; what the CRM's receipt acknowledges
    is taken out by: queue acknowledge. Whatever goes up over the line meanwhile counts once.

    \b
    Examples:
      terminal-agent queue export /media/usb/till-1.queue
      terminal-agent queue acknowledge /media/usb/till-1.receipt
    """
    from terminal_agent.service.dump_files import check_output, write_dump

    check_output(file, force=False)
    answer = call("queue.export", after=after)
    write_dump(file, answer.pop("content").encode(), force=False)
    more = f"{answer['left']} more wait: terminal-agent queue export --after {answer['through']} ANOTHER-FILE\n"
    emit(
        {"file": str(file), **answer},
        f"{answer['events']} events are in {file}.\n{more if answer['left'] else ''}"
        "At the CRM: terminal-agent crm import FILE --receipt RECEIPT --data-dir DIR\n"
        "Then here: terminal-agent queue acknowledge RECEIPT",
    )


@queue.command("acknowledge")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), metavar="RECEIPT")
def queue_acknowledge(file: Path) -> int:
    """Take the CRM's receipt of an exported queue as its answer. The same receipt again changes nothing.

    Exit code 7 when the CRM rejected an event.

    \b
    Example:
      terminal-agent queue acknowledge /media/usb/till-1.receipt
    """
    from base64 import b64encode

    from terminal_agent.sealed import MAX_FILE_BYTES
    from terminal_agent.service.files import read_up_to

    answer = call("queue.acknowledge", content=b64encode(read_up_to(file, MAX_FILE_BYTES)).decode())
    emit(
        answer,
        f"{answer['acknowledged']} events acknowledged, {answer['quarantined']} quarantined, "
        f"{answer['unchanged']} settled before or still waiting.",
    )
    return ExitCode.NEEDS_ATTENTION if answer["quarantined"] else ExitCode.DONE


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """What hears an exchange's talk: a bar where a person watches, else the lines as they come."""
    if not is_terminal():
        yield say
        return
    from rich.console import Console
    from rich.progress import Progress

    from terminal_agent.service.progress import heard

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("sending", total=None)

        def talk(text: str) -> None:
            far = heard(text)
            if far is None:
                bar.console.print(text, markup=False, highlight=False)
            else:
                bar.update(task, completed=far[0], total=sum(far))

        yield talk


@click.command(cls=AgentCommand)
@click.option("--once", is_flag=True, help="one exchange and out, which is what it does anyway")
def sync(once: bool) -> int:
    """Exchange with the CRM now: everything waiting goes up, then its decisions come down.

    Exit code 7 when something is quarantined.

    \b
    Example:
      terminal-agent sync
    """
    with _progress() as talk:
        answer = call_and_hear(talk, "sync")
    emit(
        answer,
        f"sent {answer['sent']}: {answer['accepted']} accepted, {answer['duplicate']} known already, "
        f"{answer['rejected']} rejected, {answer['forked']} forked\n"
        f"{answer['pending']} still waiting, {answer['feed_items']} decisions received",
    )
    return ExitCode.NEEDS_ATTENTION if answer["quarantined"] else ExitCode.DONE


COMMANDS = (queue, sync)
