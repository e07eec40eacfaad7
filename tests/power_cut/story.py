"""A shop's day, recorded: cards issued, sales, redemptions, cards torn away, sales closed, the CRM joined and heard.

The same day goes through the daemon (over its control socket) or through commands without a daemon.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from drivers.mifare_classic import blank_card
from drivers.simulator import Torn
from terminal_agent.errors import AgentError
from terminal_agent.service import control
from tests.power_cut.recorder import Recorder, Recording, record
from tests.processes import ANY_PORT, CrmProcess, TerminalProcesses, wait_for
from tests.program import BROKEN, PROGRAM, tear_at

TEAR_AT = 5
"""One authentication and three reads come before the write of the state."""
TORN_EACH = 4
AFTER_A_TEAR = ("close", "again", "next")
RETURN_EACH = 5
Do = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Carry out an operation; its answer, or the error as ``--json`` tells it."""


class Cashier:
    """Works through a day by asking ``do``; every choice is ``chance``'s."""

    def __init__(self, do: Do, cards: list[Path], chance: Random) -> None:
        self._do = do
        self._cards = cards
        self._chance = chance
        self._points = dict.fromkeys(cards, 0)
        self._receipts = 0
        self._sold: list[tuple[Path, str]] = []

    def issue_cards(self) -> None:
        for number, card in enumerate(self._cards):
            self._do("card.issue", {**_tap(card), "phone": f"0912555443{number}", "name": None, "tier": None})

    def sell(self, count: int) -> None:
        for _ in range(count):
            self._receipts += 1
            card = self._chance.choice(self._cards)
            if self._receipts % TORN_EACH == 2:
                self._torn_sale(card, f"R-{self._receipts}", AFTER_A_TEAR[self._receipts // TORN_EACH % 3])
            elif self._receipts % RETURN_EACH == 0 and self._sold:
                self._take_back(*self._chance.choice(self._sold))
            else:
                redeem = min(self._points[card], 20) if self._chance.random() < 0.3 else 0
                self._buy(card, f"R-{self._receipts}", self._amount(), redeem)

    def _torn_sale(self, card: Path, receipt_no: str, what_then: str) -> None:
        """The card leaves while it is written; then the same receipt, or the sale is closed, or the next one."""
        tear_at(card, TEAR_AT, self._chance.choice(list(Torn)))
        amount = self._amount()
        answer = self._buy(card, receipt_no, amount)
        if what_then == "again":
            self._buy(card, receipt_no, amount)
        elif what_then == "close" and answer.get("state") == "in_doubt":
            self._do("queue.close", {"checkout_id": answer["checkout_id"]})

    def _take_back(self, card: Path, receipt_no: str) -> None:
        """Part of a sale, then the same return once more."""
        request = {**_tap(card), "receipt_no": receipt_no, "amount": 10_000, "reference": None}
        self._do("reverse", request)
        self._do("reverse", request)

    def _amount(self) -> int:
        return self._chance.randrange(1, 60) * 10_000

    def _buy(self, card: Path, receipt_no: str, amount: int, redeem: int = 0) -> dict[str, Any]:
        answer = self._do("purchase", {**_tap(card), "receipt_no": receipt_no, "amount": amount, "redeem": redeem})
        self._points[card] = answer.get("points_after", self._points[card])
        if answer.get("state") == "done":
            self._sold.append((card, receipt_no))
        return answer


def _tap(card: Path) -> dict[str, Any]:
    return {"reader": f"sim:{card}", "wait_s": 0}


def _request(operation: str, params: dict[str, Any]) -> bytes:
    return json.dumps({"operation": operation, "params": params}).encode()


def _words(operation: str, params: dict[str, Any]) -> list[str]:
    """The command line of an operation."""
    match operation:
        case "card.issue":
            words = ["card", "issue", "--phone", params["phone"]]
        case "purchase":
            words = ["purchase", str(params["amount"]), "--receipt", params["receipt_no"]]
            words += ["--redeem", str(params["redeem"])]
        case "reverse":
            words = ["reverse", "--receipt", params["receipt_no"], "--amount", str(params["amount"])]
        case "queue.close":
            words = ["queue", "close", params["checkout_id"]]
        case "enroll":
            words = ["enroll", "--crm-url", params["crm_url"], "--code-file", params["code_file"]]
        case _:
            words = [operation]
    return [*words, "--reader", params["reader"], "--wait-s", "0"] if "reader" in params else words


class Shop:
    """A terminal with blank cards beside it, and a CRM whose doings are not recorded."""

    def __init__(self, folder: Path, cards: int) -> None:
        self.root = folder / "shop"
        self.terminal = TerminalProcesses(self.root, PROGRAM)
        self.crm = CrmProcess(self.terminal, folder / "crm")
        self.cards = [self.root / "cards" / f"{number}.mfd" for number in range(1, cards + 1)]
        (self.root / "cards").mkdir(parents=True)
        for number, card in enumerate(self.cards):
            card.write_bytes(blank_card(bytes([0x1A, 0x2B, 0x3C, number])))

    @contextmanager
    def crm_running(self) -> Iterator[dict[str, str]]:
        """Gives what ``enroll`` needs."""
        code_file = self.root.parent / "code"
        code = self.crm.new_code()
        code_file.write_text(code)
        self.crm.up()
        try:
            yield {"crm_url": self.crm.url, "code": code, "code_file": str(code_file)}
        finally:
            self.crm.end()


def day_of_a_daemon(
    folder: Path, sales: int, seed: int, *, cards: int = 3, broken: str = "", with_crm: bool = True
) -> Recording:
    """One daemon, asked over its control socket."""
    shop = Shop(folder, cards)
    terminal = shop.terminal
    terminal.done("init", "--data-dir", str(terminal.data_dir), "--terminal-id", "till-1", "--till", ANY_PORT)

    def ask(operation: str, params: dict[str, Any]) -> dict[str, Any]:
        connection = control.connect(terminal.data_dir)
        if connection is None:
            raise RuntimeError("the recorded daemon is gone")
        try:
            answer: dict[str, Any] = control.call(connection, operation, params, lambda _text: None)
            return answer
        except AgentError as error:
            return error.to_json()

    def act(recorder: Recorder) -> None:
        daemon = recorder.start(terminal.words("run"), environment={BROKEN: broken})
        wait_for(terminal.listens, "the recorded daemon did not start")
        _work(Cashier(ask, shop.cards, Random(seed)), ask, sales, shop if with_crm else None)
        exit_code, err = recorder.stop(daemon)
        if exit_code:
            raise RuntimeError(f"the recorded daemon ended with {exit_code}: {err}")

    return record(shop.root, act)


def day_of_commands(folder: Path, sales: int, seed: int, *, cards: int = 2, with_crm: bool = True) -> Recording:
    """No daemon: ``init`` and every sale are commands of their own."""
    shop = Shop(folder, cards)
    terminal = shop.terminal

    def act(recorder: Recorder) -> None:
        def command(operation: str, params: dict[str, Any]) -> dict[str, Any]:
            words = terminal.words(*_words(operation, params))
            _, out, _ = recorder.run(words, _request(operation, params))
            answer: dict[str, Any] = json.loads(out)
            return answer

        recorder.run(terminal.init_words(), _request("init", {}))
        _work(Cashier(command, shop.cards, Random(seed)), command, sales, shop if with_crm else None)

    return record(shop.root, act)


def _work(cashier: Cashier, do: Do, sales: int, shop: Shop | None) -> None:
    """The first half of the day without a CRM; the other half with that of ``shop``."""
    cashier.issue_cards()
    cashier.sell(sales - sales // 2)
    if shop is None:
        cashier.sell(sales // 2)
        return
    with shop.crm_running() as joining:
        _must(do("enroll", joining))
        _must(do("sync", {}))
        cashier.sell(sales // 2)
        _must(do("sync", {}))


def _must(answer: dict[str, Any]) -> None:
    if "error" in answer:
        raise RuntimeError(str(answer))
