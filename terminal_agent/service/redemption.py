"""Asking the CRM before points are redeemed: is this the card's newest state, and may these points be set aside?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from http import HTTPStatus

from terminal_agent.card.layout import CardState
from terminal_agent.journal import Journal
from terminal_agent.journal.intents import IntentState
from terminal_agent.ports import Clock
from terminal_agent.sync.adapters.base import CrmAdapter, CrmError, CrmRefused, CrmUnreachable
from terminal_agent.taps import ACTIVE, BLOCKED, PENDING, CardAtCrm

TIMEOUT_S = 1.5
"""For each call: a customer waits, and without an answer the offline limits hold."""
PATIENCE_S = 3.0
"""For all calls of one redemption together."""
HOLD_OF = "hold:"
"""Before a card number: the hold that was last placed for it here."""
_NO_HOLDS_HERE = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)


Tell = Callable[[str, CrmAdapter, float], None]


class _Patience:
    """What is left of the time that a customer may be kept waiting."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends = clock.monotonic() + PATIENCE_S

    def next_call_s(self) -> float:
        """How long the next call may take. Raises CrmUnreachable when the time is over."""
        left_s = self._ends - self._clock.monotonic()
        if left_s <= 0:
            raise CrmUnreachable(f"the CRM did not answer everything in {PATIENCE_S:g} s")
        return min(TIMEOUT_S, left_s)


@dataclass(frozen=True)
class _Wanted:
    """A hold to place; ``reference`` names it."""

    card_no: str
    points: int
    reference: str


class OnlineRedemptions:
    """What the till asks of the CRM. ``connect`` gives a client of its own, or None before enrolment: the exchange may
    be using the other one. ``tell`` sends the CRM, over that client and in that many seconds, what waits of a card."""

    def __init__(self, journal: Journal, connect: Callable[[], CrmAdapter | None], tell: Tell, clock: Clock) -> None:
        self._journal = journal
        self._connect = connect
        self._tell = tell
        self._clock = clock

    def reserve(self, card_no: str, state: CardState, points: int, reference: str) -> CardAtCrm | None:
        """What the CRM says of the card, with a hold of ``points`` where it confirms that ``state`` is the newest.

        ``reference`` names the hold: the same again is the same hold. None when the CRM cannot be asked, does not know
        the card, or is granting another redemption of it.
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

    def keep(self, hold_id: str) -> None:
        """The redemption may stand on the card: its points stay set aside until the event tells. Best effort."""
        client = self._connect()
        if client is not None:
            with closing(client), suppress(CrmError):
                client.end_hold(hold_id, "confirm", TIMEOUT_S)

    def _look_up(self, client: CrmAdapter, card_no: str, patience: _Patience) -> CardAtCrm | None:
        """The card at the CRM, once the CRM has heard all that happened to it here: what one terminal grants offline
        between two of its online redemptions is then all it can ever have granted too much (docs/security.md)."""
        if self._journal.events.waiting_of(card_no):
            self._tell(card_no, client, patience.next_call_s())
        if self._journal.events.waiting_of(card_no):
            return None
        return _card_at(client, card_no, patience.next_call_s())

    def _hold(self, client: CrmAdapter, patience: _Patience, known: CardAtCrm, wanted: _Wanted) -> CardAtCrm | None:
        try:
            return self._place(client, patience, known, wanted)
        except CrmRefused as refused:
            if refused.code != "card_held" or not self._release_own(client, patience, wanted.card_no):
                return _granted_without(known, refused)
        try:
            return self._place(client, patience, known, wanted)
        except CrmRefused as refused:
            return _granted_without(known, refused)

    def _place(self, client: CrmAdapter, patience: _Patience, known: CardAtCrm, wanted: _Wanted) -> CardAtCrm:
        timeout_s = patience.next_call_s()
        placed = client.post_hold(wanted.card_no, wanted.points, known.sequence, wanted.reference, timeout_s)
        hold_id = str(placed["hold_id"])
        with self._journal.transaction():
            self._journal.set_meta(HOLD_OF + wanted.card_no, hold_id)
        return replace(known, hold_id=hold_id)

    def _release_own(self, client: CrmAdapter, patience: _Patience, card_no: str) -> bool:
        """Let go of a hold of ours whose sale never began, as when the card left before it was written."""
        hold_id = self._journal.meta(HOLD_OF + card_no)
        in_flight = any(state is IntentState.OPEN for state, _intent in self._journal.intents.unsettled(card_no))
        if hold_id is None or in_flight:
            return False
        client.end_hold(hold_id, "release", patience.next_call_s())
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
