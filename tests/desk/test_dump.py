"""Dumping: what the keys at hand open is read to the last byte, what they do not is told, and the card is as it was."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.card_dump import UNKNOWN_BLOCK, CardDump, card_dump
from drivers.dumps import DumpFormat, parse_dump
from drivers.errors import CardRemoved, ReaderLost
from drivers.mifare_classic import AccessBits, KeyType, SectorTrailer, trailer_of
from drivers.simulator import Fault, MemoryImage
from terminal_agent.desk.dump import PUBLIC_KEYS, KeyRing, dump, read_card, read_sector
from terminal_agent.desk.issue import IssueRequest, issue
from terminal_agent.desk.rekey import rekey
from terminal_agent.errors import AgentError, ErrorCode
from tests.workbench import UID, UID_7, RecordingConnection, Workbench, blank, copy_of, flip, lay, operations_of

TELL_UNKNOWN = [kind for kind in DumpFormat if kind.can_say_unknown]
STRANGE_KEY = bytes.fromhex("5EC2E75EC2E7")
conditions = st.tuples(*[st.integers(0, 7)] * 4).map(AccessBits)


def dumped(bench: Workbench, card: MemoryImage, kind: DumpFormat = DumpFormat.MFD) -> dict[str, Any]:
    with lay(card) as connection:
        return dump(bench.terminal, connection, kind)


def content(answer: dict[str, Any]) -> CardDump:
    return parse_dump(b64decode(answer["content"]), DumpFormat(answer["format"]))


def set_trailer(card: MemoryImage, sector: int, key_a: bytes, access: AccessBits, key_b: bytes) -> None:
    card.write(trailer_of(sector), SectorTrailer(key_a, access, key_b).encode())


def lock_out(card: MemoryImage, *sectors: int) -> None:
    """Somebody else's keys."""
    for sector in sectors:
        set_trailer(card, sector, STRANGE_KEY, AccessBits((0, 0, 0, 0b011)), STRANGE_KEY)


def with_directory(bench: Workbench) -> MemoryImage:
    card = blank()
    with lay(card) as connection:
        issue(bench.terminal, connection, IssueRequest(mad=True))
    return card


def half_issued(bench: Workbench) -> MemoryImage:
    card = blank()
    with pytest.raises(CardRemoved):
        bench.encode(card, Fault(90))
    return card


def of_an_older_key_set(bench: Workbench) -> MemoryImage:
    card = bench.issue(points=5)
    bench.keys.add(bytes(range(16)), 2, activate=True)
    return card


def rekeyed(bench: Workbench, card: MemoryImage, fault: Fault | None = None) -> MemoryImage:
    """Moved to its other home under a second key set."""
    bench.keys.add(bytes(range(16)), 2, activate=True)
    with lay(card, fault) as connection:
        rekey(bench.terminal, connection)
    return card


def between_key_sets(bench: Workbench) -> MemoryImage:
    card = bench.issue(points=5)
    with pytest.raises(CardRemoved):
        rekeyed(bench, card, Fault(60))
    return card


CARDS = {
    "blank": lambda bench: blank(),
    "blank with 7 bytes": lambda bench: blank(UID_7),
    "issued": lambda bench: bench.issue(points=5),
    "issued with 7 bytes": lambda bench: bench.issue(UID_7, points=5),
    "with a directory": with_directory,
    "half issued": half_issued,
    "of an older key set": of_an_older_key_set,
    "re-keyed": lambda bench: rekeyed(bench, bench.issue(points=5)),
    "between two key sets": between_key_sets,
}


@pytest.mark.parametrize("kind", DumpFormat)
@pytest.mark.parametrize("which", CARDS)
def test_a_card_we_have_the_keys_of_is_dumped_to_the_last_byte(bench: Workbench, which: str, kind: DumpFormat) -> None:
    card = CARDS[which](bench)
    before = bytes(copy_of(card).content)
    answer = dumped(bench, card, kind)
    assert b"".join(content(answer).block(number) or b"?" for number in range(64)) == before
    assert (answer["blocks_read"], answer["blocks_unknown"], answer["format"]) == (64, 0, kind)
    assert bytes.fromhex(answer["uid"]) == content(answer).uid
    assert bytes(card.content) == before


