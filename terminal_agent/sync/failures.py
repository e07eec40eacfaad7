"""One event on which the CRM fails must hold up its own card only: it is looked for, and goes alone from then on.

A failure (5xx) says nothing of an event by itself: mostly it is the CRM that fails on everything. So it is looked for
only in each eighth walk along the queue that fails, and found only if the CRM takes others in the same walk. It is not
given up: it waits, and is sent each time.
"""

from __future__ import annotations

from terminal_agent.journal import Journal
from terminal_agent.journal.events import OutboxEntry
from terminal_agent.sync.adapters.base import CrmFailed

CRM_FAILS = "crm_fails"
"""Why an event waits on which the CRM failed while it took others."""
FAILED_WALKS = "failed_walks"
"""How many walks along the queue failed, one after the other."""
LOOKED_FOR_EACH = 8
MOST_ALONE = 3
"""So many single events one after the other are not what it fails on: it fails on everything."""


def apart(batch: list[OutboxEntry]) -> list[OutboxEntry]:
    """The part of a batch up to the first event on which the CRM failed before, or that event alone."""
    for count, entry in enumerate(batch):
        if entry.reason == CRM_FAILS:
            return batch[:count] or batch[:1]
    return batch


class Failures:
    """What failed in one walk along the queue, and whether anything worked."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._works = False
        self._looking: bool | None = None
        self._alone: list[OutboxEntry] = []
        self._error: CrmFailed | None = None

    def on_one_alone(self, batch: list[OutboxEntry], error: CrmFailed) -> bool:
        """True: one event failed alone, and waits. False: it is somewhere in this batch; send less.

        Raises ``CrmFailed`` where it is not, or not yet, about one event.
        """
        if len(batch) > 1:
            if self._looking is None:
                self._looking = self._count() % LOOKED_FOR_EACH == 0
            if not self._looking:
                raise error
            return False
        if batch[0].reason != CRM_FAILS:
            self._alone.append(batch[0])
            self._error = error
            self._mark()
        if len(self._alone) >= MOST_ALONE:
            raise error
        return True

    def worked(self, *, answered: bool) -> None:
        """``answered``: the CRM gave verdicts on a batch."""
        if answered:
            self._works = True
            self._mark()

    def ended(self) -> None:
        """The end of the queue. Raises ``CrmFailed`` where something failed and nothing was taken."""
        if self._alone and self._error is not None:
            raise self._error
        if self._journal.meta(FAILED_WALKS) is not None:
            with self._journal.transaction():
                self._journal.forget_meta(FAILED_WALKS)

    def _count(self) -> int:
        walks = int(self._journal.meta(FAILED_WALKS) or 0) + 1
        with self._journal.transaction():
            self._journal.set_meta(FAILED_WALKS, str(walks))
        return walks

    def _mark(self) -> None:
        """What failed alone beside others that were taken."""
        if self._works:
            with self._journal.transaction():
                for entry in self._alone:
                    self._journal.events.remark(entry.event_id, CRM_FAILS)
            self._alone.clear()
