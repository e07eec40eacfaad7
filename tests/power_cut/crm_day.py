"""The reference CRM under the same model: what it answered ``accepted`` to is booked, once, after any power cut."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from drivers.mifare_classic import blank_card
from terminal_agent.contract import ACKNOWLEDGED
from terminal_agent.crm import admin
from terminal_agent.crm.sqlite import database_file
from terminal_agent.service.agent import Agent
from terminal_agent.service.operations import OPERATIONS
from terminal_agent.service.settings import load_settings
from tests.power_cut.campaign import LOST, Violation
from tests.power_cut.recorder import Recorder, Recording, record
from tests.power_cut.trace import Operation, Said
from tests.processes import ANY_PORT, CrmProcess, TerminalProcesses, wait_for
from tests.program import BROKEN, PROGRAM

CRM = "crm"


def day_of_a_crm(folder: Path, sales: int, *, broken: str = "") -> Recording:
    """The server recorded, while one terminal joins and sends each sale by itself."""
    terminal = TerminalProcesses(folder / "terminal", PROGRAM)
    root = folder / "recorded"
    crm = CrmProcess(terminal, root / CRM)
    terminal.folder.mkdir()
    terminal.done("init", "--data-dir", str(terminal.data_dir), "--terminal-id", "till-1", "--till", ANY_PORT)
    code = crm.new_code()
    card = folder / "card.mfd"
    card.write_bytes(blank_card(b"\x1a\x2b\x3c\x4d"))

    def act(recorder: Recorder) -> None:
        server = recorder.start(terminal.words(*crm.serve_words()), environment={BROKEN: broken})
        wait_for(crm.listens, "the recorded CRM did not start")
        with closing(Agent(load_settings(terminal.config), terminal.config)) as agent:
            _do(agent, "enroll", crm_url=crm.url, code=code)
            tap = {"reader": f"sim:{card}", "wait_s": 0}
            _do(agent, "card.issue", **tap, phone="09125554433")
            for number in range(sales):
                _do(agent, "purchase", **tap, receipt_no=f"R-{number}", amount=50_000, redeem=number % 3)
                _do(agent, "sync")
        recorder.stop(server)

    return record(root, act)


def _do(agent: Agent, operation: str, **params: object) -> None:
    OPERATIONS[operation](agent, params, lambda _text: None)


class CrmWitness:
    """Knows which events the CRM has acknowledged."""

    def __init__(self) -> None:
        self._acknowledged: set[str] = set()

    def hear(self, operation: Operation) -> None:
        if isinstance(operation, Said) and b'"results"' in operation.data:
            body = json.loads(operation.data[operation.data.index(b"{") :])
            self._acknowledged |= {row["id"] for row in body["results"] if row["status"] in ACKNOWLEDGED}

    @property
    def at_stake(self) -> int:
        return len(self._acknowledged)

    def check(self, root: Path) -> Iterator[Violation]:
        try:
            with closing(sqlite3.connect(database_file(root / CRM))) as database:
                integrity = database.execute("PRAGMA integrity_check").fetchone()[0]
                booked = [row[0] for row in database.execute("SELECT id FROM events")]
                (ledger,) = database.execute("SELECT coalesce(sum(points), 0) FROM entries").fetchone()
        except sqlite3.DatabaseError as error:
            yield Violation("corrupt", str(error))
            return
        if integrity != "ok":
            yield Violation("corrupt", integrity)
        for event_id in self._acknowledged - set(booked):
            yield Violation(LOST, f"event {event_id} was acknowledged and is gone")
        if len(booked) != len(set(booked)):
            yield Violation("doubled", "an event is booked twice")
        if ledger != 0:
            yield Violation("ledger", f"all accounts sum to {ledger}")

    def go_on(self, root: Path) -> Iterator[Violation]:
        """The program opens what is left; it is the same ledger."""
        ledger = admin.show_ledger(root / CRM)
        if ledger["sum"] != 0:
            yield Violation("ledger", f"all accounts sum to {ledger['sum']}")
