"""``terminal-agent``: the command groups, and the one place where an error becomes a sentence and an exit code."""

from __future__ import annotations

import contextlib
import logging
import sys
from pathlib import Path

import click

from terminal_agent import __version__
from terminal_agent.cli import (
    card,
    crm,
    demo,
    desk,
    health,
    member,
    purchase,
    queue,
    reader,
    receipt,
    service,
    setup,
    till,
)
from terminal_agent.cli.output import AgentGroup, CliState, print_error
from terminal_agent.errors import AgentError, ErrorCode, ExitCode

log = logging.getLogger(__name__)

REPORT_HINT = "Nothing acknowledged is lost. Run it once more; report it with what stands above"
EPILOG = """\b
Exit codes:
  0 done            3 no reader       6 configuration
  1 failure         4 card problem    7 needs attention
  2 usage           5 CRM unreachable
"""


@click.group(cls=AgentGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="config file to use")
@click.option(
    "--log-level",
    type=click.Choice(["traffic", "debug", "info", "warning", "error"], case_sensitive=False),
    help="how much to tell on stderr [default: warning; info for run]",
)
@click.version_option(__version__, "--version", prog_name="terminal-agent")
@click.pass_context
def cli(ctx: click.Context, config: Path | None, log_level: str | None) -> None:
    """Loyalty cards on MIFARE Classic 1K at the shop's till: works with the line down, never loses a point.

    \b
    Examples:
      terminal-agent demo
      terminal-agent init --data-dir shop --reader sim:card.mfd
      terminal-agent card issue --phone 09125554433 --name "Sara"
      terminal-agent purchase 250000 --receipt 1001
      terminal-agent status
    """
    state = ctx.ensure_object(CliState)
    state.config = config
    state.log_level = log_level


COMMANDS = (
    *setup.COMMANDS,
    *reader.COMMANDS,
    *card.COMMANDS,
    *desk.COMMANDS,
    *member.COMMANDS,
    *purchase.COMMANDS,
    *receipt.COMMANDS,
    *queue.COMMANDS,
    *service.COMMANDS,
    *health.COMMANDS,
    *till.COMMANDS,
)
for command in (*COMMANDS, crm.crm, *demo.COMMANDS):
    cli.add_command(command)


def main() -> None:
    """Run the command line; never a traceback for what a person can mend."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """One command line; gives the exit code."""
    as_json = "--json" in arguments
    try:
        result = cli.main(arguments, prog_name="terminal-agent", standalone_mode=False)
        return int(result) if isinstance(result, int) else ExitCode.DONE
    except AgentError as error:
        print_error(error, as_json=as_json)
        return error.exit_code
    except click.UsageError as error:
        return _usage(error, as_json=as_json)
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return ExitCode.FAILURE
    except Exception as error:
        log.exception("terminal-agent met something unforeseen")
        what = f"something unforeseen happened: {type(error).__name__}"
        with contextlib.suppress(OSError):  # stdout itself may be what failed
            print_error(AgentError(ErrorCode.INTERNAL, what, hint=REPORT_HINT), as_json=as_json)
        return ExitCode.FAILURE


def _usage(error: click.UsageError, *, as_json: bool) -> int:
    if as_json:
        command = error.ctx.command_path if error.ctx else "terminal-agent"
        problem = AgentError(ErrorCode.INVALID_INPUT, error.format_message(), hint=f"{command} --help")
        print_error(problem, as_json=True)
    else:
        error.show()
    return ExitCode.USAGE
