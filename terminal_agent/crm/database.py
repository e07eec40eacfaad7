"""What a CRM asks of the database it is kept in. The two kinds: :mod:`sqlite`, :mod:`postgres`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError


class Database(Protocol):
    """A place for a CRM, prepared and durable: what is committed in it is on disk."""

    name: str
    """For people: where it is, nothing secret."""
    advice: str
    """For people: what to do when it cannot be used."""
    warnings: tuple[str, ...]
    """For people: what is odd about it and no reason to refuse it."""

    def reading(self) -> AbstractContextManager[Connection]:
        """A consistent view in one transaction."""

    def writing(self) -> AbstractContextManager[Connection]:
        """One transaction that commits when its block ends without an error; what is read in it may be written."""

    def changing_tables(self, connection: Connection) -> None:
        """Keeps other processes from creating or changing tables until the transaction ends."""

    def fill(self, connection: Connection) -> None:
        """Adds the facts it keeps of itself to fresh tables."""

    def was_put_back(self) -> bool:
        """Whether the database turns out to be an older copy of itself."""

    def go_on(self, connection: Connection) -> None:
        """Takes it for the present one from now on."""

    def is_conflict(self, error: DBAPIError) -> bool:
        """Whether a transaction failed because of others at the same time, so that doing it again may succeed."""

    def close(self) -> None:
        """Lets go of it."""
