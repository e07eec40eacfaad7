"""Value blocks: their bytes, and counting on every driver, by the card itself where the reader passes that on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import KeyType, open_reader, value_blocks
from drivers.base import ClassicConnection
from drivers.errors import AccessDenied, CardRemoved, NoValueBlock, WriteNotKept
from drivers.mifare_classic import (
    HIGHEST_VALUE,
    LOWEST_VALUE,
    TRANSPORT_KEY,
    AccessBits,
    SectorTrailer,
    ValueBlock,
)
from drivers.pseudo_apdu import INS_ACS_VALUE, INS_HID_DECREMENT, INS_HID_INCREMENT
from drivers.reader_profiles import ValueFamily
from drivers.simulator import Fault, MemoryImage, Torn, _garbage
from tests.drivers.rig import UID, PcscRig, Rig
from tests.pcsc.virtual_reader import PART3, VirtualReader
from tests.pn532.chip import FieldCard
from tests.pn532.serial_line import SerialPn532
from tests.workbench import RecordingConnection, lay

KEY_B = bytes.fromhex("B1B2B3B4B5B6")
values = st.integers(LOWEST_VALUE, HIGHEST_VALUE)


class TestBytes:
    def test_the_makers_example(self) -> None:
        raw = bytes.fromhex("87D612007829EDFF87D6120011EE11EE")
        assert ValueBlock(1234567, 17).encode() == raw
        assert ValueBlock.parse(raw) == ValueBlock(1234567, 17)

    @given(value=values, address=st.integers(0, 255))
    def test_what_is_written_is_read(self, value: int, address: int) -> None:
        assert ValueBlock.parse(ValueBlock(value, address).encode()) == ValueBlock(value, address)

    @given(value=values, address=st.integers(0, 255), bit=st.integers(0, 127))
    def test_no_flipped_bit_goes_unnoticed(self, value: int, address: int, bit: int) -> None:
        raw = bytearray(ValueBlock(value, address).encode())
        raw[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="disagree"):
            ValueBlock.parse(bytes(raw))

    @pytest.mark.parametrize("raw", [b"", bytes(16), bytes(15), b"\xff" * 16])
    def test_what_is_no_value_block_is_refused(self, raw: bytes) -> None:
        with pytest.raises(ValueError, match="16 bytes|disagree"):
            ValueBlock.parse(raw)

    @pytest.mark.parametrize("value", [HIGHEST_VALUE + 1, LOWEST_VALUE - 1])
    def test_a_value_too_large_is_refused(self, value: int) -> None:
        with pytest.raises(ValueError, match="cannot hold"):
            ValueBlock(value).encode()


def opened(rig: Rig, fault: Fault | None = None) -> ClassicConnection:
    """A blank card with sector 1 open."""
    rig.lay(fault=fault)
    card = rig.connect()
    card.authenticate(4, KeyType.A, TRANSPORT_KEY)
    return card


class TestEveryDriver:
    def test_a_value_is_made_counted_up_and_down_and_copied(self, driver: Rig) -> None:
        with opened(driver) as card:
            value_blocks.initialise(card, 5, 100, address=9)
            assert value_blocks.increment(card, 5, 25) == 125
            assert value_blocks.decrement(card, 5, 130) == -5
            assert value_blocks.restore(card, 5, 6) == -5
            assert value_blocks.read(card, 6) == ValueBlock(-5, 9)
            assert value_blocks.increment(card, 5, 0) == -5
        assert driver.block(5) == driver.block(6) == ValueBlock(-5, 9).encode()

    def test_a_sum_that_does_not_fit_never_reaches_the_card(self, driver: Rig) -> None:
        with opened(driver) as card:
            value_blocks.initialise(card, 5, HIGHEST_VALUE)
            for amount in (1, -1, HIGHEST_VALUE + 1):
                with pytest.raises(ValueError, match=r"cannot hold|an amount"):
                    value_blocks.increment(card, 5, amount)
            assert value_blocks.decrement(card, 5, HIGHEST_VALUE) == 0
            value_blocks.initialise(card, 5, LOWEST_VALUE)
            with pytest.raises(ValueError, match="cannot hold"):
                value_blocks.decrement(card, 5, 1)
        assert driver.block(5) == ValueBlock(LOWEST_VALUE).encode()

    def test_a_block_that_holds_no_value_is_named(self, driver: Rig) -> None:
        with opened(driver) as card:
            for count in (value_blocks.increment, value_blocks.decrement):
                with pytest.raises(NoValueBlock) as failure:
                    count(card, 5, 1)
                assert failure.value.block == 5
            with pytest.raises(NoValueBlock):
                value_blocks.restore(card, 5, 6)

    def test_keys_are_never_overwritten_by_a_value(self, driver: Rig) -> None:
        with opened(driver) as card:
            value_blocks.initialise(card, 5, 1)
            with pytest.raises(ValueError, match="keys"):
                value_blocks.initialise(card, 7, 1)
            for target in (7, 8):
                with pytest.raises(ValueError, match="within its sector"):
                    value_blocks.restore(card, 5, target)
        assert driver.block(7)[10:] == TRANSPORT_KEY

    def test_key_a_takes_away_what_only_key_b_gives(self, driver: Rig) -> None:
        """Access bits 110; only the card's own arithmetic knows the difference to writing."""
        with opened(driver) as card:
            value_blocks.initialise(card, 5, 100)
            access = AccessBits((0b110, 0b110, 0b110, 0b011))
            card.write_block(7, SectorTrailer(TRANSPORT_KEY, access, KEY_B).encode())
            card.authenticate(4, KeyType.A, TRANSPORT_KEY)
            with pytest.raises(AccessDenied) as failure:
                value_blocks.increment(card, 5, 1)
            assert failure.value.block == 5
            card.authenticate(4, KeyType.A, TRANSPORT_KEY)
            if card.value_commands is None:
                with pytest.raises(AccessDenied):
                    value_blocks.decrement(card, 5, 30)
            else:
                assert value_blocks.decrement(card, 5, 30) == 70
            card.authenticate(4, KeyType.B, KEY_B)
            before = value_blocks.read(card, 5).value
            assert value_blocks.increment(card, 5, 1) == before + 1

    @pytest.mark.parametrize("outcome", list(Torn))
    def test_a_torn_count_leaves_old_new_or_no_value_at_all(self, driver: Rig, outcome: Torn) -> None:
        with opened(driver) as card:
            value_blocks.initialise(card, 5, 100)
            native = card.value_commands is not None
        # initialise writes and reads, increment reads and changes: the last operation is the one that writes.
        fault = Fault(1 + 2 + 1 + (2 if native else 1), outcome)
        with opened(driver, fault) as card:
            value_blocks.initialise(card, 5, 100)
            with pytest.raises(CardRemoved):
                value_blocks.increment(card, 5, 25)
        new = ValueBlock(125).encode()
        assert (
            driver.block(5)
            == {
                Torn.OLD: ValueBlock(100).encode(),
                Torn.NEW: new,
                Torn.GARBAGE: _garbage(new),
            }[outcome]
        )


