"""One exchange with the CRM: everything waiting goes up, then the feed is read to its end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol

from terminal_agent.club.policy import PolicyInvalid
from terminal_agent.contract import ACKNOWLEDGED, MAX_BATCH_BYTES, MAX_BATCH_EVENTS, FeedKind, Verdict
from terminal_agent.errors import AgentError
from terminal_agent.journal import Journal
from terminal_agent.journal.events import HASH_CHAIN_BROKEN, OutboxEntry, OutboxState
from terminal_agent.journal.journal import CLOCK_SKEW, CLUB, KNOWLEDGE_LOST
from terminal_agent.journal.knowledge import Adjustment, Member
from terminal_agent.ports import Clock
from terminal_agent.sync.client import BATCH_REFUSALS, CrmRefused, CrmUnreachable

FEED_CURSOR = "feed_cursor"
ACKED_THROUGH = "acked_through:"
"""Before an install epoch: the highest sequence of it up to which the CRM had everything when it last said so."""
FEED_PAGE = 200
SEQUENCE_REUSED = "sequence_reused"
"""The reference CRM's code for an event whose sequence another event has already."""
BATCH_EVENTS = min(200, MAX_BATCH_EVENTS)


class Crm(Protocol):
    """What an exchange needs of a CRM."""

    def post_events(self, bodies: list[str]) -> dict[str, Any]: ...
    def get_feed(self, cursor: str | None, limit: int) -> dict[str, Any]: ...


@dataclass
class SyncReport:
    """What one exchange did. ``pending`` is what still waits after it."""

    sent: int = 0
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    forked: int = 0
    retry: int = 0
    pending: int = 0
    quarantined: int = 0
    feed_items: int = 0

    def to_json(self) -> dict[str, int]:
        return asdict(self)


Verdicts = dict[str, tuple[Verdict, str | None]]


@dataclass(frozen=True)
class _Answer:
    """A batch's verdicts, and how far the CRM has everything of the batch's install epoch, if it says so."""

    verdicts: Verdicts
    acked_through: int | None = None


_KNOWN_VERDICTS = {verdict.value: verdict for verdict in Verdict}
_COUNTER = {
    Verdict.ACCEPTED: "accepted",
    Verdict.DUPLICATE: "duplicate",
    Verdict.FORK: "forked",
    Verdict.REJECTED: "rejected",
    Verdict.RETRY: "retry",
}


def exchange(
    journal: Journal, crm: Crm, clock: Clock, progress: Callable[[SyncReport], None] = lambda _report: None
) -> SyncReport:
    """Raises :class:`~terminal_agent.sync.client.CrmError`; whatever the CRM acknowledged before stays acknowledged."""
    report = SyncReport()
    _send_queue(journal, crm, clock, report, progress)
    _read_feed(journal, crm, report)
    report.pending = journal.events.count(OutboxState.PENDING)
    report.quarantined = journal.events.count(OutboxState.QUARANTINED)
    return report


def _send_queue(
    journal: Journal, crm: Crm, clock: Clock, report: SyncReport, progress: Callable[[SyncReport], None]
) -> None:
    """Walk the queue once, oldest first. An event told to wait holds back its card alone, and until the next exchange.

    Where the CRM refuses a whole batch, a smaller one is asked for, until the one event it cannot take stands alone.
    The queue is asked anew each time: what a refused redemption holds back must not go out behind it.
    """
    limit, after = BATCH_EVENTS, 0
    waiting: set[str | None] = set()
    healed = False
    while batch := _next_batch(journal, limit, after):
        sendable = [entry for entry in batch if entry.card_no not in waiting]
        answer = _post(journal, crm, clock, sendable) if sendable else _Answer({})
        if answer is None:
            limit = len(sendable) // 2
            continue
        with journal.transaction():  # else a crash between the two leaves nothing to send that would tell again
            waiting |= _settle(journal, sendable, answer.verdicts, report) - {None}
            forgotten = _has_forgotten(journal, batch[0].install_epoch, answer.acked_through)
        after = batch[-1].position
        _heed_reuse(journal, sendable, answer)
        if any(verdict is Verdict.REJECTED for verdict, _reason in answer.verdicts.values()):
            limit = BATCH_EVENTS  # what the CRM could not take is out of the way
        if forgotten and not healed:
            healed, after = True, 0  # once in an exchange: a CRM that says so each time must not be sent all for ever
        progress(report)


def _next_batch(journal: Journal, limit: int, after: int) -> list[OutboxEntry]:
    """The next events to send, each checked against its hash chain; what is not what was minted is never sent."""
    while True:
        batch = journal.events.next_batch(limit, MAX_BATCH_BYTES, after)
        unsound = journal.events.unsound(batch)
        if not unsound:
            return batch
        with journal.transaction():
            for entry in unsound:
                journal.events.settle(entry.event_id, OutboxState.QUARANTINED, HASH_CHAIN_BROKEN)
                journal.audit("event.not_as_minted", event_id=entry.event_id, sequence=entry.sequence)


def _post(journal: Journal, crm: Crm, clock: Clock, batch: list[OutboxEntry]) -> _Answer | None:
    """Send a batch; None when the CRM takes it only in parts."""
    with journal.transaction():
        journal.events.attempted([entry.event_id for entry in batch])
    try:
        answer = crm.post_events([entry.body for entry in batch])
    except CrmRefused as refused:
        if refused.status not in BATCH_REFUSALS:
            raise CrmUnreachable(f"this address takes no events: {refused}") from refused
        if len(batch) > 1:
            return None
        return _Answer({batch[0].event_id: (Verdict.REJECTED, f"{refused.code or refused.status}: {refused}")})
    verdicts = _verdicts(answer)
    _note_clock(journal, clock, answer.get("server_time"))
    acked = answer.get("acked_through")
    return _Answer(verdicts, acked if isinstance(acked, int) and acked >= 0 else None)


