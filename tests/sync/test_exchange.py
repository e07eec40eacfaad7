"""Everything that waits goes up once per exchange, a verdict moves its event alone, the feed comes down whole."""

from __future__ import annotations

import gzip
import json
from functools import partial
from typing import Any

import pytest
from werkzeug import Request, Response

from terminal_agent.club.policy import default_policy
from terminal_agent.errors import AgentError
from terminal_agent.journal import Journal
from terminal_agent.journal.events import NewEvent, OutboxState
from terminal_agent.journal.journal import CLOCK_SKEW
from terminal_agent.journal.knowledge import Adjustment, Member
from terminal_agent.sync.adapters.base import CrmUnauthorized, CrmUnreachable
from terminal_agent.sync.exchange import FEED_CURSOR
from tests.journal.support import CARD, OTHER_CARD, ManualClock, event, event_id
from tests.sync.support import (
    Answer,
    Exchange,
    ScriptedCrm,
    accept,
    events_of,
    no_feed,
    page,
    problem,
    signed,
    verdicts,
)


def record(journal: Journal, *events: NewEvent) -> None:
    with journal.transaction():
        for each in events:
            journal.events.append(each)


def states(journal: Journal) -> dict[int, str]:
    """State by event number, of what is not acknowledged."""
    return {int(entry.event_id[-4:], 16): entry.state.value for entry in journal.events.entries(None, 1_000)}


def of_event(*numbers: int) -> set[str]:
    return {event_id(number) for number in numbers}


def refuse(status: int, *numbers: int) -> Answer:
    """A CRM that refuses every batch in which one of these events is."""

    def answer(request: Request) -> Response:
        sent = {each["id"] for each in events_of(request)}
        return problem(status, code="batch_bad")(request) if sent & of_event(*numbers) else accept(request)

    return answer


def judge(**by_number: str | None) -> Answer:
    """Verdicts by event number (``e3="fork"``), accepted for every other; None for no verdict."""
    wanted = {event_id(int(name[1:])): verdict for name, verdict in by_number.items()}
    return lambda request: verdicts(request, lambda each: wanted.get(each["id"], "accepted"))


def test_everything_that_waits_goes_up_and_is_acknowledged(journal: Journal, crm: ScriptedCrm, run: Exchange) -> None:
    record(journal, *(event(number) for number in range(1, 451)))
    report = run()
    assert [len(ids) for ids in crm.sent_ids] == [200, 200, 50]
    assert (report.sent, report.accepted, report.pending) == (450, 450, 0)
    assert run().sent == 0


def test_the_bytes_sent_are_the_bytes_recorded(journal: Journal, crm: ScriptedCrm, run: Exchange) -> None:
    record(journal, event(1, note="کارت"), event(2))
    bodies = [entry.body for entry in journal.events.entries(None, 10)]
    run()
    assert crm.posts[0].get_data() == ("[" + ",".join(bodies) + "]").encode()


def test_every_try_sends_the_same_bytes_under_a_fresh_request_id(
    journal: Journal, crm: ScriptedCrm, run: Exchange
) -> None:
    record(journal, *(event(number, note="x" * 100) for number in range(1, 31)))
    crm.events_script = [problem(503), problem(429), page(200), problem(500)]
    for _ in range(4):
        with pytest.raises(CrmUnreachable):
            run()
    run()
    assert len({post.get_data() for post in crm.posts}) == 1
    assert crm.posts[0].headers["Content-Encoding"] == "gzip"
    assert len(gzip.decompress(crm.posts[0].get_data())) > 4_096
    assert len({post.headers["Request-Id"] for post in crm.posts}) == 5


