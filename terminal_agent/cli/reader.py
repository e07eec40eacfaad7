"""reader: what card readers this machine has, and whether one is fit for a till."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from terminal_agent.cli.backend import call, reader_options
from terminal_agent.cli.output import AgentGroup, emit, is_terminal, say, state
from terminal_agent.errors import AgentError, ExitCode

if TYPE_CHECKING:
    from terminal_agent.service.settings import Settings


@click.group(cls=AgentGroup)
def reader() -> None:
    """Card readers of this machine."""


@reader.command("list")
def reader_list() -> None:
    """List the readers with the URL that --reader takes; of one that cannot be used, say why and what to do.

    \b
    Example:
      terminal-agent reader list
    """
    from terminal_agent.service.readers import reader_list as look

    rows = look(_settings())
    emit(rows, "\n".join(_listed(rows)))


def _listed(rows: list[dict[str, Any]]) -> list[str]:
    lines: list[str] = []
    for row in rows:
        lines.append(f"{row['state']:<8} {row['url']:<40} {row['name'] or ''}".rstrip())
        if row["problem"]:
            lines += [f"         {row['problem']}", f"      -> {row['hint']}"]
    if all(row["problem"] for row in rows):
        lines.append("No reader can be used yet. A simulated one needs nothing: --reader sim:card.mfd")
    return lines


@reader.command("test")
@reader_options
@click.option(
    "--rounds",
    type=click.IntRange(2, 200),
    default=20,
    show_default=True,
    metavar="N",
    help="how often each step is timed",
)
@click.option(
    "--sector",
    type=click.IntRange(0, 15),
    metavar="N",
    help="sector to work in [default: one where nothing can be lost]",
)
@click.option(
    "--lift/--no-lift", default=None, help="ask to lift the card and put it back [default: when a person watches]"
)
def reader_test(reader: str | None, wait_s: float, rounds: int, sector: int | None, lift: bool | None) -> int:
    """Try a reader with a blank card or one of this club's: times, a verdict, and what speaks against it.

    The card keeps what it holds: one block is written with the very bytes it has, where nothing could be lost.
    Exit code 1 for a reader that is unusable.

    \b
    Examples:
      terminal-agent reader test --reader pcsc:
      terminal-agent reader test --reader pn532:/dev/ttyUSB0 --rounds 50 --lift
    """
    lift = is_terminal() if lift is None else lift
    answer = _try_reader(reader=reader, wait_s=wait_s, rounds=rounds, sector=sector, lift=lift)
    emit(answer, "\n".join(_tested(answer)))
    return ExitCode.FAILURE if answer["verdict"] == "unusable" else ExitCode.DONE


def _try_reader(*, reader: str | None, **options: Any) -> Any:
    """By the agent; before ``init`` with no keys but the maker's."""
    if reader is None or _settings() is not None:
        return call("reader.test", reader=reader, **options)
    from terminal_agent.ports import SystemClock
    from terminal_agent.service.card_lane import CardLane
    from terminal_agent.service.reader_test import NoKeys, Trial, run_test

    clock = SystemClock()
    with closing(CardLane(clock)) as lane:
        return run_test(lane, NoKeys(), clock, Trial(reader, **options), say)


def _tested(answer: dict[str, Any]) -> list[str]:
    whose = "a card of ours" if answer["card"] == "ours" else "a card that is not ours"
    lines = [
        f"reader   {answer['reader']['name'] or answer['reader']['url']}",
        f"card     {answer['uid']}, {whose}, opened with {answer['opened_with']}",
        f"{'ms':<12}{'median':>8}{'p95':>8}",
    ]
    lines += [f"{row['step']:<12}{row['median_ms']:>8.1f}{row['p95_ms']:>8.1f}" for row in answer["times"]]
    tap = answer["purchase_ms"]
    if tap:
        lines.append(f"{'purchase':<12}{tap['median']:>8.1f}{tap['p95']:>8.1f}   reckoned from these")
    if not answer["write_tried"]:
        lines.append(
            "Nothing was written: something could be lost there. A blank card, or no --sector, tries that too."
        )
    noticed = {True: "noticed", False: "NOT noticed"}
    for event in ("removal", "return"):
        if answer[f"{event}_noticed"] is not None:
            lines.append(f"{event:<12}{noticed[answer[f'{event}_noticed']]:>8}")
    lines.append(f"verdict  {answer['verdict']}, after {answer['rounds']} rounds")
    return [*lines, *(f"  {reason}" for reason in answer["reasons"])]


def _settings() -> Settings | None:
    """What the config file says, where there is one; readers can be listed before ``init``."""
    from terminal_agent.service.settings import find_config, load_settings

    try:
        return load_settings(find_config(state().config))
    except AgentError:
        return None


COMMANDS = (reader,)
