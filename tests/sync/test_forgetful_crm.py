"""A CRM put back from a backup has forgotten what it acknowledged: it gets it again, once, and nothing else does."""

from __future__ import annotations

import pytest
from werkzeug import Request, Response

from terminal_agent.journal import Journal
from terminal_agent.sync.adapters.base import CrmUnreachable
from tests.journal.support import CARD, event, event_id
from tests.sync.support import Answer, Exchange, ScriptedCrm, events_of, page, problem, signed


class RememberingCrm:
    """Keeps events by epoch and sequence, answers ``acked_through`` truly, and can be put back to an earlier day."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, int], str] = {}

    def __call__(self, request: Request) -> Response:
        results = []
        for each in events_of(request):
            place = each["source"], int(each["sequence"])
            results.append({"id": each["id"], "status": "duplicate" if place in self.kept else "accepted"})
            self.kept[place] = each["id"]
        (source,) = {each["source"] for each in events_of(request)}
        acked = 0
        while (source, acked + 1) in self.kept:
            acked += 1
        return signed(request, {"results": results, "acked_through": acked, "server_time": "2026-11-22T09:30:10Z"})

    def ids(self) -> set[str]:
        return set(self.kept.values())

    def feed(self, request: Request) -> Response:
        """Tells how far it has each install epoch, as docs/crm-api.md says."""
        acked: dict[str, int] = {}
        for source, sequence in sorted(self.kept):
            epoch = source.rpartition("/")[2]
            if acked.get(epoch, 0) + 1 == sequence:
                acked[epoch] = sequence
        return signed(request, {"items": [], "next_cursor": "end", "has_more": False, "acked_through": acked})


@pytest.fixture
def remembering(crm: ScriptedCrm) -> RememberingCrm:
    crm.usual_events = RememberingCrm()
    return crm.usual_events


def record(journal: Journal, *numbers: int) -> None:
    with journal.transaction():
        for number in numbers:
            journal.events.append(event(number))


def everything(last: int) -> set[str]:
    return {event_id(number) for number in range(1, last + 1)}


def test_what_a_restored_crm_has_forgotten_goes_up_again(
    journal: Journal, remembering: RememberingCrm, run: Exchange
) -> None:
    record(journal, 1, 2, 3)
    run()
    backup = dict(remembering.kept)
    record(journal, 4, 5, 6)
    run()
    remembering.kept = backup
    record(journal, 7)
    report = run()
    assert remembering.ids() == everything(7)
    assert (report.pending, report.sent, report.duplicate) == (0, 5, 1)
    assert run().sent == 0


def test_a_crash_before_it_is_noted_that_the_crm_went_back_hides_nothing(
    journal: Journal, remembering: RememberingCrm, run: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verdicts and note go to disk together: after the verdicts alone nothing is left to send, and to ask with."""
    record(journal, 1, 2, 3)
    run()
    backup = dict(remembering.kept)
    record(journal, 4)
    run()
    remembering.kept = backup
    record(journal, 5)
    with monkeypatch.context() as patch:
        patch.setattr(journal.events, "forgotten_after", _die)
        with pytest.raises(KeyboardInterrupt):
            run()
    run()
    assert remembering.ids() == everything(5)


def _die(*_: object) -> None:
    raise KeyboardInterrupt


def test_epochs_before_this_one_are_healed_too(journal: Journal, remembering: RememberingCrm, run: Exchange) -> None:
    record(journal, 1, 2)
    run()
    backup = dict(remembering.kept)
    record(journal, 3, 4)
    run()
    journal.start_epoch("till-1")
    record(journal, 5, 6)
    run()
    remembering.kept = backup
    record(journal, 7)
    for _ in range(2):
        report = run()
    assert remembering.ids() == everything(7)
    assert report.pending == 0


def test_a_crm_that_says_less_each_time_is_not_sent_all_for_ever(
    journal: Journal, crm: ScriptedCrm, run: Exchange
) -> None:
    told = iter([9, 5, 4, 3, 2, 1, 0])

    def lying(request: Request) -> Response:
        results = [{"id": each["id"], "status": "accepted"} for each in events_of(request)]
        return signed(request, {"results": results, "acked_through": next(told), "server_time": "2026-11-22T09:30:10Z"})

    crm.usual_events = lying
    record(journal, *range(1, 10))
    run()
    record(journal, 10)
    run()
    assert len(crm.posts) == 3


