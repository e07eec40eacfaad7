"""One exchange with the CRM: everything waiting goes up, then the feed is read to its end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from terminal_agent.club.policy import PolicyInvalid
from terminal_agent.contract import FeedKind
from terminal_agent.errors import AgentError
from terminal_agent.journal import Journal
from terminal_agent.journal.events import OutboxState
from terminal_agent.journal.journal import CLUB, KNOWLEDGE_LOST
from terminal_agent.journal.knowledge import Adjustment, Member
from terminal_agent.ports import Clock
from terminal_agent.sync.adapters.base import (
    BATCH_REFUSALS,
    CrmAdapter,
    CrmBlocked,
    CrmFailed,
    CrmRefused,
    CrmUnreachable,
)
from terminal_agent.sync.holds import let_go_of_unused
from terminal_agent.sync.upload import Progress, SyncReport, heed_acked_through, send_queue

FEED_CURSOR = "feed_cursor"
FEED_PAGE = 200


def exchange(
    journal: Journal,
    crm: CrmAdapter,
    clock: Clock,
    progress: Progress = lambda _report: None,
    stopped: Callable[[], bool] = lambda: False,
) -> SyncReport:
    """Raises ``CrmError``; whatever the CRM acknowledged before stays acknowledged. When ``stopped``, what is in flight
    is finished and the rest waits."""
    report = SyncReport(pending=journal.events.count(OutboxState.PENDING))
    try:
        send_queue(journal, crm, clock, report, progress, stopped)
    except (CrmBlocked, CrmFailed):
        _read_feed(journal, crm, report, stopped)  # its decisions may come all the same: a blocked card cannot wait
        raise
    let_go_of_unused(journal, crm)
    if _read_feed(journal, crm, report, stopped):
        send_queue(journal, crm, clock, report, progress, stopped)
    report.pending = journal.events.count(OutboxState.PENDING)
    report.quarantined = journal.events.count(OutboxState.QUARANTINED)
    return report


def _read_feed(journal: Journal, crm: CrmAdapter, report: SyncReport, stopped: Callable[[], bool]) -> bool:
    """To its end; whether it tells that the CRM lost events that it had acknowledged: they wait again."""
    more, page = True, dict[str, Any]()
    while more:
        if stopped():
            return False
        cursor = journal.meta(FEED_CURSOR)
        page, begun_anew = _page(crm, cursor)
        items, next_cursor = page.get("items"), page.get("next_cursor")
        if not isinstance(items, list) or not (next_cursor is None or isinstance(next_cursor, str)):
            raise CrmUnreachable("the CRM's feed cannot be read")
        with journal.transaction():
            if begun_anew:
                journal.knowledge.forget_adjustments()  # what still counts comes again, perhaps under another number
                journal.audit("feed.restarted")
            for item in items:
                _apply(journal, item if crm.capabilities.tiers else _with_known_tier(journal, item))
            if next_cursor is not None:
                journal.set_meta(FEED_CURSOR, next_cursor)
        report.feed_items += len(items)
        more = page.get("has_more") is True and next_cursor not in (None, cursor)
    with suppress(AgentError):  # a disk that is full now: it stays due
        journal.purge()
    if page.get("has_more") is not True and journal.knowledge_lost:
        with journal.transaction():
            journal.forget_meta(KNOWLEDGE_LOST)
    return heed_acked_through(journal, page.get("acked_through"))


def _page(crm: CrmAdapter, cursor: str | None) -> tuple[dict[str, Any], bool]:
    """The page after ``cursor``; the first one, and True, where the CRM knows the cursor no more: it was put back."""
    try:
        return crm.get_feed(cursor, FEED_PAGE), False
    except CrmRefused as refused:
        if cursor is None or refused.status not in BATCH_REFUSALS:
            raise
    return crm.get_feed(None, FEED_PAGE), True


def _with_known_tier(journal: Journal, item: Any) -> Any:
    """A member as told by a CRM that knows no tiers: what was known of the tier stays."""
    if not isinstance(item, dict) or item.get("kind") != FeedKind.MEMBER:
        return item
    known = journal.knowledge.member(str(item.get("member_id")))
    return {**item, "tier": known.tier if known else None}


def _apply(journal: Journal, item: Any) -> None:
    """Take one decision of the CRM; what cannot be read is noted and skipped, so that it never stops the rest."""
    try:
        kind = FeedKind(item["kind"])
        _APPLY.get(kind, _ignore)(journal, item)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, PolicyInvalid) as error:
        journal.audit("feed.unreadable", problem=f"{type(error).__name__}: {error}"[:300])


def _apply_policy(journal: Journal, item: dict[str, Any]) -> None:
    problems = journal.knowledge.remember_policy(str(item["version"]), dict(item["document"]))
    journal.audit("policy.received", version=str(item["version"]), left_out=[str(problem) for problem in problems])


def _apply_adjustment(journal: Journal, item: dict[str, Any]) -> None:
    number, points = item["number"], item["points"]
    if not (isinstance(number, int) and isinstance(points, int) and number > 0):
        raise ValueError("an adjustment has a number from 1 and whole points")
    journal.knowledge.remember_adjustment(Adjustment(str(item["card_no"]), number, points, _text(item, "reason")))


def _apply_hotlist(journal: Journal, item: dict[str, Any]) -> None:
    if not isinstance(item["blocked"], bool):
        raise ValueError("blocked is true or false")
    journal.knowledge.set_hotlist(str(item["card_no"]), item["blocked"], _text(item, "reason"))


def _apply_member(journal: Journal, item: dict[str, Any]) -> None:
    member = Member(str(item["member_id"]), *(_text(item, key) for key in ("phone", "name", "tier", "status")))
    journal.knowledge.remember_member(member)
    for card_no in item.get("cards") or ():
        journal.knowledge.remember_holder(str(card_no), member.member_id)


def _apply_offer(journal: Journal, item: dict[str, Any]) -> None:
    journal.offers.take(item)


def _apply_erasure(journal: Journal, item: dict[str, Any]) -> None:
    journal.erase_member(str(item["member_id"]), {str(card_no) for card_no in item["card_nos"]})


def _apply_settings(journal: Journal, item: dict[str, Any]) -> None:
    if "club" not in item:
        return _ignore(journal, item)
    journal.set_meta(CLUB, str(item["club"]))
    journal.audit("settings.received", club=str(item["club"]))
    return None


def _apply_resolution(journal: Journal, item: dict[str, Any]) -> None:
    """Only what is in quarantine here is decided on; the feed speaks to every terminal."""
    if item["terminal_id"] != journal.events.terminal_id:
        return
    event_id, action, reason = str(item["event_id"]), item["action"], _text(item, "reason") or "no reason given"
    if action not in ("retry", "drop"):
        raise ValueError(f"{action!r} is no resolution")
    events = journal.events
    if events.retry(event_id) if action == "retry" else events.drop(event_id, reason):
        journal.audit("queue.resolved", event_id=event_id, resolution=action, reason=reason)


def _text(item: dict[str, Any], key: str) -> str | None:
    value = item.get(key)
    return None if value is None else str(value)


def _ignore(journal: Journal, item: dict[str, Any]) -> None:
    journal.audit("feed.not_used", kind=str(item["kind"]))


_APPLY: dict[FeedKind, Callable[[Journal, dict[str, Any]], None]] = {
    FeedKind.POLICY: _apply_policy,
    FeedKind.ADJUSTMENT: _apply_adjustment,
    FeedKind.HOTLIST: _apply_hotlist,
    FeedKind.MEMBER: _apply_member,
    FeedKind.ERASURE: _apply_erasure,
    FeedKind.OFFER: _apply_offer,
    FeedKind.SETTINGS: _apply_settings,
    FeedKind.RESOLUTION: _apply_resolution,
}
