"""What gives away a copied chip, as a pure function of what was read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.mifare_classic import manufacturer_block
from terminal_agent.card.tells import RANDOM_UID, UNFUSED_FUID, Tell, tells

UID, UID_7 = bytes.fromhex("1A2B3C4D"), bytes.fromhex("04A1B2C3D4E5F6")
uids = st.binary(min_size=4, max_size=4) | st.binary(min_size=7, max_size=7)


@given(uid=uids.filter(lambda uid: uid[0] != RANDOM_UID and uid != UNFUSED_FUID), maker=st.binary(max_size=8))
def test_a_genuine_chip_tells_nothing(uid: bytes, maker: bytes) -> None:
    assert tells(uid, manufacturer_block(uid, maker)) == []


@given(uid=uids, other=uids)
def test_a_uid_that_block_0_does_not_have_is_told(uid: bytes, other: bytes) -> None:
    told = Tell.UID_NOT_IN_BLOCK_0 in tells(uid, manufacturer_block(other))
    assert told == (manufacturer_block(other)[: len(uid)] != uid)


@pytest.mark.parametrize("bit", range(8))
def test_a_wrong_check_byte_is_told_of_a_4_byte_uid_alone(bit: int) -> None:
    for uid, told in ((UID, [Tell.WRONG_CHECK_BYTE]), (UID_7, [Tell.UID_NOT_IN_BLOCK_0])):
        block = bytearray(manufacturer_block(uid))
        block[4] ^= 1 << bit
        assert tells(uid, bytes(block)) == told


def test_uids_that_no_genuine_chip_has_are_told() -> None:
    assert tells(UNFUSED_FUID, manufacturer_block(UNFUSED_FUID)) == [Tell.UNFUSED_UID]
    made_up = bytes([RANDOM_UID]) + UID[1:]
    assert tells(made_up, manufacturer_block(made_up)) == [Tell.RANDOM_UID]
    seven = bytes([RANDOM_UID]) + UID_7[1:]
    assert tells(seven, manufacturer_block(seven)) == []


def test_a_block_0_that_anybody_can_read_is_told() -> None:
    block = manufacturer_block(UID)
    assert tells(UID, block, without_key=block) == [Tell.BLOCK_0_WITHOUT_KEY]


def test_all_that_is_seen_is_told() -> None:
    block = bytes(16)
    assert tells(UID, block, without_key=block) == [Tell.UID_NOT_IN_BLOCK_0, Tell.BLOCK_0_WITHOUT_KEY]
