"""One shop of the world: a data directory, the real agent on it, a clock of its own, and the ways all this may end."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from drivers.base import ClassicConnection
from drivers.errors import DriverError
from drivers.simulator import Fault, MemoryImage, SimulatedChip, SimulatedConnection
from terminal_agent.card.problems import from_driver
from terminal_agent.journal.journal import JOURNAL_FILE
from terminal_agent.service.agent import Agent
from terminal_agent.service.card_lane import Afterwards
from terminal_agent.service.keys.store import KEYS_FOLDER, FileKeyStore
from terminal_agent.service.lock import DataDirLock
from terminal_agent.service.operations import OPERATIONS, close_overdue
from terminal_agent.service.settings import Settings, render_config
from terminal_agent.sync.adapters.native import NativeCrm
from terminal_agent.sync.client import Credentials, enroll
from terminal_agent.till.checkout import PurchaseRequest, recorded
from terminal_agent.till.reversal import ReversalRequest, recorded_reversal
from tests.simulation.disk import Disk, install, uninstall
from tests.simulation.network import CRM_URL, Line
from tests.simulation.ports import CutCard, CutConnection, Fuse, SeededIds, Timeline, VirtualClock

MASTERS = bytes.fromhex("0F1E2D3C4B5A69788796A5B4C3D2E1F0"), bytes(range(16))
"""Key sets 1 and 2."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class Tap:
    """How a card lies on the reader: its content, and what goes wrong."""

    image: MemoryImage
    fault: Fault | None = None


class _Lane:
    """The lane to the reader, without its waiting: one card, one try."""

    def __init__(self, tap: Tap, fuse: Fuse) -> None:
        self._tap = tap
        self._fuse = fuse

    def with_card(
        self,
        _url: str,
        _wait_s: float,
        job: Callable[[ClassicConnection], Result],
        _talk: object,
        afterwards: Afterwards[Result],
    ) -> Result:
        try:
            chip = SimulatedChip(self._tap.image, self._tap.fault)
            with CutCard(SimulatedConnection(chip), self._fuse) as connection:
                answer = job(connection)
                afterwards(connection, answer)
                return answer
        except DriverError as error:
            raise from_driver(error) from error

    def close(self) -> None:
        """Nothing is held."""


