"""What README and help texts say is what the program does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from terminal_agent.cli.main import cli
from terminal_agent.errors import EXIT_CODES, ErrorCode, ExitCode

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = list(commands(cli))


def documented_commands() -> set[str]:
    """``card issue\\|show`` in the README's table is ``card issue`` and ``card show``."""
    table = README.split("<!-- commands:")[1].split("Every command takes")[0]
    found = set()
    for words in re.findall(r"`([^`]+)`", table):
        group, _, names = words.partition(" ")
        found |= {f"{group} {name}" for name in names.split("\\|")} if names else {group}
    return found


def test_the_readme_lists_every_command_and_no_other() -> None:
    assert documented_commands() == {" ".join(path) for path, _ in COMMANDS}


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])
def test_every_command_has_help_with_an_example(path: tuple[str, ...], command: click.Command) -> None:
    assert command.help
    assert "Example" in command.help, "help shows how the command is used"
    assert f"terminal-agent {' '.join(path)}" in command.help or "terminal-agent --" in command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.opts} has no help"
            assert not parameter.help.endswith("."), parameter.help


def test_the_readme_explains_every_exit_code() -> None:
    assert set(re.findall(r"^\| (\d) \|", README, re.MULTILINE)) == {str(int(code)) for code in ExitCode}


def test_every_error_code_has_an_exit_code_and_is_documented() -> None:
    document = (ROOT / "docs" / "json-output.md").read_text()
    for code in ErrorCode:
        assert f"| `{code}` | {int(EXIT_CODES[code])} |" in document, code


def test_links_between_documents_lead_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} -> {target}"


def test_json_examples_in_documents_are_json() -> None:
    for document in (ROOT / "docs").glob("*.md"):
        for block in re.findall(r"```json\n(.*?)```", document.read_text(), re.DOTALL):
            json.loads(block)


def test_tests_named_in_documents_are_there() -> None:
    for document in (ROOT / "docs").glob("*.md"):
        where = ""
        for file, name in re.findall(r"`([\w/]+\.py|…)(?:::(\w+))?`", document.read_text()):
            if file != "…" and not name:
                continue
            where = where if file == "…" else file
            source = (ROOT / "tests" / where).read_text()
            assert f"def {name}(" in source, f"{document.name}: {where}::{name}"
