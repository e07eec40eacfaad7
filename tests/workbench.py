"""A shop on a bench: one terminal with a real journal on disk, key files, a clock that stands still, and cards to lay
on its reader with a fault at any operation."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from drivers.base import ClassicConnection
from drivers.mifare_classic import BLOCK_SIZE, KeyType, blank_card
from drivers.simulator import Fault, MemoryImage, SimulatedChip, SimulatedConnection
from terminal_agent import taps
from terminal_agent.card.layout import CardState, Home
from terminal_agent.contract import EventType
from terminal_agent.desk.issue import IssueRequest, issue
from terminal_agent.journal import Journal
from terminal_agent.journal.database import JournalFailed
from terminal_agent.journal.intents import CheckoutState
from terminal_agent.journal.journal import JOURNAL_FILE
from terminal_agent.journal.knowledge import Adjustment
from terminal_agent.ports import uuid7
from terminal_agent.service.keys.store import FileKeyStore
from terminal_agent.taps import CardAtCrm, Reserve, Terminal
from terminal_agent.till.checkout import PurchaseRequest, purchase
from terminal_agent.till.reversal import ReversalRequest, reverse_by_tap
from tests.card.independent_reader import Card, read_card

MASTER_KEY = bytes.fromhex("0F1E2D3C4B5A69788796A5B4C3D2E1F0")
UID = bytes.fromhex("1A2B3C4D")
UID_7 = bytes.fromhex("04A1B2C3D4E5F6")
NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)


class FixedClock:
    """Moves only when told to."""

    def __init__(self, moment: datetime = NOW) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()

    def advance(self, **by: float) -> None:
        self.moment += timedelta(**by)


class CountingIds:
    """The same ids in every run."""

    def __init__(self) -> None:
        self.drawn = 0

    def _next(self) -> int:
        self.drawn += 1
        return self.drawn

    def uuid(self) -> str:
        return str(uuid7(1_795_000_000_000, self._next()))

    def card_digits(self) -> str:
        return str(10**14 + self._next())

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2


class RecordingConnection(ClassicConnection):
    """Another connection, with a list of what was asked of it, and an error of choice at the n-th operation."""

    def __init__(self, inner: ClassicConnection, fail_at: int = 0, error: BaseException | None = None) -> None:
        self._inner = inner
        self._fail_at = fail_at
        self._error = error or RuntimeError("the workbench was given no error")
        self.calls: list[tuple[str, int]] = []

    @property
    def uid(self) -> bytes:
        return self._inner.uid

    def _record(self, action: str, block: int) -> None:
        self.calls.append((action, block))
        if len(self.calls) == self._fail_at:
            raise self._error

    def authenticate(self, block: int, key_type: KeyType, key: bytes) -> None:
        self._record("authenticate", block)
        self._inner.authenticate(block, key_type, key)

    def read_block(self, block: int) -> bytes:
        self._record("read", block)
        return self._inner.read_block(block)

    def write_block(self, block: int, data: bytes) -> None:
        self._record("write", block)
        self._inner.write_block(block, data)

    def close(self) -> None:
        self._inner.close()


def offline(card_no: str, state: CardState, points: int, reference: str) -> CardAtCrm | None:
    """The CRM cannot be asked."""
    return None


def lay(image: MemoryImage, fault: Fault | None = None) -> SimulatedConnection:
    """The card on the reader: every call is a new tap."""
    return SimulatedConnection(SimulatedChip(image, fault))


def blank(uid: bytes = UID) -> MemoryImage:
    return MemoryImage(bytes(blank_card(uid)))


def copy_of(image: MemoryImage) -> MemoryImage:
    """The card as it is now, kept: laying it down later is a rollback."""
    return MemoryImage(bytes(image.content))


def block_of(image: MemoryImage, block: int) -> bytes:
    return bytes(image.content[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE])


def flip(image: MemoryImage, block: int, bit: int = 0) -> None:
    image.content[block * BLOCK_SIZE + bit // 8] ^= 1 << bit % 8


class Workbench:
    """``bench.issue()`` gives a card, ``bench.purchase(card, "R-1", 50_000)`` taps it; faults by name."""

    def __init__(self, data_dir: Path, *, programme_id: str | None = None, terminal_id: str = "shop-1") -> None:
        self.data_dir = data_dir
        self.clock = FixedClock()
        self.ids = CountingIds()
        self.keys = FileKeyStore(data_dir / "keys")
        self.keys.add(MASTER_KEY, 1, activate=True)
        self._programme_id = programme_id
        self._terminal_id = terminal_id
        self.journal = self._open_journal()

    def _open_journal(self) -> Journal:
        return Journal(self.data_dir, self._terminal_id, "IRR", self.clock, self.ids)

    def restart(self) -> None:
        """The process dies and starts again: what is not on disk is gone."""
        self.journal.close()
        self.journal = self._open_journal()

    def close(self) -> None:
        self.journal.close()

    @property
    def terminal(self) -> Terminal:
        return Terminal(
            self.journal, self.keys, self.clock, self.ids, self._terminal_id, "IRR", programme_id=self._programme_id
        )

    def encode(self, image: MemoryImage, fault: Fault | None = None, **who: str) -> dict[str, Any]:
        """One try to issue the card."""
        with lay(image, fault) as connection:
            return issue(self.terminal, connection, IssueRequest(**who))

    def issue(self, uid: bytes = UID, *, points: int = 0, **who: str) -> MemoryImage:
        """A new card; ``points`` are earned by one purchase on receipt ``points-UID``."""
        image = blank(uid)
        self.encode(image, None, **who)
        if points:
            self.purchase(image, f"points-{uid.hex()}", points * 10_000)
        return image

    def purchase(
        self,
        image: MemoryImage,
        receipt_no: str,
        amount: int,
        *,
        redeem: int = 0,
        fault: Fault | None = None,
        reserve: Reserve = offline,
    ) -> dict[str, Any]:
        with lay(image, fault) as connection:
            return purchase(self.terminal, connection, PurchaseRequest(receipt_no, amount, redeem), reserve)

    def reverse(
        self,
        image: MemoryImage,
        receipt_no: str,
        amount: int | None = None,
        *,
        reference: str | None = None,
        fault: Fault | None = None,
    ) -> dict[str, Any]:
        with lay(image, fault) as connection:
            return reverse_by_tap(self.terminal, connection, ReversalRequest(receipt_no, amount, reference))

    def close_in_doubt(self) -> dict[str, Any]:
        """Close the one sale in doubt without its card."""
        (checkout,) = self.journal.checkouts.in_doubt()
        result = taps.close(self.terminal, checkout.checkout_id)
        assert result is not None
        return result

    def adjust(self, card_no: str, *points: int, first: int = 1) -> None:
        """What the CRM's feed brought: adjustments ``first``, ``first`` + 1 … of a card."""
        with self.journal.transaction():
            for number, moved in enumerate(points, first):
                self.journal.knowledge.remember_adjustment(Adjustment(card_no, number, moved, None))

    def block_card(self, card_no: str, reason: str | None = None, *, blocked: bool = True) -> None:
        with self.journal.transaction():
            self.journal.knowledge.set_hotlist(card_no, blocked, reason)

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """What stands in the journal's file, read past the journal by a reader of our own."""
        with closing(sqlite3.connect(f"file:{self.data_dir / JOURNAL_FILE}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, values)]

    def events(self, kind: EventType | None = None) -> list[dict[str, Any]]:
        """The bodies of all events, or of one type, in order."""
        bodies = [json.loads(row["body"]) for row in self.rows("SELECT body FROM events ORDER BY sequence")]
        return [body for body in bodies if kind is None or body["type"] == kind.value]

    def masters(self) -> list[bytes]:
        """Every master key this terminal holds, read past its key store."""
        return [bytes.fromhex(path.read_text()) for path in sorted((self.data_dir / "keys").glob("v*.key"))]

    def read(self, image: MemoryImage) -> Card:
        """The card as the independent reader sees it, past every access right."""
        return read_card(bytes(image.content), *self.masters())

    def home(self, image: MemoryImage) -> Home:
        """The sector the card lives in."""
        sector = self.read(image).home
        assert sector is not None, "the card is lost"
        return Home(sector)

    def slots(self, image: MemoryImage) -> list[CardState | None]:
        """Both slots; None where a slot is invalid."""
        return [slot and CardState.from_json(slot) for slot in self.read(image).slots]

    def newest_block(self, image: MemoryImage) -> int:
        """The block that holds the newest state."""
        return self.home(image).state_blocks[self.state(image).slot]

    def state(self, image: MemoryImage) -> CardState:
        """The newest state on the card."""
        return max((s for s in self.slots(image) if s is not None), key=lambda state: state.sequence)

    def check_books(self, image: MemoryImage, *, adjusted: int = 0) -> None:
        """Points, events, journal and card agree, and nothing is left in doubt."""
        kinds = (EventType.PURCHASE_RECORDED.value, EventType.PURCHASE_REVERSED.value)
        state, events = self.state(image), [event for event in self.events() if event["type"] in kinds]
        points = [event["data"]["points"] for event in events]
        assert state.balance == sum(p["earned"] - p["redeemed"] for p in points) + adjusted
        assert state.sequence == 1 + len(events)
        self._check_chain([event["data"]["card"] for event in events], state)
        self._check_journal(state, len(events))

    def _check_chain(self, chain: list[dict[str, Any]], state: CardState) -> None:
        assert [card["sequence"] for card in chain] == list(range(2, len(chain) + 2))
        for card, following in zip(chain, chain[1:], strict=False):
            assert following["balance_before"] == card["balance_after"]
        if chain:
            assert chain[-1]["balance_after"] == state.balance

    def _check_journal(self, state: CardState, checkouts_done: int) -> None:
        assert self.journal.events.broken_link() is None
        assert self.rows("SELECT * FROM intents WHERE state = 'open'") == []
        checkouts = self.rows("SELECT * FROM checkouts")
        assert [c["state"] for c in checkouts] == [CheckoutState.DONE] * checkouts_done
        (known,) = self.rows("SELECT state FROM cards")
        assert json.loads(known["state"]) == state.to_json()


def operations_of(tap: Callable[[ClassicConnection], Any], image: MemoryImage) -> list[tuple[str, int]]:
    """What a tap asks of the card: ``[("authenticate", 4), ("read", 4), …]``."""
    connection = RecordingConnection(lay(image))
    tap(connection)
    return connection.calls


def full_disk_once(journal: Journal, monkeypatch: pytest.MonkeyPatch, *, skip: int = 0) -> None:
    """The disk is full when the next transaction, or the one after ``skip`` others, is to begin; then it has room."""
    plain, calls = journal.transaction, count()

    @contextmanager
    def transaction() -> Iterator[None]:
        if next(calls) == skip:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise JournalFailed(error, Path("data"))
        with plain():
            yield

    monkeypatch.setattr(journal, "transaction", transaction)
