"""The files in config/, judged by the programs that read them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from terminal_agent.service.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config"
UNIT = CONFIG / "systemd" / "terminal-agent.service"
PYTHON = "/opt/terminal-agent/current/bin/python"
HIGHEST_EXPOSURE = 11
"""Tenths of points of systemd: what a daemon that talks to a CRM anywhere can come down to."""

pytestmark = pytest.mark.container


@pytest.fixture
def unit_here(tmp_path: Path, systemd: None) -> Path:
    """The unit with a Python that this machine has."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(PYTHON, sys.executable))
    return unit


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_systemd_understands_every_line_of_the_unit(unit_here: Path) -> None:
    judged = analyze("verify", "--man=no", str(unit_here))
    assert (judged.returncode, judged.stderr) == (0, "")


@pytest.mark.parametrize("drop_in", sorted((CONFIG / "systemd").glob("*.conf")), ids=lambda path: path.name)
def test_systemd_understands_every_line_of_the_drop_ins(unit_here: Path, drop_in: Path) -> None:
    folder = unit_here.with_name(unit_here.name + ".d")
    folder.mkdir()
    (folder / drop_in.name).write_text(drop_in.read_text())
    judged = analyze("verify", "--man=no", str(unit_here))
    assert (judged.returncode, judged.stderr) == (0, "")


def test_the_unit_exposes_little(unit_here: Path) -> None:
    judged = analyze("security", "--offline=yes", f"--threshold={HIGHEST_EXPOSURE}", str(unit_here))
    assert judged.returncode == 0, judged.stdout[-300:]


def test_a_hung_daemon_is_killed_and_started_again_for_ever() -> None:
    lines = UNIT.read_text().splitlines()
    assert {"Type=notify", "Restart=always", "StartLimitIntervalSec=0", "WatchdogSec=30"} <= set(lines)


def test_sysusers_and_tmpfiles_are_understood(tmp_path: Path, systemd: None) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for program, option in (("systemd-sysusers", "--dry-run"), ("systemd-tmpfiles", "--create")):
        rules = CONFIG / f"{program.removeprefix('systemd-')}.d" / "terminal-agent.conf"
        text = re.sub(r"terminal-agent terminal-agent$", "root root", rules.read_text(), flags=re.MULTILINE)
        (tmp_path / program).write_text(text)
        done = subprocess.run(
            [program, f"--root={root}", option, str(tmp_path / program)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert (root / "var" / "lib" / "terminal-agent").is_dir()


def test_the_annotated_example_holds_every_key_and_is_read(tmp_path: Path) -> None:
    text = (CONFIG / "terminal-agent.example.toml").read_text()
    for key in every_key():
        assert re.search(rf"^(# )?{key} = ", text, re.MULTILINE), key
    every = tmp_path / "config.toml"
    every.write_text(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE))
    assert load_settings(every).socket_dir == Path("/run/terminal-agent")


def every_key() -> set[str]:
    """Of the file and of its tables."""
    tables = {name: field.annotation for name, field in Settings.model_fields.items()}
    within = {name: kind.model_fields for name, kind in tables.items() if hasattr(kind, "model_fields")}
    return {key for keys in within.values() for key in keys} | set(tables) - set(within)


def test_a_rule_of_polkit_names_the_daemons_user_and_no_other() -> None:
    rule = (CONFIG / "polkit" / "50-terminal-agent.rules").read_text()
    assert re.findall(r'subject\.user == "(.*?)"', rule) == ["terminal-agent"]
    assert "polkit.Result.NO" not in rule, "a rule that refuses breaks those of others"
