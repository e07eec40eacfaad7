"""The journal whole: its parts over one database, and the few facts about itself that it keeps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from terminal_agent.club.offers import OfferUse, local_day
from terminal_agent.journal.alarms import Alarm, AlarmCode, Alarms, alarms_of_the_disk
from terminal_agent.journal.backup import COPY_INTERVAL, Copy, copy_journal, daily_copies, daily_copy, forget_old_copies
from terminal_agent.journal.database import JournalFailed
from terminal_agent.journal.events import HASH_CHAIN_BROKEN, Events, NewEvent
from terminal_agent.journal.intents import Checkout, Checkouts, Intents
from terminal_agent.journal.knowledge import Knowledge
from terminal_agent.journal.mark import Mark, Tally
from terminal_agent.journal.offers import Offers
from terminal_agent.journal.opening import COPIED_AT, INSTALL_EPOCH, OPENED, Past, folders_aside, note_suspicion
from terminal_agent.journal.put_back import put_back
from terminal_agent.journal.salvage import salvage
from terminal_agent.journal.space import Space
from terminal_agent.journal.staff import StaffBook
from terminal_agent.journal.start import Start, UnsureName, start
from terminal_agent.journal.till import TillBook
from terminal_agent.ports import Clock, Ids, rfc3339

JOURNAL_FILE = "journal.sqlite3"
TERMINAL_ID = "terminal_id"
CLOCK_SKEW = "clock_skew_s"
"""How far this machine's clock was from the CRM's at the last exchange, in whole seconds."""
KNOWLEDGE_LOST = "knowledge_lost"
"""The hotlist is not, or may not be, what the CRM's feed had brought; a feed read to its end clears it."""
CLUB, CLOSED = "club", "closed"
"""What the CRM said: in a closed club new members wait for an approval."""
LAST_COPY = "last_backup_at"
PURGE_DUE = "purge_due"
"""A member was erased, and the log and the daily copies may still tell who that was."""
SALVAGE_DUE = "salvage_due"
"""The folder of a damaged journal of which not everything that is sound could be put back yet."""

_LAST_LETTER = "\U0010ffff"

Answer = TypeVar("Answer")