@pytest.mark.parametrize(
    "answer",
    [
        page(200),
        page(301, Location="http://portal.example/"),
        page(400),
        page(404),
        problem(404),
        page(413),
        problem(408),
        problem(409),
        problem(429),
        problem(500),
        problem(503),
        lambda request: Response(json.dumps({"results": []}), 200),
        lambda request: signed(
            request, {"results": [{"id": e["id"], "status": "accepted"} for e in events_of(request)]}, secret=b"y" * 32
        ),
        lambda request: signed(request, {"no": "results"}),
        lambda request: signed(request, {"results": 5}),
        lambda request: signed(request, {"results": ["accepted"]}),
        lambda request: signed(request, {"results": [{"id": ["x"], "status": "accepted"}]}),
        lambda request: signed(request, {"results": [{"id": event_id(1)}]}),
    ],
)
def test_an_answer_that_is_none_settles_nothing(
    journal: Journal, crm: ScriptedCrm, run: Exchange, answer: Answer
) -> None:
    record(journal, event(1), event(2))
    crm.usual_events = answer
    with pytest.raises(CrmUnreachable):
        run()
    assert states(journal) == {1: "pending", 2: "pending"}
    assert [entry.attempts for entry in journal.events.entries(None, 10)] == [1, 1]


@pytest.mark.parametrize("answer", [problem(401), problem(403), page(401), page(403)])
def test_a_token_that_is_not_accepted_stops_everything_and_quarantines_nothing(
    journal: Journal, crm: ScriptedCrm, run: Exchange, answer: Answer
) -> None:
    record(journal, *(event(number) for number in range(1, 301)))
    crm.usual_events = answer
    with pytest.raises(CrmUnauthorized):
        run()
    assert len(crm.posts) == 1
    assert crm.feeds == []
    assert journal.events.count(OutboxState.PENDING) == 300


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("bad", [1, 3, 7, 10])
def test_a_refused_batch_is_halved_until_the_bad_event_stands_alone(
    journal: Journal, crm: ScriptedCrm, run: Exchange, status: int, bad: int
) -> None:
    record(journal, *(event(number) for number in range(1, 11)))
    crm.usual_events = refuse(status, bad)
    report = run()
    assert states(journal) == {bad: "quarantined"}
    assert journal.events.entries(None, 1)[0].reason == "batch_bad: the detail"
    assert (report.sent, report.accepted, report.rejected) == (10, 9, 1)
    assert len(crm.posts) <= 12


def test_each_of_several_bad_events_is_found(journal: Journal, crm: ScriptedCrm, run: Exchange) -> None:
    record(journal, *(event(number) for number in range(1, 251)))
    crm.usual_events = refuse(422, 2, 3, 199, 250)
    report = run()
    assert states(journal) == {number: "quarantined" for number in (2, 3, 199, 250)}
    assert (report.accepted, report.rejected) == (246, 4)
    assert len(crm.posts) < 60


def test_what_waits_behind_a_redemption_is_not_sent_after_the_batch_was_halved(
    journal: Journal, crm: ScriptedCrm, run: Exchange
) -> None:
    record(journal, event(1, redeemed=3), event(2, redeemed=2), event(3), event(4, OTHER_CARD, redeemed=1))
    crm.usual_events = refuse(422, 1)
    run()
    assert states(journal) == {1: "quarantined", 2: "pending"}


def test_each_event_gets_its_own_verdict(journal: Journal, crm: ScriptedCrm, run: Exchange) -> None:
    record(journal, *(event(number, card_no=str(number)) for number in range(1, 8)))
    crm.usual_events = judge(e2="duplicate", e3="fork", e4="rejected", e5="retry", e6=None, e7="postponed")
    report = run()
    assert states(journal) == {4: "quarantined", 5: "pending", 6: "pending", 7: "pending"}
    assert journal.events.entries(OutboxState.QUARANTINED, 1)[0].reason == "why"
    counted = (report.accepted, report.duplicate, report.forked, report.rejected, report.retry)
    assert counted == (1, 1, 1, 1, 3)
    assert (report.sent, report.pending, report.quarantined) == (7, 3, 1)


def test_an_id_answered_twice_or_never_sent_does_no_harm(journal: Journal, crm: ScriptedCrm, run: Exchange) -> None:
    record(journal, event(1), event(2))
    results = [(1, "accepted"), (1, "duplicate"), (99, "rejected")]
    document = {
        "results": [{"id": event_id(n), "status": s} for n, s in results] + [{"id": None, "status": "rejected"}]
    }
    crm.usual_events = lambda request: signed(request, document)
    report = run()
    assert states(journal) == {2: "pending"}
    assert (report.sent, report.rejected) == (2, 0)


