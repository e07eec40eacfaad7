"""Issuing: a blank card becomes a member's card, sector by sector, its home last.

Until the home's trailer is written the card counts as blank, so an interrupted issue is simply run again: the
journal's intent brings the same card number back, sectors already done are checked and kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drivers.base import ClassicConnection
from drivers.errors import AuthenticationFailed, CardRemoved, DriverError, ReaderError
from drivers.mifare_classic import (
    BLOCK_SIZE,
    MAD_BLOCKS,
    MAD_GENERAL_PURPOSE_BYTE,
    MAD_KEY_A,
    SECTOR_COUNT,
    TRANSPORT_ACCESS,
    KeyType,
    SectorTrailer,
    data_blocks,
    trailer_of,
)
from terminal_agent import taps
from terminal_agent.card.card_number import card_number
from terminal_agent.card.keys import CardKeys, key_sets
from terminal_agent.card.layout import (
    DIRECTORY,
    ISSUED_ACCESS,
    CardState,
    HistoryEntry,
    HistoryKind,
    Home,
    Identity,
    encode_history,
    encode_identity,
    encode_state,
    home_of,
    short_code,
)
from terminal_agent.card.problems import between_key_sets, data_corrupt
from terminal_agent.card.session import authoritative, look, open_sector, opens_with_transport_key
from terminal_agent.card.tells import tells
from terminal_agent.contract import EventType
from terminal_agent.desk import enrolment
from terminal_agent.desk.one_card import ABOUT_TO_LIVE, refuse_taken_number, set_aside
from terminal_agent.desk.tells import note_tells
from terminal_agent.desk.typed import card_number_of
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.intents import Intent, IntentState
from terminal_agent.taps import ACTIVE, PENDING, Terminal

FIRST_STATES = (CardState(sequence=0, balance=0), CardState(sequence=1, balance=0))


def issue_order(home: Home) -> list[int]:
    """All sectors, the one that makes it a card of ours last."""
    return [*(sector for sector in range(SECTOR_COUNT) if sector != home.sector), home.sector]


@dataclass(frozen=True)
class IssueRequest:
    """Who the card is for; all may be unknown. ``phone`` in any spelling.

    ``mad`` writes an application directory, so that other systems' tools can list the card; its key is public.
    ``replaces`` names a card whose owner, ``member_id``, gets this one instead. ``referrer_member_id`` brought a new
    member. ``card_no`` is printed on the card; without one a number is drawn. ``only_card``: no other card that was
    begun for this phone may come to life beside this one."""

    phone: str | None = None
    name: str | None = None
    tier: str | None = None
    mad: bool = False
    replaces: str | None = None
    member_id: str | None = None
    referrer_member_id: str | None = None
    marketing_consent: bool = False
    card_no: str | None = None
    only_card: bool = False

    def __post_init__(self) -> None:
        """Whatever could fail later fails here, before the card is touched. Raises AgentError ``invalid_input``."""
        person = enrolment.Person(self.phone, self.name, self.tier)
        for name in ("phone", "name", "tier"):
            object.__setattr__(self, name, getattr(person, name))
        object.__setattr__(self, "card_no", None if self.card_no is None else card_number_of(self.card_no))


def issue(
    terminal: Terminal, connection: ClassicConnection, request: IssueRequest, begun: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Encode the blank card in the field, verified block by block; enrol its member; queue both events. ``begun`` is
    called when the card is about to be written.

    Raises AgentError: ``already_issued``, ``not_our_card``, ``data_corrupt`` for a sector that will not take its keys,
    ``config_invalid`` where this terminal makes no cards.
    """
    require_may_issue(terminal)
    intent, begun_before = _intent_for(terminal, connection, request)
    version = intent.history["key_set_version"]
    state = _state_if_encoded(terminal, connection, intent) if begun_before else None
    if state is None:
        begun()
        _encode(terminal, connection, intent)
        state = FIRST_STATES[-1]
    taps.record_issue(terminal, intent, state)
    member_id = intent.history["member"]["member_id"]
    return {
        "uid": intent.uid,
        "card_no": intent.card_no,
        "member_id": member_id,
        "points": state.balance,
        "sequence": state.sequence,
        "key_set_version": version,
        "status": PENDING if intent.history["member"].get("status") == PENDING else ACTIVE,
        **enrolment.other_cards(terminal, member_id, intent.card_no),
    }


def require_may_issue(terminal: Terminal, version: int | None = None) -> None:
    """Raises AgentError where this terminal makes no cards under ``version``, else the key set in use."""
    version = terminal.keys.versions()[0] if version is None else version
    if not terminal.keys.may_issue(version):
        undo = f"retire {version} --undo" if terminal.keys.is_retired(version) else f"limit {version} --issue"
        raise AgentError(
            ErrorCode.CONFIG_INVALID,
            f"this terminal makes no cards under key set {version}: none is issued, re-keyed or restored here",
            hint=f"Make them at head office's desk; whoever may change that: terminal-agent keys {undo}",
        )


