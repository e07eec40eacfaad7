"""Looking at cards without changing them, and returning them to the maker's state."""

from __future__ import annotations

from typing import Any

from drivers.base import ClassicConnection
from drivers.errors import AuthenticationFailed, CardRemoved, DriverError, ReaderError
from drivers.mifare_classic import (
    BLOCK_SIZE,
    MAD_KEY_A,
    SECTOR_COUNT,
    TRANSPORT_KEY,
    TRANSPORT_TRAILER,
    KeyType,
    SectorTrailer,
    data_blocks,
    trailer_of,
)
from terminal_agent.card.keys import CardKeys
from terminal_agent.card.layout import (
    HISTORY_BLOCKS,
    IDENTITY_BLOCK,
    LIVE_SECTOR,
    STATE_BLOCKS,
    HistoryEntry,
    SealBroken,
    decode_history,
    decode_identity,
    decode_state,
)
from terminal_agent.card.problems import data_corrupt
from terminal_agent.card.session import CardSession, opens_with, opens_with_transport_key
from terminal_agent.desk.issue import directory_blocks, issued_trailer, verify_trailer, write_verified
from terminal_agent.errors import AgentError
from terminal_agent.journal.intents import IntentState
from terminal_agent.journal.knowledge import KnownCard
from terminal_agent.ports import rfc3339
from terminal_agent.taps import ISSUE, WIPED, PresentedCard, Terminal, is_another_copy, present

FREE_BLOCKS = sorted(
    {block for sector in range(SECTOR_COUNT) for block in data_blocks(sector)}
    - {IDENTITY_BLOCK, *STATE_BLOCKS, *HISTORY_BLOCKS}
)
ERROR, WARNING = "error", "warning"
WIPE_ORDER = [LIVE_SECTOR, *(sector for sector in range(SECTOR_COUNT) if sector != LIVE_SECTOR)]


def show(terminal: Terminal, connection: ClassicConnection) -> dict[str, Any]:
    """What the card says and what this shop knows of it; changes nothing. Raises AgentError."""
    card = present(terminal, connection)
    knowledge = terminal.journal.knowledge
    member = knowledge.member(card.known.member_id) if card.known else None
    history = card.session.read_history(card.state.sequence)
    return {
        "uid": card.session.uid.hex(),
        "card_no": card.card_no,
        "points": card.state.balance,
        "sequence": card.state.sequence,
        "tier": member.tier if member else None,
        "member_id": member.member_id if member else None,
        "status": "blocked" if knowledge.block_reason(card.card_no) else "active",
        "problem": _problem(terminal, card),
        "adjustments_through": card.state.adjustments_through,
        "redeemed_offline": card.state.redeemed_offline,
        "key_set_version": card.session.keys.version,
        "history": [_history_line(entry) for entry in history],
    }


def _problem(terminal: Terminal, card: PresentedCard) -> str | None:
    """The first thing that is not as it should be, by its code; None for a healthy card."""
    if terminal.journal.knowledge.block_reason(card.card_no):
        return "card_blocked"
    if card.known and card.known.state["sequence"] > card.state.sequence or is_another_copy(card):
        return "card_rolled_back"
    unsettled = terminal.journal.intents.unsettled(card.card_no)
    if any(state is IntentState.OPEN and intent.checkout_id for state, intent in unsettled):
        return "in_doubt"
    return "torn_write" if card.torn else None


def _history_line(entry: HistoryEntry) -> dict[str, Any]:
    return {
        "sequence": entry.sequence,
        "kind": entry.kind.name.lower(),
        "time": rfc3339(entry.time),
        "amount": entry.amount,
        "points": entry.points,
        "terminal_code": f"{entry.terminal:04x}",
    }


def verify(terminal: Terminal, connection: ClassicConnection) -> dict[str, Any]:
    """All 64 blocks against format 1: both keys of every sector, access bits, seals, empty places.

    Gives ``{ok, findings: [{sector, block, problem, severity}], ...}``; a warning leaves the card good.
    Raises AgentError for a card that is not ours at all.
    """
    known = terminal.journal.knowledge.card_by_uid(connection.uid.hex())
    session = CardSession.open(connection, terminal.keys, known=known is not None and known.status == "active")
    keys = session.keys
    mad = opens_with(connection, trailer_of(0), MAD_KEY_A)
    blocks: dict[int, bytes] = {}
    findings: list[dict[str, Any]] = []
    for sector in range(SECTOR_COUNT):
        findings += _check_sector(connection, issued_trailer(keys, sector, mad=mad), sector, blocks)
    findings += _check_content(keys, blocks, mad=mad)
    return {
        "ok": not any(finding["severity"] == ERROR for finding in findings),
        "findings": findings,
        "uid": session.uid.hex(),
        "key_set_version": keys.version,
        "blocks_read": len(blocks),
    }


