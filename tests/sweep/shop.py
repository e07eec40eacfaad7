"""One shop under the sweep: a data directory, the real agent on it, plastic, and head office at the end of a line."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from drivers.simulator import MemoryImage
from terminal_agent.journal.backup import BACKUPS_FOLDER
from terminal_agent.journal.journal import JOURNAL_FILE
from terminal_agent.service import card_lane
from terminal_agent.service.agent import Agent
from terminal_agent.service.keys.credentials import load_credentials
from terminal_agent.service.keys.store import KEYS_FOLDER, FileKeyStore
from terminal_agent.service.operations import OPERATIONS
from terminal_agent.service.settings import Settings, load_settings, render_config
from tests.card.independent_reader import Card, read_card
from tests.simulation.ports import START
from tests.sweep import files, office, store
from tests.sweep.card import CountedReader
from tests.sweep.office import HeadOffice, new_timeline
from tests.sweep.ports import CountedClock, CountedIds, Ports
from tests.sweep.tables import Tables, read_tables
from tests.workbench import MASTER_KEY

TERMINAL = "till-1"
NEXT_MASTER_KEY = bytes(range(16))
READER = "sim:the/reader.mfd"
JOURNAL_TABLES = (
    "events",
    "outbox",
    "intents",
    "checkouts",
    "cards",
    "adjustments",
    "hotlist",
    "policies",
    "members",
    "meta",
)
COPY = "copy-by-hand.sqlite3"
OFFICE, OTHER_OFFICE = "http://127.0.0.1:9", "http://127.0.0.1:19"
_SHARED_MEMORY = "-shm"
"""SQLite's index of the write-ahead log: no part of what is on disk."""

_read_card = lru_cache(maxsize=1024)(read_card)  # the same few contents come again in every run

Disk = dict[Path, tuple[int, bytes | None]]
"""Every file with its mode and content, every folder with its mode."""


@dataclass(frozen=True)
class Moment:
    """The whole little world, kept: see :meth:`Shop.put_back`."""

    disk: Disk
    cards: dict[str, bytes]
    time: datetime
    ids_drawn: int
    disk_is_full: bool
    offices: dict[str, tuple[bool, bytes]]


