"""The program as it is, on a simulated card that can be told to leave: ``python -m tests.program ARGUMENTS``.

A file ``CARD.mfd.tear`` with ``5 garbage`` in it pulls that card away at its next tap's fifth operation. That is the
card's doing; nothing of ``terminal_agent`` is touched, unless ``BROKEN`` in the environment names a promise to break:
a check that finds nothing wrong with those would find nothing at all.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from drivers.base import ClassicConnection
from drivers.errors import DriverError
from drivers.simulator import Fault, SimulatedReader, Torn
from terminal_agent import taps
from terminal_agent.card import tap
from terminal_agent.card.layout import CardState
from terminal_agent.card.session import WriteNotVerified
from terminal_agent.card.tap import InDoubt, WritableCard
from terminal_agent.cli.main import main
from terminal_agent.crm import sqlite
from terminal_agent.journal import database
from terminal_agent.journal.database import Database
from terminal_agent.journal.events import Events
from terminal_agent.journal.intents import Intent
from terminal_agent.taps import PresentedCard, Terminal

PROGRAM = "tests.program"
TEAR_SUFFIX = ".tear"
BROKEN = "TEST_BROKEN_PROMISE"


def tear_at(card: Path, operation: int, outcome: Torn) -> None:
    """Have ``card`` leave at the ``operation``-th operation of its next tap."""
    card.with_name(card.name + TEAR_SUFFIX).write_text(f"{operation} {outcome.value}")


def _let_cards_leave() -> None:
    connect = SimulatedReader.connect

    def connect_with_fault(reader: SimulatedReader) -> ClassicConnection:
        order = Path(reader.url.removeprefix("sim:") + TEAR_SUFFIX)
        if order.exists():
            operation, outcome = order.read_text().split()
            order.unlink()
            reader.fault = Fault(int(operation), Torn(outcome))
        return connect(reader)

    SimulatedReader.connect = connect_with_fault


class _NotSoSynchronous(sqlite3.Connection):
    """What somebody in a hurry makes of ``synchronous=FULL``."""

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        return super().execute(sql.replace("synchronous=FULL", "synchronous=NORMAL"), *values)


def _synchronous_normal() -> None:
    database.SYNCHRONOUS_FULL = 1
    database.sqlite3.connect = partial(sqlite3.connect, factory=_NotSoSynchronous)


def _intent_after_the_card() -> None:
    def commit(
        card: WritableCard, after: CardState, begin: Callable[[], None] | None, done: Callable[[], None]
    ) -> None:
        try:
            card.write_state(after)
        except (DriverError, WriteNotVerified) as error:
            raise InDoubt(error) from error
        finally:
            if begin is not None:
                begin()
        done()

    tap.commit = commit


def _outcome_before_its_event() -> None:
    finish, append = taps.finish, Events.append

    def finish_in_two(terminal: Terminal, card: PresentedCard, intent: Intent, *rest: Any) -> None:
        later: list[Any] = []
        Events.append = lambda _events, event: later.append(event) or 0
        finish(terminal, card, intent, *rest)
        Events.append = append
        with terminal.journal.transaction():
            for event in later:
                terminal.journal.events.append(event)

    taps.finish = finish_in_two


def _commit_later() -> None:
    """Each fifth transaction commits for those before it, which have been told already."""
    begun = count(1)

    @contextmanager
    def transaction(journal: Database) -> Iterator[None]:
        with journal.lock:
            connection = journal._connection
            if not connection.in_transaction:
                connection.execute("BEGIN IMMEDIATE")
            yield
            if next(begun) % 5 == 0:
                connection.execute("COMMIT")

    Database.transaction = transaction


def _crm_without_the_folder() -> None:
    """FULL for EXTRA: the name of the rollback journal may come back, and takes the last commit with it."""
    sqlite._SYNCHRONOUS_EXTRA = 2


BREAKS: dict[str, Callable[[], None]] = {
    "normal": _synchronous_normal,
    "intent-last": _intent_after_the_card,
    "event-apart": _outcome_before_its_event,
    "late-commit": _commit_later,
    "crm-full": _crm_without_the_folder,
}

if __name__ == "__main__":
    _let_cards_leave()
    BREAKS.get(os.environ.get(BROKEN, ""), lambda: None)()
    main()
