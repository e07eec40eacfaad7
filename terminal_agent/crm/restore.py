"""A CRM put back from a backup: how it finds out, and what it does about it at once.

It knows that it has forgotten when its file counts fewer commits than the mark beside it (or its tables do not stand on
the PostgreSQL server where they were made), when a terminal comes with a feed cursor it never gave out, or when a card
has applied an adjustment it never made. The terminals send again what it
forgot; :mod:`reconcile` then makes the cards follow the ledger.
"""

from __future__ import annotations

from sqlalchemy import Connection, Integer, Text, cast, insert, select, update

from terminal_agent.crm.schema import enrolment_codes, meta
from terminal_agent.crm.turns import add_missing

COMMITS = "commits"
_RESTORED_AT = "restored_at"
_HAPPENED = select(meta.c.value).where(meta.c.key == _RESTORED_AT)
_ONE_MORE = (
    update(meta)
    .where(meta.c.key == COMMITS)
    .values(value=cast(cast(meta.c.value, Integer) + 1, Text))
    .returning(meta.c.value)
)


def begin_count(connection: Connection) -> None:
    """Counts the commits of fresh tables."""
    connection.execute(insert(meta).values(key=COMMITS, value="0"))


def count_commit(connection: Connection) -> int:
    """Counts the transaction that is about to be committed."""
    return int(connection.execute(_ONE_MORE).scalar_one())


def counted(connection: Connection) -> int:
    """How many transactions this database has seen committed."""
    return int(connection.execute(select(meta.c.value).where(meta.c.key == COMMITS)).scalar_one())


def set_count(connection: Connection, commits: int) -> None:
    """Goes on counting from here."""
    connection.execute(update(meta).where(meta.c.key == COMMITS).values(value=str(commits)))


def happened(connection: Connection) -> bool:
    """Whether this CRM was ever put back from a backup."""
    return connection.execute(_HAPPENED).first() is not None


def note(connection: Connection, now: str) -> None:
    """It was. Codes used since the backup look unused again, so all are voided."""
    add_missing(connection, meta, [{"key": _RESTORED_AT, "value": now}])
    connection.execute(update(meta).where(meta.c.key == _RESTORED_AT).values(value=now))
    connection.execute(update(enrolment_codes).where(enrolment_codes.c.used_at.is_(None)).values(used_at=now))


def note_once(connection: Connection, now: str) -> None:
    """It was, says a terminal; each of them will say so."""
    if not happened(connection):
        note(connection, now)
