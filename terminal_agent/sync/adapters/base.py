"""What the sync engine needs of a CRM: a few calls, and honest word of what that CRM can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

BATCH_REFUSALS = frozenset({400, 413, 422})
"""What says that a batch, or one event in it, cannot be taken. Another refusal is about the address, not the events."""


class CrmError(Exception):
    """What the CRM, or the way to it, answered."""


class CrmUnreachable(CrmError):
    """No answer that counts: nothing can be said of what the CRM did. ``retry_after_s`` if it asked for a pause."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CrmFailed(CrmUnreachable):
    """It answered that it, or what is behind it, failed on this request (5xx)."""


class CrmBlocked(CrmUnreachable):
    """Something on the way refuses every event. A person must look at it: waiting will not help."""


class CrmUnauthorized(CrmError):
    """The CRM does not accept this terminal's token (401, 403). ``certain``: a problem document says so; a portal or a
    proxy on the way may answer the same without one."""

    def __init__(self, message: str, *, certain: bool = True) -> None:
        super().__init__(message)
        self.certain = certain


class CrmRefused(CrmError):
    """Understood, and no (4xx). ``code`` is the problem's code, ``facts`` are all its members; ``signed``: with the
    terminal's secret, so that nobody but the CRM can have said it."""

    def __init__(
        self, status: int, code: str, detail: str, facts: dict[str, Any] | None = None, *, signed: bool = False
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.facts = facts or {}
        self.signed = signed


@dataclass(frozen=True)
class Capabilities:
    """What a CRM can do. The engine never asks for more, and makes up for what is missing.

    ``atomic_apply``: a batch, and each event in it with its id, is booked whole or not at all; without it events go up
    one by one. ``idempotent``: an event sent again counts once; without it the engine asks ``known`` before it sends an
    event for the second time. ``holds``: points can be set aside for a redemption; without them the CRM's word on the
    card is all there is. ``tiers``: members come with their tier; without them the tier known here stays.
    """

    atomic_apply: bool
    idempotent: bool
    holds: bool
    tiers: bool
    max_batch_events: int
    max_batch_bytes: int


class CrmAdapter(Protocol):
    """One CRM, in the words of docs/crm-api.md. Every call raises :class:`CrmError`; one thread at a time.

    ``timeout_s`` bounds a whole call, from the name look-up to the last byte.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    def post_events(self, bodies: list[str], timeout_s: float | None = None) -> dict[str, Any]:
        """Tell events, as recorded: ``{results: [{id, status, code?, detail?}], acked_through?, server_time?}``.

        Returns once the CRM has them for good, and knows that it was the CRM that said so. With ``timeout_s`` it is
        tried once: somebody waits.
        """

    def known(self, bodies: list[str]) -> set[str]:
        """The ids of those events that the CRM has booked, whole; only asked of one that is not ``idempotent``."""

    def get_feed(self, cursor: str | None, limit: int) -> dict[str, Any]:
        """The next page of its decisions: ``{items, next_cursor, has_more}``."""

    def get_card(self, card_no: str, timeout_s: float) -> dict[str, Any]:
        """``{balance, sequence, status}``, asked once: a customer waits."""

    def post_hold(
        self, card_no: str, points: int, card_sequence: int, reference: str, timeout_s: float
    ) -> dict[str, Any]:
        """Set points aside, if ``card_sequence`` is the CRM's own counter of the card: ``{hold_id}``."""

    def end_hold(self, hold_id: str, how: Literal["confirm", "release"], timeout_s: float) -> dict[str, Any]:
        """The points of a hold are spent for certain, or free again."""

    def get_member(self, phone: str, timeout_s: float | None = None) -> dict[str, Any]:
        """The member who has this phone: ``{member_id, name, phone, tier, status, cards}``."""

    def export_member(self, member_id: str) -> dict[str, Any]:
        """Everything the CRM holds of a member."""

    def erase_member(self, member_id: str) -> dict[str, Any]:
        """Have the CRM forget who a member is: ``{member_id, card_nos, erased_at}``."""

    def probe(self, timeout_s: float) -> None:
        """Does the CRM answer, and accept this terminal?"""

    def close(self) -> None:
        """Let go, for good. From any thread: a call under way ends with :class:`CrmUnreachable`."""
