"""A database of an earlier version opens, with everything that was in it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect

from terminal_agent.crm import admin, inbox, migrations, sqlite
from terminal_agent.crm.mark import Mark
from terminal_agent.crm.schema import SCHEMA_VERSION, metadata
from terminal_agent.crm.store import open_store, read_meta
from terminal_agent.ports import SystemClock, SystemIds
from tests.crm.world import CARD, Terminal

OLD = Path(__file__).with_name("schema_1.sql")
"""Three purchases on two cards and an adjustment, written by the version with schema 1."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(sqlite.database_file(tmp_path))) as connection:
        connection.executescript(OLD.read_text())
    Mark(tmp_path).write(0)
    return tmp_path


def shape(connection: Connection) -> dict[str, object]:
    """Columns, keys and indexes of every table."""
    asked = inspect(connection)
    return {
        name: (
            [(column["name"], str(column["type"]), column["nullable"]) for column in asked.get_columns(name)],
            asked.get_pk_constraint(name)["constrained_columns"],
            sorted(str(index["name"]) for index in asked.get_indexes(name)),
        )
        for name in sorted(metadata.tables)
    }


def test_an_old_database_keeps_its_books(old: Path) -> None:
    ledger = admin.show_ledger(old)
    assert ledger == {
        "sum": 0,
        "accounts": [
            {"account": f"card:{CARD}", "balance": 75},
            {"account": "card:2000000000000008", "balance": 7},
            {"account": "programme:adjusted", "balance": -40},
            {"account": "programme:issued", "balance": -47},
            {"account": "programme:redeemed", "balance": 5},
        ],
    }
    assert [event["earned"] for event in admin.show_card(old, CARD)["events"]] == [10, 30]
    assert admin.adjust_card(old, CARD, -5, "a mistake")["balance"] == 70


def test_an_old_database_goes_on_booking(old: Path) -> None:
    terminal = Terminal("", "shop-1", "", b"", sequence=3)
    store = open_store(old, SystemClock(), SystemIds())
    with store.writing() as connection:
        results, acked = inbox.receive(
            connection, "shop-1", [terminal.purchase(3, 4, before=35)], "2026-11-22T09:30:00.000Z"
        )
    assert ([result.status for result in results], acked) == (["accepted"], 4)
    store.close()
    assert admin.show_card(old, CARD)["balance"] == 79


def test_an_upgraded_database_has_the_tables_of_a_fresh_one(old: Path, tmp_path: Path) -> None:
    stores = [open_store(folder, SystemClock(), SystemIds()) for folder in (old, tmp_path / "fresh")]
    shapes = []
    for store in stores:
        with store.reading() as connection:
            assert read_meta(connection, "schema_version") == str(SCHEMA_VERSION)
            shapes.append(shape(connection))
        store.close()
    assert shapes[0] == shapes[1]


def test_every_earlier_version_has_a_way_up() -> None:
    assert sorted(migrations.STEPS) == list(range(2, SCHEMA_VERSION + 1))


def test_an_upgrade_that_fails_leaves_the_old_database_whole(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_connection: Connection) -> None:
        raise RuntimeError("the power went")

    before = list(dump(old))
    monkeypatch.setitem(migrations.STEPS, SCHEMA_VERSION, lambda connection: (STEP(connection), fail(connection)))
    with pytest.raises(RuntimeError):
        open_store(old, SystemClock(), SystemIds())
    assert list(dump(old)) == before


STEP = migrations.STEPS[SCHEMA_VERSION]


def dump(folder: Path) -> list[str]:
    with closing(sqlite3.connect(sqlite.database_file(folder))) as connection:
        return list(connection.iterdump())
