"""A small chain comes back after a day offline: everything counts once, and it shows when it does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.crm.postgres import PostgresServer

pytestmark = [pytest.mark.postgres, pytest.mark.slow]
ROOT = Path(__file__).parents[2]


def bring_back(folder: Path, *options: str) -> dict[str, Any]:
    words = ["-m", "fleet", "--terminals", "60", "--sales", "12", "--plot", str(folder / "fleet.png"), *options]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=400)
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if report["problems"] else 0), done.stderr
    return report


def test_a_chain_that_was_offline_for_a_day_is_booked_once(postgres: PostgresServer, tmp_path: Path) -> None:
    report = bring_back(tmp_path)
    assert report["problems"] == []
    assert report["events"] == 720
    assert report["requests_failed"] == 0
    assert report["most_requests_at_once"] < 60, "they came one after the other, not all in the same second"
    assert (tmp_path / "fleet.png").read_bytes().startswith(b"\x89PNG")


def test_the_check_sees_an_event_that_was_lost(postgres: PostgresServer, tmp_path: Path) -> None:
    report = bring_back(tmp_path, "--lose-one")
    assert report["problems"] == ["720 events are booked, not 721", "1 cards hold what they should not"]
