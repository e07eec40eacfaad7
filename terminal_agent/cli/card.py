"""card: issue, replace, block, show, verify, rekey, wipe, dump, restore."""

from __future__ import annotations

import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import click

from terminal_agent.cli.backend import call, reader_options
from terminal_agent.cli.output import AgentGroup, emit, say
from terminal_agent.errors import AgentError, ErrorCode, ExitCode

REPLACE = "terminal-agent card replace"


@click.group(cls=AgentGroup)
def card() -> None:
    """Cards: issue, replace, block, show, verify, rekey, wipe, dump, restore."""


@card.command("issue")
@reader_options
@click.option("--phone", metavar="P", help="the member's telephone number, in any spelling")
@click.option("--name", metavar="N", help="the member's name; kept at the CRM, never on the card")
@click.option("--tier", metavar="T", help="the member's tier")
@click.option("--referrer", metavar="P", help="who brought this new member: their phone or card number")
@click.option("--mad", is_flag=True, help="write an application directory, whose key is public")
def card_issue(reader: str | None, wait_s: float, **who: Any) -> None:
    """Make a blank card a member's card, every block verified.

    Interrupted? Run it again with the same card: it finishes, or says why it cannot. The points of a member's blocked
    card come to the new one.

    \b
    Examples:
      terminal-agent card issue --phone 09125554433 --name "Sara"
      terminal-agent card issue --reader pcsc:ACR122 --wait-s 30
    """
    answer = call("card.issue", reader=reader, wait_s=wait_s, **who)
    waits = " It waits for the club's approval." if answer["status"] == "pending" else ""
    follow = " Their blocked card's points come to it with a tap after a sync." if answer["takes_over"] else ""
    emit(answer, f"Card {answer['card_no']} is issued and verified.{waits}{follow} Remove the card.")
    for other in answer["also_in_use"]:
        say(f"The member also has card {other}, which keeps its points. Is it lost? {REPLACE} --old {other}")


@card.command("replace")
@reader_options
@click.option("--old", required=True, metavar="CARD_NO", help="the card that was lost or is broken")
def card_replace(reader: str | None, wait_s: float, old: str) -> None:
    """Issue a blank card to the owner of another one, which is blocked for good; the points follow.

    \b
    Example:
      terminal-agent card replace --old 7398036535671225 --reader pcsc:
    """
    answer = call("card.replace", reader=reader, wait_s=wait_s, old=old)
    emit(answer, f"Card {answer['card_no']} replaces {answer['replaces']}; its points come with a tap after a sync.")


@card.command("block")
@click.argument("card_no")
@click.option("--reason", required=True, metavar="TEXT", help="why, for the record and the other tills")
def card_block(card_no: str, reason: str) -> None:
    """Refuse a card here at once, and everywhere when the CRM has heard of it. Works with the line down.

    \b
    Example:
      terminal-agent card block 7398036535671225 --reason lost
    """
    answer = call("card.block", card_no=card_no, reason=reason)
    emit(answer, f"Card {answer['card_no']} is blocked. Only head office can free it.")


@card.command("show")
@reader_options
def card_show(reader: str | None, wait_s: float) -> None:
    """Read the card and check it; changes nothing.

    \b
    Example:
      terminal-agent card show --reader sim:card.mfd
    """
    answer = call("card.show", reader=reader, wait_s=wait_s)
    emit(answer, lambda: _print_card(answer))


