"""A CRM that speaks the contract itself (docs/crm-api.md), as the reference CRM does."""

from __future__ import annotations

import gzip
from typing import Any, Literal
from urllib.parse import quote

from terminal_agent.contract import BATCH_MEDIA_TYPE, MAX_BATCH_BYTES, MAX_BATCH_EVENTS, canonical_json
from terminal_agent.sync.adapters.base import Capabilities
from terminal_agent.sync.client import CALL_LIMIT_S, TRIES_PER_CALL, SignedClient

GZIP_FROM_BYTES = 4096
CAPABILITIES = Capabilities(
    atomic_apply=True,
    idempotent=True,
    holds=True,
    tiers=True,
    max_batch_events=MAX_BATCH_EVENTS,
    max_batch_bytes=MAX_BATCH_BYTES,
)


class NativeCrm(SignedClient):
    """The calls of docs/crm-api.md, one for one."""

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    def post_events(self, bodies: list[str], timeout_s: float | None = None) -> dict[str, Any]:
        """Send a batch, the stored bytes as they are; gives ``{results, acked_through, server_time}``."""
        payload = ("[" + ",".join(bodies) + "]").encode()
        headers = {"Content-Type": BATCH_MEDIA_TYPE}
        if len(payload) >= GZIP_FROM_BYTES:
            payload = gzip.compress(payload, mtime=0)
            headers["Content-Encoding"] = "gzip"
        tries, limit_s = (TRIES_PER_CALL, CALL_LIMIT_S) if timeout_s is None else (1, timeout_s)
        return self.call("POST", "/v1/events", headers=headers, payload=payload, tries=tries, limit_s=limit_s)

    def known(self, bodies: list[str]) -> set[str]:
        """Nobody needs to ask: this CRM keeps ids for ever."""
        return set()

    def get_feed(self, cursor: str | None, limit: int) -> dict[str, Any]:
        """The next page of the CRM's decisions: ``{items, next_cursor, has_more}``."""
        parameters = f"limit={limit}" + (f"&cursor={quote(cursor, safe='')}" if cursor else "")
        return self.call("GET", f"/v1/feed?{parameters}")

    def get_card(self, card_no: str, timeout_s: float) -> dict[str, Any]:
        """What the CRM knows of a card, asked once and not for long: a customer waits."""
        return self.call("GET", f"/v1/cards/{quote(card_no, safe='')}", tries=1, limit_s=timeout_s)

    def post_hold(
        self, card_no: str, points: int, card_sequence: int, reference: str, timeout_s: float
    ) -> dict[str, Any]:
        """Set a card's points aside, if ``card_sequence`` is the CRM's own counter of it: ``{hold_id, expires_at}``."""
        asked = {"card_no": card_no, "points": points, "card_sequence": card_sequence, "reference": reference}
        headers = {"Content-Type": "application/json"}
        payload = canonical_json(asked)
        return self.call("POST", "/v1/holds", headers=headers, payload=payload, tries=1, limit_s=timeout_s)

    def end_hold(self, hold_id: str, how: Literal["confirm", "release"], timeout_s: float) -> dict[str, Any]:
        """The points of a hold are spent for certain, or free again."""
        return self.call("POST", f"/v1/holds/{quote(hold_id, safe='')}/{how}", tries=1, limit_s=timeout_s)

    def get_member(self, phone: str, timeout_s: float | None = None) -> dict[str, Any]:
        """The member who has this phone: ``{member_id, name, phone, tier, status, cards}``."""
        limit_s = CALL_LIMIT_S if timeout_s is None else timeout_s
        return self.call("GET", f"/v1/members?phone={quote(phone, safe='')}", tries=1, limit_s=limit_s)

    def export_member(self, member_id: str) -> dict[str, Any]:
        """Everything the CRM holds of a member."""
        return self.call("GET", f"/v1/members/{quote(member_id, safe='')}/export")

    def erase_member(self, member_id: str) -> dict[str, Any]:
        """Have the CRM forget who a member is: ``{member_id, card_nos, erased_at}``."""
        return self.call("POST", f"/v1/members/{quote(member_id, safe='')}/erase")

    def probe(self, timeout_s: float) -> None:
        """Ask once for something small: does the CRM answer, and accept this terminal? Raises ``CrmError``."""
        self.call("GET", "/v1/feed?limit=1", tries=1, limit_s=timeout_s)
