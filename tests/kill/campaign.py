"""``kill -9`` under load: daemon, commands and CRM die at random moments; cashiers try the same receipt again.

Real processes of the program as it is. Each cashier has a card of their own and asks the daemon over its socket, or by
a command, which is on its own while no daemon runs. At the end everything is started once more and the books are read.
"""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from drivers.mifare_classic import blank_card
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service import control
from tests.kill.settlement import Finished, problems
from tests.processes import ANY_PORT, CrmProcess, DidNotHappen, TerminalProcesses, wait_for
from tests.program import BROKEN, PROGRAM

CASHIERS = 3
SALE_TIMEOUT_S = 120.0
QUIET_LIMIT_S = 3.0
END_TIMEOUT_S = 60.0
VICTIMS = ("daemon", "daemon", "command", "command", "crm")
TRY_WITHOUT_POINTS = {ErrorCode.INSUFFICIENT_POINTS.value, ErrorCode.OFFLINE_LIMIT.value}
TRY_AGAIN = {ErrorCode.BUSY.value, ErrorCode.CRM_UNREACHABLE.value}
NO_ANSWER = {"error": {"code": ErrorCode.BUSY.value}}


@dataclass
class Report:
    """What a campaign came to. ``problems`` is empty when nothing was lost or doubled."""

    kills: Counter[str] = field(default_factory=Counter)
    finished: list[Finished] = field(default_factory=list)
    interrupted: int = 0
    """Requests that got no answer and were asked again."""
    problems: list[str] = field(default_factory=list)

    @property
    def replayed(self) -> int:
        """Sales that were on disk already when the cashier asked again."""
        return sum(sale.replayed for sale in self.finished)


class Service:
    """A process that is killed and comes back."""

    def __init__(self, start: Callable[[], subprocess.Popen[str]], ready: Callable[[], bool]) -> None:
        self._start = start
        self._ready = ready
        self._process: subprocess.Popen[str] | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def revive(self) -> None:
        """Start it if it does not run; not waited for."""
        if not self.alive:
            self._process = self._start()

    def up(self) -> None:
        """Running and ready; a daemon has to try again while a command owns the data directory."""

        def ready() -> bool:
            self.revive()
            return self._ready()

        wait_for(ready, "a process did not come back")

    def end(self, how: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(how)
            try:
                self._process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGABRT)  # none is left behind; what it was at stands in its log
                self._process.wait()
                raise


class Shop:
    """The processes of a campaign, and the counter that tells how far the cashiers are."""

    def __init__(self, folder: Path, broken: str) -> None:
        module, environment = (PROGRAM, {BROKEN: broken}) if broken else ("terminal_agent", {})
        self.terminal = TerminalProcesses(folder, module, {**environment, "PYTHONFAULTHANDLER": "1"})
        self.crm = CrmProcess(self.terminal, folder / "crm")
        self.cards = [folder / f"{number}.mfd" for number in range(1, CASHIERS + 1)]
        self.log_file = folder / "processes.log"
        self.answers = 0
        self.commands: set[subprocess.Popen[str]] = set()
        self._stack = ExitStack()

    def open(self) -> None:
        """Cards issued, the CRM joined, everything running."""
        terminal = self.terminal
        terminal.done("init", "--data-dir", str(terminal.data_dir), "--terminal-id", "till-1", "--till", ANY_PORT)
        log = self._stack.enter_context(self.log_file.open("w"))
        self.daemon = Service(lambda: terminal.start("run", log=log), terminal.listens)
        self.crm_server = Service(lambda: terminal.start(*self.crm.serve_words(), log=log), self.crm.listens)
        for service in (self.crm_server, self.daemon):
            self._stack.callback(service.end, signal.SIGTERM)
        code_file = terminal.folder / "code"
        code_file.write_text(self.crm.new_code())
        self.crm_server.up()
        terminal.done("enroll", "--crm-url", self.crm.url, "--code-file", str(code_file))
        self.daemon.up()
        for number, card in enumerate(self.cards):
            card.write_bytes(blank_card(bytes([0x1A, 0x2B, 0x3C, number])))
            terminal.done("card", "issue", "--reader", f"sim:{card}", "--phone", f"0912555443{number}")

    def close(self) -> None:
        self._stack.close()

    def ask(self, operation: str, params: dict[str, Any]) -> dict[str, Any] | None:
        """The daemon's answer, or None when none listens."""
        try:
            connection = control.connect(self.terminal.data_dir)
            if connection is None:
                return None
            connection.settimeout(SALE_TIMEOUT_S)
            answer: dict[str, Any] = control.call(connection, operation, params, lambda _text: None)
            return answer
        except AgentError as error:
            return error.to_json()
        except TimeoutError as error:
            raise DidNotHappen(f"the daemon does not answer {operation}") from error

    def command(self, *arguments: str) -> dict[str, Any] | None:
        """A command's answer; one that was killed has none, as a daemon that died."""
        process = self.terminal.start(*arguments)
        self.commands.add(process)
        try:
            out, _ = process.communicate(timeout=SALE_TIMEOUT_S)
        finally:
            self.commands.discard(process)
        if process.returncode == -signal.SIGKILL:
            return NO_ANSWER
        answer: dict[str, Any] = json.loads(out)
        return answer


