"""A batch with a person at the reader: cards torn, mixed up and left lying; each row ends with one card that works."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from drivers.base import ClassicConnection
from drivers.errors import CardRemoved
from drivers.mifare_classic import trailer_of
from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent import taps
from terminal_agent.card.card_number import card_number
from terminal_agent.card.layout import HOMES
from terminal_agent.desk import batch
from terminal_agent.desk.batch import Why
from terminal_agent.desk.issue import IssueRequest, issue
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service import card_lane
from terminal_agent.service.agent import Agent
from terminal_agent.service.batch_job import Job, Request
from terminal_agent.service.initialise import initialise
from terminal_agent.service.operations import OPERATIONS
from terminal_agent.service.settings import load_settings
from tests.till_api.hand_reader import HandReader
from tests.workbench import blank, lay, operations_of

NUMBER = card_number("739803653567122")
Operator = Callable[[str], None]


def uid(number: int) -> bytes:
    return b"\x10\x20\x30" + bytes([number])


class Desk:
    """An agent, a reader by hand, and runs of a batch at it."""

    def __init__(self, folder: Path, reader: HandReader) -> None:
        config = folder / "config.toml"
        values = {"data_dir": str(folder / "data"), "terminal_id": "till-1", "reader": "sim:by-hand"}
        initialise(config, values, force=False)
        self.agent = Agent(load_settings(config), config)
        self.reader = reader
        self.source, self.target = folder / "in.csv", folder / "out.csv"
        self.lines: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}

    def write(self, *rows: str) -> None:
        self.source.write_text("\n".join(("phone,name,tier,card_no", *rows)) + "\n")

    def run(
        self,
        operator: Operator = lambda _text: None,
        *,
        wait_s: float = 5.0,
        limit: int | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> list[tuple[int, str]]:
        """One run; row and status of each line."""
        job = Job(Request(self.source, self.target, None, wait_s, limit, stopped, operator))
        self.lines = []
        try:
            self.lines.extend(job.run(self._open))
        finally:
            self.summary = job.summary()
        return [(line["row"], line["status"]) for line in self.lines]

    @contextmanager
    def _open(self) -> Iterator[Callable[..., Any]]:
        yield lambda operation, **params: OPERATIONS[operation](self.agent, params, lambda _text: None)

    def report(self) -> list[dict[str, str]]:
        with self.target.open(newline="") as file:
            return list(csv.DictReader(file))

    def buys(self, image: MemoryImage) -> str:
        """What a till says to this card: ``active``, or an error's code."""
        with lay(image) as connection:
            try:
                card = taps.settle(self.agent.terminal, taps.present(self.agent.terminal, connection))
                taps.refuse_unusable(self.agent.terminal, card)
            except AgentError as problem:
                return problem.code.value
        return "active"

    def issued(self) -> list[str]:
        """The phone of each card.issued that goes to the CRM, by its member."""
        bodies = self.agent.journal.events.bodies_of
        knowledge = self.agent.journal.knowledge
        phones = []
        for card in knowledge.recent_cards(1000):
            events = [event["type"] for event in bodies(card.member_id or "", {card.card_no})]
            member = knowledge.member(card.member_id)
            assert events.count("card.issued") == 1
            phones.append(str(member and member.phone))
        return sorted(phones)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    reader = HandReader()
    monkeypatch.setattr(card_lane, "open_reader", lambda _url: reader)
    bench = Desk(tmp_path, reader)
    with closing(bench.agent):
        yield bench


def lays(desk: Desk, *cards: MemoryImage) -> Operator:
    """A person who lays the next card down when asked to, and lifts one when told to."""
    pile = list(cards)

    def hears(text: str) -> None:
        if text.endswith(Why.SAME_CARD):
            desk.reader.lift()
        elif pile:
            desk.reader.lay(pile.pop(0))

    return hears


def phones(*numbers: int) -> list[str]:
    return [f"0912000000{number},,," for number in numbers]


def test_a_pile_with_bad_cards_in_it_gives_each_row_one_good_card(desk: Desk) -> None:
    desk.write(*phones(1, 2, 3))
    foreign, ours = blank(uid(8)), blank(uid(9))
    foreign.write(trailer_of(5), b"\x42" * 6 + bytes.fromhex("FF078069") + b"\x42" * 6)
    with lay(ours) as connection:
        issue(desk.agent.terminal, connection, IssueRequest("09129999999"))
    good = [blank(uid(number)) for number in (1, 2, 3)]
    told = desk.run(lays(desk, good[0], foreign, ours, good[1], good[2]))
    bad = (2, "card_rejected")
    assert told == [(1, "issued"), bad, bad, (2, "issued"), (3, "issued")]
    assert [line["uid"] for line in desk.lines] == [uid(n).hex() for n in (1, 8, 9, 2, 3)]
    assert [line["error"] and line["error"]["code"] for line in desk.lines[1:3]] == ["not_our_card", "already_issued"]
    assert [desk.buys(card) for card in good] == ["active"] * 3
    assert desk.issued() == ["09120000001", "09120000002", "09120000003", "09129999999"]
    assert desk.summary["cards_per_minute"] > 0
    assert {k: v for k, v in desk.summary.items() if k != "cards_per_minute"} == {
        "issued": 3,
        "skipped": 0,
        "rejected": 0,
        "left": 0,
        "cards_rejected": 2,
    }


