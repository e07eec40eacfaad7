"""Cards behind a PN532 on a serial line: keys, refusals, tears, two at once."""

from __future__ import annotations

import pytest

from drivers import KeyType, Reader, ReaderState, open_reader
from drivers.errors import (
    AccessDenied,
    AuthenticationFailed,
    CardRemoved,
    MultipleCards,
    UnsupportedCard,
)
from drivers.mifare_classic import TRANSPORT_KEY
from drivers.simulator import Fault
from tests.pn532.chip import (
    RX_CRC,
    RX_MODE,
    SAK_DESFIRE,
    SAK_INFINEON_1K,
    SAK_MINI,
    SAK_ULTRALIGHT,
    TIMEOUT,
    FieldCard,
    Pn53xChip,
)
from tests.pn532.line import OTHER_UID, UID, WRONG_KEY, state_of, use_the_card
from tests.pn532.serial_line import SerialPn532

pytestmark = pytest.mark.nfcpy


class TestCards:
    def test_two_cards_at_once_are_told_apart_from_one(self, pn532: SerialPn532, reader: Reader) -> None:
        pn532.lay(FieldCard.blank(UID), FieldCard.blank(OTHER_UID))
        with pytest.raises(MultipleCards):
            reader.connect()
        pn532.lay(FieldCard.blank(UID))
        use_the_card(reader)

    @pytest.mark.parametrize(
        ("sak", "words"), [(SAK_ULTRALIGHT, "Ultralight"), (SAK_MINI, "Mini"), (SAK_DESFIRE, "14443-4"), (0x01, "no c")]
    )
    def test_another_kind_of_card_is_refused_by_name(
        self, pn532: SerialPn532, reader: Reader, sak: int, words: str
    ) -> None:
        pn532.lay(FieldCard.blank(UID, sak=sak))
        with pytest.raises(UnsupportedCard, match=words):
            reader.connect()
        assert pn532.counts["40"] == 0

    def test_a_uid_of_ten_bytes_is_no_classics(self, pn532: SerialPn532, reader: Reader) -> None:
        class Strange(FieldCard):
            def select(self) -> bool:
                answered = super().select()
                self.uid = bytes(range(10))
                return answered

        pn532.lay(Strange.blank(UID))
        with pytest.raises(UnsupportedCard, match="10 bytes"):
            reader.connect()
        assert not pn532.chip.field_on

    def test_a_chip_that_holds_one_card_only_will_do(self, pn532: SerialPn532, card: FieldCard) -> None:
        pn532.chip = Pn53xChip(max_targets=1)
        pn532.lay(card)
        with open_reader(f"pn532:{pn532.link}") as reader:
            assert reader.wait_for_change(ReaderState.EMPTY, 1) is ReaderState.CARD
            use_the_card(reader)

    def test_infineons_1k_is_a_1k(self, pn532: SerialPn532, reader: Reader) -> None:
        pn532.lay(FieldCard.blank(UID, sak=SAK_INFINEON_1K))
        use_the_card(reader)

    def test_no_card_is_card_removed(self, reader: Reader) -> None:
        with pytest.raises(CardRemoved):
            reader.connect()

    def test_a_tap_costs_no_command_too_many(self, pn532: SerialPn532, reader: Reader, card: FieldCard) -> None:
        assert reader.wait_for_change(ReaderState.EMPTY, 1) is ReaderState.CARD
        before = pn532.counts.copy()
        with reader.connect() as connection:
            connection.authenticate(4, KeyType.A, TRANSPORT_KEY)
            for block in (4, 5, 6):
                connection.read_block(block)
            connection.write_block(5, bytes(16))
            connection.read_block(5)
        assert pn532.counts - before == {"4a": 1, "40": 6, "auth": 1, "read": 4, "write": 1, "32": 1}

    def test_a_refused_key_costs_one_selection(self, pn532: SerialPn532, reader: Reader, card: FieldCard) -> None:
        with reader.connect() as connection:
            before = pn532.counts.copy()
            with pytest.raises(AuthenticationFailed):
                connection.authenticate(4, KeyType.A, WRONG_KEY)
            assert pn532.counts - before == {"40": 1, "auth": 1, "4a": 1}

    @pytest.mark.parametrize("code", [TIMEOUT, 0x02, 0x05])
    def test_a_disturbed_authentication_is_tried_once_more(
        self, pn532: SerialPn532, reader: Reader, card: FieldCard, code: int
    ) -> None:
        with reader.connect() as connection:
            pn532.chip.disturbances.append(code)
            connection.authenticate(4, KeyType.A, TRANSPORT_KEY)
            pn532.chip.disturbances.extend([code, code])
            with pytest.raises(AuthenticationFailed):
                connection.authenticate(4, KeyType.A, TRANSPORT_KEY)

    def test_a_disturbed_read_says_that_nothing_was_read(
        self, pn532: SerialPn532, reader: Reader, card: FieldCard
    ) -> None:
        with reader.connect() as connection:
            connection.authenticate(4, KeyType.A, TRANSPORT_KEY)
            pn532.chip.disturbances.append(0x02)
            with pytest.raises(AccessDenied, match="Checksum"):
                connection.read_block(4)
            connection.authenticate(4, KeyType.A, TRANSPORT_KEY)
            assert connection.read_block(4) == bytes(16)

    def test_more_than_a_block_is_not_taken_for_one(self, pn532: SerialPn532, reader: Reader, card: FieldCard) -> None:
        with reader.connect() as connection:
            connection.authenticate(4, KeyType.A, TRANSPORT_KEY)
            pn532.chip.registers[RX_MODE] &= ~RX_CRC
            with pytest.raises(AccessDenied, match="18 bytes"):
                connection.read_block(4)

    def test_a_card_that_falls_back_into_halt_when_it_refuses_is_woken(
        self, pn532: SerialPn532, reader: Reader, card: FieldCard
    ) -> None:
        """ISO/IEC 14443-3: a card that was halted before it was selected does."""
        card.halts_when_it_refuses = True
        with reader.connect() as connection:
            with pytest.raises(AuthenticationFailed):
                connection.authenticate(4, KeyType.A, WRONG_KEY)
            connection.authenticate(4, KeyType.A, TRANSPORT_KEY)

    def test_a_connection_whose_card_left_stays_dead_when_the_card_is_back(
        self, pn532: SerialPn532, reader: Reader, card: FieldCard
    ) -> None:
        with reader.connect() as connection:
            pn532.lift()
            with pytest.raises(CardRemoved):
                connection.authenticate(4, KeyType.A, TRANSPORT_KEY)
            pn532.lay(card)
            with pytest.raises(CardRemoved):
                connection.authenticate(4, KeyType.A, TRANSPORT_KEY)

    def test_a_card_swapped_in_an_open_connection_is_noticed(
        self, pn532: SerialPn532, reader: Reader, card: FieldCard
    ) -> None:
        with reader.connect() as connection:
            pn532.lay(FieldCard.blank(OTHER_UID))
            with pytest.raises(CardRemoved, match="another card"):
                connection.authenticate(4, KeyType.A, WRONG_KEY)


def test_a_torn_card_is_told_as_removed_with_its_outcome_unknown(pn532: SerialPn532, reader: Reader) -> None:
    pn532.lay(FieldCard.blank(UID, Fault(2)))
    with reader.connect() as connection:
        connection.authenticate(4, KeyType.A, TRANSPORT_KEY)
        with pytest.raises(CardRemoved):
            connection.write_block(4, bytes(16))
    assert state_of(reader, ReaderState.EMPTY) is ReaderState.EMPTY
