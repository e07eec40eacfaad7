"""The bytes of PC/SC part 3."""

from __future__ import annotations

import pytest

from drivers import pseudo_apdu
from drivers.card_kind import CardKind
from drivers.mifare_classic import KeyType, ValueOperation
from drivers.pseudo_apdu import classify_atr, storage_card_atr
from drivers.reader_profiles import (
    GENERIC,
    SESSION_KEY,
    VOLATILE_0,
    ValueFamily,
    choose_reader,
    parse_place,
    profile_of,
)

KEY = bytes.fromhex("010203040506")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (pseudo_apdu.get_uid(), "FFCA000000"),
        (pseudo_apdu.load_key(0, 0x20, KEY), "FF82002006010203040506"),
        (pseudo_apdu.authenticate(7, KeyType.A, 0), "FF860000050100076000"),
        (pseudo_apdu.authenticate(7, KeyType.B, 1), "FF860000050100076101"),
        (pseudo_apdu.read_block(4), "FFB0000410"),
        (pseudo_apdu.read_block(4, 48), "FFB0000430"),
        (pseudo_apdu.update_block(5, bytes(range(16))), "FFD6000510000102030405060708090A0B0C0D0E0F"),
    ],
)
def test_commands_are_these_bytes(command: bytes, expected: str) -> None:
    assert command.hex().upper() == expected


def test_a_key_or_block_of_wrong_length_is_refused_without_showing_it() -> None:
    with pytest.raises(ValueError, match="6 bytes, not 7") as failure:
        pseudo_apdu.load_key(0, 0, KEY + b"x")
    assert KEY.hex() not in str(failure.value)
    with pytest.raises(ValueError, match="16 bytes, not 15"):
        pseudo_apdu.update_block(4, bytes(15))


def test_keys_are_masked_for_the_log() -> None:
    trailer = KEY + bytes.fromhex("FF078069") + KEY
    shown = [
        pseudo_apdu.command_for_log(pseudo_apdu.load_key(0, 0, KEY)),
        pseudo_apdu.command_for_log(pseudo_apdu.update_block(7, trailer)),
        pseudo_apdu.answer_for_log(pseudo_apdu.read_block(7), trailer[:6].replace(KEY, bytes(6)) + trailer[6:]),
    ]
    assert all("key masked" in line and "02 03" not in line for line in shown)
    assert pseudo_apdu.command_for_log(pseudo_apdu.read_block(4)) == "ff b0 00 04 10"


def test_status_words_have_names() -> None:
    assert pseudo_apdu.describe_status(0x6982) == "6982 security status not satisfied"
    assert pseudo_apdu.describe_status(0x6F0A) == "6F0A"


@pytest.mark.parametrize(
    ("atr", "kind"),
    [
        ("3B8F8001804F0CA000000306030001000000006A", CardKind.CLASSIC_1K),
        ("3B8F8001804F0CA0000003060300020000000069", CardKind.CLASSIC_4K),
        ("3B8F8001804F0CA0000003060300030000000068", CardKind.ULTRALIGHT),
        ("3B8F8001804F0CA000000306030026000000004D", CardKind.CLASSIC_MINI),
        ("3B8F8001804F0CA000000306030036000000005D", CardKind.PLUS_SL1),
        ("3B8F8001804F0CA000000306030037000000005C", CardKind.PLUS_SL1),
        ("3B8F8001804F0CA00000030603003A0000000051", CardKind.ULTRALIGHT),
        ("3B8F8001804F0CA00000030603FF88000000001C", CardKind.CLASSIC_1K),
        ("3B8180018080", CardKind.ISO_14443_4),
        ("3B8F8001804F0CA000000306", CardKind.ISO_14443_4),
        ("3B6800000073C84013009000", CardKind.UNKNOWN),
        ("", CardKind.UNKNOWN),
    ],
)
def test_atrs_name_the_card(atr: str, kind: CardKind) -> None:
    assert classify_atr(bytes.fromhex(atr)) is kind


