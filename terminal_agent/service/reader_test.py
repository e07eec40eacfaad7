"""``reader test``: rounds on one card, timed; the card lifted and put back; a verdict with its reasons.

Each round takes the lane to the reader anew, as a tap does, so a sale at the till goes in between. docs/readers.md
says where the limits come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median
from typing import Any

from drivers import ReaderState
from drivers.base import ClassicConnection
from drivers.errors import AccessDenied, AuthenticationFailed, WriteNotKept
from terminal_agent.card.keys import CardKeys, KeyProvider
from terminal_agent.desk.reader_check import ReadDiffers, ReaderCheck, Step
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.ports import Clock
from terminal_agent.service.card_lane import CardLane
from terminal_agent.service.readers import look_at_reader

Talk = Callable[[str], None]

GOOD_TAP_MS = 500.0
LONGEST_TAP_MS = 2000.0
STEADY = 0.1
"""The share of rounds that may fail before a reader is called unusable."""
OF_A_PURCHASE = {Step.AUTHENTICATE: 2, Step.READ: 4, Step.WRITE: 2}
"""What a purchase asks of a card after it is found."""
_GONE = (ErrorCode.CARD_REMOVED_EARLY, ErrorCode.NO_CARD_TIMEOUT)
LIFT = "Lift the card."
STAY = "Leave the card where it is."
BACK = "Put the card back."


class Verdict(StrEnum):
    GOOD = "good"
    SLOW = "slow"
    UNUSABLE = "unusable"


class NoKeys:
    """Before ``init`` there are none: a blank card can be tried all the same."""

    def versions(self) -> list[int]:
        return []

    def card_keys(self, version: int, uid: bytes) -> CardKeys:
        raise KeyError(version)

    def may_issue(self, version: int) -> bool:
        return False

    def is_retired(self, version: int) -> bool:
        return False


@dataclass(frozen=True)
class Trial:
    """``lift``: there is a person who lifts the card and puts it back."""

    url: str
    wait_s: float
    rounds: int
    sector: int | None = None
    lift: bool = False


@dataclass
class Outcome:
    """What was seen. ``find_ms``: from asking the reader to an open card, where the card lay there already."""

    rounds: int = 0
    lost: int = 0
    refused: list[str] = field(default_factory=list)
    find_ms: list[float] = field(default_factory=list)
    took_ms: dict[Step, list[float]] = field(default_factory=dict)
    removal_noticed: bool | None = None
    return_noticed: bool | None = None

    @property
    def failed(self) -> int:
        return self.lost + len(self.refused)


def run_test(lane: CardLane, keys: KeyProvider, clock: Clock, request: Trial, talk: Talk) -> dict[str, Any]:
    """The answer of ``reader test``. Raises AgentError where there is no reader, or no card that can be used for it."""
    return _Walk(lane, ReaderCheck(keys, clock, request.sector), clock, request, talk).run()


class _Walk:
    def __init__(self, lane: CardLane, check: ReaderCheck, clock: Clock, request: Trial, talk: Talk) -> None:
        self._lane = lane
        self._check = check
        self._clock = clock
        self._request = request
        self._talk = talk
        self._seen = Outcome(took_ms=check.took_ms)

    def run(self) -> dict[str, Any]:
        name = look_at_reader(self._request.url)["name"]
        self._round()
        self._talk(STAY)
        while self._seen.rounds < self._request.rounds and not self._hopeless:
            self._round()
        if self._request.lift and not self._request.url.startswith("sim:") and not self._hopeless:
            self._lift()
        if self._check.unmended:
            self._mend()
        return self._answer(name)

    @property
    def _hopeless(self) -> bool:
        return self._seen.failed > max(1.0, self._request.rounds * STEADY)

    def _round(self) -> None:
        """One more, or one more failure."""
        tries, talked, began = 0, False, self._clock.monotonic()
        found_ms: float | None = None

        def talk(text: str) -> None:
            nonlocal talked
            talked = True
            self._talk(text)

        def job(connection: ClassicConnection) -> None:
            nonlocal tries, found_ms
            tries += 1
            found_ms = None if talked else (self._clock.monotonic() - began) * 1000
            self._try(lambda: self._check.round(connection))

        try:
            self._lane.with_card(self._request.url, self._request.wait_s, job, talk)
        except AgentError as error:
            if error.code not in _GONE or self._check.place is None:
                raise
            tries = max(tries, 1) + 1
        self._seen.lost += max(0, tries - 1)
        self._seen.rounds += 1
        if found_ms is not None and tries == 1:
            self._seen.find_ms.append(found_ms)

    def _try(self, work: Callable[[], None]) -> None:
        """A refusal is the reader's, if the card lay still: it is counted, and the card is tried again."""
        try:
            work()
        except (AuthenticationFailed, AccessDenied, ReadDiffers, WriteNotKept) as refusal:
            self._seen.refused.append(str(refusal))

    def _lift(self) -> None:
        """The reader must notice a card that leaves, and one that comes."""
        lane, request = self._lane, self._request
        self._talk(LIFT)
        self._seen.removal_noticed = lane.watch(request.url, ReaderState.EMPTY, request.wait_s)
        if self._seen.removal_noticed:
            self._talk(BACK)
            self._seen.return_noticed = lane.watch(request.url, ReaderState.CARD, request.wait_s)
        if self._seen.return_noticed:
            self._round()

    def _mend(self) -> None:
        """Put back what the last write may have spoiled. Raises AgentError where the card does not come."""

        def job(connection: ClassicConnection) -> None:
            self._try(lambda: self._check.mend(connection))

        try:
            self._lane.with_card(self._request.url, self._request.wait_s, job, self._talk)
        except AgentError as error:
            raise AgentError(
                error.code,
                f"{error.message}, in the middle of a write of what block {self._check.block} already held",
                hint="Nothing that counts was there: the card's next tap, or its issue, writes that block anew",
            ) from error

    def _answer(self, name: str | None) -> dict[str, Any]:
        place, seen = self._check.place, self._seen
        verdict, reasons = judge(seen, self._request.rounds)
        return {
            "reader": {"url": self._request.url, "name": name},
            "uid": place.uid.hex() if place else None,
            "card": place.owner.value if place else None,
            "opened_with": place.key_name if place else None,
            "block": place.block if place else None,
            "write_tried": bool(place and place.writable),
            "rounds": seen.rounds,
            "lost": seen.lost,
            "refused": len(seen.refused),
            "times": list(_times(seen)),
            "purchase_ms": purchase_ms(seen),
            "removal_noticed": seen.removal_noticed,
            "return_noticed": seen.return_noticed,
            "verdict": verdict.value,
            "reasons": reasons,
        }


