"""The tap transaction with a real journal on disk: torn anywhere, the next tap settles it and all books agree."""

from __future__ import annotations

from contextlib import suppress

import pytest

from drivers.errors import CardRemoved, ReaderLost
from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent import taps
from terminal_agent.card.layout import CardState
from terminal_agent.contract import EventType
from terminal_agent.errors import AgentError, ErrorCode, ExitCode
from terminal_agent.taps import CardAtCrm
from terminal_agent.till.checkout import Line, PurchaseRequest, purchase, recorded
from tests.till.support import OPERATIONS, WRITE, events_of, refused, tear
from tests.workbench import (
    UID_7,
    RecordingConnection,
    Workbench,
    copy_of,
    lay,
    offline,
)

FAULTS = [
    pytest.param(Fault(call, outcome), id=f"{call}-{outcome}")
    for call in range(1, OPERATIONS + 1)
    for outcome in (Torn if call in (WRITE, OPERATIONS) else [Torn.OLD])
]


# --- a purchase


def test_a_purchase_earns_and_is_on_card_and_on_disk(bench: Workbench, card: MemoryImage) -> None:
    answer = bench.purchase(card, "R-1", 129_999)
    assert (answer["state"], answer["points_before"], answer["points_earned"]) == ("done", 300, 12)
    assert (answer["points_after"], answer["sequence"]) == (312, 3)
    assert bench.state(card) == CardState(3, 312)
    bench.check_books(card)


def test_a_purchase_too_small_to_earn_is_recorded_all_the_same(bench: Workbench, card: MemoryImage) -> None:
    assert bench.purchase(card, "R-1", 9_999)["points_earned"] == 0
    bench.check_books(card)


def test_the_event_says_what_the_card_says(bench: Workbench, card: MemoryImage) -> None:
    answer = bench.purchase(card, "R-1", 50_000, redeem=20)
    event = events_of(bench, EventType.PURCHASE_RECORDED)[-1]
    assert event["card"] == {
        "card_no": answer["card_no"],
        "sequence": 3,
        "balance_before": 300,
        "balance_after": 285,
        "adjustments_through": 0,
    }
    assert event["points"] == {"earned": 5, "redeemed": 20, "offers": []}
    assert (event["online"], event["clock"], event["policy_version"]) == (False, "synced", "default")


# --- torn taps


@pytest.mark.parametrize("restarted", [False, True], ids=["same-process", "restarted"])
@pytest.mark.parametrize("redeem", [0, 20])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_purchase_torn_anywhere_is_finished_by_tapping_again(
    bench: Workbench, card: MemoryImage, fault: Fault, redeem: int, restarted: bool
) -> None:
    before = bench.state(card)
    with suppress(AgentError, CardRemoved):
        bench.purchase(card, "R-1", 50_000, redeem=redeem, fault=fault)
    assert bench.state(card) in (before, CardState(3, 305 - redeem, redeemed_offline=redeem)), "never a mix"
    if restarted:
        bench.restart()
    answer = bench.purchase(card, "R-1", 50_000, redeem=redeem)
    assert (answer["state"], answer["points_after"]) == ("done", 305 - redeem)
    assert bench.state(card) == CardState(3, 305 - redeem, redeemed_offline=redeem)
    bench.check_books(card)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_purchase_torn_anywhere_is_settled_by_the_next_purchase(
    bench: Workbench, card: MemoryImage, fault: Fault
) -> None:
    with suppress(AgentError, CardRemoved):
        bench.purchase(card, "R-1", 50_000, fault=fault)
    began = fault.call >= WRITE
    answer = bench.purchase(card, "R-2", 70_000)
    assert answer["points_after"] == (312 if began else 307)
    bench.check_books(card)
    replay = bench.purchase(card, "R-1", 50_000)
    assert replay["replayed"] is began
    bench.check_books(card)