def test_an_event_told_to_wait_does_not_stop_the_rest_of_the_queue(
    journal: Journal, crm: ScriptedCrm, run: Exchange
) -> None:
    record(journal, event(1), *(event(number, OTHER_CARD) for number in range(2, 301)))
    crm.usual_events = judge(e1="retry")
    report = run()
    assert (report.sent, report.accepted, report.retry, report.pending) == (300, 299, 1, 1)


def test_later_events_of_a_card_told_to_wait_keep_their_place_behind_it(
    journal: Journal, crm: ScriptedCrm, run: Exchange
) -> None:
    record(journal, event(1), *(event(number, OTHER_CARD) for number in range(2, 201)), event(201), event(202, "3"))
    crm.usual_events = judge(e1="retry")
    run()
    assert states(journal) == {1: "pending", 201: "pending"}
    assert crm.sent_ids[1] == [event_id(202)]
    crm.usual_events = accept
    run()
    assert crm.sent_ids[2] == [event_id(1), event_id(201)]


def test_a_crm_that_never_takes_anything_ends_the_exchange_all_the_same(
    journal: Journal, crm: ScriptedCrm, run: Exchange
) -> None:
    record(journal, *(event(number, card_no=str(number)) for number in range(1, 402)))
    crm.usual_events = lambda request: verdicts(request, lambda _event: "retry")
    assert run().retry == 401
    assert len(crm.posts) == 3


def test_what_was_acknowledged_before_the_line_broke_stays_acknowledged(
    journal: Journal, crm: ScriptedCrm, run: Exchange
) -> None:
    record(journal, *(event(number) for number in range(1, 251)))
    crm.events_script = [accept, problem(503)]
    with pytest.raises(CrmUnreachable):
        run()
    assert journal.events.count(OutboxState.PENDING) == 50
    assert journal.events.count(OutboxState.ACKNOWLEDGED) == 200


def test_the_clock_is_compared_with_the_crms(
    journal: Journal, crm: ScriptedCrm, run: Exchange, clock: ManualClock
) -> None:
    record(journal, event(1))
    run()
    assert journal.meta(CLOCK_SKEW) == "-10"
    for unreadable in (None, 5, "yesterday", "2026-11-22T09:30:10"):
        record(journal, event(100 + len(crm.posts)))
        document: dict[str, Any] = {"results": [], "server_time": unreadable}
        crm.usual_events = partial(signed, document=document)
        run()
    assert journal.meta(CLOCK_SKEW) == "-10"


def feed(items: list[Any], next_cursor: Any, has_more: Any = False) -> Answer:
    return lambda request: signed(request, {"items": items, "next_cursor": next_cursor, "has_more": has_more})


def adjustment(number: Any, **changed: Any) -> dict[str, Any]:
    return {"kind": "adjustment", "card_no": CARD, "number": number, "points": 7, "reason": "gift", **changed}


def test_the_feed_is_read_to_its_end_and_on_from_there(journal: Journal, crm: ScriptedCrm, run: Exchange) -> None:
    crm.feed_script = [feed([adjustment(1)], "a", True), feed([adjustment(2)], "b", True), feed([adjustment(3)], "c")]
    assert run().feed_items == 3
    assert [dict(request.args).get("cursor") for request in crm.feeds] == [None, "a", "b"]
    crm.usual_feed = feed([], "c")
    run()
    assert crm.feeds[-1].args["cursor"] == "c"
    assert journal.knowledge.adjustments_after(CARD, 1) == [
        Adjustment(CARD, 2, 7, "gift"),
        Adjustment(CARD, 3, 7, "gift"),
    ]