def _heed_reuse(journal: Journal, batch: list[OutboxEntry], answer: _Answer) -> None:
    """The CRM knows other events under our sequences, or later ones than we ever minted: this whole disk is a copy."""
    ours = [entry for entry in batch if entry.install_epoch == journal.events.install_epoch]
    reused = any(
        verdict is Verdict.FORK and (reason or "").startswith(SEQUENCE_REUSED)
        for verdict, reason in (answer.verdicts.get(entry.event_id, (None, None)) for entry in ours)
    )
    ahead = bool(ours) and (answer.acked_through or 0) > journal.events.last_sequence()
    if reused or ahead:
        journal.begin_as_copy("the CRM knows events of this journal that are not in it: an older disk was put back")


def _has_forgotten(journal: Journal, install_epoch: str, acked_through: int | None) -> bool:
    """Whether the CRM now says that it has less of an epoch than it said before: it was put back from a backup.

    Then what it had acknowledged beyond goes up again; it keeps ids for ever, so what it does have counts once.
    """
    if acked_through is None:
        return False
    key = ACKED_THROUGH + install_epoch
    before = int(journal.meta(key) or 0)
    if acked_through == before:
        return False
    with journal.transaction():
        journal.set_meta(key, str(acked_through))
        if acked_through > before:
            return False
        events = journal.events.forgotten_after(install_epoch, acked_through)
        journal.audit("crm.went_back", install_epoch=install_epoch, acked_through=acked_through, events=events)
    return events > 0


def _verdicts(answer: dict[str, Any]) -> Verdicts:
    """Verdict and reason by event id. Raises :class:`CrmUnreachable` for an answer that is none."""
    verdicts: Verdicts = {}
    try:
        for result in answer["results"]:
            reason = ": ".join(str(result[key]) for key in ("code", "detail") if result.get(key)) or None
            # A word of a later CRM settles nothing for its event, and must not undo the verdicts beside it.
            verdicts[result["id"]] = (_KNOWN_VERDICTS.get(result["status"], Verdict.RETRY), reason)
    except (KeyError, TypeError, AttributeError) as error:
        raise CrmUnreachable("the CRM's verdicts cannot be read") from error
    return verdicts


def _settle(journal: Journal, batch: list[OutboxEntry], verdicts: Verdicts, report: SyncReport) -> set[str | None]:
    """Book every verdict in one commit; an event without one keeps waiting. Gives the cards of those that wait."""
    waiting: set[str | None] = set()
    with journal.transaction():
        for entry in batch:
            verdict, reason = verdicts.get(entry.event_id, (Verdict.RETRY, "no verdict"))
            report.sent += 1
            setattr(report, _COUNTER[verdict], getattr(report, _COUNTER[verdict]) + 1)
            if verdict in ACKNOWLEDGED:
                journal.events.settle(entry.event_id, OutboxState.ACKNOWLEDGED, reason)
            elif verdict is Verdict.REJECTED:
                journal.events.settle(entry.event_id, OutboxState.QUARANTINED, reason)
            else:
                waiting.add(entry.card_no)
    return waiting


def _note_clock(journal: Journal, clock: Clock, server_time: Any) -> None:
    """Keep how far this machine's clock is from the CRM's, in seconds."""
    try:
        skew = (clock.now() - datetime.fromisoformat(server_time)).total_seconds()
    except (TypeError, ValueError):
        return
    with journal.transaction():
        journal.set_meta(CLOCK_SKEW, str(round(skew)))


def _read_feed(journal: Journal, crm: Crm, report: SyncReport) -> None:
    more, page = True, dict[str, Any]()
    while more:
        cursor = journal.meta(FEED_CURSOR)
        page = _page(journal, crm, cursor)
        items, next_cursor = page.get("items"), page.get("next_cursor")
        if not isinstance(items, list) or not (next_cursor is None or isinstance(next_cursor, str)):
            raise CrmUnreachable("the CRM's feed cannot be read")
        with journal.transaction():
            for item in items:
                _apply(journal, item)
            if next_cursor is not None:
                journal.set_meta(FEED_CURSOR, next_cursor)
        report.feed_items += len(items)
        more = page.get("has_more") is True and next_cursor not in (None, cursor)
    with suppress(AgentError):  # a disk that is full now: it stays due
        journal.purge()
    if page.get("has_more") is not True and journal.knowledge_lost:
        with journal.transaction():
            journal.forget_meta(KNOWLEDGE_LOST)


def _page(journal: Journal, crm: Crm, cursor: str | None) -> dict[str, Any]:
    """The page after ``cursor``; from the beginning where the CRM knows the cursor no more. Every item bears that."""
    try:
        return crm.get_feed(cursor, FEED_PAGE)
    except CrmRefused as refused:
        if cursor is None or refused.status not in BATCH_REFUSALS:
            raise
    with journal.transaction():
        journal.forget_meta(FEED_CURSOR)
        journal.audit("feed.restarted")
    return crm.get_feed(None, FEED_PAGE)


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
    if "club" in item:
        journal.set_meta(CLUB, str(item["club"]))
        journal.audit("settings.received", club=str(item["club"]))


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
}