@pytest.mark.parametrize("second", Torn)
@pytest.mark.parametrize("first", Torn)
def test_a_card_torn_twice_is_still_settled(bench: Workbench, card: MemoryImage, first: Torn, second: Torn) -> None:
    tear(bench, card, first)
    with suppress(AgentError):
        bench.purchase(card, "R-1", 50_000, fault=Fault(WRITE, second))
    assert bench.purchase(card, "R-1", 50_000)["points_after"] == 305
    bench.check_books(card)


@pytest.mark.parametrize("outcome", Torn)
def test_a_sale_in_doubt_says_so_and_is_counted(bench: Workbench, card: MemoryImage, outcome: Torn) -> None:
    error = tear(bench, card, outcome)
    assert (error.code, error.exit_code) == (ErrorCode.CARD_REMOVED_EARLY, ExitCode.CARD_PROBLEM)
    assert error.retryable
    assert bench.journal.intents.count_open() == 1
    assert [c.receipt_no for c in bench.journal.checkouts.in_doubt()] == ["R-1"]
    assert events_of(bench, EventType.PURCHASE_RECORDED)[1:] == []


@pytest.mark.parametrize("call", range(1, WRITE))
def test_a_card_taken_away_before_the_write_leaves_nothing_behind(
    bench: Workbench, card: MemoryImage, call: int
) -> None:
    with pytest.raises(CardRemoved):
        bench.purchase(card, "R-1", 50_000, fault=Fault(call))
    assert bench.journal.checkouts.by_receipt("purchase", "R-1") is None
    bench.check_books(card)


@pytest.mark.parametrize("call", [OPERATIONS - 1, OPERATIONS])
def test_a_card_taken_away_during_the_history_has_paid(bench: Workbench, card: MemoryImage, call: int) -> None:
    assert bench.purchase(card, "R-1", 50_000, fault=Fault(call, Torn.GARBAGE))["state"] == "done"
    bench.check_books(card)


@pytest.mark.parametrize("call", [OPERATIONS - 1, OPERATIONS])
def test_a_reader_lost_during_the_history_spoils_no_finished_sale(
    bench: Workbench, card: MemoryImage, call: int
) -> None:
    connection = RecordingConnection(lay(card), call, ReaderLost("unplugged"))
    assert purchase(bench.terminal, connection, PurchaseRequest("R-1", 50_000), offline)["state"] == "done"
    bench.check_books(card)


@pytest.mark.parametrize("call", [WRITE, WRITE + 1])
def test_a_reader_lost_during_the_write_leaves_the_sale_in_doubt(
    bench: Workbench, card: MemoryImage, call: int
) -> None:
    connection = RecordingConnection(lay(card), call, ReaderLost("unplugged"))
    with pytest.raises(AgentError) as caught:
        purchase(bench.terminal, connection, PurchaseRequest("R-1", 50_000), offline)
    assert (caught.value.code, caught.value.details["state"]) == (ErrorCode.READER_LOST, "in_doubt")
    assert bench.purchase(card, "R-1", 50_000)["points_after"] == 305
    bench.check_books(card)


class PowerCut(BaseException):
    """Nothing after this line runs."""


def test_the_intent_is_on_disk_before_the_card_is_written(bench: Workbench, card: MemoryImage) -> None:
    connection = RecordingConnection(lay(card), WRITE, PowerCut())
    with pytest.raises(PowerCut):
        purchase(bench.terminal, connection, PurchaseRequest("R-1", 50_000), offline)
    (intent,) = bench.rows("SELECT * FROM intents WHERE state = 'open'")
    (checkout,) = bench.rows("SELECT * FROM checkouts WHERE state = 'in_doubt'")
    assert intent["checkout_id"] == checkout["checkout_id"]


