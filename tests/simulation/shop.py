"""One shop of the world: a data directory, the real agent on it, a clock of its own, and the ways all this may end."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from drivers.base import ClassicConnection
from drivers.errors import DriverError
from drivers.simulator import Fault, MemoryImage, SimulatedChip, SimulatedConnection
from terminal_agent.card.problems import from_driver
from terminal_agent.desk.issue import IssueRequest, issue
from terminal_agent.errors import AgentError
from terminal_agent.journal.journal import JOURNAL_FILE
from terminal_agent.service.agent import KEYS_FOLDER, Agent
from terminal_agent.service.key_store import FileKeyStore
from terminal_agent.service.lock import DataDirLock
from terminal_agent.service.operations import close_overdue
from terminal_agent.service.settings import Settings, render_config
from terminal_agent.sync.client import Credentials, CrmClient, enroll
from terminal_agent.till.checkout import PurchaseRequest, purchase, recorded
from tests.simulation.disk import Disk, install, uninstall
from tests.simulation.network import CRM_URL, Line
from tests.simulation.ports import CutCard, CutConnection, Fuse, SeededIds, Timeline, VirtualClock

MASTER_KEY = bytes.fromhex("0F1E2D3C4B5A69788796A5B4C3D2E1F0")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Tap:
    """How a card lies on the reader: its content, and what goes wrong."""

    image: MemoryImage
    fault: Fault | None = None


class Shop:
    """``open`` starts the process, ``kill`` and ``cut`` end it; between them the till works."""

    def __init__(self, name: str, folder: Path, timeline: Timeline, line: Line, chance: Random) -> None:
        self.name = name
        self.folder = folder
        self.clock = VirtualClock(timeline)
        self.line = line
        self.fuse = Fuse()
        self._timeline = timeline
        self._ids = SeededIds(timeline, chance)
        self._chance = chance
        self._agent: Agent | None = None
        self._lock = DataDirLock(folder)
        self._config = folder / "config.toml"
        self._settings = Settings(data_dir=folder, terminal_id=name)
        folder.mkdir(mode=0o700)
        self._config.write_text(render_config(self._settings))
        FileKeyStore(folder / KEYS_FOLDER).add(MASTER_KEY, 1, activate=True)
        self.disk = Disk(folder)
        install(self.disk)

    @property
    def is_open(self) -> bool:
        return self._agent is not None

    @property
    def agent(self) -> Agent:
        assert self._agent is not None, f"{self.name} is closed"
        return self._agent

    def open(self) -> None:
        """The process starts: lock, journal, keys, credentials, as ``run`` does."""
        assert self._lock.acquire(), f"{self.name} holds the lock twice"
        self.fuse = Fuse()
        self._agent = Agent(self._settings, self._config, self.clock, self._ids, self._dial)
        database: Any = self._agent.journal._database
        database._connection = CutConnection(database._connection, self.fuse)

    def _dial(self, credentials: Credentials, ids: Any) -> CrmClient:
        return CrmClient(credentials, ids, self.line.session(self.fuse), self._timeline.sleep)

    def join(self, code: str) -> None:
        credentials, _ = enroll(CRM_URL, code, self.name, self._ids, self.line.session(self.fuse))
        self.agent.join(credentials)

    def close(self) -> None:
        """An orderly end."""
        self.agent.close()
        self._end()

    def die(self, *, power: bool) -> int:
        """The process ends now. With ``power`` the disk loses some or all of what was not synced: how many writes."""
        self.fuse.blown = True
        self.disk.dead = True
        connection: Any = self.agent.journal._database
        connection._connection.close()
        self._end()
        if power:
            return self.disk.lose_power(self._chance, self._chance.choice((0.0, 0.5, 0.9)))
        self.disk.come_back()
        return 0

    def _end(self) -> None:
        self._agent = None
        self._lock.release()

    def throw_away(self) -> None:
        """The world is over."""
        if self.is_open:
            self.disk.dead = True
            self.close()
        uninstall(self.disk)
        shutil.rmtree(self.folder)

    def second_daemon_is_refused(self) -> bool:
        """Whether another process asking for the same data directory is turned away."""
        other = DataDirLock(self.folder)
        taken = other.acquire()
        other.release()
        return not taken

    # What people do at the till. All raise AgentError as the commands do, or PowerCut.

    def issue(self, tap: Tap, phone: str) -> dict[str, Any]:
        answer = self._with_card(tap, lambda card: issue(self.agent.terminal, card, IssueRequest(phone=phone)))
        self.agent.sync.wake()
        return answer

    def purchase(self, tap: Tap, receipt_no: str, amount: int, redeem: int) -> dict[str, Any]:
        """As ``operations.purchase_by_tap``: a finished receipt is answered without its card."""
        request = PurchaseRequest(receipt_no, amount, redeem)
        terminal = self.agent.terminal
        answer = recorded(terminal, request)
        if answer is None:
            confirm = self.agent.confirm_chain
            answer = self._with_card(tap, lambda card: purchase(terminal, card, request, confirm))
        return answer

    def recorded(self, receipt_no: str, amount: int) -> dict[str, Any] | None:
        return recorded(self.agent.terminal, PurchaseRequest(receipt_no, amount))

    def _with_card(self, tap: Tap, job: Callable[[ClassicConnection], Result]) -> Result:
        """The lane, without its waiting."""
        try:
            with CutCard(SimulatedConnection(SimulatedChip(tap.image, tap.fault)), self.fuse) as connection:
                return job(connection)
        except DriverError as error:
            raise from_driver(error) from error

    def sync_turn(self) -> float:
        """One turn of the sync loop; gives the seconds it would wait."""
        return self.agent.sync.turn()

    def close_overdue(self) -> int:
        return close_overdue(self.agent)

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """What stands in the journal's file, read past the journal."""
        if self.is_open:
            return [dict(row) for row in self.agent.journal._database.query(sql, *values)]
        with closing(sqlite3.connect(f"file:{self.folder / JOURNAL_FILE}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, values)]


def attempt(job: Callable[[], Result]) -> Result | AgentError:
    """What the cashier sees: an answer, or an error in words. A death passes through."""
    try:
        return job()
    except AgentError as error:
        return error