class Cashier(threading.Thread):
    """Sells with one card until told to stop; never goes on before a sale has its answer."""

    def __init__(self, shop: Shop, number: int, seed: int, stop: threading.Event) -> None:
        super().__init__(name=f"cashier-{number}")
        self._shop = shop
        self._number = number
        self._chance = Random(f"{seed}/{number}")
        self._stop_selling = stop
        self.finished: list[Finished] = []
        self.interrupted = 0
        self.problem: str | None = None

    def run(self) -> None:
        receipt = 0
        try:
            while not self._stop_selling.is_set():
                receipt += 1
                self._sell(f"{self._number}-{receipt}")
                if self._chance.random() < 0.1:
                    self._ask("sync", {}, ["sync"])
        except (DidNotHappen, ValueError, subprocess.TimeoutExpired) as error:
            self.problem = f"{self.name}: {error}"

    def _sell(self, receipt_no: str) -> None:
        amount, redeem = self._chance.randrange(1, 60) * 10_000, self._chance.choice([0, 0, 5])
        deadline = time.monotonic() + SALE_TIMEOUT_S
        while time.monotonic() < deadline:
            answer = self._purchase(receipt_no, amount, redeem)
            code = answer["error"]["code"] if answer and "error" in answer else None
            if answer is None or code in TRY_AGAIN:
                self.interrupted += answer is not None
                time.sleep(0.02)
            elif code in TRY_WITHOUT_POINTS:
                redeem = 0
            elif code is not None or answer["state"] != "done":
                raise DidNotHappen(f"receipt {receipt_no}: {answer}")
            else:
                self.finished.append(Finished(self._shop.cards[self._number], amount, answer))
                self._shop.answers += 1
                return
        raise DidNotHappen(f"receipt {receipt_no} has no answer after {SALE_TIMEOUT_S:.0f} s")

    def _purchase(self, receipt_no: str, amount: int, redeem: int) -> dict[str, Any] | None:
        reader = f"sim:{self._shop.cards[self._number]}"
        params = {"receipt_no": receipt_no, "amount": amount, "redeem": redeem, "reader": reader, "wait_s": 2}
        words = ["purchase", str(amount), "--receipt", receipt_no, "--redeem", str(redeem), "--reader", reader]
        return self._ask("purchase", params, [*words, "--wait-s", "2"])

    def _ask(self, operation: str, params: dict[str, Any], words: list[str]) -> dict[str, Any] | None:
        """By the daemon's socket mostly; by a command now and then, and always while no daemon runs."""
        if self._chance.random() < 0.2 or not self._shop.daemon.alive:
            return self._shop.command(*words)
        return self._shop.ask(operation, params)


def run(folder: Path, kills: int, seed: int, *, broken: str = "") -> Report:
    """A shop under load, ``kills`` kills, then peace; what was lost or doubled stands in the report."""
    report = Report()
    with closing(Shop(folder, broken)) as shop:
        shop.open()
        cashiers = _sell_while_killing(shop, kills, seed, report)
        _make_peace(shop, report)
    for cashier in cashiers:
        report.finished += cashier.finished
        report.interrupted += cashier.interrupted
        report.problems += [cashier.problem] if cashier.problem else []
    report.problems += problems(shop.terminal.data_dir, shop.crm.data_dir, shop.cards, report.finished)
    if "Traceback" in (log := shop.log_file.read_text()):
        report.problems.append(log[log.index("Traceback") :][:2000])
    return report


def _sell_while_killing(shop: Shop, kills: int, seed: int, report: Report) -> list[Cashier]:
    """Gives the cashiers, each with the last sale finished; everything runs again."""
    stop = threading.Event()
    cashiers = [Cashier(shop, number, seed, stop) for number in range(CASHIERS)]
    for cashier in cashiers:
        cashier.start()
    try:
        for victim in _kill(shop, kills, Random(seed)):
            report.kills[victim] += 1
        shop.crm_server.up()
        shop.daemon.up()
    finally:
        stop.set()
        for cashier in cashiers:
            cashier.join()
    return cashiers


def _kill(shop: Shop, kills: int, chance: Random) -> Iterator[str]:
    """Wait for a few answers and a moment, then kill; what is dead comes back after a while, often in vain at first."""
    killed = 0
    while killed < kills:
        wanted, deadline = shop.answers + chance.randrange(4), time.monotonic() + QUIET_LIMIT_S
        while shop.answers < wanted and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(chance.random() * 0.03)
        victim = chance.choice(VICTIMS)
        if _strike(shop, victim):
            killed += 1
            yield victim
        for service in (shop.daemon, shop.crm_server):
            if not service.alive and chance.random() < 0.7:
                service.revive()


def _strike(shop: Shop, victim: str) -> bool:
    """SIGKILL; False when there is nobody to kill."""
    if victim == "command":
        process = next(iter(shop.commands.copy()), None)
        if process is None or process.poll() is not None:
            return False
        process.kill()
        return True
    service = shop.daemon if victim == "daemon" else shop.crm_server
    if not service.alive:
        return False
    service.end(signal.SIGKILL)
    return True


def _make_peace(shop: Shop, report: Report) -> None:
    """Everything runs; what waits goes up."""
    for _ in range(20):
        answer = shop.ask("sync", {})
        if answer is not None and answer.get("pending") == 0:
            return
        time.sleep(0.5)
    report.problems.append(f"the queue does not empty: {answer}")
