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
    data_blocks,
    trailer_of,
)
from terminal_agent.card.keys import CardKeys, key_sets
from terminal_agent.card.layout import (
    HISTORY_BLOCKS,
    HOMES,
    HistoryEntry,
    Home,
    SealBroken,
    bears_arrival,
    decode_history,
    decode_identity,
    decode_state,
    is_sealed_for_a_home,
)
from terminal_agent.card.problems import data_corrupt
from terminal_agent.card.session import (
    authoritative,
    home_it_had,
    in_order,
    look,
    open_sector,
    opens_with,
    opens_with_transport_key,
    refusal,
)
from terminal_agent.card.tells import tells
from terminal_agent.desk.issue import directory_blocks, issued_trailer, verify_trailer, write_verified
from terminal_agent.desk.tells import block_0_without_key, note_tells
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.intents import IntentState
from terminal_agent.journal.knowledge import KnownCard, Member
from terminal_agent.ports import rfc3339
from terminal_agent.taps import ACTIVE, ISSUE, PENDING, WIPED, PresentedCard, Terminal, is_another_copy, present

FREE_BLOCKS = sorted(
    {block for sector in range(SECTOR_COUNT) for block in data_blocks(sector)}
    - {*HISTORY_BLOCKS, *(block for home in HOMES for block in home.blocks)}
)
ERROR, WARNING = "error", "warning"
NOT_OURS = "holds data we did not write"
CUT_SHORT = "is left of a re-key that was cut short: finish with card rekey"


def show(terminal: Terminal, connection: ClassicConnection) -> dict[str, Any]:
    """What the card says and what this shop knows of it; changes nothing. Raises AgentError."""
    card = present(terminal, connection)
    knowledge = terminal.journal.knowledge
    member = knowledge.member_of(card.card_no)
    by_card = knowledge.policy().tier_at(card.state.tier)
    history = card.session.read_history(card.state.sequence)
    return {
        "uid": card.session.uid.hex(),
        "card_no": card.card_no,
        "points": card.state.balance,
        "sequence": card.state.sequence,
        "tier": (member.tier if member else None) or (by_card.tier if by_card else None),
        "member_id": member.member_id if member else None,
        "status": _status(terminal, card, member),
        "problem": _problem(terminal, card),
        "adjustments_through": card.state.adjustments_through,
        "redeemed_offline": card.state.redeemed_offline,
        "key_set_version": card.session.keys.version,
        "history": [_history_line(entry) for entry in history],
    }


def _status(terminal: Terminal, card: PresentedCard, member: Member | None) -> str:
    if terminal.journal.knowledge.is_erased(card.card_no):
        return "erased"
    if terminal.journal.knowledge.block_reason(card.card_no) or card.has_retired_keys:
        return "blocked"
    return "pending" if member and member.status == PENDING else "active"