def _finding(block: int, problem: str, severity: str = ERROR) -> dict[str, Any]:
    return {"sector": block // 4, "block": block, "problem": problem, "severity": severity}


def _check_sector(
    connection: ClassicConnection, expected: SectorTrailer, sector: int, blocks: dict[int, bytes]
) -> list[dict[str, Any]]:
    trailer = trailer_of(sector)
    if opens_with_transport_key(connection, trailer):
        return [_finding(trailer, "still opens with the maker's key")]
    try:
        verify_trailer(connection, sector, expected)
        for block in range(sector * 4, sector * 4 + 4):
            blocks[block] = connection.read_block(block)
    except (CardRemoved, ReaderError):
        raise  # neither says anything against the card
    except DriverError as error:
        return [_finding(trailer, str(error))]
    except AgentError as error:
        return [_finding(trailer, error.message)]
    return []


def _check_content(keys: CardKeys, blocks: dict[int, bytes], *, mad: bool) -> list[dict[str, Any]]:
    findings = []
    newest = -1
    for block in (IDENTITY_BLOCK, *STATE_BLOCKS):
        if block not in blocks:
            continue
        try:
            if block == IDENTITY_BLOCK:
                decode_identity(keys.identity_key, blocks[block])
            else:
                newest = max(newest, decode_state(keys.state_key, blocks[block], block).sequence)
        except SealBroken as error:
            findings.append(_finding(block, str(error)))
    for block in HISTORY_BLOCKS:
        if any(blocks.get(block, b"")):
            try:
                decode_history(keys.history_key, blocks[block], block, max(newest, 0))
            except SealBroken as error:
                findings.append(_finding(block, f"history: {error}", WARNING))  # a torn entry is nobody's loss
    empty = dict.fromkeys(FREE_BLOCKS, bytes(BLOCK_SIZE)) | (directory_blocks() if mad else {})
    return findings + [
        _finding(block, "holds data we did not write")
        for block, content in empty.items()
        if blocks.get(block, content) != content
    ]


def wipe(terminal: Terminal, connection: ClassicConnection) -> dict[str, Any]:
    """Back to the transport state: zeros and the maker's keys in all 16 sectors, verified; the live sector first.

    A card wiped half way reads as blank and is finished by wiping again. Raises AgentError.
    """
    known = terminal.journal.knowledge.card_by_uid(connection.uid.hex())
    keys = _keys_for_wiping(terminal, connection, known)
    for sector in WIPE_ORDER:
        try:
            _wipe_sector(connection, keys, sector)
        except (CardRemoved, ReaderError):
            raise  # neither says anything against the card
        except DriverError as error:
            raise data_corrupt(f"sector {sector} does not open with our keys ({error})") from error
    journal = terminal.journal
    with journal.transaction():
        for begun in journal.intents.of_uid(connection.uid.hex(), ISSUE):
            journal.intents.settle(begun.intent_id, IntentState.NOT_LANDED)
        if known is not None:
            journal.knowledge.saw_card(KnownCard(**{**vars(known), "status": WIPED}))
        journal.audit("card.wiped", uid=connection.uid.hex(), card_no=known.card_no if known else None)
    return {"uid": connection.uid.hex(), "card_no": known.card_no if known else None, "sectors_wiped": SECTOR_COUNT}


def _keys_for_wiping(terminal: Terminal, connection: ClassicConnection, known: KnownCard | None) -> CardKeys:
    """Our keys for a card of ours, also for one whose live sector an interrupted run has already returned."""
    if opens_with_transport_key(connection, IDENTITY_BLOCK):
        begun = terminal.journal.intents.of_uid(connection.uid.hex(), ISSUE)
        version = known.key_set_version if known else terminal.keys.versions()[0]
        if begun:  # an issue cut short: its sectors carry the key set that was active then
            version = begun[0].history["key_set_version"]
        return terminal.keys.card_keys(version, connection.uid)
    return CardSession.open(connection, terminal.keys, known=known is not None).keys


def _wipe_sector(connection: ClassicConnection, keys: CardKeys, sector: int) -> None:
    block = trailer_of(sector)
    try:
        connection.authenticate(block, KeyType.B, keys.sector_key(sector, KeyType.B))
        is_ours = True
    except AuthenticationFailed:
        connection.authenticate(block, KeyType.A, TRANSPORT_KEY)
        is_ours = False
    for data_block in data_blocks(sector):
        if any(connection.read_block(data_block)):
            write_verified(connection, data_block, bytes(BLOCK_SIZE))
    if is_ours:
        connection.write_block(block, TRANSPORT_TRAILER.encode())
    verify_trailer(connection, sector, TRANSPORT_TRAILER)