def test_a_dump_writes_nothing_to_the_card_and_one_line_without_a_key_to_the_audit_log(bench: Workbench) -> None:
    card = bench.issue(points=5)
    tables = ("events", "intents", "checkouts", "cards", "outbox")
    journal = [bench.rows(f"SELECT * FROM {table}") for table in tables]
    calls = operations_of(lambda c: dump(bench.terminal, c, DumpFormat.JSON), card)
    assert {action for action, _ in calls} == {"authenticate", "read"}
    assert [bench.rows(f"SELECT * FROM {table}") for table in tables] == journal
    (row,) = bench.rows("SELECT detail FROM audit WHERE action = 'card.dumped'")
    assert json.loads(row["detail"]) == {"uid": UID.hex(), "format": "json", "blocks_read": 64, "blocks_unknown": 0}


@pytest.mark.parametrize("which", ["blank", "issued"])
def test_the_kind_of_key_that_opened_the_last_sector_is_tried_first(bench: Workbench, which: str) -> None:
    card = CARDS[which](bench)
    calls = operations_of(lambda c: dump(bench.terminal, c, DumpFormat.MFD), card)
    tries = [action for action, _ in calls].count("authenticate")
    assert tries == {"blank": 16 + 1, "issued": 2 * 16}[which]


def test_no_key_is_tried_twice_on_a_sector(bench: Workbench) -> None:
    card = blank()
    lock_out(card, *range(16))
    empty = card_dump([UNKNOWN_BLOCK] * 64)
    ring = KeyRing.of(bench.terminal, UID, card_dump([tuple(blank().read(n)) for n in range(64)]), empty, None)
    calls = operations_of(lambda c: read_card(c, ring), card)
    assert len(calls) == 16 * 2 * (1 + len(PUBLIC_KEYS))


def test_a_card_under_strange_keys_opens_with_those_of_another_dump(bench: Workbench) -> None:
    card = blank()
    lock_out(card, 2, 15)
    keys = card_dump([tuple(card.read(number)) for number in range(64)])
    with lay(card) as connection:
        answer = dump(bench.terminal, connection, DumpFormat.MFD, keys)
    assert b64decode(answer["content"]) == bytes(card.content)


# --- what cannot be read


@pytest.mark.parametrize("kind", TELL_UNKNOWN)
def test_a_card_of_somebody_else_is_dumped_as_far_as_public_keys_go(bench: Workbench, kind: DumpFormat) -> None:
    card = blank()
    lock_out(card, 2, 3, 15)
    answer = dumped(bench, card, kind)
    assert (answer["blocks_read"], answer["blocks_unknown"]) == (52, 12)
    found = content(answer)
    assert found.unknown_blocks == [*range(8, 16), *range(60, 64)]
    assert all(found.blocks[block] == UNKNOWN_BLOCK for block in found.unknown_blocks)
    assert all(found.block(block) == card.read(block) for block in range(64) if block not in found.unknown_blocks)


@pytest.mark.parametrize("kind", [DumpFormat.MFD, DumpFormat.EML])
def test_a_format_that_cannot_say_unknown_is_refused_with_another_named(bench: Workbench, kind: DumpFormat) -> None:
    card = blank()
    lock_out(card, 2, 15)
    with pytest.raises(AgentError) as caught:
        dumped(bench, card, kind)
    assert caught.value.code is ErrorCode.KEY_REJECTED
    assert "sectors 2, 15" in caught.value.message
    assert ".mct" in caught.value.hint
    assert bench.rows("SELECT * FROM audit WHERE action = 'card.dumped'") == []


def test_a_card_that_opens_with_no_key_is_not_ours(bench: Workbench) -> None:
    card = blank()
    lock_out(card, *range(16))
    with pytest.raises(AgentError) as caught:
        dumped(bench, card, DumpFormat.MCT)
    assert caught.value.code is ErrorCode.NOT_OUR_CARD


