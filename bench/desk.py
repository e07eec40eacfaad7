"""The issuing desk: a batch on a feeder, each command to a card taking what a real reader and card take."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from bench.measure import Figure, Samples
from bench.rig import Rig
from bench.till import PACE_S
from drivers.base import ClassicConnection, Reader
from drivers.simulator import SimulatedReader
from terminal_agent.service import card_lane
from terminal_agent.service.agent import Agent
from terminal_agent.service.batch_job import Job, Request
from terminal_agent.service.initialise import initialise
from terminal_agent.service.operations import OPERATIONS
from terminal_agent.service.settings import load_settings
from tests.workbench import RecordingConnection

CARDS = 60


class _PacedConnection(RecordingConnection):
    """Takes a real card's time for each command."""

    def __init__(self, inner: ClassicConnection, asked: Counter[str]) -> None:
        super().__init__(inner)
        self._asked = asked

    def _record(self, action: str, block: int) -> None:
        self._asked[action] += 1
        time.sleep(PACE_S["load_key"] + PACE_S["auth"] if action == "authenticate" else PACE_S[action])


class _PacedFeeder(SimulatedReader):
    asked: Counter[str] = Counter()

    def connect(self) -> ClassicConnection:
        time.sleep(PACE_S["uid"])
        return _PacedConnection(super().connect(), self.asked)


def run(_rig: Rig) -> Iterator[Figure]:
    _PacedFeeder.asked.clear()
    paced = _cards_per_minute(_PacedFeeder)
    bare = _cards_per_minute(SimulatedReader)
    commands = {action: round(count / CARDS) for action, count in _PacedFeeder.asked.items()}
    details = {"commands a card": commands, "without the card's time": round(bare)}
    yield Figure("desk", "cards issued, each proved", "a minute", Samples.one(paced), details=details)


def _cards_per_minute(feeder: Callable[[str], Reader]) -> float:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config, source = folder / "config.toml", folder / "in.csv"
        (folder / "cards").mkdir()
        url = f"sim:{folder}/cards/"
        initialise(config, {"data_dir": str(folder / "data"), "terminal_id": "desk", "reader": url}, force=False)
        source.write_text("phone\n" + "".join(f"0912{number:07d}\n" for number in range(CARDS)))
        with (
            patch.object(card_lane, "open_reader", lambda url: feeder(url.removeprefix("sim:"))),
            closing(Agent(load_settings(config), config)) as agent,
        ):

            @contextmanager
            def calls() -> Iterator[Callable[..., Any]]:
                yield lambda operation, **params: OPERATIONS[operation](agent, params, lambda _text: None)

            job = Job(Request(source, folder / "out.csv", None, 0.0, None, lambda: False, lambda _text: None))
            for _line in job.run(calls):
                pass
            return float(job.summary()["cards_per_minute"])