def test_a_power_cut_after_the_write_loses_nothing(
    bench: Workbench, card: MemoryImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(taps, "finish", cut)
        with pytest.raises(PowerCut):
            bench.purchase(card, "R-1", 50_000)
    assert bench.state(card) == CardState(3, 305)
    bench.restart()
    assert bench.purchase(card, "R-1", 50_000)["points_after"] == 305
    bench.check_books(card)


class Forgetful(RecordingConnection):
    """A card that says yes to a write and keeps nothing."""

    def write_block(self, block: int, data: bytes) -> None:
        self._record("write", block)


def test_a_write_the_card_did_not_keep_is_no_sale_done(bench: Workbench, card: MemoryImage) -> None:
    with pytest.raises(AgentError) as caught:
        purchase(bench.terminal, Forgetful(lay(card)), PurchaseRequest("R-1", 50_000, redeem=20), offline)
    assert caught.value.details["state"] == "in_doubt"
    assert len(events_of(bench, EventType.PURCHASE_RECORDED)) == 1
    assert bench.purchase(card, "R-1", 50_000, redeem=20)["points_after"] == 285
    bench.check_books(card)


def test_another_card_cannot_settle_a_sale_in_doubt(bench: Workbench, card: MemoryImage) -> None:
    other = bench.issue(UID_7)
    tear(bench, card, Torn.OLD)
    before = bytes(copy_of(other).content)
    error = refused(bench, other, "R-1", 50_000)
    assert (error.details["state"], error.exit_code) == ("in_doubt", ExitCode.CARD_PROBLEM)
    assert "SAME card" in error.hint
    assert bytes(other.content) == before
    assert bench.purchase(card, "R-1", 50_000)["points_after"] == 305


def test_another_customer_is_served_while_a_sale_is_in_doubt(bench: Workbench, card: MemoryImage) -> None:
    other = bench.issue(UID_7)
    tear(bench, card, Torn.GARBAGE)
    assert bench.purchase(other, "R-2", 70_000)["points_after"] == 7
    assert bench.purchase(card, "R-1", 50_000)["points_after"] == 305


# --- receipts


def test_a_finished_receipt_answers_again_and_moves_no_point(bench: Workbench, card: MemoryImage) -> None:
    first = bench.purchase(card, "R-1", 50_000, redeem=20)
    content = bytes(copy_of(card).content)
    again = bench.purchase(card, "R-1", 50_000, redeem=20)
    without_card = recorded(bench.terminal, PurchaseRequest("R-1", 50_000, 20))
    assert again == without_card == {**first, "replayed": True}
    assert bytes(card.content) == content
    bench.check_books(card)


def test_a_receipt_survives_a_restart(bench: Workbench, card: MemoryImage) -> None:
    first = bench.purchase(card, "R-1", 50_000)
    bench.restart()
    assert recorded(bench.terminal, PurchaseRequest("R-1", 50_000)) == {**first, "replayed": True}


def test_the_same_receipt_with_another_amount_is_a_conflict(bench: Workbench, card: MemoryImage) -> None:
    bench.purchase(card, "R-1", 50_000)
    content = bytes(copy_of(card).content)
    assert refused(bench, card, "R-1", 60_000).code is ErrorCode.RECEIPT_CONFLICT
    with pytest.raises(AgentError):
        recorded(bench.terminal, PurchaseRequest("R-1", 60_000))
    assert bytes(card.content) == content
    bench.check_books(card)


@pytest.mark.parametrize(
    ("receipt_no", "amount", "redeem"),
    [(" ", 1, 0), ("x" * 65, 1, 0), ("R", 0, 0), ("R", -1, 0), ("R", 10**15 + 1, 0), ("R", 1, -1), ("R", 1, 2**31)],
)
def test_a_purchase_that_makes_no_sense_is_refused(receipt_no: str, amount: int, redeem: int) -> None:
    with pytest.raises(AgentError) as caught:
        PurchaseRequest(receipt_no, amount, redeem)
    assert caught.value.code is ErrorCode.INVALID_INPUT


# --- redemption


def test_more_than_the_card_has_is_refused_and_nothing_happens(bench: Workbench) -> None:
    card = bench.issue(points=10)
    content = bytes(copy_of(card).content)
    error = refused(bench, card, "R-1", 50_000, redeem=11)
    assert (error.code, error.details["redeemable_points"]) == (ErrorCode.INSUFFICIENT_POINTS, 10)
    assert bytes(card.content) == content
    assert bench.journal.checkouts.by_receipt("purchase", "R-1") is None


def test_offline_a_card_redeems_up_to_its_limit_over_several_taps(bench: Workbench, card: MemoryImage) -> None:
    assert bench.purchase(card, "R-1", 50_000, redeem=150)["points_redeemed"] == 150
    error = refused(bench, card, "R-2", 50_000, redeem=51)
    assert (error.code, error.details["redeemable_points"]) == (ErrorCode.OFFLINE_LIMIT, 50)
    assert bench.purchase(card, "R-2", 50_000, redeem=50)["points_redeemed"] == 50
    assert refused(bench, card, "R-3", 50_000, redeem=1).code is ErrorCode.OFFLINE_LIMIT
    assert bench.purchase(card, "R-3", 50_000)["state"] == "done"
    bench.check_books(card)


def test_offline_a_terminal_redeems_up_to_its_limit_a_day(bench: Workbench) -> None:
    cards = [bench.issue(bytes([1, 2, 3, n]), points=300) for n in range(11)]
    for number, card in enumerate(cards[:10]):
        bench.purchase(card, f"R-{number}", 50_000, redeem=200)
    error = refused(bench, cards[10], "R-10", 50_000, redeem=1)
    assert (error.code, error.details["redeemable_points"]) == (ErrorCode.OFFLINE_LIMIT, 0)
    bench.clock.advance(hours=25)
    assert bench.purchase(cards[10], "R-10", 50_000, redeem=200)["points_redeemed"] == 200


def test_a_redemption_in_doubt_counts_against_the_terminal_s_limit(bench: Workbench, card: MemoryImage) -> None:
    tear(bench, card, Torn.OLD, redeem=150)
    assert bench.journal.checkouts.redeemed_offline_today() == 150


def test_online_the_crm_s_balance_decides_and_the_offline_count_starts_again(
    bench: Workbench, card: MemoryImage
) -> None:
    bench.purchase(card, "R-1", 50_000, redeem=150)
    error = refused(bench, card, "R-2", 50_000, redeem=101, reserve=lambda *_: CardAtCrm(100, 3, "active"))
    assert (error.code, error.details["redeemable_points"]) == (ErrorCode.INSUFFICIENT_POINTS, 100)
    answer = bench.purchase(card, "R-2", 50_000, redeem=100, reserve=lambda *_: CardAtCrm(100, 3, "active"))
    assert answer["online"] is True
    assert bench.state(card).redeemed_offline == 0
    bench.check_books(card)


def test_the_crm_is_asked_about_this_very_chain_and_only_to_redeem(bench: Workbench, card: MemoryImage) -> None:
    asked: list[tuple[str, CardState]] = []

    def reserve(card_no: str, state: CardState, points: int, reference: str) -> CardAtCrm | None:
        asked.append((card_no, state))
        return None

    bench.purchase(card, "R-1", 50_000, reserve=reserve)
    assert asked == []
    answer = bench.purchase(card, "R-2", 50_000, redeem=1, reserve=reserve)
    assert asked == [(answer["card_no"], CardState(3, 305))]


# --- adjustments


def test_adjustments_reach_the_card_once(bench: Workbench, card: MemoryImage) -> None:
    card_no = bench.purchase(card, "R-0", 10_000)["card_no"]
    bench.adjust(card_no, 100, -30)
    first, second = bench.purchase(card, "R-1", 50_000), bench.purchase(card, "R-2", 50_000)
    assert (first["points_adjusted"], first["points_after"]) == (70, 301 + 70 + 5)
    assert (second["points_adjusted"], second["points_after"]) == (0, 381)
    assert bench.state(card).adjustments_through == 2
    bench.adjust(card_no, 100, -30)  # the feed from its start, once more
    assert bench.purchase(card, "R-3", 50_000)["points_adjusted"] == 0


def test_after_a_missing_adjustment_nothing_is_applied(bench: Workbench, card: MemoryImage) -> None:
    card_no = bench.purchase(card, "R-0", 10_000)["card_no"]
    bench.adjust(card_no, 100, first=2)
    assert bench.purchase(card, "R-1", 50_000)["points_adjusted"] == 0
    bench.adjust(card_no, 7, first=1)
    assert bench.purchase(card, "R-2", 50_000)["points_adjusted"] == 107


@pytest.mark.parametrize("outcome", Torn)
def test_adjustments_in_a_torn_tap_are_applied_once(bench: Workbench, card: MemoryImage, outcome: Torn) -> None:
    (issued,) = events_of(bench, EventType.CARD_ISSUED)
    bench.adjust(issued["card"]["card_no"], 100)
    tear(bench, card, outcome)
    bench.purchase(card, "R-1", 50_000)
    assert bench.state(card) == CardState(3, 405, adjustments_through=1)
    bench.check_books(card, adjusted=100)


def test_adjusted_points_can_be_redeemed_in_the_same_tap(bench: Workbench) -> None:
    card = bench.issue()
    (issued,) = events_of(bench, EventType.CARD_ISSUED)
    bench.adjust(issued["card"]["card_no"], 50)
    assert bench.purchase(card, "R-1", 9_000, redeem=50)["points_after"] == 0


def test_an_amount_no_card_can_hold_is_not_blamed_on_the_card(bench: Workbench, card: MemoryImage) -> None:
    assert refused(bench, card, "R-1", 10**15).code is ErrorCode.INVALID_INPUT
    assert bench.purchase(card, "R-2", 10_000)["state"] == "done"


def test_adjustments_no_card_can_hold_stop_no_sale(bench: Workbench, card: MemoryImage) -> None:
    answer = bench.purchase(card, "R-1", 10_000)
    bench.adjust(answer["card_no"], 7, 2**31, 9)
    assert bench.purchase(card, "R-2", 10_000)["points_after"] == 302 + 7
    assert bench.purchase(card, "R-3", 10_000)["points_after"] == 303 + 7
    assert bench.state(card).adjustments_through == 1


@pytest.mark.parametrize("receipt_no", ["\udcd8", "a\nb", "\u202e1", " ", "x" * 65])
def test_a_receipt_number_nobody_can_read_is_refused(receipt_no: str) -> None:
    with pytest.raises(AgentError) as caught:
        PurchaseRequest(receipt_no, 50_000)
    assert caught.value.code is ErrorCode.INVALID_INPUT


@pytest.mark.parametrize("line", [Line("\udcd8", 1, 1), Line("tea", 0, 1), Line("tea", 1, 50_001)])
def test_a_line_that_cannot_be_is_refused(line: Line) -> None:
    with pytest.raises(AgentError):
        PurchaseRequest("R-1", 50_000, lines=(line,))


def test_a_receipt_is_the_same_in_every_spelling(bench: Workbench, card: MemoryImage) -> None:
    first = bench.purchase(card, "55", 50_000)
    for spelling in ("۵۵", "٥٥", " 55 "):
        assert bench.purchase(card, spelling, 50_000) == {**first, "replayed": True}


def test_what_cannot_be_minted_fails_before_the_card_is_written(
    bench: Workbench, card: MemoryImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("terminal_agent.till.decided.reference", lambda text, longest: text)
    before = bytes(card.content)
    with pytest.raises(UnicodeEncodeError):
        bench.purchase(card, "\udcd8", 50_000)
    assert bytes(card.content) == before
    assert bench.rows("SELECT * FROM intents WHERE state = 'open'") == []
