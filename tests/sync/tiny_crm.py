"""Another kind of CRM behind the seam: a list of bookings, one at a time, that books again what it is told again.

It knows no batches, no holds, no tiers and no ids of ours but as a note on each booking, as many CRMs do. ``lose`` says
what becomes of the next answers: ``before`` nothing was booked, ``after`` it was and nobody heard.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from terminal_agent.contract import Verdict
from terminal_agent.sync.adapters.base import Capabilities, CrmRefused, CrmUnreachable

Loss = Literal["before", "after"]


@dataclass
class TinyCrm:
    """``atomic`` and ``idempotent`` are what it says of itself; ``pages`` of its feed."""

    atomic: bool = False
    idempotent: bool = False
    max_batch: int = 1
    lose: list[Loss | None] = field(default_factory=list)
    pages: list[list[Any]] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    posts: list[list[str]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    bad: set[str] = field(default_factory=set)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(self.atomic, self.idempotent, False, False, self.max_batch, 10_000)

    def post_events(self, bodies: list[str], timeout_s: float | None = None) -> dict[str, Any]:
        events = [json.loads(body) for body in bodies]
        self.posts.append([event["id"] for event in events])
        loss = self.lose.pop(0) if self.lose else None
        if loss == "before":
            raise CrmUnreachable("no connection")
        for event in events:
            if event["id"] in self.bad:
                raise CrmRefused(422, "unknown_product", "this CRM knows no such product", signed=True)
            self.notes[event["id"]] += 1
            self.points[event["subject"]] += event["data"]["points"]["earned"]
        if loss == "after":
            raise CrmUnreachable("the answer broke off")
        return {"results": [{"id": event["id"], "status": Verdict.ACCEPTED} for event in events]}

    def known(self, bodies: list[str]) -> set[str]:
        ids = [json.loads(body)["id"] for body in bodies]
        self.asked += ids
        return {each for each in ids if self.notes[each]}

    def get_feed(self, cursor: str | None, limit: int) -> dict[str, Any]:
        at = int(cursor or 0)
        items = self.pages[at] if at < len(self.pages) else []
        return {"items": items, "next_cursor": str(min(at + 1, len(self.pages))), "has_more": at + 1 < len(self.pages)}

    def get_card(self, card_no: str, timeout_s: float) -> dict[str, Any]:
        raise CrmRefused(404, "not_found", "this CRM knows no counters of cards")

    def post_hold(self, card_no: str, points: int, card_sequence: int, reference: str, timeout_s: float) -> Any:
        raise AssertionError("it has no holds, and said so")

    def end_hold(self, hold_id: str, how: Literal["confirm", "release"], timeout_s: float) -> Any:
        raise AssertionError("it has no holds, and said so")

    def get_member(self, phone: str, timeout_s: float | None = None) -> dict[str, Any]:
        raise CrmRefused(404, "not_found", "this CRM keeps no members")

    def export_member(self, member_id: str) -> dict[str, Any]:
        raise CrmRefused(404, "not_found", "this CRM keeps no members")

    def erase_member(self, member_id: str) -> dict[str, Any]:
        raise CrmRefused(404, "not_found", "this CRM keeps no members")

    def probe(self, timeout_s: float) -> None:
        """It always answers."""

    def close(self) -> None:
        """Nothing is held."""
