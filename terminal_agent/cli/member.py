"""member: enrolment by phone, and a member's rights at the till: consent, everything held of them, erasing it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from terminal_agent.cli.backend import call
from terminal_agent.cli.output import AgentGroup, emit, say
from terminal_agent.errors import AgentError, ErrorCode

_phone = click.option("--phone", required=True, metavar="P", help="the member's telephone number, in any spelling")


@click.group(cls=AgentGroup)
def member() -> None:
    """Members: enrolment by phone, consent, everything held of them, erasing it."""


@member.command("enroll")
@_phone
@click.option("--name", metavar="N", help="the member's name")
@click.option("--marketing-consent", is_flag=True, help="the member agrees to be written to")
def member_enroll(phone: str, name: str | None, marketing_consent: bool) -> None:
    """Take somebody in without a card. Works with the line down; whoever is a member already stays the one they are.

    \b
    Example:
      terminal-agent member enroll --phone 09125554433 --name Sara
    """
    answer = call("member.enroll", phone=phone, name=name, marketing_consent=marketing_consent)
    needs_one = "" if answer["card_no"] else " To give them a card: terminal-agent card issue --phone P"
    emit(answer, f"Was a member already.{needs_one}" if answer["already_member"] else "Enrolled.")


@member.command("consent")
@_phone
@click.option("--purpose", required=True, metavar="NAME", help="what for, as in marketing")
@click.option("--given/--withdrawn", default=None, required=True, help="whether the member agrees or takes it back")
@click.option("--text-version", metavar="V", help="which version of the text the member was shown")
def member_consent(phone: str, purpose: str, given: bool, text_version: str | None) -> None:
    """Record what a member agrees to, or takes back. Works with the line down.

    \b
    Examples:
      terminal-agent member consent --phone 09125554433 --purpose marketing --given --text-version 2026-11
      terminal-agent member consent --phone 09125554433 --purpose marketing --withdrawn
    """
    answer = call("member.consent", phone=phone, purpose=purpose, given=given, text_version=text_version)
    emit(answer, f"Consent to {answer['purpose']} is {'given' if answer['given'] else 'withdrawn'}.")


@member.command("export")
@_phone
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, metavar="F", help="file to write, JSON, for you alone"
)
@click.option("-f", "--force", is_flag=True, help="replace the file if it is there")
def member_export(phone: str, output: Path, force: bool) -> None:
    """Write everything the CRM and this terminal hold of a member into one JSON file.

    \b
    Example:
      terminal-agent member export --phone 09125554433 --output member.json
    """
    from terminal_agent.service.dump_files import check_output, write_dump

    check_output(output, force=force)
    document = call("member.export", phone=phone)
    write_dump(output, json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n", force=force)
    name = click.format_filename(output)
    answer = {"member_id": document["member_id"], "exported_at": document["exported_at"], "output": name}
    emit(answer, f"Everything that is held of the member is in {name}.")
    say(f"{name} is personal: give it to the member, then delete it.")


@member.command("erase")
@_phone
@click.option("-f", "--force", is_flag=True, help="do not ask")
def member_erase(phone: str, force: bool) -> None:
    """Forget a member for good, at the CRM and on every terminal; their cards are blanked at their next tap.

    \b
    Example:
      terminal-agent member erase --phone 09125554433 --force
    """
    if not force:
        if not sys.stdin.isatty():
            hint = "terminal-agent member erase --force"
            raise AgentError(ErrorCode.INVALID_INPUT, "member erase needs --force", hint=hint)
        click.confirm("WARNING! This forgets the member for good, and their points. Go on?", abort=True, err=True)
    answer = call("member.erase", phone=phone)
    emit(answer, f"The member is forgotten; cards to be blanked when they are tapped: {len(answer['card_nos'])}.")
    for folder in answer["files_left"]:
        say(f"{folder} is a damaged journal that may still name the member: delete it when nobody needs it.")


COMMANDS = (member,)
