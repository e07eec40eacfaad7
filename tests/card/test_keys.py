"""Key diversification: NXP's vectors, check values, and no two purposes or cards that share a key."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from drivers.mifare_classic import SECTOR_COUNT, KeyType
from terminal_agent.card.keys import (
    MAX_DIVERSIFICATION_INPUT,
    CardKeys,
    MasterKeyInMemory,
    check_value,
    diversify_aes128,
)
from tests.workbench import MASTER_KEY, UID, UID_7

uids = st.binary(min_size=4, max_size=4) | st.binary(min_size=7, max_size=7)


def cmac(key: bytes, message: bytes) -> bytes:
    mac = CMAC(algorithms.AES(key))
    mac.update(message)
    return mac.finalize()


def test_an10922_section_2_2_1_gives_nxps_key() -> None:
    master = bytes.fromhex("00112233445566778899AABBCCDDEEFF")
    message = bytes.fromhex("04782E21801D803042F54E585020416275")
    assert diversify_aes128(master, message).hex().upper() == "A8DD63A3B89D54B37CA802473FDA9175"


def test_a_short_input_gives_nxps_key_and_not_the_plain_cmac() -> None:
    master, message = bytes.fromhex("F3F9377698707B688EAF84ABE39E3791"), bytes.fromhex("04DEADBEEFFEED")
    assert cmac(master, b"\x01" + message).hex().upper() == "721E2C01E81AF85D815633969CEA2607"
    assert diversify_aes128(master, message).hex().upper() == "0BB408BAFF98B6EE9F2E1585777F6A51"


@given(master=st.binary(min_size=16, max_size=16), message=st.binary(min_size=16, max_size=31))
def test_a_long_input_is_the_library_s_cmac(master: bytes, message: bytes) -> None:
    """From 17 bytes on the two agree, full second block included: an oracle that is not ours."""
    assert diversify_aes128(master, message) == cmac(master, b"\x01" + message)


@pytest.mark.parametrize("length", [0, MAX_DIVERSIFICATION_INPUT + 1])
def test_an_input_an10922_does_not_allow_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="1 to 31 bytes"):
        diversify_aes128(MASTER_KEY, bytes(length))


def test_the_check_value_is_the_head_of_a_cmac_over_zeros() -> None:
    assert check_value(MASTER_KEY) == cmac(MASTER_KEY, bytes(16))[:3].hex().upper() == "270389"


def all_keys(uid: bytes) -> list[bytes]:
    keys = CardKeys(1, uid, MasterKeyInMemory(MASTER_KEY))
    sector_keys = [keys.sector_key(sector, key_type) for sector in range(SECTOR_COUNT) for key_type in KeyType]
    return [*sector_keys, keys.identity_key, keys.state_key, keys.history_key]


@settings(max_examples=20)
@given(uid=uids)
def test_all_keys_of_a_card_differ(uid: bytes) -> None:
    heads = [key[:6] for key in all_keys(uid)]
    assert len(set(heads)) == len(heads) == 2 * SECTOR_COUNT + 3


@settings(max_examples=20)
@given(one=uids, other=uids)
def test_two_cards_share_no_key(one: bytes, other: bytes) -> None:
    assume(one != other)
    assert not set(all_keys(one)) & set(all_keys(other))


@settings(max_examples=20)
@given(uid=st.binary(min_size=7, max_size=7))
def test_a_seven_byte_uid_never_passes_for_its_first_four(uid: bytes) -> None:
    assert not set(all_keys(uid)) & set(all_keys(uid[:4]))


def test_another_master_key_gives_other_keys() -> None:
    other = CardKeys(1, UID, MasterKeyInMemory(bytes(16)))
    assert other.state_key != CardKeys(1, UID, MasterKeyInMemory(MASTER_KEY)).state_key


@pytest.mark.parametrize("uid", [UID, UID_7])
def test_a_printed_key_set_shows_no_key(uid: bytes) -> None:
    keys = CardKeys(1, uid, MasterKeyInMemory(MASTER_KEY))
    shown = repr(keys)
    assert MASTER_KEY.hex() not in shown
    assert repr(MASTER_KEY) not in shown
    assert not any(repr(key) in shown for key in all_keys(uid))
