"""The verdict on a reader: what was measured against the limits, failures counted, nothing left torn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivers import Reader, ReaderState
from drivers.base import ClassicConnection
from drivers.errors import AccessDenied, CardRemoved
from drivers.mifare_classic import blank_card
from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.desk.reader_check import Step
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service import card_lane
from terminal_agent.service.card_lane import AGAIN, FIRST, CardLane
from terminal_agent.service.reader_test import (
    GOOD_TAP_MS,
    LONGEST_TAP_MS,
    STAY,
    NoKeys,
    Outcome,
    Trial,
    Verdict,
    judge,
    p95,
    purchase_ms,
    run_test,
)
from tests.journal.support import ManualClock
from tests.workbench import UID, RecordingConnection, lay

ROUNDS = 20
THE_WRITE = 8
"""Of a round on a blank card without keys: authenticate, look at the sector (4), authenticate, read, write."""


def outcome(ms: float = 10.0, **seen: Any) -> Outcome:
    return Outcome(rounds=ROUNDS, find_ms=[ms] * 20, took_ms={step: [ms] * 20 for step in Step}, **seen)


def test_a_purchase_is_reckoned_from_its_steps() -> None:
    steps = {Step.AUTHENTICATE: [2.0], Step.READ: [3.0], Step.WRITE: [5.0], Step.VERIFY: [100.0]}
    assert purchase_ms(Outcome(find_ms=[1.0], took_ms=steps)) == {"median": 27.0, "p95": 27.0}
    assert purchase_ms(Outcome(find_ms=[1.0], took_ms={**steps, Step.WRITE: []})) is None


def test_p95_is_a_value_that_was_measured() -> None:
    assert p95([float(n) for n in range(1, 21)]) == 19.0
    assert p95([7.0]) == 7.0


@pytest.mark.parametrize(
    ("seen", "verdict", "words"),
    [
        (outcome(GOOD_TAP_MS / 9), Verdict.GOOD, None),
        (outcome(GOOD_TAP_MS / 9 + 1), Verdict.SLOW, "people expect"),
        (outcome(LONGEST_TAP_MS / 9 + 1), Verdict.UNUSABLE, "nobody holds"),
        (outcome(lost=2), Verdict.SLOW, "lost 2 times"),
        (outcome(lost=3), Verdict.UNUSABLE, "lost 3 times"),
        (outcome(refused=["no"]), Verdict.SLOW, "1 of 20 rounds were refused: no"),
        (outcome(refused=["no"] * 3), Verdict.UNUSABLE, "refused"),
        (outcome(removal_noticed=True, return_noticed=True), Verdict.GOOD, None),
        (outcome(removal_noticed=False), Verdict.UNUSABLE, "lifted"),
        (outcome(removal_noticed=True, return_noticed=False), Verdict.UNUSABLE, "put back"),
    ],
)
def test_the_verdict_has_its_reason(seen: Outcome, verdict: Verdict, words: str | None) -> None:
    judged, reasons = judge(seen, ROUNDS)
    assert judged is verdict
    assert bool(reasons) is bool(words)
    assert (words or "") in "".join(reasons)


def test_one_bad_moment_in_twenty_does_not_make_a_reader_slow() -> None:
    seen = outcome()
    seen.find_ms[3] = 10_000
    assert judge(seen, ROUNDS) == (Verdict.GOOD, [])
    seen.find_ms[4] = 10_000
    assert judge(seen, ROUNDS)[0] is Verdict.SLOW


class Bed(Reader):
    """A reader whose card is torn, refused or slow in the rounds that a test names (0 is the first)."""

    url = "bed:"
    name = "Bed"

    def __init__(
        self, image: MemoryImage, clock: ManualClock, spoil: Callable[[int], Exception | Fault | None]
    ) -> None:
        self.image = image
        self.opened = 0
        self.absent_looks = 0
        self._clock = clock
        self._spoil = spoil

    def connect(self) -> ClassicConnection:
        spoilt = self._spoil(self.opened)
        self.opened += 1
        self._clock.advance(0.010)
        if isinstance(spoilt, Exception):
            return RecordingConnection(lay(self.image), 5, spoilt)
        return lay(self.image, spoilt)

    def wait_for_change(self, known: ReaderState, timeout_s: float) -> ReaderState:
        self._clock.advance(timeout_s)
        self.absent_looks -= 1
        return ReaderState.CARD if self.absent_looks < 0 else ReaderState.EMPTY

    def interrupt(self) -> None: ...
    def close(self) -> None: ...

    def __call__(self, url: str) -> Reader:
        return self


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Bed, Callable[..., dict[str, Any]]]]:
    """A bed with a blank card, and a test on it."""

    def make(spoil: Callable[[int], Exception | Fault | None]) -> tuple[Bed, Callable[..., dict[str, Any]]]:
        clock = ManualClock()
        bed = Bed(MemoryImage(bytes(blank_card(UID))), clock, spoil)
        monkeypatch.setattr(card_lane, "open_reader", bed)
        monkeypatch.setattr("terminal_agent.service.readers.open_reader", bed)

        def run(said: list[str], rounds: int = ROUNDS) -> dict[str, Any]:
            return run_test(CardLane(clock), NoKeys(), clock, Trial("bed:", 3, rounds), said.append)

        return bed, run

    return make


Put = Callable[..., tuple[Bed, Callable[..., dict[str, Any]]]]


def test_a_card_that_lies_still_is_tried_in_every_round(put: Put) -> None:
    bed, run = put(lambda _: None)
    said: list[str] = []
    answer = run(said)
    assert (bed.opened, said) == (ROUNDS, [STAY])
    assert (answer["rounds"], answer["lost"], answer["refused"], answer["verdict"]) == (ROUNDS, 0, 0, "good")
    assert [(row["step"], row["count"]) for row in answer["times"]] == [(s, ROUNDS) for s in ("find", *Step)]
    assert answer["times"][0]["median_ms"] == 10.0
    assert (answer["uid"], answer["card"], answer["write_tried"]) == (UID.hex(), "other", True)


def test_waiting_for_the_hand_is_no_part_of_finding_a_card(put: Put) -> None:
    bed, run = put(lambda _: None)
    bed.absent_looks = 4
    said: list[str] = []
    answer = run(said)
    assert said == [FIRST, STAY]
    assert answer["times"][0] == {"step": "find", "median_ms": 10.0, "p95_ms": 10.0, "count": ROUNDS - 1}


def test_a_card_that_keeps_nothing_still_brings_a_verdict(put: Put) -> None:
    class Worn(MemoryImage):
        def write(self, block: int, data: bytes) -> None:
            super().write(block, bytes(byte ^ 1 for byte in data))

    bed, run = put(lambda _: None)
    bed.image = Worn(bytes(blank_card(UID)))
    answer = run([])
    assert answer["verdict"] == "unusable"
    assert "does not hold what was written" in answer["reasons"][0]


def test_a_card_lost_now_and_then_is_counted_and_mended(put: Put) -> None:
    bed, run = put(lambda number: Fault(THE_WRITE, Torn.GARBAGE) if number in (4, 9) else None)
    said: list[str] = []
    answer = run(said)
    assert (answer["lost"], answer["verdict"]) == (2, "slow")
    assert said.count(AGAIN) == 2
    assert bed.image.content == blank_card(UID)


def test_a_reader_that_keeps_losing_its_card_is_given_up(put: Put) -> None:
    bed, run = put(lambda number: Fault(THE_WRITE, Torn.GARBAGE) if number % 2 else None)
    answer = run([])
    assert answer["verdict"] == "unusable"
    assert answer["rounds"] < ROUNDS
    assert bed.image.content == blank_card(UID)


def test_refusals_of_a_card_that_lies_still_are_the_readers(put: Put) -> None:
    _bed, run = put(lambda number: AccessDenied(8, "read") if number == 7 else None)
    answer = run([])
    assert (answer["refused"], answer["verdict"]) == (1, "slow")
    _bed, run = put(lambda number: AccessDenied(8, "read") if number else None)
    assert run([])["verdict"] == "unusable"


def test_a_torn_card_that_never_comes_back_is_told_with_what_becomes_of_it(put: Put) -> None:
    gone = CardRemoved("gone")
    bed, run = put(lambda number: Fault(THE_WRITE, Torn.GARBAGE) if number == 4 else gone if number > 4 else None)
    with pytest.raises(AgentError) as told:
        run([])
    assert told.value.code is ErrorCode.CARD_REMOVED_EARLY
    assert "next tap, or its issue" in told.value.hint
    assert bed.image.content != blank_card(UID)


def test_before_init_a_blank_card_is_enough(tmp_path: Path) -> None:
    clock = ManualClock()
    request = Trial(f"sim:{tmp_path}/card.mfd", 0, 2, lift=True)
    answer = run_test(CardLane(clock), NoKeys(), clock, request, lambda _text: None)
    assert (answer["verdict"], answer["removal_noticed"]) == ("good", None), "a card in a file is never lifted"
