"""Points that were set aside for sales that never were go back to their cards."""

from __future__ import annotations

from contextlib import suppress

from terminal_agent.journal import Journal, holds
from terminal_agent.sync.adapters.base import CrmAdapter, CrmError, CrmRefused

RELEASE_LIMIT_S = 10.0
ENDED = frozenset({"hold_ended", "hold_released"})
"""The CRM's words for a hold that sets nothing aside any more, and of which no event came."""
_NOTHING_TO_FREE = ENDED | {"not_found", "hold_spent"}


def let_go_of_unused(journal: Journal, crm: CrmAdapter) -> None:
    """All that waits to be let go; what does not get through waits on."""
    with suppress(CrmError):
        for hold_id in holds.unused(journal):
            let_go(journal, crm, hold_id, RELEASE_LIMIT_S)


def let_go(journal: Journal, crm: CrmAdapter, hold_id: str, timeout_s: float) -> None:
    """Raises ``CrmError``."""
    try:
        crm.end_hold(hold_id, "release", timeout_s)
    except CrmRefused as refused:
        if refused.code not in _NOTHING_TO_FREE:
            raise
    holds.gone(journal, hold_id)
