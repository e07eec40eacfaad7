"""Events on their way to the CRM: each exactly once, its verdict its own, in the order of its card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from terminal_agent.contract import ACKNOWLEDGED, Verdict
from terminal_agent.journal import Journal
from terminal_agent.journal.events import HASH_CHAIN_BROKEN, OutboxEntry, OutboxState
from terminal_agent.journal.journal import CLOCK_SKEW
from terminal_agent.ports import Clock
from terminal_agent.sync.adapters.base import (
    BATCH_REFUSALS,
    Capabilities,
    CrmAdapter,
    CrmBlocked,
    CrmError,
    CrmFailed,
    CrmRefused,
    CrmUnreachable,
)
from terminal_agent.sync.failures import Failures, apart

ACKED_THROUGH = "acked_through:"
"""Before an install epoch: the highest sequence of it up to which the CRM had everything when it last said so."""
EXPORTED = "exported:"
"""Before the id of an export: when it was made. Its receipt is taken only as long as this stands."""
SEQUENCE_REUSED = "sequence_reused"
"""The reference CRM's code for an event whose sequence another event has already."""
BATCH_EVENTS = 200
UNSIGNED_REFUSALS = "unsigned_refusals"
"""How many events were set aside, one after the other, on a word that anybody on the way may have said."""
MAX_UNSIGNED_REFUSALS = 3

Progress = Callable[["SyncReport"], None]


@dataclass
class SyncReport:
    """What one exchange did. ``pending`` is what still waits."""

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
    """A batch's verdicts, and how far the CRM has everything of the batch's install epoch, if it says so.
    ``unsigned``: they come from a refusal that nobody signed."""

    verdicts: Verdicts
    acked_through: int | None = None
    unsigned: bool = False


_KNOWN_VERDICTS = {verdict.value: verdict for verdict in Verdict}
_COUNTER = {
    Verdict.ACCEPTED: "accepted",
    Verdict.DUPLICATE: "duplicate",
    Verdict.FORK: "forked",
    Verdict.REJECTED: "rejected",
    Verdict.RETRY: "retry",
}


