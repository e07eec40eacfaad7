"""The examples of docs/integrate-a-pos.md, run as they stand there against a till."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from terminal_agent.till_api import server
from tests.till.escpos_printer import print_out
from tests.till_api.hand_reader import HandReader
from tests.till_api.pos import Pos, Shop

GUIDE = (Path(__file__).parents[2] / "docs" / "integrate-a-pos.md").read_text()
WITHOUT_NODE = "TERMINAL_AGENT_WITHOUT_NODE"
RUNNERS = {"sh": ["sh", "-e"], "python": [sys.executable], "js": ["node"]}


def examples(language: str) -> list[str]:
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    assert found, f"the guide has no example in {language}"
    return found


def run(folder: Path, language: str, pos: Pos) -> str:
    """What the examples of a language say, one after the other, each when the till is free."""
    said = ""
    for number, text in enumerate(examples(language)):
        file = folder / f"{number}.{language}"
        file.write_text(text)
        done = subprocess.run([*RUNNERS[language], file.name], cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        if opened := pos.get("/v1/checkouts")["open"]:
            pos.wait_for(opened["id"], "done")
        said += done.stdout
    return said


@pytest.fixture
def desk(shop: Shop, pos: Pos, reader: HandReader, tmp_path: Path) -> Path:
    """The folder of a POS that is paired, with a card on the reader."""
    folder = tmp_path / "pos"
    folder.mkdir()
    (folder / server.SOCKET_FILE).symlink_to(tmp_path / "till" / server.SOCKET_FILE)
    (folder / "till-url").write_text(shop.till.url or "")
    (folder / "token").write_text(pos.token)
    reader.lay(shop.issue())
    return folder


def test_pairing_selling_and_printing_with_curl(shop: Shop, pos: Pos, desk: Path) -> None:
    (desk / "token").unlink()
    (desk / "code").write_text(shop.till.code()["code"])
    run(desk, "sh", pos)
    by_phone = json.loads((desk / "by-phone.json").read_text())
    assert (by_phone["state"], by_phone["member"]["first_name"], by_phone["points_earned"]) == ("done", "Sara", 12)
    [checkout_id] = re.findall(r'"id":"([^"]+)"', (desk / "checkout.json").read_text())
    assert pos.wait_for(checkout_id, "done")["points_after"] == 25
    assert json.loads((desk / "reader.json").read_text())["state"] == "ready", "the same by the Unix socket"
    assert print_out((desk / "receipt.bin").read_bytes(), 384).cuts == 1


def test_selling_with_python(desk: Path, pos: Pos) -> None:
    assert run(desk, "python", pos) == "done 42 42\n"


def test_selling_with_javascript(desk: Path, pos: Pos) -> None:
    if shutil.which("node") is None:
        if os.environ.get(WITHOUT_NODE) == "1":
            pytest.skip(f"{WITHOUT_NODE}=1: there is no node")
        pytest.fail(f"there is no node: apt-get install nodejs\nor set {WITHOUT_NODE}=1 to go without this test")
    assert run(desk, "js", pos) == "done 31\n"
