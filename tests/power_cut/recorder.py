"""Records what unmodified processes do to a folder: strace around each, one log after the other."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.power_cut.disk import Snapshot
from tests.power_cut.trace import CALLS, Heard, Operation, TraceReader

REPOSITORY = Path(__file__).parents[2]
MISSING = "the power-cut model records with strace: sudo apt-get install strace"
LONGEST_STRING = 4 * 1024 * 1024
END_TIMEOUT_S = 60.0


class CannotRecord(Exception):
    """strace is missing, or may not trace here."""


@dataclass
class Recording:
    """What stood in ``root`` when it began, and everything that was done to it since, in order."""

    root: Path
    start: Snapshot
    operations: list[Operation] = field(default_factory=list)


@dataclass
class Traced:
    """A command under strace."""

    process: subprocess.Popen[str]
    log: Path
    request: bytes


class Recorder:
    """Commands are recorded one after the other: each must have ended before the next begins."""

    def __init__(self, root: Path) -> None:
        if shutil.which("strace") is None:
            raise CannotRecord(MISSING)
        self.recording = Recording(root.resolve(), Snapshot.of(root))
        self._logs = tempfile.TemporaryDirectory(prefix="strace-")
        self._running: list[Traced] = []

    def start(self, words: list[str], request: bytes = b"", environment: dict[str, str] | None = None) -> Traced:
        """``python -m MODULE …`` and the like, under strace; its stdout and stderr are pipes.

        ``request`` is what the words ask for, in the recording's own terms: the first thing the process heard.
        """
        log = Path(self._logs.name) / f"{len(os.listdir(self._logs.name))}.log"
        options = ["-D", "-f", "-y", "-xx", "-q", "-s", str(LONGEST_STRING), "--seccomp-bpf"]
        quiet = ["-e", "signal=none", "-e", f"trace={','.join(CALLS)}", "-o", str(log)]
        process = subprocess.Popen(
            ["strace", *options, *quiet, sys.executable, "-B", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env=os.environ | (environment or {}),
        )
        traced = Traced(process, log, request)
        self._running.append(traced)
        return traced

    def run(self, words: list[str], request: bytes = b"") -> tuple[int, str, str]:
        """Run a command to its end; exit code, stdout, stderr."""
        traced = self.start(words, request)
        out, err = traced.process.communicate(timeout=120)
        self._take(traced)
        return traced.process.returncode, out, err

    def stop(self, traced: Traced, how: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """End a command; exit code and what it said on stderr."""
        traced.process.send_signal(how)
        _, err = traced.process.communicate(timeout=END_TIMEOUT_S)
        self._take(traced)
        return traced.process.returncode, err

    def _take(self, traced: Traced) -> None:
        """Add what strace saw; it ends a moment after what it watched."""
        ended = [str(traced.process.pid), "+++"]
        deadline = time.monotonic() + END_TIMEOUT_S
        while not (traced.log.exists() and _last_line(traced.log).split()[:2] == ended):
            if time.monotonic() > deadline:
                raise CannotRecord("strace left no end of its log: may it trace processes here?")
            time.sleep(0.01)
        if traced.request:
            self.recording.operations.append(Heard(traced.request))
        with traced.log.open() as lines:
            self.recording.operations.extend(TraceReader(str(self.recording.root)).read(lines))
        traced.log.unlink()
        self._running.remove(traced)

    def close(self) -> None:
        """End what still runs, and forget the logs."""
        for traced in self._running:
            traced.process.kill()
            traced.process.communicate()
        self._logs.cleanup()


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        with suppress(OSError):
            file.seek(-200, os.SEEK_END)
        lines = file.read().decode(errors="replace").splitlines()
        return lines[-1] if lines else ""


def record(root: Path, actions: Callable[[Recorder], None]) -> Recording:
    """Everything that the commands ``actions`` runs do to ``root``."""
    recorder = Recorder(root)
    try:
        actions(recorder)
    finally:
        recorder.close()
    return recorder.recording