def test_a_card_that_shows_its_access_bits_and_no_more_is_dumped_as_far_as_that(bench: Workbench) -> None:
    card = blank()
    for sector in range(16):  # data for key B alone, which nobody has
        set_trailer(card, sector, PUBLIC_KEYS[0], AccessBits((0b011, 0b011, 0b011, 0b011)), STRANGE_KEY)
    answer = dumped(bench, card, DumpFormat.MCT)
    assert (answer["blocks_read"], answer["blocks_unknown"]) == (0, 64)
    assert content(answer).key(15, KeyType.A) == PUBLIC_KEYS[0]


def test_a_sector_of_which_one_key_is_strange_is_told_in_part(bench: Workbench) -> None:
    card = bench.issue(points=5)
    flip(card, trailer_of(1), 10 * 8)
    found = content(dumped(bench, card, DumpFormat.NFC))
    assert found.unknown_blocks == [7]
    assert (found.key(1, KeyType.A), found.key(1, KeyType.B)) == (card.read(7)[:6], None)
    assert [found.block(block) for block in (4, 5, 6)] == [card.read(block) for block in (4, 5, 6)]


@given(access=conditions, own=st.booleans())
def test_what_the_access_bits_let_be_read_is_read_and_nothing_else_is_claimed(access: AccessBits, own: bool) -> None:
    """Every combination of the data sheet's tables: where a key may read a block, the dump has it."""
    card = blank()
    key_b = STRANGE_KEY if not own else PUBLIC_KEYS[1]
    for block in (20, 21, 22):
        card.write(block, bytes([block] * 16))
    set_trailer(card, 5, PUBLIC_KEYS[3], access, key_b)
    with lay(card) as connection:
        found = read_card(connection, KeyRing())
    keys = {"A"} | ({"B"} if own else set())
    for index in range(3):
        expected = card.read(20 + index) if access.data(index).read & keys else None
        assert found.block(20 + index) == expected, access
    assert found.key(5, KeyType.A) == PUBLIC_KEYS[3]
    assert found.key(5, KeyType.B) == (key_b if own or access.key_b_is_readable else None)
    assert found.unknown_blocks == [20 + i for i in range(4) if found.block(20 + i) is None]


def test_a_sector_that_the_card_has_blocked_is_told_by_its_keys_alone(bench: Workbench) -> None:
    card = blank()
    flip(card, trailer_of(5), 6 * 8)
    found = content(dumped(bench, card, DumpFormat.MCT))
    assert found.unknown_blocks == [20, 21, 22, 23]
    assert found.key(5, KeyType.A) == PUBLIC_KEYS[0]


def test_a_card_that_refuses_what_its_access_bits_grant_leaves_the_block_open(bench: Workbench) -> None:
    card = bench.issue(points=5)

    class Stubborn(RecordingConnection):
        def read_block(self, block: int) -> bytes:
            if block == 9:
                self._inner.read_block(block + 4)  # of a sector that is not open
            return super().read_block(block)

    found = content(dump(bench.terminal, Stubborn(lay(card)), DumpFormat.MCT))
    assert found.unknown_blocks == [9]


def test_a_card_or_reader_gone_while_dumping_is_no_hole_in_the_dump(bench: Workbench) -> None:
    card = bench.issue()
    total = len(operations_of(lambda c: dump(bench.terminal, c, DumpFormat.MCT), card))
    for error in (CardRemoved("gone"), ReaderLost("unplugged")):
        for number in range(1, total + 1, 3):
            with pytest.raises(type(error)):
                dump(bench.terminal, RecordingConnection(lay(card), number, error), DumpFormat.MCT)


def test_no_repr_on_the_way_shows_a_key(bench: Workbench) -> None:
    with lay(bench.issue()) as connection:
        sector = read_sector(connection, KeyRing.of(bench.terminal, UID), 1)
    assert set(sector.keys) == {KeyType.A, KeyType.B}
    assert repr(sector) == "Sector(number=1, conditions=b'xw\\x88i')"