@pytest.mark.parametrize("next_cursor", ["same", None])
def test_a_feed_that_does_not_move_on_is_not_read_for_ever(
    journal: Journal, crm: ScriptedCrm, run: Exchange, next_cursor: str | None
) -> None:
    crm.feed_script = [feed([adjustment(1)], next_cursor, True)] * 3
    crm.usual_feed = problem(500)
    run()
    assert len(crm.feeds) <= 2
    assert run().feed_items == 1


@pytest.mark.parametrize("cut", ["at the item", "at the cursor"])
def test_a_page_and_its_cursor_are_kept_together_or_not_at_all(
    journal: Journal, crm: ScriptedCrm, run: Exchange, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    kept = journal.set_meta

    def cut_at_the_cursor(key: str, value: str) -> None:
        if key == FEED_CURSOR:
            raise AssertionError("the power went")
        kept(key, value)

    def cut_at_the_item(_adjustment: Adjustment) -> None:
        raise AssertionError("the power went")

    crm.usual_feed = feed([adjustment(1)], "a")
    with monkeypatch.context() as patched:
        if cut == "at the cursor":
            patched.setattr(journal, "set_meta", cut_at_the_cursor)
        else:
            patched.setattr(journal.knowledge, "remember_adjustment", cut_at_the_item)
        with pytest.raises(AssertionError):
            run()
    assert journal.knowledge.adjustments_after(CARD, 0) == []
    assert journal.meta(FEED_CURSOR) is None
    run()
    assert len(journal.knowledge.adjustments_after(CARD, 0)) == 1
    assert journal.meta(FEED_CURSOR) == "a"


UNREADABLE: list[Any] = [
    None,
    5,
    "text",
    [],
    {},
    {"kind": "surprise"},
    {"kind": ["adjustment"]},
    {"kind": "adjustment"},
    adjustment(0),
    adjustment("1"),
    adjustment(1, points=1.5),
    adjustment(1, points=None),
    adjustment(10**30),
    adjustment(1, points=-(10**30)),
    adjustment(1, card_no="\ud800"),
    {"kind": "hotlist", "card_no": CARD},
    {"kind": "hotlist", "card_no": CARD, "blocked": "no"},
    {"kind": "policy", "version": "1", "document": {}},
    {"kind": "policy", "version": "1", "document": 5},
    {"kind": "policy", "version": "1", "document": {**default_policy(), "valid_from": "2026-11-22T00:00:00"}},
    {"kind": "offer", "offer_id": "o1"},
    {"kind": "offer", "offer_id": "o1", "card_no": CARD, "counts": {"shop-2": {"stamps": "many"}}},
    {"kind": "offer", "offer_id": "o1", "card_no": CARD, "counts": ["shop-2"]},
    {"kind": "offer", "offer_id": "o1", "grant_id": "g", "valid_to": "2026-11-22T00:00:00"},
    {"kind": "offer", "offer_id": "o1", "grant_id": "g", "uses": 1.5},
    {"kind": "offer", "offer_id": "o1", "grant_id": "g", "used": [1]},
    {"kind": "policy", "version": "1", "document": {**default_policy(), "valid_from": "0001-01-01T00:00:00+14:00"}},
    {"kind": "member", "name": "nobody"},
]


@pytest.mark.parametrize("item", UNREADABLE, ids=str)
def test_an_item_that_cannot_be_read_is_noted_and_stops_nothing(
    journal: Journal, crm: ScriptedCrm, run: Exchange, item: Any
) -> None:
    crm.usual_feed = feed([item, {"kind": "hotlist", "card_no": OTHER_CARD, "blocked": True, "reason": "lost"}], "a")
    assert run().feed_items == 2
    assert journal.knowledge.block_reason(OTHER_CARD) == "lost"
    assert journal.meta(FEED_CURSOR) == "a"
    noted = journal._database.query("SELECT detail FROM audit WHERE action = 'feed.unreadable'")
    assert len(noted) == 1
    assert journal.knowledge.policy().version == "default"
    assert journal.knowledge.adjustments_after(CARD, 0) == []


@pytest.mark.parametrize(
    "page_of_feed", [{}, {"items": {}, "next_cursor": "a"}, {"items": [], "next_cursor": 5}, {"items": None}]
)
def test_a_feed_that_is_none_keeps_the_cursor(
    journal: Journal, crm: ScriptedCrm, run: Exchange, page_of_feed: dict[str, Any]
) -> None:
    crm.feed_script = [feed([], "a"), lambda request: signed(request, page_of_feed)]
    run()
    with pytest.raises(CrmUnreachable):
        run()
    assert journal.meta(FEED_CURSOR) == "a"


def test_policies_members_hotlist_and_adjustments_reach_the_journal(
    journal: Journal, crm: ScriptedCrm, run: Exchange
) -> None:
    document = {**default_policy(), "version": "7", "valid_from": "2026-11-22T00:00:00Z"}
    items = [
        {"kind": "policy", "version": "7", "valid_from": document["valid_from"], "document": document},
        {"kind": "member", "member_id": "m1", "phone": "09125554433", "name": "Ali", "tier": "gold", "cards": [CARD]},
        {"kind": "hotlist", "card_no": CARD, "blocked": True, "reason": "stolen"},
        adjustment(1),
        {"kind": "offer", "offer_id": "o1", "grant_id": "g1", "card_no": CARD},
        {"kind": "settings"},
    ]
    crm.usual_feed = feed(items, "a")
    assert run().feed_items == 6
    assert journal.knowledge.policy().version == "7"
    assert journal.knowledge.member_by_phone("09125554433") == Member("m1", "09125554433", "Ali", "gold")
    assert journal.knowledge.block_reason(CARD) == "stolen"
    assert len(journal.knowledge.adjustments_after(CARD, 0)) == 1
    assert journal.knowledge.member_of(CARD) == Member("m1", "09125554433", "Ali", "gold")
    assert [grant.grant_id for grant in journal.offers.grants_of(CARD)] == ["g1"]
    actions = [row["action"] for row in journal._database.query("SELECT action FROM audit")]
    assert actions == ["policy.received", "feed.not_used"]


def test_a_full_disk_while_verdicts_are_booked_sends_the_events_again(
    journal: Journal, crm: ScriptedCrm, run: Exchange
) -> None:
    record(journal, event(1))
    crm.usual_feed = no_feed
    connection = journal._database._connection
    connection.execute("PRAGMA query_only=ON")
    with pytest.raises(AgentError, match="journal"):
        run()
    connection.execute("PRAGMA query_only=OFF")
    assert states(journal) == {1: "pending"}
    assert run().accepted == 1


def test_a_cursor_the_crm_knows_no_more_starts_the_feed_over(journal: Journal, crm: ScriptedCrm, run: Exchange) -> None:
    crm.feed_script = [feed([adjustment(1)], "a")]
    run()
    crm.feed_script = [problem(400, "cursor_invalid"), feed([adjustment(1), adjustment(2)], "b")]
    assert run().feed_items == 2
    assert [request.args.get("cursor") for request in crm.feeds] == [None, "a", None]
    assert len(journal.knowledge.adjustments_after(CARD, 0)) == 2


def test_a_refusal_that_may_pass_later_quarantines_nothing(journal: Journal, crm: ScriptedCrm, run: Exchange) -> None:
    record(journal, event(1))

    def later(_request: Request) -> Response:
        document = {"title": "no", "status": 400, "code": "starting", "retryable": True}
        return Response(json.dumps(document), 400, content_type="application/problem+json")

    crm.events_script = [later]
    with pytest.raises(CrmUnreachable):
        run()
    assert states(journal) == {1: "pending"}


def test_a_policy_in_another_currency_is_not_used(journal: Journal, crm: ScriptedCrm, run: Exchange) -> None:
    document = {**default_policy("EUR"), "version": "eur", "valid_from": "2026-11-22T00:00:00Z"}
    item = {"kind": "policy", "version": "eur", "valid_from": document["valid_from"], "document": document}
    crm.usual_feed = feed([item], "a")
    run()
    assert journal.knowledge.policy().version == "default"
