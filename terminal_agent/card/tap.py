"""The tap transaction: intent on disk, then the card, then done on disk. Pure where it judges, ports where it acts."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from drivers.errors import DriverError
from terminal_agent.card.keys import KeysUnavailable
from terminal_agent.card.layout import CardState, HistoryEntry
from terminal_agent.card.problems import data_corrupt, from_driver
from terminal_agent.card.session import WriteNotVerified
from terminal_agent.errors import AgentError


class Settlement(StrEnum):
    """What a card now says of a write that was in doubt."""

    LANDED = "landed"
    NOT_LANDED = "not_landed"
    MOVED_ON = "moved_on"
    ROLLED_BACK = "rolled_back"


def judge(before: CardState, after: CardState, current: CardState) -> Settlement:
    """What ``current`` tells of a write from ``before`` to ``after``.

    ``MOVED_ON``: the card was written elsewhere since; only the CRM, which sees the whole chain, can tell.
    """
    if current == after:
        return Settlement.LANDED
    if current == before:
        return Settlement.NOT_LANDED
    if current.sequence >= after.sequence:
        return Settlement.MOVED_ON
    return Settlement.ROLLED_BACK


class InDoubt(Exception):
    """The card write was begun and its outcome is unknown. The intent stays open in the journal. ``problem`` is what a
    person is told of its cause."""

    def __init__(self, cause: DriverError | WriteNotVerified | AgentError) -> None:
        super().__init__(str(cause))
        self.problem = _problem(cause)


def _problem(cause: DriverError | WriteNotVerified | AgentError) -> AgentError:
    if isinstance(cause, AgentError):
        return cause
    return from_driver(cause) if isinstance(cause, DriverError) else data_corrupt(str(cause))


class WritableCard(Protocol):
    """What the transaction needs of a card session."""

    def write_state(self, state: CardState) -> None: ...
    def write_history(self, entry: HistoryEntry) -> None: ...


def commit(card: WritableCard, after: CardState, begin: Callable[[], None] | None, done: Callable[[], object]) -> None:
    """The order that loses nothing: ``begin`` puts the intent on disk, the card is written and read back, ``done``
    puts the outcome and its event on disk in one commit.

    ``begin`` is None when the intent stands already and the same bytes are written again. Raises :class:`InDoubt`, also
    where the outcome cannot be put on disk: the next tap finds the card written and the intent open.
    """
    if begin is not None:
        begin()
    try:
        card.write_state(after)
        done()
    except (DriverError, WriteNotVerified, AgentError) as error:
        raise InDoubt(error) from error


def write_history(card: WritableCard, entry: HistoryEntry) -> bool:
    """After the commit, best effort: a card or a reader that goes away now has lost nothing that counts."""
    try:
        card.write_history(entry)
    except (DriverError, KeysUnavailable):
        return False
    return True
