"""What every driver promises, whatever the reader. A new driver joins by a rig in conftest.py."""

from __future__ import annotations

import pytest

from drivers import KeyType, ReaderState
from drivers.errors import AccessDenied, AuthenticationFailed, CardRemoved, UnsupportedCard
from drivers.mifare_classic import BLOCK_COUNT, TRANSPORT_KEY, AccessBits, SectorTrailer, is_trailer, trailer_of
from drivers.simulator import Fault, Torn, _garbage
from tests.drivers.rig import UID, UID_7, Rig

WRONG_KEY = bytes.fromhex("010203040506")
KEY_A, KEY_B = bytes.fromhex("A1A2A3A4A5A6"), bytes.fromhex("B1B2B3B4B5B6")
ISSUED = SectorTrailer(KEY_A, AccessBits((0b100, 0b100, 0b100, 0b011)), KEY_B)
DATA = bytes(range(16))


def rekey(driver: Rig, sector: int) -> None:
    with driver.connect() as card:
        card.authenticate(trailer_of(sector), KeyType.A, TRANSPORT_KEY)
        card.write_block(trailer_of(sector), ISSUED.encode())


def test_a_card_on_the_reader_is_seen(driver: Rig) -> None:
    driver.lay()
    assert driver.reader.wait_for_change(ReaderState.EMPTY, 3) is ReaderState.CARD


@pytest.mark.parametrize("uid", [UID, UID_7], ids=["4 bytes", "7 bytes"])
def test_the_uid_is_what_the_card_says(driver: Rig, uid: bytes) -> None:
    driver.lay(uid)
    with driver.connect() as card:
        assert card.uid == uid
        card.authenticate(4, KeyType.A, TRANSPORT_KEY)
        assert card.read_block(4) == bytes(16)


@pytest.mark.parametrize("key_type", list(KeyType))
def test_either_key_opens_the_sectors_it_belongs_to(driver: Rig, key_type: KeyType) -> None:
    driver.lay()
    rekey(driver, 2)
    with driver.connect() as card:
        card.authenticate(8, key_type, KEY_A if key_type is KeyType.A else KEY_B)
        assert card.read_block(9) == bytes(16)


def test_the_right_key_works_at_once_after_a_wrong_one(driver: Rig) -> None:
    driver.lay()
    with driver.connect() as card:
        for _ in range(3):
            with pytest.raises(AuthenticationFailed) as failure:
                card.authenticate(4, KeyType.B, WRONG_KEY)
            assert (failure.value.block, failure.value.key_type) == (4, KeyType.B)
            assert WRONG_KEY.hex() not in str(failure.value).lower()
        card.authenticate(4, KeyType.A, TRANSPORT_KEY)
        assert card.read_block(4) == bytes(16)


def test_a_written_block_reads_back(driver: Rig) -> None:
    driver.lay()
    with driver.connect() as card:
        card.authenticate(4, KeyType.A, TRANSPORT_KEY)
        card.write_block(5, DATA)
        assert card.read_block(5) == DATA
        assert card.read_blocks(4, 3) == bytes(16) + DATA + bytes(16)
    assert driver.block(5) == DATA


def test_a_trailer_never_shows_key_a(driver: Rig) -> None:
    driver.lay()
    with driver.connect() as card:
        card.authenticate(7, KeyType.A, TRANSPORT_KEY)
        assert card.read_block(7) == bytes(6) + bytes.fromhex("FF078069") + TRANSPORT_KEY


def test_an_issued_trailer_shows_no_key_at_all(driver: Rig) -> None:
    driver.lay()
    rekey(driver, 1)
    with driver.connect() as card:
        card.authenticate(7, KeyType.A, KEY_A)
        assert card.read_block(7) == bytes(6) + bytes.fromhex("78778869") + bytes(6)


def test_key_a_reads_but_does_not_write_under_access_100(driver: Rig) -> None:
    driver.lay()
    rekey(driver, 1)
    with driver.connect() as card:
        card.authenticate(4, KeyType.A, KEY_A)
        with pytest.raises(AccessDenied) as failure:
            card.write_block(4, DATA)
        assert (failure.value.block, failure.value.action) == (4, "write")
        card.authenticate(4, KeyType.B, KEY_B)
        card.write_block(4, DATA)
        assert card.read_block(4) == DATA


def test_the_manufacturer_block_cannot_be_written(driver: Rig) -> None:
    driver.lay()
    before = driver.block(0)
    with driver.connect() as card:
        card.authenticate(0, KeyType.A, TRANSPORT_KEY)
        with pytest.raises(AccessDenied):
            card.write_block(0, DATA)
    assert driver.block(0) == before


def test_another_sector_needs_its_own_authentication(driver: Rig) -> None:
    driver.lay()
    with driver.connect() as card:
        card.authenticate(4, KeyType.A, TRANSPORT_KEY)
        with pytest.raises(AccessDenied) as failure:
            card.read_block(8)
        assert (failure.value.block, failure.value.action) == (8, "read")
        card.authenticate(8, KeyType.A, TRANSPORT_KEY)
        assert card.read_block(8) == bytes(16)
        with pytest.raises(AccessDenied):
            card.read_block(4)


