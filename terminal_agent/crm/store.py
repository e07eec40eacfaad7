"""The CRM's database: opened once, read and written in whole transactions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, insert, inspect, select
from sqlalchemy.exc import DBAPIError

from terminal_agent.club.policy import default_policy
from terminal_agent.crm import feed, restore, sqlite
from terminal_agent.crm.mark import Mark
from terminal_agent.crm.schema import SCHEMA_VERSION, meta, metadata
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.ports import Clock, Ids, rfc3339


class Store:
    """Hands out connections, each inside one transaction that commits when its block ends without an error."""

    def __init__(self, engine: Engine, mark: Mark) -> None:
        self._engine = engine
        self._mark = mark
        self.was_restored = False
        """Whether the database turned out to be an older copy when it was opened."""
        # SQLite lets waiting writers poll; a lock lets the threads of one process queue up instead.
        self._turn = threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent view; what is written here is not meant to be."""
        with self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """The only writer until the block ends. On return everything is on disk."""
        with self._turn, self._engine.connect() as connection:
            connection.execution_options(writes=True)
            with connection.begin():
                yield connection
                commits = restore.count_commit(connection)
            self._mark.write(commits)

    def notice_restore(self, clock: Clock) -> None:
        """Whether the database is older than its mark; if so, notes that it was put back from a backup."""
        marked = self._mark.read()  # before the database, whose count goes up before the mark's
        with self.reading() as connection:
            counted = restore.counted(connection)
        if marked is not None and marked <= counted:
            return
        with self.writing() as connection:
            restore.note(connection, rfc3339(clock.now()))
            restore.set_count(connection, max(marked or 0, restore.counted(connection)))
        self.was_restored = True

    def close(self) -> None:
        """Lets go of the file."""
        self._engine.dispose()


def open_store(data_dir: Path, clock: Clock, ids: Ids, *, create: bool = True) -> Store:
    """The CRM kept in ``data_dir``; a fresh one publishes the default policy.

    AgentError(CONFIG_INVALID): no CRM there (with ``create=False``), not readable, or written by a newer version.
    """
    if not create and not sqlite.database_file(data_dir).exists():
        raise _unusable(
            f"There is no CRM in {data_dir}.", "Start it there with: terminal-agent crm serve --data-dir DIR"
        )
    try:
        sqlite.prepare_file(data_dir)
    except OSError as error:
        raise _unusable(
            f"{data_dir} cannot be used: {error.strerror}.", "Give a directory this user may write."
        ) from error
    store = Store(sqlite.make_engine(sqlite.database_file(data_dir)), Mark(data_dir))
    try:
        _bring_up_to_date(store, clock, ids)
        store.notice_restore(clock)
    except DBAPIError as error:
        store.close()
        raise _unusable(
            f"The CRM database in {data_dir} cannot be read: {error.orig}.", "Restore it from a backup."
        ) from error
    except AgentError:
        store.close()
        raise
    return store


def _bring_up_to_date(store: Store, clock: Clock, ids: Ids) -> None:
    with store.reading() as connection:
        version = _version(connection)
    if version == 0:
        with store.writing() as connection:
            version = _version(connection)  # another process may have been first
            if version == 0:
                _create(connection, rfc3339(clock.now()), ids.uuid())
                return
    if version > SCHEMA_VERSION:
        raise _unusable(
            f"The CRM database has schema {version}; this version knows {SCHEMA_VERSION}.",
            "Install the newer terminal-agent that wrote it, or give another --data-dir.",
        )


def _version(connection: Connection) -> int:
    if not inspect(connection).has_table(meta.name):
        return 0
    return int(read_meta(connection, "schema_version"))


def _create(connection: Connection, now: str, programme_id: str) -> None:
    metadata.create_all(connection)
    rows = {"schema_version": str(SCHEMA_VERSION), "programme_id": programme_id, restore.COMMITS: "0"}
    connection.execute(insert(meta), [{"key": key, "value": value} for key, value in rows.items()])
    feed.publish_policy(connection, default_policy(), now)


def read_meta(connection: Connection, key: str) -> str:
    """One of the facts about this CRM: ``schema_version`` or ``programme_id``."""
    return str(connection.execute(select(meta.c.value).where(meta.c.key == key)).scalar_one())


def _unusable(message: str, hint: str) -> AgentError:
    return AgentError(ErrorCode.CONFIG_INVALID, message, hint=hint)
