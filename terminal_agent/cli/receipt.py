"""receipt: a recorded checkout printed again."""

from __future__ import annotations

import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import click

from terminal_agent.cli.backend import call
from terminal_agent.cli.output import AgentCommand, emit, state
from terminal_agent.errors import AgentError, ErrorCode


@click.command(cls=AgentCommand)
@click.argument("receipt_no", metavar="NO")
@click.option("--language", type=click.Choice(["fa", "en"]), help="what it speaks [default: the shop's]")
@click.option("--columns", type=click.Choice(["32", "42", "48"]), help="width of the paper [default: the shop's]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "escpos", "png"]),
    default="text",
    show_default=True,
    help="lines of text, bytes for a receipt printer, or a picture",
)
@click.option("--return", "returned", is_flag=True, help="the receipt of its last return")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), metavar="F", help="file or printer to write")
def receipt(
    receipt_no: str, language: str | None, columns: str | None, form: str, returned: bool, output: Path | None
) -> None:
    """Print the receipt of a recorded purchase again, marked as a copy; changes nothing.

    A printer that cannot join Persian letters prints --format escpos, on paper of 58 mm (32 columns) or 80 mm.

    \b
    Examples:
      terminal-agent receipt 1001
      terminal-agent receipt 1001 --language en --columns 32
      terminal-agent receipt 1001 --format escpos --output /dev/usb/lp0
    """
    wide = int(columns) if columns else None
    answer = call("receipt", receipt_no=receipt_no, language=language, columns=wide, format=form, returned=returned)
    content = _content(answer)
    if output is not None:
        _write(output, content)
        kept = {key: value for key, value in answer.items() if key not in ("lines", "content")}
        emit({**kept, "output": str(output), "bytes": len(content)}, f"The receipt is in {output}.")
    elif state().json:
        emit(answer, "")
    else:
        _print(content, binary=form != "text")


def _content(answer: dict[str, Any]) -> bytes:
    if "lines" in answer:
        return ("\n".join(answer["lines"]) + "\n").encode()
    return b64decode(answer["content"])


def _write(output: Path, content: bytes) -> None:
    """Straight into it: it may be a printer."""
    try:
        output.write_bytes(content)
    except OSError as error:
        raise AgentError(
            ErrorCode.INVALID_INPUT,
            f"cannot write {output}: {error.strerror}",
            hint="Choose another file, or check the printer and your rights to it",
        ) from error


def _print(content: bytes, *, binary: bool) -> None:
    if binary and sys.stdout.isatty():
        raise AgentError(
            ErrorCode.INVALID_INPUT,
            "this is no text: a terminal cannot show it",
            hint="Add --output FILE, or the printer's own path such as /dev/usb/lp0",
        )
    click.echo(content, nl=False)


COMMANDS = (receipt,)