class Forgetful(MemoryImage):
    """A card that says yes to every write and keeps none."""

    deaf = False

    def write(self, block: int, data: bytes) -> None:
        if not self.deaf:
            super().write(block, data)


def test_a_change_that_was_not_kept_is_noticed() -> None:
    image = Forgetful()
    with lay(image) as card:
        card.authenticate(4, KeyType.A, TRANSPORT_KEY)
        value_blocks.initialise(card, 5, 100)
        value_blocks.initialise(card, 6, 0)
        image.deaf = True
        for change in (
            lambda: value_blocks.initialise(card, 5, 1),
            lambda: value_blocks.increment(card, 5, 1),
            lambda: value_blocks.decrement(card, 5, 1),
            lambda: value_blocks.restore(card, 5, 6),
        ):
            with pytest.raises(WriteNotKept):
                change()


def test_the_simulated_card_counts_by_itself_and_other_readers_by_writing() -> None:
    image = MemoryImage()
    with lay(image) as card:
        assert card.value_commands is not None
        card.authenticate(4, KeyType.A, TRANSPORT_KEY)
        value_blocks.initialise(card, 5, 100)
        plain = RecordingConnection(card)  # passes reads and writes on, and nothing else
        assert plain.value_commands is None
        assert value_blocks.increment(plain, 5, 1) == 101
        assert plain.calls == [("read", 5), ("write", 5), ("read", 5)]