def test_an_atr_is_built_with_its_check_byte() -> None:
    assert storage_card_atr(0x0001).hex().upper() == "3B8F8001804F0CA000000306030001000000006A"
    assert storage_card_atr(0xFF88)[-1] == 0x1C


def test_other_standards_and_unknown_names_are_told_apart() -> None:
    assert classify_atr(storage_card_atr(0x003B, standard=0x11)) is CardKind.OTHER_STORAGE
    assert classify_atr(storage_card_atr(0xF004)) is CardKind.OTHER_STORAGE
    assert classify_atr(storage_card_atr(0x7777)) is CardKind.UNNAMED_STORAGE
    assert classify_atr(storage_card_atr(0xFF18)) is CardKind.CLASSIC_4K


def test_value_commands_are_as_the_makers_manuals_write_them() -> None:
    increment, decrement = ValueOperation.INCREMENT, ValueOperation.DECREMENT
    assert pseudo_apdu.acs_value(5, increment, 5).hex().upper() == "FFD70005050100000005"
    assert pseudo_apdu.acs_value(5, decrement, 0x01020304).hex().upper() == "FFD70005050201020304"
    assert pseudo_apdu.acs_restore(5, 6).hex().upper() == "FFD70005020306"
    assert pseudo_apdu.hid_value(5, increment, 5).hex().upper() == "FFD400050405000000"
    assert pseudo_apdu.hid_value(5, decrement, 0x01020304).hex().upper() == "FFD800050404030201"


def test_only_a_reader_that_is_known_by_name_is_sent_value_commands() -> None:
    assert profile_of("ACS ACR122U PICC Interface 00 00").value_family is ValueFamily.ACS
    assert profile_of("ACS ACR1252 Dual Reader PICC 00 00").value_family is ValueFamily.ACS
    assert profile_of("HID Global OMNIKEY 5022 Smart Card Reader 00 00").value_family is ValueFamily.HID
    assert profile_of("Identiv uTrust 3700 F CL Reader 00 00").value_family is None
    assert GENERIC.value_family is None


def test_a_profile_is_found_by_the_readers_name_or_forced() -> None:
    assert profile_of("ACS ACR122U PICC Interface 00 00").key_slots == (VOLATILE_0,)
    assert profile_of("ACS ACR1252 Dual Reader [ACR1252 Dual Reader PICC] 00 00").max_read_bytes == 48
    assert profile_of("ACS ACR1281 1S Dual Reader 00 01").key_slots == (SESSION_KEY,)
    assert profile_of("Virtual PCD 00 00") is GENERIC
    assert GENERIC.key_slots == (VOLATILE_0, SESSION_KEY)
    assert parse_place("Virtual?profile=acr122u") == ("Virtual", profile_of("ACR122"))
    assert parse_place("Virtual") == ("Virtual", None)


def test_access_is_readers_have_names_of_their_own() -> None:
    names = profile_of("Access-IS ATR210 00 00").card_names
    assert classify_atr(storage_card_atr(0x0003), names) is CardKind.CLASSIC_1K


def test_no_profile_loads_keys_into_eeprom() -> None:
    from drivers.reader_profiles import PROFILES

    assert all(slot.p1 == 0 for profile in (*PROFILES, GENERIC) for slot in profile.key_slots)
    assert SESSION_KEY in profile_of("ACR1281").key_slots
    assert VOLATILE_0 not in profile_of("ACR1281").key_slots


def test_the_contactless_slot_of_a_dual_reader_is_chosen() -> None:
    names = ["ACS ACR1252 [SAM] 01 00", "ACS ACR1252 [PICC] 00 00"]
    assert choose_reader(names, "") == names[1]
    assert choose_reader(names, "sam") == names[0]
    assert choose_reader(names, "omnikey") is None
    assert choose_reader(["Virtual PCD 00 01", "Virtual PCD 00 0"], "Virtual PCD 00 0") == "Virtual PCD 00 0"