class Shop:
    """``open`` starts the process, ``kill`` and ``cut`` end it; between them the till works."""

    def __init__(
        self, name: str, folder: Path, timeline: Timeline, line: Line, chance: Random, masters: tuple[bytes, ...]
    ) -> None:
        self.name = name
        self.folder = folder
        self.clock = VirtualClock(timeline)
        self.line = line
        self.fuse = Fuse()
        self.restored_at = -1.0
        """When an old copy of the journal was last put back."""
        self.must_notice = False
        """Whether the next start finds a journal that is older than the one it left."""
        self.heard_at = -1.0
        """When the last exchange began that went well."""
        self._timeline = timeline
        self._ids = SeededIds(timeline, chance)
        self._chance = chance
        self._agent: Agent | None = None
        self._lock = DataDirLock(folder)
        self._config = folder / "config.toml"
        self._settings = Settings(data_dir=folder, terminal_id=name)
        folder.mkdir(mode=0o700)
        self._config.write_text(render_config(self._settings))
        keys = FileKeyStore(folder / KEYS_FOLDER)
        for version, master in enumerate(masters, 1):
            keys.add(master, version, activate=False)  # the first is active
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
        database._connection = CutConnection(database._connection, self.fuse, self._tool_writes)

    def _dial(self, credentials: Credentials, ids: Any) -> NativeCrm:
        return NativeCrm(credentials, ids, self.line.session(self.fuse), self._timeline.sleep)

    def join(self, code: str) -> None:
        credentials, _ = enroll(CRM_URL, code, self.name, self._ids, self.line.session(self.fuse))
        self.agent.join(credentials)

    def _tool_writes(self) -> None:
        """Somebody's SQLite shell writes a note into the open journal. It has to wait for us, never we for it."""
        if self._chance.random() >= self.line.faults.rate("tools"):
            return
        with closing(sqlite3.connect(self.folder / JOURNAL_FILE, isolation_level=None, timeout=0)) as other:
            other.execute("PRAGMA wal_autocheckpoint=0").fetchall()
            with suppress(sqlite3.OperationalError):  # locked: the tool tells its user to try again
                other.execute("INSERT INTO meta VALUES ('note', '1') ON CONFLICT DO UPDATE SET value = value + 1")
                self.line.faults.count("tool_wrote")
            self.line.faults.count("tool_came")

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

    def copy_of_journal(self) -> bytes:
        """A backup as somebody's script makes one, while the till is in use."""
        with closing(sqlite3.connect(f"file:{self.folder / JOURNAL_FILE}?mode=ro", uri=True)) as connection:
            return connection.serialize()

    def put_back(self, copy: bytes) -> None:
        """The till is stopped, an old copy laid in the journal's place, and started again later."""
        events = "SELECT count(*) AS n FROM outbox"
        before = self.rows(events)
        self.close()
        for side in ("-wal", "-shm"):
            (self.folder / (JOURNAL_FILE + side)).unlink(missing_ok=True)
        (self.folder / JOURNAL_FILE).write_bytes(copy)
        self.disk.come_back()
        self.restored_at = self._timeline.now
        self.must_notice = self.rows(events) != before

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
        return self._operation("card.issue", tap, phone=phone)

    def purchase(self, tap: Tap, receipt_no: str, amount: int, redeem: int) -> dict[str, Any]:
        return self._operation("purchase", tap, receipt_no=receipt_no, amount=amount, redeem=redeem)

    def reverse(self, tap: Tap, receipt_no: str, amount: int) -> dict[str, Any]:
        return self._operation("reverse", tap, receipt_no=receipt_no, amount=amount)

    def ask(self, operation: str, **params: Any) -> dict[str, Any]:
        """A command that needs no card."""
        answer = OPERATIONS[operation](self.agent, params, lambda _text: None)
        assert isinstance(answer, dict)
        return answer

    def _operation(self, name: str, tap: Tap, **params: Any) -> dict[str, Any]:
        """A command as the daemon runs it, with the card on the reader."""
        lane: Any = _Lane(tap, self.fuse)
        self.agent.lane = lane
        answer = OPERATIONS[name](self.agent, {**params, "reader": "sim:", "wait_s": 0}, lambda _text: None)
        assert isinstance(answer, dict)
        return answer

    def use_key_set(self, version: int) -> None:
        """Cards are issued under it from now on, and others brought under it behind their next sale."""
        OPERATIONS["keys.activate"](self.agent, {"version": version}, lambda _text: None)

    def recorded(self, receipt_no: str, amount: int) -> dict[str, Any] | None:
        return recorded(self.agent.terminal, PurchaseRequest(receipt_no, amount))

    def recorded_return(self, receipt_no: str, amount: int) -> dict[str, Any] | None:
        return recorded_reversal(self.agent.terminal, ReversalRequest(receipt_no, amount))

    def sync_turn(self) -> float:
        """One turn of the sync loop; gives the seconds it would wait."""
        return self.agent.sync.turn()

    def sync_is_due(self) -> bool:
        """Whether the next turn will talk to the CRM."""
        return self.agent.sync.due_in_s() <= 0

    def keep_house(self) -> int:
        """What the daemon does now and then; how many overdue sales were closed."""
        closed = close_overdue(self.agent)
        self.agent.journal.keep_house()
        return closed

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """What stands in the journal's file, read past the journal."""
        if self.is_open:
            return [dict(row) for row in self.agent.journal._database.query(sql, *values)]
        with closing(sqlite3.connect(f"file:{self.folder / JOURNAL_FILE}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, values)]
