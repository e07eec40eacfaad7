"""What was sound in a damaged journal, put into the one that took its place."""

from __future__ import annotations

from typing import Protocol

from terminal_agent.journal.events import SALVAGED, Events
from terminal_agent.journal.intents import Checkouts
from terminal_agent.journal.receipts import checkout_told_by
from terminal_agent.journal.salvage import Salvage
from terminal_agent.journal.staff import StaffBook
from terminal_agent.journal.till import TillBook
from terminal_agent.ports import Clock, rfc3339


class NewJournal(Protocol):
    """The journal that took the place of the damaged one."""

    events: Events
    checkouts: Checkouts
    till: TillBook
    staff: StaffBook

    def set_meta(self, key: str, value: str) -> None: ...


def put_back(journal: NewJournal, kept: Salvage, clock: Clock) -> None:
    """Inside the caller's transaction, and safe to repeat. Events keep their bytes and go up under the epoch they were
    minted in; the CRM knows what it had already."""
    for event in kept.events:
        journal.events.readmit(event)
    for epoch in {event.install_epoch for event in kept.events}:
        journal.set_meta(SALVAGED + epoch, rfc3339(clock.now()))
    told = (checkout_told_by(event) for event in kept.proven)
    for row in [*kept.checkouts, *(row for row in told if row)]:  # a row that could be read comes first, and stands
        journal.checkouts.readmit(row)
    journal.till.readmit(kept.tokens)
    journal.staff.readmit(kept.cashiers)