@pytest.mark.parametrize("nonsense", [None, "7", -1, 2.5, [], {}])
def test_an_acked_through_that_is_none_changes_nothing(
    journal: Journal, crm: ScriptedCrm, run: Exchange, nonsense: object
) -> None:
    def odd(request: Request) -> Response:
        results = [{"id": each["id"], "status": "accepted"} for each in events_of(request)]
        return signed(request, {"results": results, "acked_through": nonsense})

    record(journal, 1)
    run()
    crm.usual_events = odd
    record(journal, 2)
    assert run().pending == 0
    assert len(crm.posts) == 2


def test_a_batch_holds_one_install_epoch(journal: Journal, remembering: RememberingCrm, run: Exchange) -> None:
    record(journal, 1, 2)
    journal.start_epoch("till-1")
    record(journal, 3)
    assert run().accepted == 3


# Where nothing is sent that would tell, the feed does.


@pytest.fixture
def telling(crm: ScriptedCrm, remembering: RememberingCrm) -> RememberingCrm:
    crm.usual_feed = remembering.feed
    return remembering


def test_a_till_that_sells_nothing_hears_from_the_feed_that_the_crm_went_back(
    journal: Journal, telling: RememberingCrm, run: Exchange
) -> None:
    record(journal, 1, 2)
    run()
    backup = dict(telling.kept)
    record(journal, 3, 4, 5)
    run()
    telling.kept = backup
    assert (run().sent, run().sent) == (3, 0)
    assert telling.ids() == everything(5)


def test_a_crm_that_lost_an_epoch_whole_gets_it_again(journal: Journal, telling: RememberingCrm, run: Exchange) -> None:
    record(journal, 1, 2)
    run()
    telling.kept = {}
    assert (run().sent, run().sent) == (2, 0)
    assert telling.ids() == everything(2)


def test_what_was_lost_of_an_earlier_epoch_goes_up_again_under_a_new_one(
    journal: Journal, telling: RememberingCrm, run: Exchange
) -> None:
    """The CRM and the till were both put back: nothing that is sent under the new epoch tells of the one before."""
    record(journal, 1, 2)
    run()
    backup = dict(telling.kept)
    record(journal, 3, 4, 5)
    run()
    telling.kept = backup
    journal.begin_as_copy("put back")
    record(journal, 6)
    run()
    assert telling.ids() == everything(6)


def test_what_a_till_sent_under_an_earlier_name_is_none_of_the_feed_s_business(
    journal: Journal, telling: RememberingCrm, run: Exchange
) -> None:
    """Its events bear that name: this CRM would refuse them now."""
    record(journal, 1, 2)
    run()
    journal.start_epoch("another-name")
    telling.kept = {}
    assert run().sent == 0


@pytest.mark.parametrize("of_an_epoch", [True, False])
@pytest.mark.parametrize("nonsense", [-1, "9", None, [1]])
def test_a_feed_that_tells_nonsense_of_what_the_crm_has_changes_nothing(
    journal: Journal, crm: ScriptedCrm, telling: RememberingCrm, run: Exchange, nonsense: object, of_an_epoch: bool
) -> None:
    record(journal, 1, 2)
    run()
    told = {journal.events.install_epoch: nonsense} if of_an_epoch else nonsense
    crm.usual_feed = lambda request: signed(
        request, {"items": [], "next_cursor": "end", "has_more": False, "acked_through": told}
    )
    assert (run().sent, run().sent) == (0, 0)


def test_a_feed_begun_anew_says_what_each_number_is_now(journal: Journal, crm: ScriptedCrm, run: Exchange) -> None:
    """The CRM was put back, and gave number 1 of this card to something else."""

    def feed_of(points: int, cursor: str) -> Answer:
        item = {"kind": "adjustment", "card_no": CARD, "number": 1, "points": points, "reason": "web"}
        return lambda request: signed(request, {"items": [item], "next_cursor": cursor, "has_more": False})

    crm.feed_script = [feed_of(500, "old")]
    run()
    crm.feed_script = [problem(400, "cursor_invalid"), page(503)]
    with pytest.raises(CrmUnreachable):
        run()
    assert [due.points for due in journal.knowledge.adjustments_after(CARD, 0)] == [500], "not before it is told"
    crm.feed_script = [problem(400, "cursor_invalid"), feed_of(20, "new")]
    run()
    assert [due.points for due in journal.knowledge.adjustments_after(CARD, 0)] == [20]
