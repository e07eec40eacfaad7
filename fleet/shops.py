"""The terminals of a chain: real journals on disk with a day's sales, each with the real sync engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from terminal_agent.contract import EventType, subject_of
from terminal_agent.journal import Journal
from terminal_agent.journal.events import NewEvent, OutboxState
from terminal_agent.ports import SystemClock, SystemIds, rfc3339
from terminal_agent.sync import client
from terminal_agent.sync.adapters.base import CrmAdapter
from terminal_agent.sync.adapters.native import NativeCrm
from terminal_agent.sync.worker import FAILURES, NEXT_TRY, SyncWorker

CLOCK, IDS = SystemClock(), SystemIds()
LONG_OFFLINE = 10
"""Failures in a row after which the schedule waits as long as it ever does."""


@dataclass
class Chain:
    """What was sold while the line was down: what every card must hold in the end."""

    chance: Random
    cards: int
    sequences: Counter[str] = field(default_factory=Counter)
    balances: Counter[str] = field(default_factory=Counter)
    events: int = 0

    def sale(self, opened_at: datetime, share: float) -> NewEvent:
        """One sale at a ``share`` of the day; cards go from shop to shop, their own counter orders what they did."""
        card_no = str(10**15 + self.chance.randrange(self.cards))
        earned = self.chance.randrange(1, 60)
        before, sequence = self.balances[card_no], self.sequences[card_no] + 1
        self.balances[card_no], self.sequences[card_no] = before + earned, sequence
        self.events += 1
        state = {"card_no": card_no, "sequence": sequence, "balance_before": before, "balance_after": before + earned}
        data = {
            "card": {**state, "adjustments_through": 0},
            "purchase": {"amount": earned * 10_000, "currency": "IRR", "receipt_no": f"R-{self.events}", "lines": []},
            "points": {"earned": earned, "redeemed": 0, "offers": []},
            "policy_version": "default",
            "online": False,
            "clock": "synced",
        }
        moment = rfc3339(opened_at + timedelta(days=share))
        return NewEvent(IDS.uuid(), EventType.PURCHASE_RECORDED, subject_of(card_no), card_no, moment, data)

    def forget_one(self) -> None:
        """Count a sale that no shop has in its journal: what a lost event looks like."""
        self.balances[next(iter(self.balances))] += 1
        self.events += 1


class Shop:
    """One terminal that has joined, with its journal open."""

    def __init__(self, folder: Path, name: str, credentials: client.Credentials) -> None:
        folder.mkdir()
        self.journal = Journal(folder, name, "IRR", CLOCK, IDS)
        self.credentials = credentials
        self.crm: CrmAdapter = NativeCrm(credentials, IDS)
        self.worker = SyncWorker(self.journal, lambda: self.crm, CLOCK, IDS)

    @property
    def waiting(self) -> int:
        return self.journal.events.count(OutboxState.PENDING)

    def live_a_day_offline(self, chain: Chain, sales: int) -> None:
        """Sales in one commit: how they are made durable one by one is measured elsewhere."""
        opened_at = CLOCK.now() - timedelta(days=1)
        with self.journal.transaction():
            for number in range(sales):
                self.journal.events.append(chain.sale(opened_at, number / sales))
            self.journal.set_meta(FAILURES, str(LONG_OFFLINE))
            self.journal.set_meta(NEXT_TRY, rfc3339(opened_at))

    def close(self) -> None:
        self.crm.close()
        self.journal.close()


def open_shops(stack: ExitStack, folder: Path, credentials: list[client.Credentials]) -> Iterator[Shop]:
    """One shop for each; closed with the stack."""
    for number, given in enumerate(credentials):
        shop = Shop(folder / str(number), given.terminal_id, given)
        yield stack.enter_context(closing(shop))


def told_by(accounts: list[dict[str, Any]]) -> dict[str, int]:
    """Card number and balance, of a ledger's accounts."""
    prefix = "card:"
    return {a["account"].removeprefix(prefix): a["balance"] for a in accounts if a["account"].startswith(prefix)}