def test_the_card_refuses_what_the_data_sheet_refuses() -> None:
    """Asked directly, past the checks of value_blocks."""
    image = MemoryImage()
    with lay(image) as card:
        commands = card.value_commands
        assert commands is not None
        card.authenticate(4, KeyType.A, TRANSPORT_KEY)
        value_blocks.initialise(card, 5, HIGHEST_VALUE)
        for refused in (
            lambda: commands.increment(5, 1),
            lambda: commands.increment(6, 1),
            lambda: commands.restore(5, 7),
            lambda: commands.restore(5, 8),
            lambda: commands.increment(8, 1),
        ):
            with pytest.raises(AccessDenied):
                refused()
            card.authenticate(4, KeyType.A, TRANSPORT_KEY)
        assert value_blocks.read(card, 5).value == HIGHEST_VALUE


@pytest.mark.nfcpy
def test_a_pn532_lets_the_card_count(pn532: SerialPn532) -> None:
    pn532.lay(FieldCard.blank(UID))
    with open_reader(f"pn532:{pn532.link}") as reader, reader.connect() as card:
        card.authenticate(4, KeyType.A, TRANSPORT_KEY)
        value_blocks.initialise(card, 5, 100)
        pn532.chip.exchanges.clear()
        value_blocks.increment(card, 5, 258)
        value_blocks.decrement(card, 5, 1)
        value_blocks.restore(card, 5, 6)
    sent = [command.hex() for command in pn532.chip.exchanges if command[0] != 0x30]
    assert sent == ["c10502010000", "b005", "c00501000000", "b005", "c20500000000", "b006"]


VALUE_COMMANDS = {INS_ACS_VALUE, INS_HID_INCREMENT, INS_HID_DECREMENT}


@pytest.mark.pcsc
@pytest.mark.parametrize(
    ("profile", "family", "sent"),
    [
        ("?profile=acr122u", ValueFamily.ACS, {INS_ACS_VALUE}),
        ("?profile=omnikey", ValueFamily.HID, {INS_HID_INCREMENT, INS_HID_DECREMENT}),
        ("", ValueFamily.ACS, set()),
    ],
    ids=["acs", "hid", "unknown"],
)
def test_value_commands_go_to_readers_known_by_name_alone(
    shared_virtual_reader: VirtualReader, profile: str, family: ValueFamily, sent: set[int]
) -> None:
    """Elsewhere the same byte may write a whole sector."""
    rig = PcscRig(shared_virtual_reader, replace(PART3, key_slots=frozenset({0}), value_family=family), profile)
    with opened(rig) as card:
        value_blocks.initialise(card, 5, 100)
        assert value_blocks.increment(card, 5, 258) == 358
        assert value_blocks.decrement(card, 5, 1) == 357
        assert value_blocks.restore(card, 5, 6) == 357
        with pytest.raises(NoValueBlock):
            value_blocks.increment(card, 4, 1)
        if card.value_commands is not None:
            with pytest.raises(AccessDenied):
                card.value_commands.decrement(4, 1)
    rig.close()
    assert {command[1] for command in shared_virtual_reader.firmware.commands} & VALUE_COMMANDS == sent
