"""Asking the CRM before points are redeemed: is this the card's newest state, and may these points be set aside?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from http import HTTPStatus

from terminal_agent.card.layout import CardState
from terminal_agent.errors import AgentError
from terminal_agent.journal import Journal, holds
from terminal_agent.ports import Clock, Ids
from terminal_agent.sync.adapters.base import CrmAdapter, CrmError, CrmRefused, CrmUnreachable
from terminal_agent.sync.holds import ENDED, let_go
from terminal_agent.taps import ACTIVE, BLOCKED, PENDING, CardAtCrm, Reserve

PATIENCE_S = 2.0
"""For all that is asked for one redemption: a customer waits, and without an answer the offline limits hold."""
_NO_HOLDS_HERE = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)


Tell = Callable[[str, CrmAdapter, float], None]


class _Patience:
    """What is left of the time that a customer may be kept waiting."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends = clock.monotonic() + PATIENCE_S

    def left_s(self) -> float:
        """How long the next call may take. Raises CrmUnreachable when the time is over."""
        left_s = self._ends - self._clock.monotonic()
        if left_s <= 0:
            raise CrmUnreachable(f"the CRM did not answer everything in {PATIENCE_S:g} s")
        return left_s


@dataclass(frozen=True)
class _Wanted:
    """A hold to place; ``reference`` names it."""

    card_no: str
    points: int
    reference: str


class OnlineRedemptions:
    """What the till asks of the CRM. ``connect`` gives a client of its own, as the exchange may be using the other one,
    or None when there is no CRM to ask now. ``tell`` sends the CRM, over that client and in that many seconds, what
    waits of a card."""

    def __init__(
        self, journal: Journal, connect: Callable[[], CrmAdapter | None], tell: Tell, clock: Clock, ids: Ids
    ) -> None:
        self._journal = journal
        self._connect = connect
        self._tell = tell
        self._clock = clock
        self._ids = ids
        self._tap_ended()  # with the process before, at the latest

    def _tap_ended(self) -> None:
        with suppress(AgentError):  # the disk is full, perhaps: who comes next looks again
            holds.tap_ended(self._journal)

    @contextmanager
    def for_a_tap(self) -> Iterator[Reserve]:
        """What one tap asks with. When the tap is over, what it had set aside and did not use is to be let go."""
        try:
            yield self._reserve
        finally:
            self._tap_ended()

    def _reserve(self, card_no: str, state: CardState, points: int, reference: str) -> CardAtCrm | None:
        """What the CRM says of the card, with a hold of ``points`` where it confirms that ``state`` is the newest.

        ``reference`` names the hold: the same again is the same hold. None when the CRM cannot be asked, does not say
        all of it in time, does not know the card, or is granting another redemption of it.
        """
        client = self._connect()
        if client is None:
            return None
        with closing(client):
            try:
                patience = _Patience(self._clock)
                known = self._look_up(client, card_no, patience)
                if known is None or (known.sequence, known.status) != (state.sequence, ACTIVE):
                    return known
                if not client.capabilities.holds:
                    return known  # its word on the chain is all there is
                return self._hold(client, patience, known, _Wanted(card_no, points, reference))
            except (CrmError, KeyError, TypeError, ValueError):
                return None

    def _look_up(self, client: CrmAdapter, card_no: str, patience: _Patience) -> CardAtCrm | None:
        """The card at the CRM, once the CRM has heard all that happened to it here: what one terminal grants offline
        between two of its online redemptions is then all it can ever have granted too much (docs/security.md)."""
        if self._journal.events.waiting_of(card_no):
            self._tell(card_no, client, patience.left_s())
        if self._journal.events.waiting_of(card_no):
            return None
        return _card_at(client, card_no, patience.left_s())

    def _hold(self, client: CrmAdapter, patience: _Patience, known: CardAtCrm, wanted: _Wanted) -> CardAtCrm | None:
        """The card with its points set aside for good. A sale that failed and is tried again may meet the end of the
        hold that it had then, and asks once more, under a new name.

        What is to be let go is let go first: a release that is still on its way must not meet a sale.
        """
        for hold_id in holds.unused(self._journal, wanted.card_no):
            let_go(self._journal, client, hold_id, patience.left_s())
        for reference in (wanted.reference, self._ids.uuid()):
            try:
                placed = client.post_hold(wanted.card_no, wanted.points, known.sequence, reference, patience.left_s())
            except CrmRefused as refused:
                if refused.code not in ENDED:
                    return _granted_without(known, refused)
                continue
            if self._confirm(client, patience, str(placed["hold_id"]), wanted.card_no):
                return replace(known, hold_id=str(placed["hold_id"]))
        return None

    def _confirm(self, client: CrmAdapter, patience: _Patience, hold_id: str, card_no: str) -> bool:
        """Before the card is written: a hold that nobody confirmed lapses, however late the sale's event is. Noted
        before that, because a confirmed one that no sale uses must be let go. False for one that is over."""
        holds.note(self._journal, hold_id, card_no)
        try:
            client.end_hold(hold_id, "confirm", patience.left_s())
        except CrmRefused as refused:
            if refused.code not in ENDED:
                raise
            return False
        return True


def _granted_without(known: CardAtCrm, refused: CrmRefused) -> CardAtCrm | None:
    """What is known of a card when the CRM sets no points aside for it."""
    if refused.code == "insufficient_points":
        return replace(known, balance=int(refused.facts.get("available", 0)))
    if refused.code == "card_blocked":
        return replace(known, status=BLOCKED)
    if refused.code == "card_pending":
        return replace(known, status=PENDING)
    if refused.code == "chain_ahead":
        return replace(known, sequence=int(refused.facts["sequence"]))
    return known if refused.status in _NO_HOLDS_HERE else None


def _card_at(client: CrmAdapter, card_no: str, timeout_s: float) -> CardAtCrm | None:
    """What the CRM knows of a card; None for one it has not heard of yet."""
    try:
        known = client.get_card(card_no, timeout_s)
    except CrmRefused:
        return None
    return CardAtCrm(int(known["balance"]), int(known["sequence"]), str(known["status"]))
