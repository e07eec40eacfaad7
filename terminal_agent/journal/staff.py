"""Who may sign in at the till, and whether anybody was ever named.

Rows can be lost with a damaged journal. That a page asks who stands there must not be lost with them, or it would sell
for anybody: a file beside the journal says so too.
"""

from __future__ import annotations

import json
import logging
import re
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from terminal_agent.journal.database import Database
from terminal_agent.journal.files import sync_folder

log = logging.getLogger(__name__)

NAMED_FILE = "cashiers.named"
LOG_STEP = 10_000
_DONE_AT_THE_TILL = (
    "SELECT entry, time, action, detail FROM audit WHERE entry > ? AND entry <= ? AND action GLOB 'till.*' "
    "AND ? IN ('', json_extract(detail, '$.receipt_no')) ORDER BY entry DESC LIMIT ?"
)
_PIN_HASH = re.compile(r"[0-9a-f]{32}\$[0-9a-f]{64}")


class Role(StrEnum):
    """What somebody at the till may do; each may do what those before it may."""

    CASHIER = "cashier"
    SUPERVISOR = "supervisor"
    ADMINISTRATOR = "administrator"


@dataclass(frozen=True)
class Cashier:
    """Somebody who may sign in. ``pin_hash`` is salted; after ``wrong_pins`` in a row none is looked at until
    ``next_try_at``. ``card_no``: their staff card, if they have one."""

    name: str
    role: str
    pin_hash: str
    created_at: str
    wrong_pins: int = 0
    next_try_at: str | None = None
    card_no: str | None = None


class StaffBook:
    """The cashiers of this till. Writers run in the journal's transaction, and call :meth:`note_named` after it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._named = named_file(database.path.parent)

    def put(self, cashier: Cashier) -> None:
        """A new one, or everything anew for the one of that name."""
        columns = ", ".join(vars(cashier))
        marks = ", ".join("?" * len(vars(cashier)))
        changes = ", ".join(f"{name} = excluded.{name}" for name in vars(cashier))
        sql = f"INSERT INTO cashiers ({columns}) VALUES ({marks}) ON CONFLICT (name) DO UPDATE SET {changes}"
        self._database.execute(sql, *vars(cashier).values())

    def cashier(self, name: str) -> Cashier | None:
        row = self._database.one("SELECT * FROM cashiers WHERE name = ?", name)
        return Cashier(**dict(row)) if row else None

    def owner_of(self, card_no: str) -> Cashier | None:
        """Whose staff card this is."""
        row = self._database.one("SELECT * FROM cashiers WHERE card_no = ?", card_no)
        return Cashier(**dict(row)) if row else None

    def cashiers(self) -> list[Cashier]:
        """By name."""
        return [Cashier(**dict(row)) for row in self._database.query("SELECT * FROM cashiers ORDER BY name")]

    def remove(self, name: str) -> bool:
        """Whether there was one of that name."""
        return self._database.execute("DELETE FROM cashiers WHERE name = ?", name) > 0

    def note_pin(self, name: str, wrong_pins: int, next_try_at: str | None) -> None:
        sql = "UPDATE cashiers SET wrong_pins = ?, next_try_at = ? WHERE name = ?"
        self._database.execute(sql, wrong_pins, next_try_at, name)

    @property
    def is_asked_for(self) -> bool:
        """Whether a page must say who stands there: cashiers are named, or were and are lost."""
        return self._named.exists() or bool(self.cashiers())

    def note_named(self, *, removed: bool = False) -> None:
        """Have the file beside the journal say what the journal says. It goes with a cashier who was ``removed`` as the
        last one, never because none can be found. A disk that refuses it stops nothing: the next start tries again."""
        try:
            if self.cashiers():
                self._named.touch(mode=0o600)
                sync_folder(self._named.parent)
            elif removed:
                self._named.unlink(missing_ok=True)
                sync_folder(self._named.parent)
        except OSError as error:
            log.warning("that cashiers are named cannot be noted beside the journal: %s", error)

    def log(self, receipt_no: str | None, most: int) -> list[dict[str, Any]]:
        """What was done at the till and who did it, newest first: ``{entry, time, action, detail}``; of one receipt, or
        all of it."""
        found: list[dict[str, Any]] = []
        newest = self._database.one("SELECT max(entry) AS entry FROM audit")
        upto = int(newest["entry"] or 0) if newest else 0
        while upto > 0 and len(found) < most:  # step by step, so that a tap waits for one of them at most
            rows = self._database.query(_DONE_AT_THE_TILL, upto - LOG_STEP, upto, receipt_no or "", most - len(found))
            found += [{**dict(row), "detail": json.loads(row["detail"])} for row in rows]
            upto -= LOG_STEP
        return found

    def readmit(self, rows: list[dict[str, Any]]) -> None:
        """Put the cashiers of a damaged journal back, inside the caller's transaction; not where somebody was named
        since, who decides anew. A row that is no cashier's is left out."""
        if self.cashiers():
            return
        for row in rows:
            with suppress(TypeError, ValueError, sqlite3.IntegrityError):
                cashier = Cashier(**row)
                if cashier.name and Role(cashier.role) and _PIN_HASH.fullmatch(cashier.pin_hash):
                    self.put(cashier)


def named_file(folder: Path) -> Path:
    """What is there as long as a page must ask who stands at the till."""
    return folder / NAMED_FILE
