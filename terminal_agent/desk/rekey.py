"""Re-keying: a card goes on living, and every sector of it opens with the active key set instead of an older one.

A trailer torn into garbage is the end of its sector, so the trailer of the sector the card lives in is never written.
The card moves to its other home first: the content is written there, marked as arriving, and then that sector's
trailer; the old home's identity is erased, which makes the new one count; the mark is taken away. Only then do the
old home and the other sectors get their keys. At every step exactly one home counts (docs/card-format.md section 4.3),
so any tap in between works, and running this again finishes it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from drivers.base import ClassicConnection
from drivers.errors import AccessDenied, AuthenticationFailed
from drivers.mifare_classic import (
    BLOCK_SIZE,
    MAD_GENERAL_PURPOSE_BYTE,
    SECTOR_COUNT,
    SectorTrailer,
    data_blocks,
    trailer_of,
)
from terminal_agent import taps
from terminal_agent.card.keys import CardKeys, KeysUnavailable, key_sets
from terminal_agent.card.layout import (
    HISTORY_SECTORS,
    Home,
    Identity,
    SealBroken,
    encode_arrival,
    encode_identity,
    encode_state,
    home_of,
    reseal_history,
)
from terminal_agent.card.problems import data_corrupt
from terminal_agent.card.session import LiveSector, authoritative, in_order, look, open_sector, read_home, refusal
from terminal_agent.desk.issue import issued_trailer, require_may_issue, verify_trailer, write_verified
from terminal_agent.errors import AgentError
from terminal_agent.journal.database import JournalFailed
from terminal_agent.taps import PresentedCard, Terminal

EMPTY = bytes(BLOCK_SIZE)
BEGUN = "begun"
MOST_REFUSALS = 3
"""Runs that a card may refuse to finish before it is left to ``card rekey``."""


def rekey(terminal: Terminal, connection: ClassicConnection) -> dict[str, Any]:
    """Bring the card in the field under the active key set; safe to run again after any interruption.

    Gives ``{uid, card_no, sequence, points, key_set_version, previous_key_set_version, rekeyed, warnings}``. Where the
    card's other home is dead, ``rekeyed`` is false: the card goes on under its old set. Raises AgentError for a card
    that may not be used, or what the driver raises; a session opened on this connection before is stale.
    """
    require_may_issue(terminal)
    card = taps.settle(terminal, taps.present(terminal, connection))
    taps.refuse_unusable(terminal, card)
    work = _Rekeying(terminal, connection)
    work.run()
    after = taps.present(terminal, connection)
    rekeyed = after.session.keys.version == work.target.version
    _record(terminal, after, work, rekeyed=rekeyed)
    return {
        "uid": after.session.uid.hex(),
        "card_no": after.card_no,
        "sequence": after.state.sequence,
        "points": after.state.balance,
        "key_set_version": after.session.keys.version,
        "previous_key_set_version": work.previous,
        "rekeyed": rekeyed,
        "warnings": work.warnings,
    }


def is_due(terminal: Terminal, card: PresentedCard) -> bool:
    """Whether this card should be re-keyed: it is under an older set, or a run begun here was cut short.

    A run cut short at another shop shows in the card's homes, or in a sector of its history that the tap has opened.
    Never back to a lower version, so that tills which change over one after the other do not undo each other's work.
    A run that the card did not let finish is tried again at a later tap: most refusals are a card that lay badly, and
    the others must not cost a run at each sale for ever.
    """
    active = terminal.keys.versions()[0]
    noted = terminal.journal.meta(_note(card.session.uid))
    if card.session.keys.version > active or not terminal.keys.may_issue(active):
        return False
    if noted == BEGUN or card.session.is_moving:
        return True
    refusals = _refusals(noted, active)
    if refusals:
        return refusals < MOST_REFUSALS
    return card.session.keys.version < active or card.session.is_mixed


def _note(uid: bytes) -> str:
    return f"rekey:{uid.hex()}"


def _refused(version: int, runs: int) -> str:
    return f"refused {version} {runs}"


def _refusals(noted: str | None, version: int) -> int:
    """Runs to this set that the card refused to finish. A note without a number was one."""
    words = (noted or "").split()
    if words[:2] != ["refused", str(version)]:
        return 0
    return int(words[2]) if len(words) > 2 else 1


def _record(terminal: Terminal, card: PresentedCard, work: _Rekeying, *, rekeyed: bool) -> None:
    """What the journal keeps: the set the card is under now, a line in the audit log, no event."""
    journal, note = terminal.journal, _note(card.session.uid)
    with journal.transaction():
        if work.has_begun:
            journal.audit(
                "card.rekeyed" if rekeyed else "card.not_rekeyed",
                uid=card.session.uid.hex(),
                card_no=card.card_no,
                from_version=work.previous,
                to_version=work.target.version,
                warnings=work.warnings,
            )
        if rekeyed and not work.warnings:
            journal.forget_meta(note)
        else:
            journal.set_meta(note, _refused(work.target.version, work.refused_before + 1))
        taps.remember_state(terminal, card, card.state)


class _Rekeying:
    """One run: what it met, what it did, what it could not do."""

    def __init__(self, terminal: Terminal, connection: ClassicConnection) -> None:
        self._terminal = terminal
        self._connection = connection
        self._sets = key_sets(terminal.keys, connection.uid)
        self.target = self._sets[0]
        self.previous = self.target.version
        self.warnings: list[str] = []
        self.has_begun = False
        self.refused_before = _refusals(terminal.journal.meta(_note(connection.uid)), self.target.version)

    def run(self) -> None:
        """Move the card if it lives under another set, give all other sectors their keys, then bring it to its home."""
        live = self._live()
        if not live.settled and not self._try(live.home, self._settle_in, live):
            return  # as long as it is only arriving, the home it left must stay readable
        if live.keys.version != self.target.version:
            if not self._try(live.home.other, self._move, live):
                return
            live = self._live()
        dead = [sector for sector in _others(live.home) if not self._try(sector, self._rekey_sector, sector, live.home)]
        wanted = home_of(self.target.version)
        if live.home != wanted and wanted.sector not in dead and self._try(wanted, self._move, live):
            self._try(wanted.other, self._rekey_sector, wanted.other.sector, wanted)

    def _try(self, place: int | Home, step: Callable[..., None], *args: Any) -> bool:
        """Whether the step was done; a sector that will not have it is a warning, and the card goes on without."""
        try:
            step(*args)
        except (JournalFailed, KeysUnavailable):  # which are not the card's fault
            raise
        except (AuthenticationFailed, AccessDenied, AgentError) as error:
            sector = place.sector if isinstance(place, Home) else place
            self.warnings.append(f"sector {sector} does not take the new keys ({error})")
            return False
        return True

    def _live(self) -> LiveSector:
        found = look(self._connection, self._terminal.keys)
        live = authoritative(found)
        if live is None:
            raise refusal(self._connection, found, known=True)
        self._met(live.keys)
        return live

    def _move(self, live: LiveSector) -> None:
        """Give the card its other home, under the target set; until the old identity is erased the old one counts."""
        arrived = self._fill(live)
        self._open(live.home.sector, [live.keys])
        self._write(live.home.identity_block, EMPTY)
        self._settle_in(arrived)

    def _fill(self, live: LiveSector) -> LiveSector:
        """Write the content to the other home, marked as arriving, then that sector's trailer, and read it back."""
        to, wanted = live.home.other, self._content(live)
        keys = self._open(to.sector, self._sets)
        present = {block: self._connection.read_block(block) for block in to.blocks}
        if present != wanted:
            if any(present[to.identity_block]):
                self._write(to.identity_block, EMPTY)  # what is changed bit by bit must not count meanwhile
            for block in (*to.state_blocks, to.identity_block):
                self._write(block, wanted[block])
        self._give_keys(to.sector, keys)
        arrived = read_home(self._connection, to, self.target).live
        if arrived is None or arrived.settled or arrived.newest != live.newest:
            raise data_corrupt(f"sector {to.sector} does not keep what is written to it")
        return arrived

    def _content(self, live: LiveSector) -> dict[int, bytes]:
        """The other home's three blocks under the target set. A slot that is invalid is marked with the newest state,
        which has no place there, and so becomes zeros in the end."""
        to, keys, newest = live.home.other, self.target, live.newest
        older = live.slots[1 - newest.slot] or newest
        identity = Identity(keys.version, live.identity.programme, live.identity.card_no)
        return {
            to.identity_block: encode_identity(keys.identity_key, identity),
            to.state_blocks[newest.slot]: encode_state(keys.state_key, newest),
            to.state_blocks[1 - newest.slot]: encode_arrival(keys.state_key, older),
        }

    def _settle_in(self, live: LiveSector) -> None:
        """Take the mark away: from now on this home counts by itself."""
        slot, older = 1 - live.newest.slot, live.arriving
        content = EMPTY if older is None or older.slot != slot else encode_state(live.keys.state_key, older)
        self._open(live.home.sector, [live.keys])
        self._write(live.home.state_blocks[slot], content)

    def _rekey_sector(self, sector: int, home: Home) -> None:
        """A sector the card does not live in: the home it left is emptied, history passes to the new keys."""
        keys = self._open(sector, self._sets)
        if sector == home.other.sector:
            for block in data_blocks(sector):
                if any(self._connection.read_block(block)):
                    self._write(block, EMPTY)
        elif sector in HISTORY_SECTORS and keys.version != self.target.version:
            for block in data_blocks(sector):
                self._reseal(block, keys)
        self._give_keys(sector, keys)

    def _reseal(self, block: int, keys: CardKeys) -> None:
        """An entry under the target set, unless an earlier run did that; one that nobody can read is dropped."""
        raw = self._connection.read_block(block)
        if not any(raw):
            return
        for old in (self.target, keys):
            with suppress(SealBroken):
                resealed = reseal_history(old.history_key, self.target.history_key, raw)
                break
        else:
            resealed = EMPTY
        if resealed != raw:
            self._write(block, resealed)

    def _give_keys(self, sector: int, keys: CardKeys) -> None:
        """The target set's trailer for the sector that ``keys`` have opened, verified; left open with key B."""
        block = trailer_of(sector)
        has_directory = sector == 0 and self._connection.read_block(block)[9] == MAD_GENERAL_PURPOSE_BYTE
        trailer = issued_trailer(self.target, sector, mad=has_directory)
        if keys.version == self.target.version:
            if self._is_whole(sector, trailer):
                return
            self._open(sector, [keys])
        self._begin()
        self._connection.write_block(block, trailer.encode())
        verify_trailer(self._connection, sector, trailer)

    def _is_whole(self, sector: int, trailer: SectorTrailer) -> bool:
        """A trailer cut short may have got one of its keys and not the other."""
        try:
            verify_trailer(self._connection, sector, trailer)
        except (AuthenticationFailed, AgentError):
            return False
        return True

    def _open(self, sector: int, sets: list[CardKeys]) -> CardKeys:
        keys = open_sector(self._connection, sector, sets)
        self._sets = in_order(keys, self._sets)  # the next sector is likely under the same
        self._met(keys)
        return keys

    def _met(self, keys: CardKeys) -> None:
        if self.previous == self.target.version:
            self.previous = keys.version

    def _write(self, block: int, data: bytes) -> None:
        self._begin()
        write_verified(self._connection, block, data)

    def _begin(self) -> None:
        """Before the first write: that a run was begun here is known (:func:`is_due`) until one is finished."""
        if self.has_begun:
            return
        uid, journal = self._connection.uid, self._terminal.journal
        with journal.transaction():
            journal.set_meta(_note(uid), BEGUN)
            journal.audit("card.rekey_begun", uid=uid.hex(), from_version=self.previous, to_version=self.target.version)
        self.has_begun = True


def _others(home: Home) -> list[int]:
    """Every sector but the card's home: the one it may have left first; the history last, because any shop's taps come
    by there and see what is still to do (:func:`is_due`)."""
    mine = {home.sector, home.other.sector}
    empty = [sector for sector in range(SECTOR_COUNT) if sector not in mine and sector not in HISTORY_SECTORS]
    return [home.other.sector, *empty, *HISTORY_SECTORS]
