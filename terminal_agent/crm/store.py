"""The CRM's database: opened once, read and written in whole transactions."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, insert, inspect, select
from sqlalchemy.exc import DBAPIError

from terminal_agent.club.policy import default_policy
from terminal_agent.crm import feed, migrations, restore, sqlite
from terminal_agent.crm.database import Database
from terminal_agent.crm.place import DatabaseUrl, Place
from terminal_agent.crm.schema import SCHEMA_VERSION, meta, metadata
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.ports import Clock, Ids, rfc3339

_TRIES = 6
_PAUSE_S = 0.05
T = TypeVar("T")


class Store:
    """Hands out connections, each inside one transaction that commits when its block ends without an error."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.was_restored = False
        """Whether the database turned out to be an older copy when it was opened."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """For people: what is odd about the database."""
        return self._database.warnings

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent view; what is written here is not meant to be."""
        with self._database.reading() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction for writing. On return everything is on disk."""
        with self._database.writing() as connection:
            yield connection
            feed.put_in_order(connection)

    def write(self, work: Callable[[Connection], T]) -> T:
        """What ``work`` gives from a transaction for writing; done again as a whole when others were in its way."""
        for tries in range(1, _TRIES):
            try:
                with self.writing() as connection:
                    return work(connection)
            except DBAPIError as error:
                if not self._database.is_conflict(error):
                    raise
            time.sleep(random.uniform(0, _PAUSE_S * 2**tries))  # noqa: S311 - nobody gains from guessing it
        with self.writing() as connection:
            return work(connection)

    def notice_restore(self, clock: Clock) -> None:
        """Whether the database is an older copy; if so, notes that it was put back from a backup."""
        if not self._database.was_put_back():
            return
        with self.writing() as connection:
            restore.note(connection, rfc3339(clock.now()))
            self._database.go_on(connection)
        self.was_restored = True

    def bring_up_to_date(self, clock: Clock, ids: Ids, *, create: bool = True) -> None:
        """Makes the tables, or brings them to the present schema.

        AgentError: a newer version wrote them, or there are none (with ``create=False``).
        """
        with self.reading() as connection:
            version = _version(connection)
        if version == 0 and not create:
            raise _no_crm(self._database.name)
        if version > SCHEMA_VERSION:
            raise _unusable(
                f"The CRM database has schema {version}; this version knows {SCHEMA_VERSION}.",
                "Install the newer terminal-agent that wrote it, or give another database.",
            )
        if version == SCHEMA_VERSION:
            return
        with self.writing() as connection:
            self._database.changing_tables(connection)
            version = _version(connection)  # another process may have been first
            if version == 0:
                metadata.create_all(connection)
                self.fill(connection, rfc3339(clock.now()), ids.uuid())
            else:
                migrations.upgrade(connection, version)

    def fill(self, connection: Connection, now: str, programme_id: str) -> None:
        """What a fresh CRM holds: its facts, and the default policy."""
        rows = {"schema_version": str(SCHEMA_VERSION), "programme_id": programme_id, feed.END_OF_FEED: ""}
        connection.execute(insert(meta), [{"key": key, "value": value} for key, value in rows.items()])
        self._database.fill(connection)
        feed.publish_policy(connection, default_policy(), now)

    def close(self) -> None:
        """Lets go of the database."""
        self._database.close()


def open_store(place: Place, clock: Clock, ids: Ids, *, create: bool = True) -> Store:
    """The CRM kept in a directory or a database; a fresh one publishes the default policy.

    AgentError(CONFIG_INVALID): no CRM there (with ``create=False``), not readable, or written by a newer version.
    """
    database = _open_file(place, create=create) if isinstance(place, Path) else _open_server(place)
    store = Store(database)
    try:
        store.bring_up_to_date(clock, ids, create=create)
        store.notice_restore(clock)
    except DBAPIError as error:
        store.close()
        raise _unusable(f"The CRM database {database.name} cannot be read: {error.orig}.", database.advice) from error
    except AgentError:
        store.close()
        raise
    return store


def _open_file(data_dir: Path, *, create: bool) -> Database:
    if not create and not sqlite.database_file(data_dir).exists():
        raise _no_crm(f"in {data_dir}")
    try:
        return sqlite.SqliteDatabase(data_dir)
    except OSError as error:
        raise _unusable(
            f"{data_dir} cannot be used: {error.strerror}.", "Give a directory this user may write."
        ) from error


def _open_server(url: DatabaseUrl) -> Database:
    try:
        from terminal_agent.crm import postgres
    except ImportError as error:
        message = "The CRM on PostgreSQL needs psycopg, which is not installed."
        raise _unusable(message, "Install it with: pip install 'terminal-agent[postgres]'") from error
    try:
        return postgres.PostgresDatabase(url)
    except DBAPIError as error:
        reason = str(error.orig).splitlines()[0]
        raise _unusable(f"PostgreSQL cannot be used: {reason}.", postgres.PostgresDatabase.advice) from error


def _version(connection: Connection) -> int:
    if not inspect(connection).has_table(meta.name):
        return 0
    return int(read_meta(connection, "schema_version"))


def read_meta(connection: Connection, key: str) -> str:
    """One of the facts about this CRM: ``schema_version`` or ``programme_id``."""
    return str(connection.execute(select(meta.c.value).where(meta.c.key == key)).scalar_one())


def _no_crm(where: str) -> AgentError:
    return _unusable(f"There is no CRM {where}.", "Start it there with: terminal-agent crm serve")


def _unusable(message: str, hint: str) -> AgentError:
    return AgentError(ErrorCode.CONFIG_INVALID, message, hint=hint)