def _state_if_encoded(terminal: Terminal, connection: ClassicConnection, intent: Intent) -> CardState | None:
    """What the card holds if an earlier run had encoded it whole; it may have been tapped or re-keyed elsewhere since.

    The home is keyed last, so a card that lives lacks nothing but the proof.
    """
    found = look(connection, terminal.keys)
    live = authoritative(found)
    if live is None:
        if any(opened.live for opened in found):
            raise between_key_sets()
        version = intent.history["key_set_version"]
        for opened in found:
            if opened.home == home_of(version) and opened.keys.version == version:
                raise data_corrupt(opened.problem)
        return None
    if live.identity.card_no != intent.card_no:
        raise _already_issued(live.identity.card_no, live.newest)
    verify_trailer(connection, live.home.sector, issued_trailer(live.keys, live.home.sector))
    return live.newest


def _already_issued(card_no: str, state: CardState) -> AgentError:
    return AgentError(
        ErrorCode.ALREADY_ISSUED,
        f"this card is already issued: number {card_no}, {state.balance} points",
        hint="Take a blank card, or return this one to blank: terminal-agent card wipe --force",
        details={"card_no": card_no},
    )


def _intent_for(terminal: Terminal, connection: ClassicConnection, request: IssueRequest) -> tuple[Intent, bool]:
    """The open issue of this card to the same person (then True), or a new one for a card that really is blank.

    A card that was torn away from one person's issue and comes back for another's must not carry the first one's name.
    """
    uid, intents = connection.uid.hex(), terminal.journal.intents
    begun = intents.of_uid(uid, taps.ISSUE)
    for intent in begun:
        if _is_for(intent, request):
            return intent, True
    _require_blank(terminal, connection)
    sets = key_sets(terminal.keys, connection.uid)
    _require_every_sector(connection, sets)
    _open_for_writing(connection, 0, sets)
    if request.card_no:
        refuse_taken_number(terminal, request.card_no, request.phone)
    note_tells(terminal, connection.uid, tells(connection.uid, connection.read_block(0)))
    intent = _new_intent(terminal, uid, request)
    with terminal.journal.transaction():
        for abandoned in begun:
            intents.settle(abandoned.intent_id, IntentState.NOT_LANDED)
        if request.only_card and request.phone:
            set_aside(terminal, request.phone)
        intents.begin(intent)
    return intent, False


def _is_for(intent: Intent, request: IssueRequest) -> bool:
    member = intent.history["member"]
    if intent.history.get("replaces") != request.replaces or request.card_no not in (None, intent.card_no):
        return False
    if request.member_id:
        return bool(member["member_id"] == request.member_id)
    if request.phone:
        return bool(member["phone"] == request.phone)
    return member["phone"] is None and member["name"] == request.name


def _require_blank(terminal: Terminal, connection: ClassicConnection) -> None:
    """Raises AgentError for every card that is not blank, wherever on it a card of ours may live."""
    try:
        card = taps.present(terminal, connection)
    except AgentError as problem:
        if problem.code is ErrorCode.BLANK_CARD:
            return
        raise
    taps.refuse_erased(terminal, card.card_no)
    raise _already_issued(card.card_no, card.state)


def _require_every_sector(connection: ClassicConnection, sets: list[CardKeys]) -> None:
    """Raises AgentError, before anything is written, for a card with a sector that we could not re-key."""
    for sector in range(SECTOR_COUNT):
        block = trailer_of(sector)
        try:
            if not opens_with_transport_key(connection, block):
                open_sector(connection, sector, sets)  # an earlier run got that far
                continue
            if connection.read_block(block)[6:9] == TRANSPORT_ACCESS.encode():
                continue
        except AuthenticationFailed as error:
            raise _locked(sector) from error
        raise _locked(sector)


def _locked(sector: int) -> AgentError:
    return AgentError(
        ErrorCode.NOT_OUR_CARD,
        f"this card is not blank: sector {sector} is locked by somebody else",
        hint="Take a fresh card; nothing was written to this one",
    )


def _new_intent(terminal: Terminal, uid: str, request: IssueRequest) -> Intent:
    person = enrolment.Person(request.phone, request.name, request.tier)
    member, known = enrolment.member_for(terminal, person, request.member_id)
    card_no = request.card_no or card_number(terminal.ids.card_digits())
    version = terminal.keys.versions()[0]
    told = enrolment.Told(request.referrer_member_id, request.marketing_consent)
    events = enrolment.events_of(terminal, member, told, known=known)
    issued = {
        "card": taps.card_data(card_no, None, FIRST_STATES[-1]),
        "uid": uid,
        "member_id": member.member_id,
        "key_set_version": version,
    }
    events.append(taps.new_event(terminal, EventType.CARD_ISSUED, card_no, issued))
    if request.replaces:
        swapped = {"card_no": card_no, "old_card_no": request.replaces, "member_id": member.member_id}
        events.append(taps.new_event(terminal, EventType.CARD_REPLACED, card_no, swapped))
    return Intent(
        intent_id=terminal.ids.uuid(),
        kind=taps.ISSUE,
        card_no=card_no,
        uid=uid,
        before=None,
        after=FIRST_STATES[-1].to_json(),
        events=tuple(events),
        history={
            "kind": HistoryKind.ISSUE.value,
            "key_set_version": version,
            "member": {**enrolment.member_data(member), "status": member.status},
            "mad": request.mad,
            "replaces": request.replaces,
        },
    )