def _print_card(answer: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    facts = Table.grid(padding=(0, 2))
    problem = answer["problem"] or "none"
    for name, value in (
        ("card", answer["card_no"]),
        ("points", f"{answer['points']:,}"),
        ("tier", answer["tier"] or "-"),
        ("taps", str(answer["sequence"])),
        ("status", answer["status"]),
        ("problem", problem),
        ("UID", answer["uid"]),
    ):
        facts.add_row(f"[dim]{name}[/]", value)
    console.print(facts)
    if not answer["history"]:
        return
    table = Table(title="History on the card", title_justify="left", show_edge=False)
    for heading, justify in (
        ("tap", "right"),
        ("time (UTC)", "left"),
        ("what", "left"),
        ("amount", "right"),
        ("points", "right"),
    ):
        table.add_column(heading, justify="right" if justify == "right" else "left")
    for line in answer["history"]:
        time = line["time"][:16].replace("T", " ")
        table.add_row(str(line["sequence"]), time, line["kind"], f"{line['amount']:,}", f"{line['points']:+,}")
    console.print(table)


@card.command("verify")
@reader_options
def card_verify(reader: str | None, wait_s: float) -> int:
    """Read all 64 blocks and check keys, access bits and format. Exit code 4 when something is wrong.

    \b
    Example:
      terminal-agent card verify --reader pcsc:
    """
    answer = call("card.verify", reader=reader, wait_s=wait_s)
    findings = [f"  sector {f['sector']:>2}, block {f['block']:>2}: {f['problem']}" for f in answer["findings"]]
    findings += [f"  the chip may be a copy: {tell}" for tell in answer["tells"]]
    if answer["ok"]:
        emit(answer, "\n".join([f"The card is good: {answer['blocks_read']} blocks read and checked.", *findings]))
        return ExitCode.DONE
    emit(answer, "\n".join(["The card is not as it should be:", *findings]))
    return ExitCode.CARD_PROBLEM


@card.command("rekey")
@reader_options
def card_rekey(reader: str | None, wait_s: float) -> int:
    """Bring a card under the active key set; points and history stay. Exit code 4 when it stays under its old set.

    Interrupted? The card works as it is; run it again with the same card and it finishes.

    \b
    Example:
      terminal-agent card rekey --reader pcsc:
    """
    answer = call("card.rekey", reader=reader, wait_s=wait_s)
    version = answer["key_set_version"]
    state = f"is under key set {version}" if answer["rekeyed"] else f"stays under key set {version}: replace it in time"
    emit(answer, "\n".join([f"Card {answer['card_no']} {state}. Remove the card.", *answer["warnings"]]))
    return ExitCode.DONE if answer["rekeyed"] else ExitCode.CARD_PROBLEM


@card.command("wipe")
@reader_options
@click.option("-f", "--force", is_flag=True, help="do not ask")
def card_wipe(reader: str | None, wait_s: float, force: bool) -> None:
    """Return a card of ours to the maker's blank state; the points stay at the CRM.

    \b
    Example:
      terminal-agent card wipe --reader pcsc: --force
    """
    _confirm(force, "wipe", "This erases the card on the reader")
    answer = call("card.wipe", reader=reader, wait_s=wait_s)
    emit(answer, f"The card {answer['uid']} is blank again. Remove the card.")


def _confirm(force: bool, command: str, what: str) -> None:
    if force:
        return
    if not sys.stdin.isatty():
        hint = f"terminal-agent card {command} --force"
        raise AgentError(ErrorCode.INVALID_INPUT, f"card {command} needs --force", hint=hint)
    click.confirm(f"WARNING! {what}. Go on?", abort=True, err=True)


_DumpFile = click.Path(exists=True, dir_okay=False, path_type=Path)
_keys_from = click.option(
    "--keys-from", type=_DumpFile, metavar="F", help="another dump, for keys that open the card as it is now"
)


@card.command("dump")
@reader_options
@_keys_from
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="F",
    help="file to write: .mfd, .eml, .mct, .nfc or .json",
)
@click.option("-f", "--force", is_flag=True, help="replace the file if it is there")
def card_dump(reader: str | None, wait_s: float, output: Path, force: bool, keys_from: Path | None) -> None:
    """Read the card whole into a file, with all keys at hand; changes nothing on the card.

    The file holds the card's keys. Where a key is missing, .mct, .nfc and .json say so; .mfd and .eml cannot.

    \b
    Examples:
      terminal-agent card dump --output card.mfd
      terminal-agent card dump --reader pcsc: --output foreign.mct
    """
    from terminal_agent.service.dump_files import check_output, dump_to_send, write_dump

    check_output(output, force=force)
    keys = dump_to_send(keys_from) if keys_from else None
    answer = call("card.dump", reader=reader, wait_s=wait_s, output=output.name, keys_from=keys)
    write_dump(output, b64decode(answer.pop("content")), force=force)
    name = click.format_filename(output)
    unknown = f", {answer['blocks_unknown']} could not be read whole" if answer["blocks_unknown"] else ""
    emit({**answer, "output": name}, f"{answer['blocks_read']} blocks are in {name}{unknown}. Remove the card.")
    say(f"{name} holds the card's keys: keep it as safe as a key, and delete it when you are done.")


@card.command("restore")
@reader_options
@_keys_from
@click.option(
    "--input",
    "source",
    type=_DumpFile,
    required=True,
    metavar="F",
    help="dump to put on the card: .mfd, .eml, .mct, .nfc or .json",
)
@click.option("-f", "--force", is_flag=True, help="do not ask")
@click.option("--partial", is_flag=True, help="leave alone what the dump does not know")
@click.option("--with-block-0", is_flag=True, help="write block 0 too; only cards made for copying take it")
@click.option("--allow-lock", is_flag=True, help="take trailers that can never be changed again, and keys of zeros")
def card_restore(
    reader: str | None, wait_s: float, source: Path, keys_from: Path | None, force: bool, **options: bool
) -> None:
    """Put a dump back on a card, every block verified. Block 0 stays the card's own.

    Interrupted? Run it again with the same card. An older image of a card of ours is a rollback: tills refuse it.

    \b
    Examples:
      terminal-agent card restore --input card.mfd --force
      terminal-agent card restore --input partly.mct --partial --force
    """
    from terminal_agent.service.dump_files import dump_to_send

    _confirm(force, "restore", f"This overwrites the card on the reader with {click.format_filename(source)}")
    files = {"input": dump_to_send(source), "keys_from": dump_to_send(keys_from) if keys_from else None}
    answer = call("card.restore", reader=reader, wait_s=wait_s, **files, **options)
    counts = f"{answer['blocks_verified']} blocks verified, {answer['blocks_written']} of them written"
    emit(answer, f"{counts}, {answer['blocks_skipped']} left as they were. Remove the card.")
    if answer["dump_uid"] not in (None, answer["uid"]) and not options["with_block_0"]:
        say(f"The dump is of card {answer['dump_uid']}: what we seal for one UID opens on no other.")


COMMANDS = (card,)
