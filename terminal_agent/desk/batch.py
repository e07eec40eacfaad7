"""A batch: a card for each row, one after the other; what the journal says is done stays done.

A row's natural key is its phone. Nothing of a batch is kept but what every issue leaves in the journal, so a batch may
be stopped or killed at any moment, and run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from terminal_agent.card.problems import no_card
from terminal_agent.desk.rows import Row
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.ports import Clock

SLICE_S = 1.0
"""How long one try waits for a card. Between two tries a sale may have the reader, and a stop is heeded."""
MOST_BAD_CARDS = 10
"""So many unusable cards one after the other speak against the reader or the keys, not against the cards."""


class RowStatus(StrEnum):
    """What came of a try. ``skipped``: the person has a card. ``card_rejected``: the row waits for another card."""

    ISSUED = "issued"
    SKIPPED = "skipped"
    REJECTED = "rejected"
    CARD_REJECTED = "card_rejected"
    WAITING = "waiting"


class Why(StrEnum):
    """Why a row is still waiting, each with what to tell the person at the reader."""

    NO_CARD = "Put the next card on the reader."
    SAME_CARD = "Take the card away; the next one, please."
    TORN = "The card was taken away too soon: put the SAME card back and hold it still."
    SEVERAL = "Hold one card alone on the reader."
    BUSY = "The reader is in use; waiting for it."


@dataclass(frozen=True)
class Tried:
    """What came of one try. ``lies`` names the card that lay there, so that it is not taken for the next one."""

    status: RowStatus
    uid: str | None = None
    card_no: str | None = None
    error: dict[str, Any] | None = None
    lies: str | None = None
    why: Why | None = None

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Tried:
        why = said.get("why")
        return cls(**{**said, "status": RowStatus(said["status"]), "why": Why(why) if why else None})

    def line(self, row: Row) -> dict[str, Any]:
        """The line of ``desk batch --json``."""
        shown = {"status": self.status.value, "uid": self.uid, "card_no": self.card_no, "error": self.error}
        return {"row": row.number, **shown}


Ask = Callable[[Row, str | None, float], Tried]
"""One try to make a row's card: the row, the card that is known to lie there still, how long to wait in seconds."""


class Batch:
    """Goes through the rows; counts. ``say`` talks to the person at the reader."""

    def __init__(
        self,
        rows: list[Row],
        clock: Clock,
        *,
        wait_s: float,
        stopped: Callable[[], bool] = lambda: False,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._rows = rows
        self._clock = clock
        self._wait_s = wait_s
        self._stopped = stopped
        self._say = say
        self._lies: str | None = None
        self._bad_cards = 0
        self._began: float | None = None
        self._took_s = 0.0
        self.counts = dict.fromkeys((RowStatus.ISSUED, RowStatus.SKIPPED, RowStatus.REJECTED), 0)
        self.cards_rejected = 0

    def run(self, ask: Ask, limit: int | None = None) -> Iterator[tuple[Row, Tried]]:
        """What came of each row and of each card, as it comes; ends after ``limit`` cards were issued.

        Raises AgentError when the reader, the journal or the wait for a card ends it; run again, it goes on there.
        """
        refused = [row for row in self._rows if row.problem is not None]
        for row in refused:
            yield row, self._counted(Tried(RowStatus.REJECTED, error=_told(row.problem)))
        for row in self._rows:
            if limit is not None and self.counts[RowStatus.ISSUED] >= limit:
                return
            if row.problem is None:
                yield from self._one(row, ask)

    def summary(self) -> dict[str, Any]:
        """``issued + skipped + rejected + left`` is the number of rows."""
        minutes = self._took_s / 60
        issued = self.counts[RowStatus.ISSUED]
        return {
            **{status.value: count for status, count in self.counts.items()},
            "left": len(self._rows) - sum(self.counts.values()),
            "cards_rejected": self.cards_rejected,
            "cards_per_minute": round(issued / minutes, 1) if minutes else 0.0,
        }

    def _one(self, row: Row, ask: Ask) -> Iterator[tuple[Row, Tried]]:
        why: Why | None = None
        deadline = self._clock.monotonic() + self._wait_s
        while not self._stopped():
            # What lies there already is looked at before anybody is asked for anything.
            tried = self._try(row, ask, deadline if why else self._clock.monotonic())
            if tried.status is RowStatus.WAITING:
                if tried.why is not why:
                    why, deadline = tried.why, self._clock.monotonic() + self._wait_s
                    self._say(f"Row {row.number} of {len(self._rows)}: {why}")
                if self._clock.monotonic() >= deadline:
                    raise self._nobody(why)
                continue
            yield row, self._counted(tried)
            if tried.status is not RowStatus.CARD_REJECTED:
                return
            why, deadline = None, self._clock.monotonic() + self._wait_s

    def _try(self, row: Row, ask: Ask, deadline: float) -> Tried:
        if self._began is None:
            self._began = self._clock.monotonic()
        wait_s = max(0.0, min(SLICE_S, deadline - self._clock.monotonic()))
        tried = ask(row, self._lies, wait_s)
        self._lies = tried.lies
        return tried

    def _counted(self, tried: Tried) -> Tried:
        if tried.status is RowStatus.CARD_REJECTED:
            self.cards_rejected += 1
            self._bad_cards += 1
            if self._bad_cards >= MOST_BAD_CARDS:
                raise _too_many_bad(tried)
            return tried
        self.counts[tried.status] += 1
        if tried.status is RowStatus.ISSUED and self._began is not None:
            self._bad_cards = 0
            self._took_s = self._clock.monotonic() - self._began
        return tried

    def _nobody(self, why: Why | None) -> AgentError:
        if why is Why.TORN:
            message = "the card was taken away too soon and did not come back"
            return AgentError(ErrorCode.CARD_REMOVED_EARLY, message, hint="Run the batch again with that card")
        return no_card(self._wait_s)


def _told(problem: AgentError | None) -> dict[str, Any] | None:
    return problem.to_json()["error"] if problem else None


def _too_many_bad(tried: Tried) -> AgentError:
    error = tried.error or {}
    return AgentError(
        ErrorCode(error["code"]),
        f"{MOST_BAD_CARDS} cards one after the other could not be used; the last: {error['message']}",
        hint="Check the pile, the reader (terminal-agent reader test) and the keys (keys list), then run it again",
    )
