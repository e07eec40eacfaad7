"""desk: cards by the pile, from a file of rows."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from terminal_agent.cli.backend import calls, reader_options
from terminal_agent.cli.output import AgentGroup, emit, is_terminal, print_error, say, state
from terminal_agent.errors import AgentError, ExitCode

SIGNALLED = 128
"""Added to a signal's number makes the exit code, as in a shell."""
A_FILE = click.Path(path_type=Path, dir_okay=False)
Talk = Callable[[str], None]


@click.group(cls=AgentGroup)
def desk() -> None:
    """The issuing desk: cards by the pile."""


@desk.command("batch")
@click.option(
    "--input",
    "source",
    required=True,
    metavar="CSV",
    type=A_FILE,
    help="the rows: columns phone,name,tier,card_no, all but phone optional",
)
@click.option(
    "--output",
    "target",
    required=True,
    metavar="CSV",
    type=A_FILE,
    help="the report, a line a row; made anew each time",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="issue so many cards, then stop")
@reader_options
def batch(source: Path, target: Path, limit: int | None, reader: str | None, wait_s: float) -> int:
    """Issue a card for each row of a file, one after the other; whoever has a card is left out.

    Safe to stop at any moment and to run again: rows done stay done, no row gets two cards. With --json one line for
    each row and for each card that could not be used, then a summary. Exit code 7 when a row was rejected.

    \b
    Examples:
      terminal-agent desk batch --input members.csv --output cards.csv --reader pcsc:
      terminal-agent desk batch --input members.csv --output cards.csv --limit 200 --wait-s 60
    """
    from terminal_agent.service.batch_job import Job, Request

    problem: AgentError | None = None
    with _stop_asked() as signals, _progress() as (talk, advance):
        job = Job(Request(source, target, reader, wait_s, limit, lambda: bool(signals), talk))
        try:
            for line in job.run(lambda: calls(talk)):
                _show(line, talk)
                advance(job.summary())
        except AgentError as error:
            problem = error
    return _ended(job.summary(), target, problem, signals)


@contextmanager
def _stop_asked() -> Iterator[list[int]]:
    """The signal that asked to stop, once one has; the card in hand is finished first. A second one stops at once."""
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(number: int, _frame: object) -> None:
        came.append(number)
        restore()

    for number in before:
        signal.signal(number, stop)
    try:
        yield came
    finally:
        restore()


@contextmanager
def _progress() -> Iterator[tuple[Talk, Callable[[dict[str, Any]], None]]]:
    """What hears the talk, and what hears how far the batch is: a bar where a person watches, else lines alone."""
    if not is_terminal():
        yield say, lambda _summary: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)

        def advance(summary: dict[str, Any]) -> None:
            pace = f"{summary['cards_per_minute']:.0f} cards a minute"
            done = sum(summary[status] for status in ("issued", "skipped", "rejected"))
            bar.update(task, completed=done, total=done + summary["left"], description=pace)

        yield lambda text: bar.console.print(text, markup=False, highlight=False), advance


def _show(line: dict[str, Any], talk: Talk) -> None:
    """JSON on stdout, or words to the person."""
    if state().json:
        emit(line, "")
    else:
        said = line["error"]["message"] if line["error"] else f"card {line['card_no']}"
        talk(f"Row {line['row']}: {line['status']}: {said}")


def _ended(summary: dict[str, Any], target: Path, problem: AgentError | None, signals: list[int]) -> int:
    words = (
        f"{summary['issued']} issued, {summary['skipped']} had a card, {summary['rejected']} rejected, "
        f"{summary['left']} left; {summary['cards_per_minute']:g} cards a minute.\n"
        f"The report is {click.format_filename(target)}."
    )
    emit({**summary, **(problem.to_json() if problem else {})}, words)
    if problem is not None:
        if not state().json:
            print_error(problem, as_json=False)
        return problem.exit_code
    if signals:
        return SIGNALLED + signals[0]
    return ExitCode.NEEDS_ATTENTION if summary["rejected"] else ExitCode.DONE


COMMANDS = (desk,)
