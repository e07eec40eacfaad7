"""A process killed in the middle of its work loses no event it had reported."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from terminal_agent.journal import Journal
from terminal_agent.journal.events import OutboxState

REPOSITORY = Path(__file__).parents[2]
APPENDS_FOR_EVER = """
import itertools, sys
from pathlib import Path
from terminal_agent.journal import Journal
from tests.journal.support import CountedIds, ManualClock, event
journal = Journal(Path(sys.argv[1]), "till-1", "IRR", ManualClock(), CountedIds())
for number in itertools.count(1):
    with journal.transaction():
        sequence = journal.events.append(event(number))
        journal.audit("sold", number=number)
    sys.stdout.write(f"{sequence}\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("kill_after", [1, 40])
def test_a_killed_process_loses_no_event_that_it_reported(
    tmp_path: Path, open_journal: Callable[..., Journal], kill_after: int
) -> None:
    command = [sys.executable, "-c", APPENDS_FOR_EVER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdout is not None
        reported = [int(process.stdout.readline()) for _ in range(kill_after)]
        process.send_signal(signal.SIGKILL)
        reported += [int(line) for line in process.stdout if line.endswith("\n")]
    journal = open_journal()
    kept = [entry.sequence for entry in journal.events.entries(None, 100_000)]
    assert reported == kept[: len(reported)]
    assert len(kept) - len(reported) <= 1, "at most the one that was committed and not yet reported"
    audited = journal._database.query("SELECT count(*) FROM audit")[0][0]
    assert journal.events.count(OutboxState.PENDING) == audited == len(kept)
    assert journal.events.broken_link() is None
