"""Who may change what at the same time. On SQLite a writer is alone; on PostgreSQL many write side by side.

The rule, for every transaction that reads something and then writes what follows from it:

1. It locks all it is about before it reads any of it: the terminal, then members and phones, then cards, each kind in
   the order of their names. So two transactions never wait for each other.
2. Only then it reads: under READ COMMITTED everything it sees of them is current until its commit.
3. The end of the feed is locked last, right before the commit (feed.py).

A lock is a row, not a number that only one server knows, so that the rule holds where tables are spread over several.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from terminal_agent.crm.schema import cards, terminals, turns

_INSERT: dict[str, Callable[[Table], sqlite.Insert | postgresql.Insert]]
_INSERT = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
MEMBER_TURNS = 1024
"""Members and phones share this many rows: enough for desks that enrol side by side, and no row tells a phone."""


def add_missing(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Adds the rows whose keys are not there; who adds the same one waits for whoever was first."""
    if rows:
        connection.execute(_INSERT[connection.dialect.name](table).on_conflict_do_nothing(), rows)


def take_terminal(connection: Connection, terminal_id: str) -> None:
    """The terminal's events, progress, holds and credentials are ours until the commit."""
    if not _is_alone(connection):
        row = select(terminals.c.terminal_id).where(terminals.c.terminal_id == terminal_id)
        connection.execute(row.with_for_update())


def take_members(connection: Connection, names: Iterable[str]) -> None:
    """Who has which of these member ids and phones is ours to decide until the commit."""
    wanted = sorted({_turn_of(name) for name in names})
    if wanted and not _is_alone(connection):
        add_missing(connection, turns, [{"turn": turn} for turn in wanted])
        connection.execute(select(turns).where(turns.c.turn.in_(wanted)).order_by(turns.c.turn).with_for_update()).all()


def take_cards(
    connection: Connection, card_nos: Iterable[str], *, fresh: Mapping[str, Any], known: Container[str] | None = None
) -> None:
    """The cards, and all that is keyed by them, are ours until the commit; ``fresh`` is what a new one begins with.

    ``known``: of which the caller has seen that they are there; without it they are looked up.
    """
    wanted = sorted(set(card_nos))
    if not wanted:
        return
    if known is None:
        known = set(connection.execute(select(cards.c.card_no).where(cards.c.card_no.in_(wanted))).scalars())
    # Before any is locked: who waits here for another's new card holds none that the other may want.
    add_missing(connection, cards, [{**fresh, "card_no": card_no} for card_no in wanted if card_no not in known])
    if not _is_alone(connection):
        query = select(cards.c.card_no).where(cards.c.card_no.in_(wanted)).order_by(cards.c.card_no)
        connection.execute(query.with_for_update()).all()


def _is_alone(connection: Connection) -> bool:
    return connection.dialect.name == "sqlite"


def _turn_of(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % MEMBER_TURNS
