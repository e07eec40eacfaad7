"""What head office does about points that are set aside for a redemption nobody told of."""

from __future__ import annotations

from typing import Any

from terminal_agent.crm import audit, holds
from terminal_agent.crm.admin import CLOCK, bad_input, opened
from terminal_agent.crm.place import Place
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.ports import rfc3339

_SHOWN = ("hold_id", "terminal_id", "card_no", "points", "state", "placed_at", "expires_at")


def list_holds(place: Place, limit: int) -> list[dict[str, Any]]:
    """What sets points aside now, the oldest first:
    ``[{hold_id, terminal_id, card_no, points, state, placed_at, expires_at}]``."""
    if not 0 < limit <= audit.MAX_ROWS:
        raise bad_input(f"Between 1 and {audit.MAX_ROWS} rows are shown.", "Give --limit another number.")
    with opened(place) as store, store.reading() as connection:
        rows = holds.standing(connection, rfc3339(CLOCK.now()), limit)
        return [{name: row[name] for name in _SHOWN} for row in rows]


def free_hold(place: Place, hold_id: str, reason: str) -> dict[str, Any]:
    """Frees the points of a hold; doing it again changes nothing. ``{hold_id, terminal_id, card_no, points, state}``.

    AgentError: NOT_FOUND, INVALID_INPUT.
    """
    now = rfc3339(CLOCK.now())
    with opened(place) as store, store.writing() as connection:
        try:
            row = holds.free(connection, hold_id)
        except holds.HoldRefused as refused:
            raise bad_input(refused.detail, "See the card: terminal-agent crm card CARD_NO") from refused
        if row is None:
            hint = "See them: terminal-agent crm hold list"
            raise AgentError(ErrorCode.NOT_FOUND, f"This CRM knows no hold {hold_id}.", hint=hint)
        audit.note(connection, audit.ADMIN, "hold.freed", row["card_no"], now, hold_id=hold_id, reason=reason)
        return {name: row[name] for name in _SHOWN[:5]}