class Shop:
    """``start`` and ``power_goes`` are the life of the process; ``do`` is what people ask of it in between."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.data_dir = folder / "data"
        self.config = folder / "config.toml"
        self.ports = Ports(self._freeze)
        self.clock = CountedClock(self.ports)
        self.ids = CountedIds(self.ports)
        self._timeline = new_timeline()
        places = {OFFICE: folder / "crm", OTHER_OFFICE: folder / "other-crm"}
        self.offices = {url: HeadOffice(place, self._timeline) for url, place in places.items()}
        self.cards: dict[str, MemoryImage] = {}
        self.on_reader: MemoryImage | None = None
        self.disk_is_full = False
        self._agent: Agent | None = None
        self._frozen: Disk = {}
        self._connections: list[sqlite3.Connection] = []

    @contextmanager
    def open(self) -> Iterator[None]:
        """Inside, the program's ports are those of this shop."""
        reader = CountedReader(READER, lambda: self.on_reader, self.ports)
        with ExitStack() as stack:
            self._connections = stack.enter_context(store.counted(self.ports, self.data_dir))
            stack.enter_context(office.counted(self.ports, self.offices))
            stack.enter_context(files.counted(self.ports, lambda: self.disk_is_full))
            stack.enter_context(patch.object(card_lane, "open_reader", lambda _url: reader))
            for each in self.offices.values():
                stack.callback(each.close)
            stack.callback(self.stop)
            yield

    def furnish(self) -> None:
        """A config file and a key set, as the installer leaves them."""
        self.data_dir.mkdir()
        FileKeyStore(self.data_dir / KEYS_FOLDER).add(MASTER_KEY, 1, activate=True)
        self.config.write_text(render_config(Settings(data_dir=self.data_dir, terminal_id=TERMINAL, reader=READER)))

    @property
    def agent(self) -> Agent:
        """The process; it is started when somebody needs it, as a command or the service manager does."""
        if self._agent is None:
            self._agent = Agent(load_settings(self.config), self.config, self.clock, self.ids)
        return self._agent

    def start(self) -> None:
        """The process runs, if there is anything to run on."""
        if self.config.exists():
            assert self.agent

    def keep_house(self) -> None:
        """What the daemon does each quarter of a minute; on a disk that was full it sets its reserve aside again."""
        if self._agent is not None:
            self._agent.journal.keep_house()

    def stop(self) -> None:
        """An orderly end."""
        agent, self._agent = self._agent, None
        if agent is not None:
            agent.close()

    def power_goes(self) -> None:
        """What is not on disk is gone. Whatever the dying process may still have tidied up is as it was."""
        if not self.ports.dead:
            self._freeze()
        self._abandon()
        self._lay_out(self._frozen)
        self.ports.heal()

    def do(self, operation: str, card: str | None = None, /, **params: Any) -> Any:
        """What a command, or the daemon, carries out. Raises AgentError."""
        self.on_reader = self.cards[card] if card else None
        return OPERATIONS[operation](self.agent, {"wait_s": 0, **params}, lambda _text: None)

    def card(self, name: str) -> Card:
        """What a reader that shares no code with the product finds on the plastic."""
        return _read_card(bytes(self.cards[name].content), MASTER_KEY, NEXT_MASTER_KEY)

    def card_no(self, name: str) -> str:
        identity = self.card(name).identity
        assert identity is not None, f"card {name} is blank"
        return str(identity["card_no"])

    @property
    def office_url(self) -> str | None:
        """Where the terminal has joined."""
        credentials = load_credentials(self.data_dir, None)
        return credentials.crm_url if credentials else None

    def copies(self) -> list[Path]:
        """The copies of the journal, by whatever name but its own; what was moved aside is none."""
        found = [self.data_dir / COPY, *self.data_dir.glob(f"{BACKUPS_FOLDER}/*.sqlite3")]
        return sorted(path for path in found if path.exists())

    def journal(self) -> Tables:
        """What stands in the journal's file: what another process sees of it now."""
        path = self.data_dir / JOURNAL_FILE
        place = f"file:{path}?mode=ro" if path.exists() else ":memory:"
        with closing(sqlite3.Connection(place, uri=True)) as connection:
            return read_tables(connection, *JOURNAL_TABLES)

    def wait(self, **by: float) -> None:
        """Time passes, here and at head office."""
        self._set_clocks(self.clock.moment + timedelta(**by))

    def _set_clocks(self, moment: datetime) -> None:
        self.clock.moment = moment
        self._timeline.now = (moment - START).total_seconds()

    def mend(self) -> None:
        """The line and the disk are as they should be."""
        self.disk_is_full = False
        for each in self.offices.values():
            each.reachable = True

    def moment(self) -> Moment:
        """Everything as it is now; the process must have ended."""
        assert self._agent is None
        cards = {name: bytes(image.content) for name, image in self.cards.items()}
        offices = {url: (each.reachable, each.content()) for url, each in self.offices.items()}
        return Moment(self._disk(), cards, self.clock.moment, self.ids.drawn, self.disk_is_full, offices)

    def put_back(self, moment: Moment) -> None:
        """Everything as it was then."""
        self._abandon()
        self._lay_out(moment.disk)
        self.cards = {name: MemoryImage(content) for name, content in moment.cards.items()}
        self.ids.drawn = moment.ids_drawn
        self.disk_is_full = moment.disk_is_full
        for url, (reachable, content) in moment.offices.items():
            self.offices[url].reachable = reachable
            if self.offices[url].content() != content:
                self.offices[url].put_back(content)
        self._set_clocks(moment.time)
        self.ports.heal()

    def _freeze(self) -> None:
        self._frozen = self._disk()

    def _disk(self) -> Disk:
        places = [self.config, self.data_dir, *sorted(self.data_dir.rglob("*"))]
        kept = [place for place in places if place.exists() and not place.name.endswith(_SHARED_MEMORY)]
        return {p: (stat.S_IMODE(p.stat().st_mode), None if p.is_dir() else p.read_bytes()) for p in kept}

    def _lay_out(self, disk: Disk) -> None:
        self.config.unlink(missing_ok=True)
        shutil.rmtree(self.data_dir, ignore_errors=True)
        for place, (mode, content) in disk.items():
            if content is None:
                place.mkdir()
            else:
                place.write_bytes(content)
            place.chmod(mode)

    def _abandon(self) -> None:
        """Close the dead process's files; nothing it does now is kept."""
        self._agent = None
        while self._connections:
            self._connections.pop().close()
