"""Seeded worlds in which every promise must hold: the corpus of seeds that once found something, and fresh ones."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import pytest

from tests.simulation.command import replay
from tests.simulation.faults import draw
from tests.simulation.run import run
from tests.simulation.world import Size

CORPUS = Path(__file__).with_name("corpus.txt")
FRESH_S = 120


def corpus() -> list[tuple[int, float, str, str]]:
    """``seed days faults what-it-once-found`` on each line; lines with # say what follows."""
    lines = [line.split(maxsplit=3) for line in CORPUS.read_text().splitlines() if line and not line.startswith("#")]
    return [(int(seed), float(days), faults, story) for seed, days, faults, story in lines]


@pytest.mark.parametrize(("seed", "days", "faults", "story"), corpus(), ids=lambda value: str(value))
def test_every_promise_holds_in_the_corpus(seed: int, days: float, faults: str, story: str) -> None:
    report = run(seed, Size(days=days), draw(seed, faults))
    assert report.broken is None, f"{story}\n{replay(seed, Size(days=days), faults)}"


@pytest.mark.slow
def test_every_promise_holds_in_fresh_worlds() -> None:
    end, size, first = time.monotonic() + FRESH_S, Size(), secrets.randbelow(10**9)
    seed = first
    while time.monotonic() < end:
        kinds = ("swarm", "swarm,keys", "swarm", "fraud")[seed % 4]
        report = run(seed, size, draw(seed, kinds))
        assert report.broken is None, replay(seed, size, kinds)
        seed += 1
    assert seed > first