def test_a_card_that_is_left_lying_is_not_issued_twice(desk: Desk) -> None:
    desk.write(*phones(1, 2))
    desk.reader.lay(blank(uid(1)))
    heard: list[str] = []
    with pytest.raises(AgentError) as caught:
        desk.run(heard.append, wait_s=0)
    assert caught.value.code is ErrorCode.NO_CARD_TIMEOUT
    assert heard == [f"Row 2 of 2: {Why.SAME_CARD}"]
    assert [(line["row"], line["status"]) for line in desk.lines] == [(1, "issued")]
    assert (desk.summary["issued"], desk.summary["left"]) == (1, 1)


def test_what_was_done_stays_done_and_the_report_can_be_made_again(desk: Desk) -> None:
    desk.write(*phones(1, 2, 3))
    first = desk.run(lays(desk, blank(uid(1)), blank(uid(2))), limit=2)
    assert first == [(1, "issued"), (2, "issued")]
    assert desk.summary["left"] == 1
    assert [row["status"] for row in desk.report()] == ["issued", "issued", "left"]
    cards = [row["card_no"] for row in desk.report()[:2]]
    desk.target.unlink()
    desk.reader.lift()
    assert desk.run(lays(desk, blank(uid(3)))) == [(1, "skipped"), (2, "skipped"), (3, "issued")]
    assert [line["card_no"] for line in desk.lines[:2]] == cards
    assert [(row["row"], row["status"]) for row in desk.report()] == [("1", "issued"), ("2", "issued"), ("3", "issued")]
    assert desk.issued() == ["09120000001", "09120000002", "09120000003"]


def test_bad_rows_are_told_before_the_first_card_and_stop_no_other(desk: Desk) -> None:
    desk.write("0912,,,", *phones(1), f"09120000002,,,{NUMBER}", f"09120000003,,,{NUMBER}")
    told = desk.run(lays(desk, blank(uid(1)), blank(uid(2))))
    assert told == [(1, "rejected"), (4, "rejected"), (2, "issued"), (3, "issued")]
    assert desk.lines[-1]["card_no"] == NUMBER
    assert [row["status"] for row in desk.report()] == ["rejected", "issued", "issued", "rejected"]
    assert desk.report()[3]["error"] == "invalid_input: line 5: the same card_no stands in row 3"


def test_a_number_that_is_taken_and_a_person_who_has_another_one_are_refused(desk: Desk) -> None:
    desk.write(f"09120000001,,,{NUMBER}")
    desk.run(lays(desk, blank(uid(1))))
    assert desk.run() == [(1, "skipped")]
    desk.write(f"09120000002,,,{NUMBER}", f"09120000001,,,{card_number('4' * 15)}")
    assert desk.run() == [(1, "rejected"), (2, "rejected")]
    assert [line["error"]["code"] for line in desk.lines] == ["already_issued"] * 2


def test_a_wiped_card_makes_its_row_due_again(desk: Desk) -> None:
    desk.write(*phones(1))
    card = blank(uid(1))
    desk.run(lays(desk, card))
    OPERATIONS["card.wipe"](desk.agent, {"wait_s": 0}, lambda _text: None)
    assert desk.run(lays(desk, card)) == [(1, "issued")]


