"""Putting a dump back on a card: everything is checked before the first write, every block is proved after it.

Restoring an image of a card of ours is a rollback. So what this shop has seen of the card is left as it is, and a till
that saw a newer state refuses the card.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from drivers.base import ClassicConnection
from drivers.card_dump import CardDump, whole
from drivers.dumps import DumpFormat
from drivers.errors import AccessDenied, CardRemoved, DriverError, ReaderError
from drivers.mifare_classic import (
    BLOCK_COUNT,
    KEY_SIZE,
    SECTOR_COUNT,
    TRANSPORT_KEY,
    KeyType,
    SectorTrailer,
    is_trailer,
    trailer_of,
    uid_of_manufacturer_block,
)
from terminal_agent.card.layout import HOMES
from terminal_agent.card.problems import data_corrupt
from terminal_agent.desk.dump import UNTOUCHED, DumpFile, KeyRing, Sector, read_sector
from terminal_agent.desk.inspect import wipe_order
from terminal_agent.desk.issue import issue_order, require_may_issue, verify_trailer, write_verified
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.taps import Terminal

UNFILLED_KEY = bytes(KEY_SIZE)


@dataclass(frozen=True)
class RestoreRequest:
    """What to put on the card, and what was said beside it. Raises AgentError ``dump_invalid`` for a dump that must not
    be written as it is, before any card is asked for."""

    dump: CardDump
    format: DumpFormat
    keys_from: CardDump | None = None
    """Another dump, for the keys that the card has now."""
    partial: bool = False
    """Leave alone what the dump does not know."""
    with_block_0: bool = False
    """Write block 0 too; only cards made for copying take it."""
    allow_lock: bool = False
    """Take trailers after which a sector can never be changed again, or whose keys look lost."""

    @classmethod
    def of(cls, sent: dict[str, Any]) -> RestoreRequest:
        """From what the command sent: ``input`` and ``keys_from`` as files, the options by name. Raises AgentError."""
        file, keys = DumpFile.of(sent["input"]), sent.get("keys_from")
        options = {option: bool(sent.get(option)) for option in ("partial", "with_block_0", "allow_lock")}
        return cls(file.dump, file.format, DumpFile.of(keys).dump if keys else None, **options)

    def __post_init__(self) -> None:
        unknown = self.dump.unknown_blocks
        if unknown and not self.partial:
            raise _refused(
                f"the dump does not know {len(unknown)} of {BLOCK_COUNT} blocks",
                "To write the others and leave these as they are, add --partial",
            )
        for sector in range(SECTOR_COUNT):
            raw = self.dump.block(trailer_of(sector))
            if raw is not None:
                self._check_trailer(sector, raw)

    def _check_trailer(self, sector: int, raw: bytes) -> None:
        try:
            trailer = SectorTrailer.parse(raw)
        except ValueError:
            raise _refused(
                f"the access bits of sector {sector} contradict themselves: the card would lose the sector for ever",
                "Mend the dump, or make a new one: such bits are never written",
            ) from None
        problem = _lock(trailer)
        if problem and not self.allow_lock:
            raise _refused(f"sector {sector} {problem}", "If that is what you want, add --allow-lock")


def _refused(message: str, hint: str) -> AgentError:
    return AgentError(ErrorCode.DUMP_INVALID, message, hint=f"{hint}. {UNTOUCHED}")


def _lock(trailer: SectorTrailer) -> str | None:
    """Why a trailer would lock its sector, or None."""
    access = trailer.access
    useless = {KeyType.B.value} if access.key_b_is_readable else set()
    if not access.trailer.write_access_bits - useless:
        return "could never have its access bits changed again"
    if trailer.key_a == UNFILLED_KEY or (trailer.key_b == UNFILLED_KEY and not useless):
        return "would get a key of zeros, which stand in dumps of tools that did not know the key"
    return None


@dataclass
class Plan:
    """What a sector still needs: data with the key that may write it, then the trailer; block 0 last of all."""

    sector: Sector
    data: list[tuple[int, bytes, KeyType]] = field(default_factory=list)
    trailer: tuple[SectorTrailer, KeyType] | None = None
    block_0: bytes | None = None
    skipped: int = 0

    @property
    def writes(self) -> int:
        return len(self.data) + (self.trailer is not None) + (self.block_0 is not None)

    @property
    def afterwards(self) -> Sector:
        """How the sector opens once its trailer is written."""
        if self.trailer is None:
            return self.sector
        trailer, _ = self.trailer
        keys = {KeyType.A: trailer.key_a, KeyType.B: trailer.key_b}
        return Sector(self.sector.number, keys, trailer.encode()[6:10])


def restore(terminal: Terminal, connection: ClassicConnection, request: RestoreRequest) -> dict[str, Any]:
    """Make the card hold what the dump says, block for block. Safe to run again after a card taken away too soon.

    Only what differs is written: data under the key that opens the sector now, then its trailer, then proof that both
    new keys open it. Raises AgentError ``key_rejected`` before the first write for a card that would not take it all,
    ``unsupported_card`` for one that keeps its block 0, ``data_corrupt`` for a sector that fails on the way,
    ``config_invalid`` for keys of a set under which this terminal makes no cards.
    """
    ring = KeyRing.of(terminal, connection.uid, request.dump, request.keys_from)
    plans = [_plan(read_sector(connection, ring, number), request, connection.uid) for number in _order(request.dump)]
    _require_may_make(terminal, plans, {connection.uid, request.dump.uid or connection.uid})
    skipped = sum(plan.skipped for plan in plans)
    answer = {
        "uid": connection.uid.hex(),
        "dump_uid": request.dump.uid.hex() if request.dump.uid else None,
        "format": request.format.value,
        "blocks_written": sum(plan.writes for plan in plans),
        "blocks_verified": BLOCK_COUNT - skipped,
        "blocks_skipped": skipped,
    }
    _audit(terminal, "card.restore_begun", answer)
    _carry_out(connection, plans)
    _audit(terminal, "card.restored", answer)
    return answer


def _require_may_make(terminal: Terminal, plans: list[Plan], uids: set[bytes]) -> None:
    """Keys make a card one of their set, whatever it held before. Raises AgentError where none of that set is made
    and a sector would get the keys of a card with one of ``uids``."""
    trailers = [(plan.sector.number, plan.trailer[0]) for plan in plans if plan.trailer is not None]
    for version in (version for version in terminal.keys.versions() if not terminal.keys.may_issue(version)):
        for keys in (terminal.keys.card_keys(version, uid) for uid in uids):
            for sector, given in trailers:
                if {given.key_a, given.key_b} & {keys.sector_key(sector, key_type) for key_type in KeyType}:
                    require_may_issue(terminal, version)


def _audit(terminal: Terminal, action: str, answer: dict[str, Any]) -> None:
    with terminal.journal.transaction():
        terminal.journal.audit(action, **answer)


def _order(dump: CardDump) -> list[int]:
    """A card that is to be ours gets its home last, one that is to be blank first: cut short, it is blank."""
    if all(dump.key(home.sector, KeyType.A) == TRANSPORT_KEY for home in HOMES):
        return wipe_order(HOMES[0])
    return issue_order(next((home for home in HOMES if any(dump.block(home.identity_block) or b"")), HOMES[0]))


def _plan(sector: Sector, request: RestoreRequest, uid: bytes) -> Plan:
    """Raises AgentError when the sector would not take what the dump says."""
    plan = Plan(sector)
    for block, current in sector.blocks():
        wanted = request.dump.block(block)
        if wanted is None or (block == 0 and not request.with_block_0 and whole(current) != wanted):
            plan.skipped += 1
        elif whole(current) == wanted:
            continue
        elif block == 0:
            plan.block_0 = wanted
        elif is_trailer(block):
            plan.trailer = SectorTrailer.parse(wanted), _trailer_writer(sector, wanted)
        else:
            plan.data.append((block, wanted, _writer(sector, block)))
    if plan.block_0 is not None:
        _check_block_0(plan, plan.block_0, uid)
    return plan


def _check_block_0(plan: Plan, content: bytes, uid: bytes) -> None:
    """Raises AgentError unless the card could answer with this block 0, and lets it be written before and after."""
    if len(uid_of_manufacturer_block(content)) != len(uid):
        raise _refused(
            f"block 0 does not suit this card, whose UID has {len(uid)} bytes: its check byte is wrong",
            "Leave out --with-block-0",
        )
    if 0 not in plan.sector.data:
        raise _cannot("its block 0 cannot be read")
    _writer(plan.sector, 0)
    _writer(plan.afterwards, 0)


def _writer(sector: Sector, block: int) -> KeyType:
    """The key at hand that may write a data block. Raises AgentError when there is none."""
    if sector.access is None:
        raise _cannot(f"sector {sector.number} opens with none of the keys at hand")
    for key_type in sector.keys:
        if key_type in sector.access.data(block % 4).write:
            return key_type
    raise _cannot(f"block {block} can be written with none of the keys at hand")


def _trailer_writer(sector: Sector, wanted: bytes) -> KeyType:
    """The key at hand that may write every part of the trailer that differs. Raises AgentError when there is none."""
    if sector.access is None:
        raise _cannot(f"sector {sector.number} opens with none of the keys at hand")
    rights = sector.access.trailer
    parts = (
        (sector.keys.get(KeyType.A), wanted[:6], rights.write_key_a),
        (sector.conditions, wanted[6:10], rights.write_access_bits),
        (sector.keys.get(KeyType.B), wanted[10:], rights.write_key_b),
    )
    for key_type in sector.keys:
        if all(key_type in allowed for now, then, allowed in parts if now != then):
            return key_type
    raise _cannot(f"the keys and access bits of sector {sector.number} can be changed with none of the keys at hand")


def _cannot(message: str) -> AgentError:
    hint = f"{UNTOUCHED}. See what opens: terminal-agent card dump --output now.mct"
    return AgentError(ErrorCode.KEY_REJECTED, f"the card would not take this dump: {message}", hint=hint)


def _carry_out(connection: ClassicConnection, plans: list[Plan]) -> None:
    """Block 0 is tried first with what it holds, which a genuine card refuses, and written last: from then on the card
    may answer with another UID, to which the keys that it had do not belong."""
    zero = next((plan for plan in plans if plan.block_0 is not None), None)
    if zero is not None:
        _write_block_0(connection, zero.sector, zero.sector.data[0], UNTOUCHED)
    for plan in plans:
        try:
            _write_sector(connection, plan)
        except (CardRemoved, ReaderError):
            raise  # neither says anything against the card
        except DriverError as error:
            raise data_corrupt(f"sector {plan.sector.number} does not take what the dump says ({error})") from error
    if zero is not None and zero.block_0 is not None:
        _write_block_0(connection, zero.afterwards, zero.block_0, "All other blocks hold what the dump says")


def _write_sector(connection: ClassicConnection, plan: Plan) -> None:
    for block, content, key_type in plan.data:
        connection.authenticate(block, key_type, plan.sector.keys[key_type])
        write_verified(connection, block, content)
    if plan.trailer is not None:
        trailer, key_type = plan.trailer
        block = trailer_of(plan.sector.number)
        connection.authenticate(block, key_type, plan.sector.keys[key_type])
        connection.write_block(block, trailer.encode())
        verify_trailer(connection, plan.sector.number, trailer)


def _write_block_0(connection: ClassicConnection, sector: Sector, content: bytes, otherwise: str) -> None:
    """Raises AgentError when the card keeps its block 0, as every genuine one does; ``otherwise`` says what then."""
    key_type = _writer(sector, 0)
    connection.authenticate(0, key_type, sector.keys[key_type])
    try:
        connection.write_block(0, content)
        written = connection.read_block(0) == content
    except AccessDenied:
        written = False
    if not written:
        raise AgentError(
            ErrorCode.UNSUPPORTED_CARD,
            "this card does not let its block 0 be written, as no genuine card does",
            hint=f"Leave out --with-block-0: the card keeps its own UID. {otherwise}",
        )
