"""How fast the CRM books sales, beside a bare loop on the database's driver that writes the same rows."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Table, select

from bench.measure import Figure, Samples
from bench.rig import Left, Rig
from terminal_agent.crm import inbox
from terminal_agent.crm.place import Place
from terminal_agent.crm.schema import card_chain, cards, entries, events, transfers
from terminal_agent.crm.sqlite import database_file
from terminal_agent.crm.store import Store, open_store
from terminal_agent.ports import SystemClock, SystemIds
from tests.crm.postgres import INSTALL, PostgresServer, find_programs
from tests.crm.world import Terminal

ROUNDS = {1: 30, 20: 15, 100: 8, 500: 5}
"""By the size of a batch: how many are measured."""
CARDS = 1000
NOW = "2026-11-22T09:30:00.000Z"
TARGET = 0.3


@dataclass(frozen=True)
class Driver:
    """A connection as its library gives it, and how that library marks values."""

    connection: Any
    mark: str

    def insert(self, table: Table) -> str:
        names = [column.name for column in table.columns]
        return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join([self.mark] * len(names))})"

    def update_card(self) -> str:
        return f"UPDATE cards SET balance = balance + {self.mark}, sequence = {self.mark} WHERE card_no = {self.mark}"


@dataclass(frozen=True)
class Kind:
    """A kind of database: where ours is, and a driver on tables of the same shape elsewhere."""

    name: str
    ours: Place
    bare: Place
    connect: Callable[[], Any]
    mark: str


def run(rig: Rig) -> Iterator[Figure]:
    yield from _measure(_sqlite(rig.folder / "crm-bench"))
    programs = find_programs()
    if programs is None:
        raise Left(INSTALL)
    with _postgres(programs) as kind:
        yield from _measure(kind)


def _sqlite(folder: Path) -> Kind:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(database_file(folder / "bare"))
        connection.execute("PRAGMA journal_mode=delete")
        connection.execute("PRAGMA synchronous=extra")
        return connection

    return Kind("SQLite", folder / "ours", folder / "bare", connect, "?")


@contextmanager
def _postgres(programs: Path) -> Iterator[Kind]:
    import psycopg

    server = PostgresServer(programs)
    try:
        server.up()
        ours, bare = server.create("ours"), server.create("bare")
        yield Kind("PostgreSQL", ours, bare, lambda: psycopg.connect(bare.text), "%s")
    finally:
        server.remove()


def _measure(kind: Kind) -> Iterator[Figure]:
    open_store(kind.bare, SystemClock(), SystemIds()).close()
    store = open_store(kind.ours, SystemClock(), SystemIds())
    driver = Driver(kind.connect(), kind.mark)
    try:
        _make_cards(store, driver)
        for size, rounds in ROUNDS.items():
            yield _compare(kind.name, store, driver, size, rounds)
    finally:
        driver.connection.close()
        store.close()


def _compare(name: str, store: Store, driver: Driver, size: int, rounds: int) -> Figure:
    """In turns: a batch is booked by us, then its rows are written by the bare loop."""
    terminal = Terminal("", f"shop-{size}", "", b"")
    ours, bare = [], []
    for turn in range(rounds + 1):
        first = (size * 1000 + turn) * size
        sales = [terminal.purchase(first + n, 10, card_no=_card(n)) for n in range(size)]
        ours.append(size / _seconds(partial(_book, store, terminal.terminal_id, sales)))
        written = _rows_of(store, {str(sale["id"]) for sale in sales})
        bare.append(size / _seconds(partial(_write, driver, written)))
    return Figure(
        "crm",
        f"events into {name}, {size} at a time",
        "per s",
        Samples.of(ours[1:]),  # the first warms up
        Samples.of(bare[1:]),
        "the driver alone: the same rows, one statement each, one commit",
        target=TARGET,
        target_is_ratio=True,
        target_is_least=True,
    )


def _card(number: int) -> str:
    return str(10**15 + number % CARDS)


def _seconds(action: Callable[[], Any]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _book(store: Store, terminal_id: str, batch: list[Any]) -> None:
    results, _ = store.write(lambda connection: inbox.receive(connection, terminal_id, batch, NOW))
    if {result.status.value for result in results} != {"accepted"}:
        raise Left(f"the CRM did not take all events: {results[0]}")


def _make_cards(store: Store, driver: Driver) -> None:
    """A club that is there already."""
    terminal = Terminal("", "office", "", b"")
    for start in range(0, CARDS, 500):
        sales = [terminal.purchase(1, 1, card_no=_card(n)) for n in range(start, start + 500)]
        _book(store, terminal.terminal_id, sales)
    with store.reading() as connection:
        rows = [tuple(row) for row in connection.execute(select(cards))]
    driver.connection.cursor().executemany(driver.insert(cards), rows)
    driver.connection.commit()


def _rows_of(store: Store, ids: set[str]) -> Mapping[Table, Sequence[tuple[Any, ...]]]:
    with store.reading() as connection:
        kept = {
            events: select(events).where(events.c.id.in_(ids)),
            card_chain: select(card_chain).where(card_chain.c.event_id.in_(ids)),
            transfers: select(transfers).where(transfers.c.reference.in_(ids)),
            entries: select(entries)
            .join(
                transfers,
                (transfers.c.card_no == entries.c.card_no) & (transfers.c.transfer_id == entries.c.transfer_id),
            )
            .where(transfers.c.reference.in_(ids)),
        }
        return {table: [tuple(row) for row in connection.execute(query)] for table, query in kept.items()}


def _write(driver: Driver, rows: Mapping[Table, Sequence[tuple[Any, ...]]]) -> None:
    cursor = driver.connection.cursor()
    for table, values in rows.items():
        statement = driver.insert(table)
        for row in values:
            cursor.execute(statement, row)
    for row in rows[entries]:
        if row[2].startswith("card:"):
            cursor.execute(driver.update_card(), (row[3], 0, row[0]))
    driver.connection.commit()
