"""Sealed blocks: what goes in comes out, and nothing else is taken."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from drivers.mifare_classic import AB, B
from terminal_agent.card import layout
from terminal_agent.card.card_number import card_number
from terminal_agent.card.keys import CardKeys, MasterKeyInMemory, aes_encrypt_block
from terminal_agent.card.layout import (
    HISTORY_BLOCKS,
    HISTORY_EPOCH,
    ISSUED_ACCESS,
    CardFlags,
    CardState,
    HistoryEntry,
    HistoryKind,
    Identity,
    SealBroken,
    history_block,
    short_code,
)
from tests.workbench import MASTER_KEY, UID, UID_7

KEYS = CardKeys(1, UID, MasterKeyInMemory(MASTER_KEY))
OTHER = CardKeys(1, bytes.fromhex("1A2B3C4E"), MasterKeyInMemory(MASTER_KEY))

identities = st.builds(
    Identity,
    key_set_version=st.integers(0, 255),
    programme=st.integers(0, 2**16 - 1),
    card_no=st.integers(10**14, 10**15 - 1).map(str).map(card_number),
)
states = st.builds(
    CardState,
    sequence=st.integers(0, layout.MAX_SEQUENCE),
    balance=st.integers(layout.MIN_BALANCE, layout.MAX_BALANCE),
    adjustments_through=st.integers(0, layout.MAX_ADJUSTMENT),
    redeemed_offline=st.integers(0, layout.MAX_REDEEMED_OFFLINE),
    tier=st.integers(0, 15),
    flags=st.integers(0, 15).map(CardFlags),
)
entries = st.builds(
    HistoryEntry,
    kind=st.sampled_from(HistoryKind),
    sequence=st.integers(0, layout.MAX_SEQUENCE),
    time=st.integers(0, 2**24 - 1).map(lambda minutes: HISTORY_EPOCH + timedelta(minutes=minutes)),
    amount=st.integers(0, 2**36 - 1),
    points=st.integers(-(2**23), 2**23 - 1),
    terminal=st.integers(0, 2**16 - 1),
)
bits = st.integers(0, 127)


def flipped(block: bytes, bit: int) -> bytes:
    return block[: bit // 8] + bytes([block[bit // 8] ^ 1 << bit % 8]) + block[bit // 8 + 1 :]


@given(identity=identities)
def test_an_identity_comes_back_as_it_was(identity: Identity) -> None:
    sealed = layout.encode_identity(KEYS.identity_key, identity)
    assert len(sealed) == 16
    assert layout.decode_identity(KEYS.identity_key, sealed) == identity


@given(state=states)
@example(state=CardState(0, layout.MIN_BALANCE))
@example(state=CardState(layout.MAX_SEQUENCE, layout.MAX_BALANCE, 65535, 65535, 15, CardFlags(15)))
def test_a_state_comes_back_as_it_was_from_its_own_slot_only(state: CardState) -> None:
    sealed = layout.encode_state(KEYS.state_key, state)
    own, other = (0, 1) if state.sequence % 2 == 0 else (1, 0)
    assert layout.decode_state(KEYS.state_key, sealed, own) == state
    with pytest.raises(SealBroken, match="belongs in slot"):
        layout.decode_state(KEYS.state_key, sealed, other)


@given(state=states)
def test_a_state_passes_through_the_journal_unchanged(state: CardState) -> None:
    assert CardState.from_json(state.to_json()) == state


@given(entry=entries, younger=st.integers(0, 14))
def test_a_history_entry_comes_back_whole_while_it_is_young(entry: HistoryEntry, younger: int) -> None:
    sealed = layout.encode_history(KEYS.history_key, entry)
    newest = entry.sequence + younger
    assert layout.decode_history(KEYS.history_key, sealed, entry.block, newest) == entry
    for block in set(HISTORY_BLOCKS) - {entry.block}:
        assert layout.decode_history(KEYS.history_key, sealed, block, newest) is None


@given(entry=entries, laps=st.integers(1, 255))
def test_a_history_entry_of_an_older_lap_is_left_out(entry: HistoryEntry, laps: int) -> None:
    sealed = layout.encode_history(KEYS.history_key, entry)
    newest = entry.sequence + laps * len(HISTORY_BLOCKS)
    assert layout.decode_history(KEYS.history_key, sealed, entry.block, newest) is None


def test_history_beyond_its_fields_is_clipped() -> None:
    far = HistoryEntry(HistoryKind.PURCHASE, 7, datetime(2100, 1, 1, tzinfo=UTC), 10**15, -(10**9), 1)
    early = HistoryEntry(HistoryKind.REVERSAL, 7, datetime(1999, 1, 1, tzinfo=UTC), -5, 10**9, 1)
    for entry, amount, points, minutes in (
        (far, 2**36 - 1, -(2**23), 2**24 - 1),
        (early, 0, 2**23 - 1, 0),
    ):
        read = layout.decode_history(KEYS.history_key, layout.encode_history(KEYS.history_key, entry), entry.block, 7)
        assert read is not None
        assert (read.kind, read.amount, read.points) == (entry.kind, amount, points)
        assert read.time == HISTORY_EPOCH + timedelta(minutes=minutes)


@given(state=states, bit=bits)
def test_one_flipped_bit_breaks_a_state(state: CardState, bit: int) -> None:
    with pytest.raises(SealBroken):
        layout.decode_state(KEYS.state_key, flipped(layout.encode_state(KEYS.state_key, state), bit), state.slot)


@given(identity=identities, bit=bits)
def test_one_flipped_bit_breaks_an_identity(identity: Identity, bit: int) -> None:
    with pytest.raises(SealBroken):
        layout.decode_identity(KEYS.identity_key, flipped(layout.encode_identity(KEYS.identity_key, identity), bit))


def test_every_flipped_bit_of_a_history_entry_breaks_it() -> None:
    """Each of the 128 for one entry: with a tag of 16 bits a random search would find the 1 in 65536."""
    entry = HistoryEntry(HistoryKind.PURCHASE, 42, HISTORY_EPOCH, 50_000, 5, 1)
    sealed = layout.encode_history(KEYS.history_key, entry)
    for bit in range(128):
        with pytest.raises(SealBroken):
            layout.decode_history(KEYS.history_key, flipped(sealed, bit), entry.block, 42)


@given(state=states, identity=identities)
def test_blocks_moved_to_another_card_are_refused(state: CardState, identity: Identity) -> None:
    with pytest.raises(SealBroken):
        layout.decode_state(OTHER.state_key, layout.encode_state(KEYS.state_key, state), state.slot)
    with pytest.raises(SealBroken):
        layout.decode_identity(OTHER.identity_key, layout.encode_identity(KEYS.identity_key, identity))


@given(state=states)
def test_a_block_of_one_purpose_is_refused_for_another(state: CardState) -> None:
    sealed = layout.encode_state(KEYS.state_key, state)
    with pytest.raises(SealBroken):
        layout.decode_identity(KEYS.identity_key, sealed)
    with pytest.raises(SealBroken):
        layout.decode_identity(KEYS.state_key, sealed)


@given(block=st.binary(min_size=16, max_size=16))
@example(block=bytes(16))
@example(block=b"\xff" * 16)
def test_what_nobody_sealed_is_refused(block: bytes) -> None:
    for slot in (0, 1):
        with pytest.raises(SealBroken):
            layout.decode_state(KEYS.state_key, block, slot)
    with pytest.raises(SealBroken):
        layout.decode_arrival(KEYS.state_key, block)
    assert not layout.is_sealed_for_a_home(KEYS, block)


def test_a_block_of_another_length_is_refused() -> None:
    with pytest.raises(SealBroken, match="16 bytes"):
        layout.decode_state(KEYS.state_key, bytes(15), 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sequence", -1),
        ("sequence", 2**24),
        ("balance", 2**31),
        ("balance", -(2**31) - 1),
        ("adjustments_through", 2**16),
        ("redeemed_offline", 2**16),
        ("redeemed_offline", -1),
        ("tier", 16),
        ("flags", CardFlags(16)),
    ],
)
def test_a_state_that_does_not_fit_is_refused(name: str, value: int) -> None:
    fields: dict[str, Any] = {"sequence": 0, "balance": 0, name: value}
    with pytest.raises(ValueError, match=f"{name} .* does not fit on the card"):
        CardState(**fields)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("key_set_version", 256),
        ("key_set_version", -1),
        ("programme", 2**16),
        ("card_no", "12"),
        ("card_no", "1000000000000000"),
        ("card_no", "not a number"),
    ],
)
def test_an_identity_that_does_not_fit_is_refused(name: str, value: object) -> None:
    fields: dict[str, Any] = {"key_set_version": 1, "programme": 0, "card_no": "1000000000000008", name: value}
    with pytest.raises(ValueError, match="does not fit on the card"):
        Identity(**fields)


@pytest.mark.parametrize("fmt", [0, 2, 255])
def test_a_format_of_the_future_is_refused(fmt: int) -> None:
    body = bytes([fmt, 1, 0, 0]) + (1000000000000008).to_bytes(8, "big")
    with pytest.raises(SealBroken, match=f"format {fmt}"):
        layout.decode_identity(KEYS.identity_key, aes_encrypt_block(KEYS.identity_key, body + layout.IDENTITY_TAG))


def test_a_well_sealed_identity_without_a_card_number_is_refused() -> None:
    body = bytes([1, 1, 0, 0]) + b"\xff" * 8
    with pytest.raises(SealBroken, match="card_no"):
        layout.decode_identity(KEYS.identity_key, aes_encrypt_block(KEYS.identity_key, body + layout.IDENTITY_TAG))


def test_consecutive_states_take_turns() -> None:
    assert [CardState(n, 0).slot for n in range(4)] == [0, 1, 0, 1]
    assert [home.blocks for home in layout.HOMES] == [(4, 5, 6), (28, 29, 30)]


def test_consecutive_key_sets_live_in_different_sectors() -> None:
    assert [layout.home_of(version).sector for version in range(1, 6)] == [1, 7, 1, 7, 1]
    assert all(layout.home_of(version).other == layout.home_of(version + 1) for version in range(1, 255))
    assert not {block for home in layout.HOMES for block in home.blocks} & set(HISTORY_BLOCKS)


@given(state=states)
def test_an_arrival_is_no_state_and_a_state_no_arrival(state: CardState) -> None:
    mark = layout.encode_arrival(KEYS.state_key, state)
    assert layout.decode_arrival(KEYS.state_key, mark) == state
    with pytest.raises(SealBroken):
        layout.decode_state(KEYS.state_key, mark, state.slot)
    with pytest.raises(SealBroken):
        layout.decode_arrival(KEYS.state_key, layout.encode_state(KEYS.state_key, state))


@given(state=states, identity=identities, entry=entries)
def test_what_belongs_in_a_home_is_known_by_its_own_card_alone(
    state: CardState, identity: Identity, entry: HistoryEntry
) -> None:
    ours = [
        layout.encode_identity(KEYS.identity_key, identity),
        layout.encode_state(KEYS.state_key, state),
        layout.encode_arrival(KEYS.state_key, state),
    ]
    assert [layout.is_sealed_for_a_home(KEYS, block) for block in ours] == [True] * 3
    assert [layout.is_sealed_for_a_home(OTHER, block) for block in ours] == [False] * 3
    assert not layout.is_sealed_for_a_home(KEYS, layout.encode_history(KEYS.history_key, entry))


@given(entry=entries)
def test_a_history_entry_passes_to_another_key_as_it_is(entry: HistoryEntry) -> None:
    sealed = layout.encode_history(KEYS.history_key, entry)
    moved = layout.reseal_history(KEYS.history_key, OTHER.history_key, sealed)
    assert moved == layout.encode_history(OTHER.history_key, entry)
    with pytest.raises(SealBroken):
        layout.reseal_history(OTHER.history_key, KEYS.history_key, bytes(16))


def test_consecutive_taps_fill_the_whole_ring() -> None:
    assert len(HISTORY_BLOCKS) >= 12
    assert {history_block(n) for n in range(100, 100 + len(HISTORY_BLOCKS))} == set(HISTORY_BLOCKS)


def test_issued_access_lets_key_b_write_and_nobody_read_a_key() -> None:
    assert ISSUED_ACCESS.encode().hex() == "787788"
    for index in range(3):
        assert (ISSUED_ACCESS.data(index).read, ISSUED_ACCESS.data(index).write) == (AB, B)
        assert not ISSUED_ACCESS.data(index).increment | ISSUED_ACCESS.data(index).decrement
    assert (ISSUED_ACCESS.trailer.write_key_a, ISSUED_ACCESS.trailer.write_key_b) == (B, B)
    assert not ISSUED_ACCESS.trailer.read_key_b


@given(name=st.text())
def test_a_short_code_has_sixteen_bits_and_is_never_none(name: str) -> None:
    assert 1 <= short_code(name) <= 2**16 - 1


@given(one=states, other=states)
def test_two_states_never_look_the_same(one: CardState, other: CardState) -> None:
    assume(one != other)
    assert layout.encode_state(KEYS.state_key, one) != layout.encode_state(KEYS.state_key, other)


def test_a_seven_byte_uid_seals_otherwise() -> None:
    state = CardState(2, 5)
    sealed = layout.encode_state(CardKeys(1, UID_7, MasterKeyInMemory(MASTER_KEY)).state_key, state)
    with pytest.raises(SealBroken):
        layout.decode_state(CardKeys(1, UID_7[:4], MasterKeyInMemory(MASTER_KEY)).state_key, sealed, 0)