def _problem(terminal: Terminal, card: PresentedCard) -> str | None:
    """The first thing that is not as it should be, by its code; None for a healthy card."""
    if terminal.journal.knowledge.is_erased(card.card_no):
        return "card_erased"
    if terminal.journal.knowledge.block_reason(card.card_no) or card.has_retired_keys:
        return "card_blocked"
    if card.known and card.known.state["sequence"] > card.state.sequence or is_another_copy(card):
        return "card_rolled_back"
    unsettled = terminal.journal.intents.unsettled(card.card_no)
    if any(state is IntentState.OPEN and intent.checkout_id for state, intent in unsettled):
        return "in_doubt"
    if card.torn:
        return "torn_write"
    return "rekey_cut_short" if card.session.is_moving else None


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

    Gives ``{ok, findings: [{sector, block, problem, severity}], tells, ...}``; a warning leaves the card good, and
    what the chip tells of its make changes nothing. Raises AgentError for a card that is not ours at all.
    """
    without_key = block_0_without_key(connection)
    known = terminal.journal.knowledge.card_by_uid(connection.uid.hex())
    found = look(connection, terminal.keys)
    live = authoritative(found)
    if live is None and (not found or any(opened.live for opened in found)):
        raise refusal(connection, found, known=known is not None and known.status == ACTIVE)
    keys = live.keys if live else found[0].keys
    home = live.home if live else home_it_had(found)
    checked = _Checked(home, in_order(keys, key_sets(terminal.keys, connection.uid)))
    checked.read(connection)
    checked.judge()
    block_0 = checked.blocks.get(0) or without_key
    given_away = tells(connection.uid, block_0, without_key=without_key) if block_0 else []
    note_tells(terminal, connection.uid, given_away)
    return {
        "ok": not any(finding["severity"] == ERROR for finding in checked.findings),
        "findings": checked.findings,
        "tells": [tell.value for tell in given_away],
        "uid": connection.uid.hex(),
        "key_set_version": keys.version,
        "blocks_read": len(checked.blocks),
    }


class _Checked:
    """One card under ``verify``: its blocks, the key set of each sector, and what is wrong."""

    def __init__(self, home: Home, sets: list[CardKeys]) -> None:
        self._home = home
        self._sets = sets
        self._mad = False
        self._under: dict[int, CardKeys] = {}
        self.blocks: dict[int, bytes] = {}
        self.findings: list[dict[str, Any]] = []

    def _found(self, block: int, problem: str, severity: str = ERROR) -> None:
        self.findings.append({"sector": block // 4, "block": block, "problem": problem, "severity": severity})

    def read(self, connection: ClassicConnection) -> None:
        """All sectors, with what their trailers let us check."""
        self._mad = opens_with(connection, trailer_of(0), MAD_KEY_A)
        for sector in range(SECTOR_COUNT):
            trailer = trailer_of(sector)
            if opens_with_transport_key(connection, trailer):
                self._found(trailer, "still opens with the maker's key")
                continue
            try:
                self._read_sector(connection, sector)
            except (CardRemoved, ReaderError):
                raise  # neither says anything against the card
            except DriverError as error:
                self._found(trailer, str(error))
            except AgentError as error:
                self._found(trailer, error.message)

    def _read_sector(self, connection: ClassicConnection, sector: int) -> None:
        try:
            keys = open_sector(connection, sector, self._sets)
        except AuthenticationFailed:
            keys = self._sets[0]  # key A may still open it
        verify_trailer(connection, sector, issued_trailer(keys, sector, mad=self._mad))
        for block in range(sector * 4, sector * 4 + 4):
            self.blocks[block] = connection.read_block(block)
        self._under[sector] = keys
        if keys is not self._sets[0]:
            self._found(trailer_of(sector), f"is under key set {keys.version}: finish with card rekey", WARNING)

    def judge(self) -> None:
        """What the data blocks hold against what they should."""
        newest = self._judge_home()
        self._judge_other_home()
        for block in HISTORY_BLOCKS:
            if any(self.blocks.get(block, b"")):
                try:
                    keys = self._under[block // 4]
                    decode_history(keys.history_key, self.blocks[block], block, max(newest, 0))
                except SealBroken as error:
                    self._found(block, f"history: {error}", WARNING)  # a torn entry is nobody's loss
        empty = dict.fromkeys(FREE_BLOCKS, bytes(BLOCK_SIZE)) | (directory_blocks() if self._mad else {})
        for block, content in empty.items():
            if self.blocks.get(block, content) != content:
                self._found(block, NOT_OURS)

    def _judge_home(self) -> int:
        """The identity and both slots; gives the newest sequence, -1 where there is none."""
        newest, keys = -1, self._sets[0]
        for place, block in enumerate(self._home.blocks):
            content = self.blocks.get(block)
            if content is None:
                continue
            try:
                if block == self._home.identity_block:
                    decode_identity(keys.identity_key, content)
                else:
                    newest = max(newest, decode_state(keys.state_key, content, place - 1).sequence)
            except SealBroken as error:
                is_mark = bears_arrival(keys.state_key, content)
                self._found(block, CUT_SHORT if is_mark else str(error), WARNING if is_mark else ERROR)
        return newest

    def _judge_other_home(self) -> None:
        for block in self._home.other.blocks:
            content = self.blocks.get(block, b"")
            if any(content):  # what we sealed ourselves and did not tidy up is no edit
                ours = any(is_sealed_for_a_home(keys, content) for keys in self._sets)
                self._found(block, CUT_SHORT if ours else NOT_OURS, WARNING if ours else ERROR)


def wipe(terminal: Terminal, connection: ClassicConnection) -> dict[str, Any]:
    """Back to the transport state: zeros and the maker's keys in all 16 sectors, verified; the card's home first.

    A card wiped half way reads as blank and is finished by wiping again. Raises AgentError.
    """
    known = terminal.journal.knowledge.card_by_uid(connection.uid.hex())
    sets = key_sets(terminal.keys, connection.uid)
    home = _home_to_wipe(terminal, connection, known)
    for sector in wipe_order(home):
        try:
            _wipe_sector(connection, sets, sector)
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


def is_half_blanked(terminal: Terminal, connection: ClassicConnection, problem: AgentError) -> bool:
    """Whether a card that does not read as ours is an erased member's, taken away while it was blanked."""
    if problem.code not in (ErrorCode.BLANK_CARD, ErrorCode.KEY_REJECTED, ErrorCode.DATA_CORRUPT):
        return False
    known = terminal.journal.knowledge.card_by_uid(connection.uid.hex())
    return known is not None and known.status == ACTIVE and terminal.journal.knowledge.is_erased(known.card_no)


def wipe_order(home: Home) -> list[int]:
    """The card's home first, then the other one: from then on it reads as blank."""
    homes = [home.sector, home.other.sector]
    return [*homes, *(sector for sector in range(SECTOR_COUNT) if sector not in homes)]


def _home_to_wipe(terminal: Terminal, connection: ClassicConnection, known: KnownCard | None) -> Home:
    """Where the card lives, or lived. Raises AgentError for a card that is not ours, or that we cannot wipe whole."""
    found = look(connection, terminal.keys)
    live = authoritative(found)
    half_moved = live is None and any(opened.live for opened in found)
    if half_moved or not found and known is None:
        problem = refusal(connection, found, known=False)
        if problem.code is not ErrorCode.BLANK_CARD:
            raise problem
    for opened in found:
        if opened.live is not None and opened.live is not live:  # else it would count once the other one is gone
            open_sector(connection, opened.home.sector, [opened.keys])
            write_verified(connection, opened.home.identity_block, bytes(BLOCK_SIZE))
    if live is not None:
        return live.home
    return home_it_had(found) if found else HOMES[0]


def _wipe_sector(connection: ClassicConnection, sets: list[CardKeys], sector: int) -> None:
    block = trailer_of(sector)
    try:
        open_sector(connection, sector, sets)
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