class Journal:
    """One terminal's journal. Open it once per data directory; every writer runs in :meth:`transaction`.

    Without ``space`` the disk is not watched and nothing is kept in reserve.
    """

    def __init__(
        self, data_dir: Path, terminal_id: str, currency: str, clock: Clock, ids: Ids, space: Space | None = None
    ) -> None:
        self._folder = data_dir
        self._clock = clock
        self._ids = ids
        self._space = space
        self._mark = Mark(data_dir)
        if space is not None and not space.restore() and space.is_low():
            space.release()  # opening alone takes some: the log, its index
        begun = start(data_dir / JOURNAL_FILE, self._mark.tally, clock)
        self._database = begun.database
        self._database.on_damage = self._met_damage
        self._on_damage: Callable[[JournalFailed], None] = lambda _problem: None
        self._database.keep_log_small(self.short_of_space)
        if isinstance(terminal_id, UnsureName):
            terminal_id = self.meta(TERMINAL_ID) or terminal_id
        self._opened = max(begun.found.tally, self._mark.tally or begun.found.tally).opened + 1
        self._counted = False
        self._newest: int | None = None
        self.intents = Intents(self._database, clock)
        self.checkouts = Checkouts(self._database, clock)
        self.knowledge = Knowledge(self._database, clock, currency)
        self.offers = Offers(self._database, terminal_id)
        self.alarms = Alarms(self._database, clock)
        self.till = TillBook(self._database, clock)
        self.staff = StaffBook(self._database)
        try:
            self._take_up(begun, terminal_id)
            self.staff.note_named()
            self._tell_rebuilt(begun.difference)
        except BaseException:
            self.close()
            raise

    def _take_up(self, begun: Start, terminal_id: str) -> None:
        epoch = self.meta(INSTALL_EPOCH)
        if begun.past is Past.STARTED_OVER:
            self._start_over(begun, terminal_id)
        elif begun.past is Past.RESTORED:
            with self.transaction():
                self.forget_meta(COPIED_AT)
                self._begin_again(AlarmCode.RESTORED, begun.detail, terminal_id)
        elif epoch is None or begun.past is Past.NEW or self.meta(TERMINAL_ID) != terminal_id:
            self.start_epoch(terminal_id)
        else:
            self.events = Events(self._database, self._clock, terminal_id, epoch, self._recorded)
            self._salvage_the_rest()

    def _tell_rebuilt(self, difference: str | None) -> None:
        if difference is not None:
            with suppress(JournalFailed), self.transaction():
                self.alarms.sound(AlarmCode.INDEXES_REBUILT, f"indexes were made anew from their tables: {difference}")
                self.audit(f"journal.{AlarmCode.INDEXES_REBUILT.value}", difference=difference)

    def _start_over(self, begun: Start, terminal_id: str) -> None:
        try:
            with self.transaction():
                self._begin_again(AlarmCode.STARTED_OVER, begun.detail, terminal_id)
                put_back(self, begun.salvage, self._clock)
                if begun.aside is not None and not begun.salvage.whole:
                    self.set_meta(SALVAGE_DUE, begun.aside.name)
        except JournalFailed:  # selling comes first: the old events are safe where they are
            with self.transaction():
                detail = f"{begun.detail}; there was no room to put them back yet"
                self._begin_again(AlarmCode.STARTED_OVER, detail, terminal_id)
                if begun.aside is not None:
                    self.set_meta(SALVAGE_DUE, begun.aside.name)

    def _salvage_the_rest(self) -> None:
        """What could not be put back when a journal was moved aside: at each start, and when there is room again."""
        due = self.meta(SALVAGE_DUE)
        if due is None:
            return
        folder = self._folder / due
        kept = salvage(folder / JOURNAL_FILE)
        with suppress(JournalFailed), self.transaction():
            put_back(self, kept, self._clock)
            if kept.whole or not folder.exists():
                self.forget_meta(SALVAGE_DUE)

    def begin_as_copy(self, detail: str) -> None:
        """Go on as a journal that was put back: under a new install epoch, with an alarm."""
        with self.transaction():
            self._begin_again(AlarmCode.RESTORED, detail, self.events.terminal_id)

    def _begin_again(self, code: AlarmCode, detail: str, terminal_id: str) -> None:
        self.start_epoch(terminal_id)
        self.set_meta(KNOWLEDGE_LOST, rfc3339(self._clock.now()))
        self.alarms.sound(code, detail)
        self.audit(f"journal.{code.value}", detail=detail)

    def start_epoch(self, terminal_id: str) -> None:
        """Begin a new gapless sequence: for a new journal, one that was restored, a terminal that got another id."""
        epoch = self._ids.uuid()
        with self.transaction():
            self.set_meta(INSTALL_EPOCH, epoch)
            self.set_meta(TERMINAL_ID, terminal_id)
        self.events = Events(self._database, self._clock, terminal_id, epoch, self._recorded)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and on disk when it returns."""
        with self._database.lock:
            if self._database.in_transaction:
                yield
                return
            self._watch_space()
            self._newest = None
            with self._database.transaction():
                if not self._counted:
                    self.set_meta(OPENED, str(self._opened))
                yield
            self._note_progress()

    def write(self, unit: Callable[[], Answer]) -> Answer:
        """Run ``unit`` in a transaction; where the disk has no room for it, once more with the reserve given away.

        ``unit`` must be safe to repeat after a rollback. Raises AgentError ``disk_full`` when that was not enough.
        """
        with self._database.lock:
            if self._database.in_transaction:
                return unit()
            try:
                with self.transaction():
                    return unit()
            except JournalFailed as problem:
                if not problem.no_room:
                    raise
            self._make_room()
            with self.transaction():
                return unit()

    def record(self, event: NewEvent, holder: str | None = None) -> None:
        """Mint the event of a sale or a return, and count the offers in it, for its card or for a ``holder`` without
        one; inside the caller's transaction."""
        self.events.append(event)
        uses = [OfferUse.from_json(use) for use in event.data.get("points", {}).get("offers", ())]
        holder = holder or event.card_no
        if uses and holder is not None:
            day = local_day(self.knowledge.policy(), datetime.fromisoformat(event.time))
            for use in uses:
                self.offers.note(holder, day, use)

    def event_of(self, checkout: Checkout) -> NewEvent | None:
        """The event that a checkout recorded, or will when it is settled."""
        found = self.intents.event_of(checkout.checkout_id)
        return found or self.events.find(checkout.result.get("event_id"))

    def _recorded(self, position: int) -> None:
        self._newest = position

    def _watch_space(self) -> None:
        """Before a write: what the log holds is given back first, then the reserve."""
        if self._space is None or not self._space.reserve_bytes or not self._space.is_low():
            return
        with suppress(JournalFailed):
            self._database.shrink_log()
        if self._space.is_low():
            self._make_room()

    def _make_room(self) -> None:
        if self._space is not None and self._space.release():
            self._database.keep_log_small(True)
        with suppress(JournalFailed):
            self._database.shrink_log()

    def _note_progress(self) -> None:
        if self._counted and self._newest is None:
            return
        self._counted = True
        with suppress(JournalFailed):  # what was committed stays committed, whatever can be said of it now
            self._mark.write(Tally(self._opened, self._newest or self.position()))

    def position(self) -> int:
        """How many events were ever recorded here."""
        row = self._database.one("SELECT max(position) AS n FROM outbox")
        return int(row["n"] or 0) if row else 0

    @property
    def short_of_space(self) -> bool:
        """Whether sales live on the reserve, or are about to; nothing is redeemed meanwhile."""
        return self._space is not None and self._space.short

    @property
    def knowledge_lost(self) -> bool:
        """Whether this terminal must hear from the CRM before it may redeem by itself."""
        return self.meta(KNOWLEDGE_LOST) is not None

    def when_damaged(self, action: Callable[[JournalFailed], None]) -> None:
        """Call ``action``, from whichever thread met it, when the file turns out to be damaged while it is in use."""
        self._on_damage = action

    def _met_damage(self, problem: JournalFailed) -> None:
        note_suspicion(self._database.path)
        self._on_damage(problem)

    def keep_house(self) -> None:
        """What is done now and then: the reserve is set aside again when there is room, and a copy made each day."""
        with self._database.lock:
            if self._space is not None and self._space.restore():
                self._database.keep_log_small(False)
                self._salvage_the_rest()
        if not self.short_of_space and self._copy_is_due() and self._copy_fits():
            copy = daily_copy(self._folder, self._clock.now())
            if not copy.exists():  # a clock that was set back may name one twice
                self.back_up(copy)
                forget_old_copies(self._folder)

    def _copy_is_due(self) -> bool:
        last = self.meta(LAST_COPY)
        return last is None or abs(self._clock.now() - datetime.fromisoformat(last)) >= COPY_INTERVAL

    def _copy_fits(self) -> bool:
        return self._space is None or self._space.has_room_for((self._folder / JOURNAL_FILE).stat().st_size)

    def back_up(self, target: Path) -> Copy:
        """Write a copy to ``target`` while sales go on. Raises AgentError."""
        copy = copy_journal(self._database, target, self._clock.now())
        with self.transaction():
            self.set_meta(LAST_COPY, rfc3339(self._clock.now()))
            self.audit("journal.backed_up", file=copy.file, events=copy.events)
        return copy

    def erase_member(self, member_id: str, card_nos: set[str]) -> None:
        """Forget who a member is, for good: :meth:`purge` must follow. Their cards are blanked when they are tapped."""
        with self.transaction():
            known = self.knowledge.member(member_id)
            found = self.knowledge.erase_member(member_id, card_nos)
            found += self.till.redact_phone(known.phone) if known and known.phone else 0
            found += self.events.redact({member_id}) + self.intents.redact({member_id})
            found += self.checkouts.redact(card_nos) + self.till.redact(member_id, card_nos)
            if found:
                self.set_meta(PURGE_DUE, rfc3339(self._clock.now()))
                self.audit("member.erased", member_id=member_id, cards=sorted(card_nos))

    def purge(self) -> None:
        """After an erasure: what was overwritten leaves the log too, and a new copy takes the place of older ones.

        Raises AgentError where the disk will not have it; then it is still due.
        """
        if self.meta(PURGE_DUE) is None:
            return
        self._database.shrink_log()
        outdated = daily_copies(self._folder)
        if outdated:
            moment = self._clock.now()
            while (copy := daily_copy(self._folder, moment)) in outdated:
                moment += timedelta(seconds=1)
            self.back_up(copy)
            for path in outdated:
                path.unlink()
        with self.transaction():
            self.forget_meta(PURGE_DUE)

    def damaged_folders(self) -> list[str]:
        """Journals that were moved aside, and are a person's to delete."""
        return [str(folder) for folder in folders_aside(self._folder)]

    def integrity_problems(self) -> list[str]:
        """What SQLite finds wrong, indexes included; table by table, so that a tap waits for one of them at most.
        The next start then looks as thoroughly, and mends it or moves the file aside."""
        tables = self._database.query(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*'"
        )
        found = [self._database.query(f"PRAGMA integrity_check('{table['name']}')") for table in tables]
        problems = [row[0] for rows in found for row in rows if row[0] != "ok"]
        if problems:
            note_suspicion(self._database.path)
        lost = self._database.query("PRAGMA foreign_key_check")
        return problems + [f"row {row['rowid']} of {row['table']} names what is not there" for row in lost]

    def durability(self) -> tuple[str, int, str]:
        """``journal_mode`` and ``synchronous`` as SQLite has them now, and its version."""
        asked = ("PRAGMA journal_mode", "PRAGMA synchronous", "SELECT sqlite_version()")
        mode, synchronous, version = (self._database.query(sql)[0][0] for sql in asked)
        return mode, synchronous, version

    def standing_alarms(self) -> list[Alarm]:
        """Everything a person must know now, the most pressing first."""
        now = alarms_of_the_disk(self._folder, self._space)
        broken = self.events.count_quarantined_for(HASH_CHAIN_BROKEN)
        if broken:
            detail = f"{broken} events are not what was minted, and were not sent"
            now.append(Alarm(AlarmCode.HASH_CHAIN_BROKEN, None, detail))
        unreadable = self.knowledge.unreadable_policies()
        if unreadable:
            detail = f"{unreadable} policies cannot be read any more: the newest that can be is followed"
            now.append(Alarm(AlarmCode.POLICY_UNREADABLE, None, detail))
        return now + self.alarms.standing()

    def acknowledge_alarms(self) -> int:
        """A person has read what stands; how many alarms that were."""
        with self.transaction():
            count = self.alarms.acknowledge()
            if count:
                self.audit("journal.alarms_acknowledged", count=count)
        return count

    def health(self) -> dict[str, Any]:
        """The ``journal`` of ``status``."""
        alarms = self.standing_alarms()
        return {
            "state": alarms[0].code.value if alarms else "ok",
            "install_epoch": self.events.install_epoch,
            "events": self.position(),
            "free_bytes": self._space.free_bytes() if self._space else None,
            "reserve_bytes": self._space.reserve_bytes if self._space else None,
            "last_backup_at": self.meta(LAST_COPY),
            "alarms": [alarm.to_json() for alarm in alarms],
        }

    def meta(self, key: str) -> str | None:
        """A fact the journal keeps about itself, or None."""
        row = self._database.one("SELECT value FROM meta WHERE key = ?", key)
        return row["value"] if row else None

    def meta_keys(self, beginning: str) -> list[str]:
        """The names of the facts that begin so."""
        rows = self._database.query(
            "SELECT key FROM meta WHERE key >= ? AND key < ?", beginning, beginning + _LAST_LETTER
        )
        return [row["key"] for row in rows]

    def set_meta(self, key: str, value: str) -> None:
        """Keep a fact, inside the caller's transaction."""
        self._database.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", key, value
        )

    def forget_meta(self, key: str) -> None:
        """Keep a fact no longer, inside the caller's transaction."""
        self._database.execute("DELETE FROM meta WHERE key = ?", key)

    def audit(self, action: str, **detail: Any) -> None:
        """Add a line to the audit log, inside the caller's transaction. Never a key, a token or a member's name."""
        self._database.execute(
            "INSERT INTO audit (time, action, detail) VALUES (?, ?, ?)",
            rfc3339(self._clock.now()),
            action,
            json.dumps(detail, sort_keys=True),
        )

    def close(self) -> None:
        self._database.close()
