"""All that is particular to PostgreSQL: how it is reached, what it must promise, how a transaction begins.

Writers run side by side under READ COMMITTED: what must not be done by two at once is locked first (:mod:`turns`), and
whatever is read after that is current.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from terminal_agent.crm.place import DatabaseUrl
from terminal_agent.crm.schema import meta
from terminal_agent.errors import AgentError, ErrorCode

_SCHEMES = ("postgresql://", "postgres://")
_PASSWORDS = {"password", "sslpassword"}
_CONNECT_TIMEOUT_S = 10
_POOL = 8
_LOCK_TIMEOUT_S = 30
# Serialization failure, deadlock; a key that another transaction wrote first: seen by whoever looks again.
_CONFLICTS = {"40001", "40P01", "23505"}
_TABLES_LOCK = 0x7465726D  # any number that no other program on this database takes
_HOME = "home"
_HIDDEN = "(its details are left out: they may hold personal data)"


class PostgresDatabase:
    """A CRM in a database of its own on a PostgreSQL server. As :class:`database.Database`."""

    advice = "Start PostgreSQL, check the URL and ~/.pgpass, or restore the database from a backup."

    def __init__(self, url: DatabaseUrl) -> None:
        """DBAPIError: it cannot be reached. AgentError: CONFIG_INVALID, it would not keep what it acknowledges."""
        parts = _parts_of(url)
        told = [f"{name}={parts[name]}" for name in ("service", "host", "port", "dbname") if parts.get(name)]
        self.name = " ".join(["on PostgreSQL", *told])
        self._engine = make_engine(url)
        try:
            with self._engine.connect() as connection:
                self.warnings = _check_server(connection)
        except (AgentError, DBAPIError):
            self._engine.dispose()
            raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent view; nothing can be written."""
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with self._engine.connect().execution_options(**options) as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One of many writers."""
        with self._engine.connect() as connection, connection.begin():
            yield connection

    def changing_tables(self, connection: Connection) -> None:
        """Waits for other processes that start at the same time."""
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _TABLES_LOCK})

    def fill(self, connection: Connection) -> None:
        """Notes where these tables were made."""
        connection.execute(insert(meta).values(key=_HOME, value=_home_of(connection)))

    def was_put_back(self) -> bool:
        """Whether the tables stand elsewhere than where they were made: copied in from a dump, or a standby or a
        recovery took over. A copy of all the server's files looks the same; terminals tell of that one."""
        with self.reading() as connection:
            noted = connection.execute(select(meta.c.value).where(meta.c.key == _HOME)).scalar_one()
            return str(noted) != _home_of(connection)

    def go_on(self, connection: Connection) -> None:
        """This is their home now."""
        connection.execute(update(meta).where(meta.c.key == _HOME).values(value=_home_of(connection)))

    def is_conflict(self, error: DBAPIError) -> bool:
        """Whether others were in the way."""
        return getattr(error.orig, "sqlstate", None) in _CONFLICTS

    def close(self) -> None:
        """Ends its connections."""
        self._engine.dispose()


def _parts_of(url: DatabaseUrl) -> dict[str, Any]:
    """What the URL says, by libpq's names. AgentError: CONFIG_INVALID."""
    if not url.text.startswith(_SCHEMES):
        raise _unusable("A database URL begins with postgresql://.", "For SQLite give --data-dir instead.")
    try:
        parts = conninfo_to_dict(url.text)
    except psycopg.ProgrammingError:  # its message quotes what may be a password
        hint = "Write it like postgresql://USER@HOST:5432/NAME."
        raise _unusable("The database URL cannot be read.", hint) from None
    if _PASSWORDS & parts.keys():
        raise _unusable(
            "The database URL holds a password, which every user of this machine can read.",
            "Keep it in ~/.pgpass, in a file that PGPASSFILE names, or behind a service of ~/.pg_service.conf.",
        )
    return dict(parts)


def make_engine(url: DatabaseUrl) -> Engine:
    """An engine whose connections are durable and whose errors name no values."""

    timeout = {} if "connect_timeout" in _parts_of(url) else {"connect_timeout": _CONNECT_TIMEOUT_S}
    wanted = make_conninfo(url.text, application_name="terminal-agent crm", **timeout)
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(wanted),
        hide_parameters=True,
        pool_size=_POOL,
        max_overflow=0,
        pool_pre_ping=True,  # the server may have been started anew
        isolation_level="READ COMMITTED",
    )
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "handle_error", _hide_values)
    return engine


def _set_up(connection: psycopg.Connection[Any], _record: Any) -> None:
    with connection.cursor() as cursor:
        # Any other value than off waits at least for our own disk; a stronger one is the administrator's choice.
        cursor.execute("SELECT current_setting('synchronous_commit')")
        if cursor.fetchone() == ("off",):
            cursor.execute("SET synchronous_commit TO on")
        cursor.execute(f"SET lock_timeout TO '{_LOCK_TIMEOUT_S}s'")
        cursor.execute(f"SET idle_in_transaction_session_timeout TO '{2 * _LOCK_TIMEOUT_S}s'")
    connection.commit()


def _check_server(connection: Connection) -> tuple[str, ...]:
    row = connection.execute(
        text(
            "SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS pages,"
            " current_setting('server_encoding') AS encoding, pg_is_in_recovery() AS standby"
        )
    ).one()
    if row.fsync != "on":
        raise _unusable(
            "This PostgreSQL runs with fsync=off: a power cut would lose what was acknowledged.",
            "Set fsync = on in postgresql.conf and restart it.",
        )
    if row.standby:
        raise _unusable("This PostgreSQL is a standby; nothing can be written there.", "Give the primary's address.")
    if row.encoding != "UTF8":
        raise _unusable(f"This database is in {row.encoding}.", "Make one with: createdb --encoding UTF8 NAME.")
    odd = "full_page_writes is off: a power cut may damage the database, unless the file system writes pages whole"
    return () if row.pages == "on" else (odd,)


def _home_of(connection: Connection) -> str:
    """Which server on which timeline, and which making of the tables."""
    query = text(
        "SELECT (SELECT system_identifier FROM pg_control_system()) || '/' ||"
        " (SELECT timeline_id FROM pg_control_checkpoint()) || '/' || CAST(CAST('meta' AS regclass) AS oid)"
    )
    return str(connection.execute(query).scalar_one())


def _hide_values(context: ExceptionContext) -> None:
    """The server's words quote rows; what its log and our caller need is the kind of error and where."""
    error = context.original_exception
    if not isinstance(error, psycopg.Error) or error.sqlstate is None:
        return
    where = " ".join(name for name in (error.diag.table_name, error.diag.constraint_name) if name)
    told = f"{error.sqlstate} {type(error).__name__} {where} {_HIDDEN}"
    error.args = (told,)
    if context.sqlalchemy_exception is not None:
        context.sqlalchemy_exception.args = (f"({type(error).__name__}) {told}",)


def _unusable(message: str, hint: str) -> AgentError:
    return AgentError(ErrorCode.CONFIG_INVALID, message, hint=hint)