def last_operations(desk: Desk) -> list[int]:
    """The places of the operations from the one before the home's trailer to the end of an issue, and one in the
    middle."""
    image = blank(uid(0))
    operations = operations_of(lambda c: issue(desk.agent.terminal, c, IssueRequest("09121111111")), image)
    home = operations.index(("write", trailer_of(HOMES[0].sector))) + 1
    assert len(operations) - home >= 2, "the home is proved after it is keyed"
    return [len(operations) // 2, *range(home - 1, len(operations) + 1)]


@pytest.mark.parametrize("number", [None, NUMBER], ids=["number drawn", "number printed"])
@pytest.mark.parametrize("outcome", [Torn.OLD, Torn.NEW])
def test_a_torn_card_is_finished_or_made_harmless(desk: Desk, number: str | None, outcome: Torn) -> None:
    for case, operation in enumerate(last_operations(desk)):
        phone = f"0912000{case:04d}"
        its_number = number and card_number(f"7398036535{case:05d}")
        desk.write(f"{phone},,,{its_number or ''}")
        torn, other = blank(bytes([1, 1, case, 1])), blank(bytes([1, 1, case, 2]))
        heard: list[str] = []
        desk.reader.lay(torn, Fault(operation, outcome))
        with pytest.raises(AgentError) as caught:
            desk.run(heard.append, wait_s=0)
        assert caught.value.code is ErrorCode.CARD_REMOVED_EARLY
        assert heard == [f"Row 1 of 1: {Why.TORN}"]
        desk.reader.lay(other)
        (told,) = desk.run()
        if told == (1, "rejected"):  # the printed number may live on the first card: only that one will do
            assert number is not None
            assert desk.lines[0]["error"]["code"] == "already_issued"
            assert desk.buys(other) == "blank_card"
            desk.reader.lay(torn)
            (told,) = desk.run()
            torn, other = other, torn
        assert told == (1, "issued")
        assert desk.buys(other) == "active"
        assert desk.buys(torn) in ("blank_card", "card_blocked"), f"operation {operation}: two cards for one row"
        desk.reader.lift()
    assert max(Counter(desk.issued()).values()) == 1


def test_a_torn_card_that_comes_back_keeps_its_number(desk: Desk) -> None:
    desk.write(*phones(1))
    card = blank(uid(1))
    desk.reader.lay(card, Fault(60, Torn.OLD))

    def puts_it_back(text: str) -> None:
        assert text.endswith(Why.TORN)
        (begun,) = desk.agent.journal.intents.open_of(taps.ISSUE)
        numbers.append(begun.card_no)
        desk.reader.lay(card)

    numbers: list[str] = []
    assert desk.run(puts_it_back) == [(1, "issued")]
    assert [desk.lines[0]["card_no"]] == numbers


def test_a_stop_is_heeded_between_two_cards(desk: Desk) -> None:
    desk.write(*phones(1, 2))
    assert desk.run(lays(desk, blank(uid(1))), stopped=lambda: "1,0912" in desk.target.read_text()) == [(1, "issued")]
    assert [row["status"] for row in desk.report()] == ["issued", "left"]


def test_many_bad_cards_on_end_speak_against_the_reader(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MOST_BAD_CARDS", 3)
    desk.write(*phones(1, 2))
    bad = [blank(uid(number)) for number in range(5)]
    for card in bad:
        card.write(trailer_of(5), b"\x42" * 6 + bytes.fromhex("FF078069") + b"\x42" * 6)
    with pytest.raises(AgentError, match="3 cards one after the other"):
        desk.run(lays(desk, *bad))
    assert desk.summary["left"] == 2


def test_a_reader_that_is_gone_ends_the_batch_and_keeps_what_is_done(desk: Desk) -> None:
    desk.write(*phones(1, 2))

    def unplugs(text: str) -> None:
        desk.reader.lay(blank(uid(1))) if "Row 1" in text else desk.reader.unplug()

    with pytest.raises(AgentError) as caught:
        desk.run(unplugs)
    assert caught.value.code is ErrorCode.READER_LOST
    assert [row["status"] for row in desk.report()] == ["issued"]
    desk.reader.lift()
    desk.reader.unplug(lost=False)
    assert desk.run(lays(desk, blank(uid(2)))) == [(1, "skipped"), (2, "issued")]


def test_a_sale_at_the_till_goes_first(desk: Desk) -> None:
    desk.write(*phones(1))
    holding = desk.agent.lane.hold("sim:by-hand")
    holding.__enter__()
    desk.reader.lay(blank(uid(1)))
    heard: list[str] = []

    def lets_go(text: str) -> None:
        heard.append(text)
        holding.__exit__(None, None, None)

    assert desk.run(lets_go) == [(1, "issued")]
    assert heard == [f"Row 1 of 1: {Why.BUSY}"]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda desk: setattr(desk, "target", desk.source), "over the rows"),
        (lambda desk: setattr(desk, "target", desk.source.parent / "none" / "out.csv"), "cannot write the report"),
        (lambda desk: setattr(desk, "source", desk.source.parent / "none.csv"), "cannot read"),
        (lambda desk: desk.source.write_bytes(b"name\nSara\n"), "no column phone"),
    ],
)
def test_what_cannot_work_is_told_before_a_card_is_touched(desk: Desk, spoil: Callable[[Desk], Any], why: str) -> None:
    desk.write(*phones(1))
    card = blank(uid(1))
    desk.reader.lay(card)
    spoil(desk)
    with pytest.raises(AgentError, match=why) as caught:
        desk.run()
    assert caught.value.code is ErrorCode.INVALID_INPUT
    assert bytes(card.content) == bytes(blank(uid(1)).content)


def test_a_reader_is_given_time_to_see_a_card_leave(desk: Desk) -> None:
    """pcscd asks its reader each 0.4 s and names a card that has left; looking without end keeps it from asking."""
    looks = 0

    def left_already(_connection: ClassicConnection) -> ClassicConnection:
        nonlocal looks
        looks += 1
        raise CardRemoved("the card left the reader")

    desk.write(*phones(1))
    desk.reader.lay(blank(uid(1)))
    desk.reader.wrap = left_already
    heard: list[str] = []
    with pytest.raises(AgentError) as caught:
        desk.run(heard.append, wait_s=1.2)
    assert caught.value.code is ErrorCode.NO_CARD_TIMEOUT
    assert heard == [f"Row 1 of 1: {Why.NO_CARD}"]
    assert looks <= 4
