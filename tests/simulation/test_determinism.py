"""One seed is one world: the same trace in every process; another seed is another trace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.simulation.faults import draw
from tests.simulation.run import run
from tests.simulation.world import Size

ROOT = Path(__file__).parents[2]
SMALL = Size(days=0.1, shops=2, cards=4)
COMMAND = [sys.executable, "-m", "tests.simulation", "--seed", "7", "--days", "0.1", "--shops", "2", "--cards", "4"]


def trace_in_a_process(hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    answer = subprocess.run(COMMAND, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    return answer.stdout.split("trace ")[1].split()[0]


def test_a_seed_is_one_trace_whatever_the_process() -> None:
    here = run(7, SMALL, draw(7, "swarm")).trace_hash
    assert trace_in_a_process("1") == here
    assert trace_in_a_process("2") == here


def test_another_seed_is_another_trace() -> None:
    assert run(7, SMALL, draw(7, "swarm")).trace_hash != run(8, SMALL, draw(8, "swarm")).trace_hash