def test_nothing_is_read_without_authentication(driver: Rig) -> None:
    driver.lay()
    with driver.connect() as card, pytest.raises(AccessDenied):
        card.read_block(4)


def test_a_read_of_block_0_before_any_authentication_is_refused_and_spoils_nothing(driver: Rig) -> None:
    driver.lay()
    for wrong_key_first in (False, True):
        with driver.connect() as card:
            for _ in range(2):
                with pytest.raises(AccessDenied) as failure:
                    card.read_block(0)
                assert (failure.value.block, failure.value.action) == (0, "read")
            if wrong_key_first:
                with pytest.raises(AuthenticationFailed):
                    card.authenticate(0, KeyType.A, WRONG_KEY)
            card.authenticate(0, KeyType.A, TRANSPORT_KEY)
            assert card.read_block(0) == driver.block(0)


def test_a_copy_that_shows_block_0_to_anybody_does_so_and_works(driver: Rig) -> None:
    driver.lay(open_block_0=True)
    with driver.connect() as card:
        assert card.read_block(0) == driver.block(0)
        card.authenticate(4, KeyType.A, TRANSPORT_KEY)
        card.write_block(4, DATA)
        assert card.read_block(4) == DATA
        with pytest.raises(AccessDenied):
            card.read_block(0)


@pytest.mark.parametrize("call", [1, 2, 3], ids=["authenticate", "read", "write"])
def test_a_card_that_leaves_is_reported_as_removed(driver: Rig, call: int) -> None:
    driver.lay(fault=Fault(call))
    with driver.connect() as card:
        steps = [
            lambda: card.authenticate(4, KeyType.A, TRANSPORT_KEY),
            lambda: card.read_block(4),
            lambda: card.write_block(4, DATA),
        ]
        for step in steps[: call - 1]:
            step()
        with pytest.raises(CardRemoved):
            steps[call - 1]()
        with pytest.raises(CardRemoved):
            card.read_block(4)


@pytest.mark.parametrize("outcome", list(Torn))
def test_a_torn_write_leaves_old_new_or_garbage_and_nothing_else(driver: Rig, outcome: Torn) -> None:
    old = b"\x11" * 16
    driver.lay()
    with driver.connect() as card:
        card.authenticate(4, KeyType.A, TRANSPORT_KEY)
        card.write_block(4, old)
        rest = driver.content()
    driver.lay(fault=Fault(3, outcome))
    with driver.connect() as card:
        card.authenticate(4, KeyType.A, TRANSPORT_KEY)
        card.write_block(4, old)
        with pytest.raises(CardRemoved):
            card.write_block(4, DATA)
    driver.lay_same_card_again()
    with driver.connect() as card:
        card.authenticate(4, KeyType.A, TRANSPORT_KEY)
        assert card.read_block(4) == {Torn.OLD: old, Torn.NEW: DATA, Torn.GARBAGE: _garbage(DATA)}[outcome]
    assert driver.content()[:64] + driver.content()[80:] == rest[:64] + rest[80:]


def test_another_card_between_two_connections_is_another_card(driver: Rig) -> None:
    driver.lay(UID)
    with driver.connect() as card:
        first = card.uid
    driver.lay(UID_7)
    with driver.connect() as card:
        assert (first, card.uid) == (UID, UID_7)


def test_a_4k_card_is_refused_by_name(driver: Rig) -> None:
    driver.lay_another_kind()
    with pytest.raises(UnsupportedCard) as failure:
        driver.connect()
    assert "1K" in str(failure.value)


def test_numbers_that_no_1k_card_has_are_a_mistake_of_the_caller(driver: Rig) -> None:
    driver.lay()
    with driver.connect() as card:
        with pytest.raises(ValueError, match="block 64"):
            card.authenticate(64, KeyType.A, TRANSPORT_KEY)
        card.authenticate(4, KeyType.A, TRANSPORT_KEY)
        with pytest.raises(ValueError, match="16 bytes"):
            card.write_block(4, DATA + b"!")


def test_all_16_sectors_are_rekeyed_written_and_read_back(driver: Rig) -> None:
    driver.lay()
    blocks = [b for b in range(1, BLOCK_COUNT) if not is_trailer(b)]
    with driver.connect() as card:
        for sector in range(16):
            card.authenticate(trailer_of(sector), KeyType.A, TRANSPORT_KEY)
            card.write_block(trailer_of(sector), ISSUED.encode())
        for block in blocks:
            card.authenticate(block, KeyType.B, KEY_B)
            card.write_block(block, bytes([block]) * 16)
    with driver.connect() as card:
        for block in blocks:
            card.authenticate(block, KeyType.A, KEY_A)
            assert card.read_block(block) == bytes([block]) * 16
        for sector in range(16):
            with pytest.raises(AuthenticationFailed):
                card.authenticate(trailer_of(sector), KeyType.A, TRANSPORT_KEY)