def p95(values: list[float]) -> float:
    """The 95th percentile by nearest rank: a value that was measured."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def _times(seen: Outcome) -> Iterator[dict[str, Any]]:
    for step, took in (("find", seen.find_ms), *seen.took_ms.items()):
        if took:
            figures = {"median_ms": round(median(took), 2), "p95_ms": round(p95(took), 2)}
            yield {"step": str(step), **figures, "count": len(took)}


def purchase_ms(seen: Outcome) -> dict[str, float] | None:
    """What a purchase would take with this reader, in a usual and in a bad case; None where a step was not measured."""
    steps = [(1, seen.find_ms), *((times, seen.took_ms.get(step, [])) for step, times in OF_A_PURCHASE.items())]
    if not all(took for _, took in steps):
        return None
    usual, bad = (sum(times * of(took) for times, took in steps) for of in (median, p95))
    return {"median": round(usual, 2), "p95": round(bad, 2)}


def judge(seen: Outcome, rounds: int) -> tuple[Verdict, list[str]]:
    """The verdict and what speaks against a better one."""
    unusable: list[str] = []
    slow: list[str] = []
    unsteady = unusable if seen.failed > rounds * STEADY else slow
    if seen.lost:
        unsteady.append(f"the card was lost {seen.lost} times in {seen.rounds} rounds while it lay there")
    if seen.refused:
        unsteady.append(f"{len(seen.refused)} of {seen.rounds} rounds were refused: {seen.refused[-1]}")
    if seen.removal_noticed is False:
        unusable.append("it did not notice that the card was lifted (if it was)")
    if seen.return_noticed is False:
        unusable.append("it did not notice that the card was put back (if it was)")
    tap = purchase_ms(seen)
    if tap and tap["median"] > LONGEST_TAP_MS:
        unusable.append(f"a purchase would take {tap['median']:,.0f} ms; nobody holds a card longer than 2 s")
    elif tap and tap["p95"] > GOOD_TAP_MS:
        slow.append(f"a purchase would take up to {tap['p95']:,.0f} ms; people expect {GOOD_TAP_MS:.0f} ms at most")
    verdict = Verdict.UNUSABLE if unusable else Verdict.SLOW if slow else Verdict.GOOD
    return verdict, unusable + slow