def send_queue(
    journal: Journal,
    crm: CrmAdapter,
    clock: Clock,
    report: SyncReport,
    progress: Progress,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Walk the queue once, oldest first. An event told to wait holds back its card alone, and until the next exchange.

    Where the CRM refuses a whole batch, a smaller one is asked for, until the one event it cannot take stands alone.
    The queue is asked anew each time: what a refused redemption holds back must not go out behind it.
    Raises :class:`CrmError`.
    """
    most, after = _batch_limit(crm.capabilities), 0
    limit = most
    waiting: set[str | None] = set()
    healed, failures = False, Failures(journal)
    while not stopped() and (batch := apart(_next_batch(journal, crm.capabilities, limit, after))):
        sendable = [entry for entry in batch if entry.card_no not in waiting]
        try:
            answer = _post(journal, crm, clock, sendable) if sendable else _Answer({})
        except CrmFailed as error:
            answer = _Answer({}) if failures.on_one_alone(sendable, error) else None
        else:
            failures.worked(answered=bool(answer and answer.verdicts))
        if answer is None:
            limit = len(sendable) // 2
            continue
        held, forgotten = _book(journal, sendable, answer, report)
        waiting |= held
        after = batch[-1].position
        if not answer.verdicts or any(verdict is Verdict.REJECTED for verdict, _reason in answer.verdicts.values()):
            limit = most  # what the CRM could not take is out of the way
        if forgotten and not healed:
            healed, after = True, 0  # once in an exchange: a CRM that says so each time must not be sent all for ever
        progress(report)
    failures.ended()


def send_card(journal: Journal, crm: CrmAdapter, clock: Clock, card_no: str, timeout_s: float) -> None:
    """Tell what waits of one card, tried once: a customer waits. What is refused is left to the next exchange.

    Raises :class:`CrmError`.
    """
    capabilities = crm.capabilities
    batch = _next_batch(journal, capabilities, _batch_limit(capabilities), card_no=card_no)
    if batch and (answer := _post(journal, crm, clock, batch, timeout_s)) is not None:
        _book(journal, batch, answer, SyncReport())


def _batch_limit(capabilities: Capabilities) -> int:
    """One by one where a batch may be booked in part: after a failure nobody could say which part."""
    return min(BATCH_EVENTS, capabilities.max_batch_events) if capabilities.atomic_apply else 1


def _next_batch(
    journal: Journal, capabilities: Capabilities, limit: int, after: int = 0, card_no: str | None = None
) -> list[OutboxEntry]:
    """The next events to send, each checked against its hash chain; what is not what was minted is never sent."""
    while True:
        batch = journal.events.next_batch(limit, capabilities.max_batch_bytes, after, card_no)
        unsound = journal.events.unsound(batch)
        if not unsound:
            return batch
        with journal.transaction():
            for entry in unsound:
                journal.events.settle(entry.event_id, OutboxState.QUARANTINED, HASH_CHAIN_BROKEN)
                journal.audit("event.not_as_minted", event_id=entry.event_id, sequence=entry.sequence)


def _post(
    journal: Journal, crm: CrmAdapter, clock: Clock, batch: list[OutboxEntry], timeout_s: float | None = None
) -> _Answer | None:
    """Send a batch; None when the CRM takes it only in parts."""
    known = _booked_before(crm, batch)
    new = [entry for entry in batch if entry.event_id not in known]
    if not new:
        return _Answer(known)
    with journal.transaction():
        journal.events.attempted([entry.event_id for entry in new])
    try:
        answer = crm.post_events([entry.body for entry in new], timeout_s)
    except CrmRefused as refused:
        if refused.status not in BATCH_REFUSALS:
            raise CrmUnreachable(f"this address takes no events: {refused}") from refused
        if len(batch) > 1 or timeout_s is not None:
            return None
        return _refusal(journal, crm, batch[0], refused)
    verdicts = _verdicts(answer)
    _note_clock(journal, clock, answer.get("server_time"))
    acked = answer.get("acked_through")
    return _Answer(known | verdicts, acked if isinstance(acked, int) and acked >= 0 else None)


def _booked_before(crm: CrmAdapter, batch: list[OutboxEntry]) -> Verdicts:
    """What the CRM has of those that were sent before, asked where it would book them twice."""
    again = [entry for entry in batch if entry.attempts > 0]
    if crm.capabilities.idempotent or not again:
        return {}
    known = crm.known([entry.body for entry in again])
    return {entry.event_id: (Verdict.DUPLICATE, None) for entry in again if entry.event_id in known}


def _refusal(journal: Journal, crm: CrmAdapter, entry: OutboxEntry, refused: CrmRefused) -> _Answer:
    """One event that is refused by itself. A gateway that refuses everything would empty the queue into quarantine: so
    a word without a signature is believed only if the CRM shows that it takes events. Where it cannot be asked to show
    that, as by a till that has sent none yet, a few such words are believed.

    Raises :class:`CrmBlocked`.
    """
    believed: bool | None = refused.signed or _takes_events(journal, crm)
    if believed is None:
        believed = int(journal.meta(UNSIGNED_REFUSALS) or 0) < MAX_UNSIGNED_REFUSALS
    if not believed:
        raise CrmBlocked(f"every event is refused, and the CRM did not sign that: {refused}") from refused
    verdict = (Verdict.REJECTED, f"{refused.code or refused.status}: {refused}")
    return _Answer({entry.event_id: verdict}, unsigned=not refused.signed)


def _takes_events(journal: Journal, crm: CrmAdapter) -> bool | None:
    """Whether the CRM answers to an event that it has already: to it, that changes nothing. None: there is none."""
    sent = journal.events.entries(OutboxState.ACKNOWLEDGED, 1)
    if not crm.capabilities.idempotent or not sent or journal.events.unsound(sent):
        return None
    try:
        verdicts = _verdicts(crm.post_events([sent[0].body]))
    except CrmError:
        return False
    takes = verdicts.get(sent[0].event_id, (None, None))[0] in ACKNOWLEDGED
    if takes:
        with journal.transaction():
            journal.forget_meta(UNSIGNED_REFUSALS)
    return takes


def _book(
    journal: Journal, batch: list[OutboxEntry], answer: _Answer, report: SyncReport
) -> tuple[set[str | None], bool]:
    """Every verdict in one commit. Gives the cards that must wait, and whether the CRM has forgotten what it had."""
    with journal.transaction():  # else a crash between the two leaves nothing to send that would tell again
        waiting = _settle(journal, batch, answer.verdicts, report) - {None}
        forgotten = bool(batch) and _has_forgotten(journal, batch[0].install_epoch, answer.acked_through)
        refusals = int(journal.meta(UNSIGNED_REFUSALS) or 0)
        if answer.unsigned:
            journal.set_meta(UNSIGNED_REFUSALS, str(refusals + 1))
        elif refusals and batch:
            journal.forget_meta(UNSIGNED_REFUSALS)
    _heed_reuse(journal, batch, answer)
    return waiting, forgotten


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
        for export in journal.meta_keys(EXPORTED):
            journal.forget_meta(export)  # a receipt of before would acknowledge what the CRM has lost since
        journal.audit("crm.went_back", install_epoch=install_epoch, acked_through=acked_through, events=events)
    return events > 0


def heed_acked_through(journal: Journal, told: Any) -> bool:
    """What the feed says that the CRM has of each install epoch, also where nothing was sent that would tell; whether
    it has forgotten something. An epoch that it does not name any more it has lost whole."""
    if not isinstance(told, dict):
        return False
    acked = {epoch: through for epoch, through in told.items() if isinstance(through, int) and through >= 0}
    for key in journal.meta_keys(ACKED_THROUGH):
        epoch = key.removeprefix(ACKED_THROUGH)
        if epoch not in told and journal.events.is_minted_by(epoch, journal.events.terminal_id):
            acked[epoch] = 0
    return any([_has_forgotten(journal, epoch, through) for epoch, through in acked.items()])


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
            report.pending -= verdict is not Verdict.RETRY
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
