"""Journals with sales in them, ways to damage one from outside, and a process that dies with its sales in the log."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from terminal_agent.journal import Journal
from terminal_agent.journal.events import OutboxState
from terminal_agent.journal.intents import Checkout, CheckoutState
from tests.journal.support import CARD, event, event_id

OpenJournal = Callable[..., Journal]
MANY_BYTES = 1 << 20
PAGE = 4096
REPOSITORY = Path(__file__).parents[2]


def checkout(number: int, state: CheckoutState = CheckoutState.DONE) -> Checkout:
    result = {"receipt_no": f"R-{number}", "points_earned": 5}
    return Checkout(
        event_id(number), "purchase", f"R-{number}", 50_000, "IRR", state, CARD, 3, result, "2026-11-22T09:30:00Z"
    )


def used(open_journal: OpenJournal, events: int = 60, acknowledged: int = 20) -> str:
    """A journal with sales in it, closed; gives its install epoch."""
    journal = open_journal()
    with journal.transaction():
        for number in range(1, events + 1):
            journal.events.append(event(number, note="x" * 300))
            journal.checkouts.begin(checkout(number))
        for number in range(1, acknowledged + 1):
            journal.events.settle(event_id(number), OutboxState.ACKNOWLEDGED, None)
        journal.checkouts.begin(checkout(1000, CheckoutState.IN_DOUBT))
    journal.close()
    return journal.events.install_epoch


def overwrite(file: Path, at: int, content: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(content)


def without_audit(file: Path) -> None:
    with closing(sqlite3.connect(f"file:{file}?immutable=1", uri=True)) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'audit'").fetchone()[0]
    overwrite(file, (root - 1) * PAGE, os.urandom(PAGE))


KILLED_WITH_A_LOG = """
import os, signal, sys
from pathlib import Path
from terminal_agent.journal import Journal
from tests.journal.support import CountedIds, ManualClock, event
journal = Journal(Path(sys.argv[1]), "till-1", "IRR", ManualClock(), CountedIds(1000))
for number in range(1, 21):
    with journal.transaction():
        journal.events.append(event(number))
    if number == int(sys.argv[2]):
        journal._database.shrink_log()
print(journal.events.install_epoch, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(file: Path, folded_after: int = 0) -> str:
    """The same, with the log folded into the database after some of the events."""
    command = [sys.executable, "-c", KILLED_WITH_A_LOG, str(file.parent), str(folded_after)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert ended.returncode == -signal.SIGKILL
    return ended.stdout.strip()


def wal_of(file: Path) -> Path:
    return file.with_name(file.name + "-wal")