def contents(keys: CardKeys, intent: Intent, terminal: Terminal) -> dict[int, bytes]:
    """Every data block of a freshly issued card by number; free blocks are zeros."""
    blocks = {block: bytes(BLOCK_SIZE) for sector in range(SECTOR_COUNT) for block in data_blocks(sector)}
    identity = Identity(keys.version, terminal.programme_code, intent.card_no)
    if intent.history["mad"]:
        blocks |= directory_blocks()
    home = home_of(keys.version)
    blocks[home.identity_block] = encode_identity(keys.identity_key, identity)
    for state in FIRST_STATES:
        blocks[home.state_blocks[state.slot]] = encode_state(keys.state_key, state)
    entry = HistoryEntry(
        HistoryKind.ISSUE, FIRST_STATES[-1].sequence, terminal.clock.now(), 0, 0, short_code(terminal.terminal_id)
    )
    blocks[entry.block] = encode_history(keys.history_key, entry)
    return blocks


def directory_blocks() -> dict[int, bytes]:
    """The two blocks of the application directory."""
    return {block: DIRECTORY[n * BLOCK_SIZE : (n + 1) * BLOCK_SIZE] for n, block in enumerate(MAD_BLOCKS)}


def issued_trailer(keys: CardKeys, sector: int, *, mad: bool = False) -> SectorTrailer:
    """The trailer of an issued card's sector; with an application directory sector 0 has the public key A."""
    if mad and sector == 0:
        key_b = keys.sector_key(sector, KeyType.B)
        return SectorTrailer(MAD_KEY_A, ISSUED_ACCESS, key_b, MAD_GENERAL_PURPOSE_BYTE)
    key_a, key_b = (keys.sector_key(sector, key_type) for key_type in (KeyType.A, KeyType.B))
    return SectorTrailer(key_a, ISSUED_ACCESS, key_b)


def _encode(terminal: Terminal, connection: ClassicConnection, intent: Intent) -> None:
    sets = key_sets(terminal.keys, connection.uid)
    keys = terminal.keys.card_keys(intent.history["key_set_version"], connection.uid)
    blocks = contents(keys, intent, terminal)
    home = home_of(keys.version)
    for sector in issue_order(home):
        trailer = issued_trailer(keys, sector, mad=intent.history["mad"])
        try:
            opened_with = _open_for_writing(connection, sector, sets)
            if sector == home.sector and opened_with is not None:  # keyed last: the card lives, and may hold points
                raise CardRemoved("the card refused its keys, and now takes them: it lies badly")
            if sector == home.sector:
                terminal.journal.write(lambda: terminal.journal.intents.note(intent.intent_id, ABOUT_TO_LIVE))
            _encode_sector(connection, sector, trailer, blocks, has_its_keys=opened_with == keys.version)
        except (CardRemoved, ReaderError):
            raise  # neither says anything against the card
        except DriverError as error:
            detail = f"sector {sector} does not take its keys ({error})"
            raise data_corrupt(
                detail, hint="Throw this card away and issue another one; it never held points"
            ) from error


def _open_for_writing(connection: ClassicConnection, sector: int, sets: list[CardKeys]) -> int | None:
    """Open a sector with the maker's key (None), or with a set of ours that an earlier run wrote (its version)."""
    if opens_with_transport_key(connection, trailer_of(sector)):
        return None
    return open_sector(connection, sector, sets).version


def _encode_sector(
    connection: ClassicConnection, sector: int, trailer: SectorTrailer, blocks: dict[int, bytes], *, has_its_keys: bool
) -> None:
    """Data under the key that opens the sector now, then the trailer, then proof that both new keys open it."""
    for block in data_blocks(sector):
        if connection.read_block(block) != blocks[block]:
            write_verified(connection, block, blocks[block])
    if not has_its_keys:
        connection.write_block(trailer_of(sector), trailer.encode())
    verify_trailer(connection, sector, trailer)


def write_verified(connection: ClassicConnection, block: int, data: bytes) -> None:
    """Write a block and read it back. Raises AgentError when the card says yes and keeps something else."""
    connection.write_block(block, data)
    if connection.read_block(block) != data:
        raise data_corrupt(f"block {block} does not keep what is written to it")


def verify_trailer(connection: ClassicConnection, sector: int, trailer: SectorTrailer) -> None:
    """Both keys open the sector and the access bits are as written; a key B that can be read opens nothing."""
    block = trailer_of(sector)
    connection.authenticate(block, KeyType.A, trailer.key_a)
    found = connection.read_block(block)
    if found[6:10] != trailer.encode()[6:10]:
        raise data_corrupt(f"the access bits of sector {sector} are not what was written")
    if not trailer.access.key_b_is_readable:
        connection.authenticate(block, KeyType.B, trailer.key_b)
    elif found[10:] != trailer.key_b:
        raise data_corrupt(f"key B of sector {sector} is not what was written")
