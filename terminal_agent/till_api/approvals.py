"""A supervisor's word for one return, given with a PIN at the till of a cashier who stays signed in."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass

from terminal_agent.journal import Journal
from terminal_agent.ports import Clock
from terminal_agent.till.reversal import ReversalRequest
from terminal_agent.till_api.cashiers import SUPERVISORS, Session, Sessions
from terminal_agent.till_api.problems import Refusal, Refused

LIFE_S = 60


@dataclass(frozen=True)
class Approval:
    """What was approved: the return of this amount of this receipt, all that is left of it where ``amount`` is None,
    asked for with this token."""

    token_id: str
    receipt_no: str
    amount: int | None
    approved_by: str
    expires: float


class Approvals:
    """Kept in memory, for a minute; each is good once."""

    def __init__(
        self,
        sessions: Sessions,
        journal: Journal,
        clock: Clock,
        limit: Callable[[], int | None],
        returned_with: Callable[[ReversalRequest], int],
    ) -> None:
        """``limit``: what a cashier may give back of one receipt alone; None for anything. ``returned_with``: what was
        given back of the receipt when this return is done."""
        self._sessions = sessions
        self._journal = journal
        self._clock = clock
        self._limit = limit
        self._returned_with = returned_with
        self._lock = threading.Lock()
        self._given: dict[bytes, Approval] = {}

    def give(self, token_id: str, name: str, pin: str, request: ReversalRequest) -> tuple[str, Approval]:
        """A secret that allows this return once. Raises Refused: PIN_WRONG, PIN_LATER, and SUPERVISOR_NEEDED for
        somebody who is none."""
        supervisor = self._sessions.prove(name, pin)
        if supervisor.role not in SUPERVISORS:
            raise Refused(Refusal.SUPERVISOR_NEEDED, f"{name} is no supervisor.")
        secret, now = secrets.token_urlsafe(32), self._clock.monotonic()
        approval = Approval(token_id, request.receipt_no, request.amount, supervisor.name, now + LIFE_S)
        detail = {"receipt_no": request.receipt_no, "amount": request.amount, "token_id": token_id}
        with self._journal.transaction():
            self._journal.audit("till.approved", approved_by=supervisor.name, **detail)
        with self._lock:
            self._given = {key: each for key, each in self._given.items() if each.expires > now}
            self._given[_key(secret)] = approval
        return secret, approval

    def permit(
        self, session: Session | None, token_id: str, secret: str | None, request: ReversalRequest
    ) -> str | None:
        """Who approved this return; None where nobody has to. The approval is used up. Raises Refused:
        SUPERVISOR_NEEDED."""
        limit = self._limit()
        if session is None or session.role in SUPERVISORS or limit is None or self._returned_with(request) <= limit:
            return None
        if secret is None:
            raise Refused(Refusal.SUPERVISOR_NEEDED)
        with self._lock:
            found = self._given.get(_key(secret))
            if found is None or not self._is_for(found, token_id, request):
                raise Refused(Refusal.SUPERVISOR_NEEDED, "This approval is used, over, or for another return.")
            del self._given[_key(secret)]
            return found.approved_by

    def _is_for(self, approval: Approval, token_id: str, request: ReversalRequest) -> bool:
        asked = (token_id, request.receipt_no, request.amount)
        still = self._journal.staff.cashier(approval.approved_by)
        return (
            (approval.token_id, approval.receipt_no, approval.amount) == asked
            and approval.expires > self._clock.monotonic()
            and still is not None
            and still.role in SUPERVISORS
        )


def _key(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
