"""Two tills of one club beside a real CRM, and cards laid on their readers by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drivers.simulator import Fault, MemoryImage
from terminal_agent import taps
from terminal_agent.desk.issue import IssueRequest, issue
from terminal_agent.service.agent import Agent
from terminal_agent.service.initialise import initialise
from terminal_agent.service.settings import load_settings
from terminal_agent.sync import client
from terminal_agent.till.checkout import PurchaseRequest, purchase
from terminal_agent.till.reversal import ReversalRequest, reverse_by_tap
from tests.workbench import MASTER_KEY, blank, lay

WRITE = 5
"""The commit point among the operations of a tap."""


class Till:
    """An agent that has joined the CRM."""

    def __init__(self, folder: Path, name: str, crm_url: str, code: str) -> None:
        config = folder / f"{name}.toml"
        initialise(config, {"data_dir": str(folder / name), "terminal_id": name}, force=False)
        self.agent = Agent(load_settings(config), config)
        self.agent.keys.add(MASTER_KEY, 9, activate=True)
        self.agent.join(client.enroll(crm_url, code, name, self.agent.ids)[0])

    def restart(self) -> None:
        """The process ends, as the power ends it, and another one begins."""
        config = self.agent.config
        self.agent.close()
        self.agent = Agent(load_settings(config), config)

    def issue(self) -> MemoryImage:
        image = blank()
        with lay(image) as connection:
            issue(self.agent.terminal, connection, IssueRequest())
        return image

    def buy(
        self, card: MemoryImage, receipt_no: str, amount: int, redeem: int = 0, fault: Fault | None = None
    ) -> dict[str, Any]:
        with lay(card, fault) as connection:
            request = PurchaseRequest(receipt_no, amount, redeem)
            with self.agent.redemptions.for_a_tap() as reserve:
                return purchase(self.agent.terminal, connection, request, reserve)

    def take_back(self, card: MemoryImage, receipt_no: str, fault: Fault | None = None) -> dict[str, Any]:
        with lay(card, fault) as connection:
            return reverse_by_tap(self.agent.terminal, connection, ReversalRequest(receipt_no))

    def close_in_doubt(self) -> None:
        """What the daemon does when policy's time is over."""
        for checkout in self.agent.journal.checkouts.in_doubt():
            assert taps.close(self.agent.terminal, checkout.checkout_id) is not None

    def sync(self) -> None:
        assert self.agent.sync.exchange_now() is not None
