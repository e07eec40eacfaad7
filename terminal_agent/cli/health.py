"""doctor, backup, support-bundle: how the terminal is, with what to do; a copy of its journal; facts for who helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from terminal_agent.cli.backend import call, set_up_logging
from terminal_agent.cli.output import AgentCommand, emit, state
from terminal_agent.errors import ExitCode

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@click.command(cls=AgentCommand)
@click.option("--acknowledge", is_flag=True, help="the journal's alarms have been read and dealt with: end them")
def doctor(acknowledge: bool) -> int:
    """Check the terminal: files, keys, journal, disk, clock, reader, CRM, queue; say what to do about each.

    Works with and without the daemon. Exit code 1 when a check fails; warnings alone end with 0.

    \b
    Examples:
      terminal-agent doctor
      terminal-agent doctor --acknowledge
    """
    from terminal_agent.service.doctor.diagnosis import diagnose
    from terminal_agent.service.settings import find_config

    set_up_logging()
    answer = diagnose(find_config(state().config), {"acknowledge": acknowledge})
    emit(answer, lambda: _print_checks(answer["checks"]))
    return ExitCode.FAILURE if any(check["status"] == "fail" for check in answer["checks"]) else ExitCode.DONE


def _print_checks(checks: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for number, check in enumerate(checks, 1):
        style = _STYLES[check["status"]]
        table.add_row(f"{number:>2}", f"[{style}]{check['status']}[/]", check["id"], escape(check["detail"]))
        if check["fix"]:
            table.add_row("", "", "", f"[{style}]->[/] {escape(check['fix'])}")
    Console(highlight=False).print(table)


@click.command(cls=AgentCommand)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="file to write, which must not be there yet",
)
def backup(output: Path) -> None:
    """Copy the journal to FILE while sales go on; the copy is checked. The daemon makes one each day by itself.

    docs/journal.md says how one is put back. Keys and credentials are not in it: keep copies of those apart.

    \b
    Example:
      terminal-agent backup --output /mnt/usb/journal.sqlite3
    """
    answer = call("backup", output=str(output.absolute()))
    emit(
        answer,
        f"{answer['file']}: {answer['events']:,} events, {answer['pending']:,} of them not sent yet, "
        f"{answer['bytes']:,} bytes",
    )


@click.command(cls=AgentCommand, name="support-bundle")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE.tar.gz",
    help="file to write, which must not be there yet",
)
def support_bundle(output: Path) -> None:
    """Gather what somebody who helps needs: versions, settings, status, checks, queue, the last log lines, USB devices.

    No key, token, name, phone, receipt or card number is in it. Works without the daemon, and where config or journal
    are broken: it then says what could not be read. Look through it before you send it: tar -xzf FILE.

    \b
    Example:
      terminal-agent support-bundle --output support.tar.gz
    """
    from terminal_agent.service.doctor.support_bundle import make_bundle
    from terminal_agent.service.settings import find_config

    set_up_logging()
    answer = make_bundle(find_config(state().config), output.absolute())
    missing = ", ".join(f"{each['part']} ({each['problem']})" for each in answer["left_out"])
    emit(answer, f"{answer['file']}, {answer['bytes']:,} bytes" + (f"; left out: {missing}" if missing else ""))


COMMANDS = (doctor, backup, support_bundle)
