"""The data sheet's tables and encodings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.mifare_classic import (
    AB,
    DATA_RIGHTS,
    NEVER,
    TRAILER_RIGHTS,
    TRANSPORT_ACCESS,
    AccessBits,
    SectorTrailer,
    blank_card,
    data_blocks,
    decode_mad,
    encode_mad,
    mad_crc,
    manufacturer_block,
    sector_of,
    trailer_of,
    uid_of_manufacturer_block,
)

condition = st.integers(0, 7)
access_bits = st.tuples(condition, condition, condition, condition).map(AccessBits)
key = st.binary(min_size=6, max_size=6)

ENCODINGS = [
    ("FF0780", (0b000, 0b000, 0b000, 0b001)),
    ("787788", (0b100, 0b100, 0b100, 0b011)),
    ("08778F", (0b110, 0b110, 0b110, 0b011)),
    ("18778E", (0b100, 0b110, 0b110, 0b011)),
    ("0F00FF", (0b011, 0b011, 0b011, 0b011)),
    ("7F0788", (0b000, 0b000, 0b000, 0b011)),
]


@pytest.mark.parametrize(("encoded", "conditions"), ENCODINGS)
def test_known_access_bits_encode_and_parse(encoded: str, conditions: tuple[int, int, int, int]) -> None:
    assert AccessBits(conditions).encode().hex().upper() == encoded
    assert AccessBits.parse(bytes.fromhex(encoded)).conditions == conditions


@given(access_bits)
def test_access_bits_survive_encoding(bits: AccessBits) -> None:
    assert AccessBits.parse(bits.encode()) == bits


@given(access_bits, st.integers(0, 23))
def test_one_flipped_bit_is_refused_as_a_blocked_sector(bits: AccessBits, flipped: int) -> None:
    raw = (int.from_bytes(bits.encode()) ^ (1 << flipped)).to_bytes(3)
    with pytest.raises(ValueError, match="contradict"):
        AccessBits.parse(raw)


@given(key, access_bits, key, st.integers(0, 255))
def test_a_trailer_survives_encoding_and_its_repr_shows_no_key(a: bytes, bits: AccessBits, b: bytes, gpb: int) -> None:
    trailer = SectorTrailer(a, bits, b, gpb)
    assert SectorTrailer.parse(trailer.encode()) == trailer
    assert "key" not in repr(trailer)


def test_data_rights_are_those_of_table_8() -> None:
    said = {c: "/".join("".join(sorted(k)) or "-" for k in (r.read, r.write, r.increment, r.decrement))
            for c, r in DATA_RIGHTS.items()}  # fmt: skip
    assert said == {
        0b000: "AB/AB/AB/AB", 0b010: "AB/-/-/-", 0b100: "AB/B/-/-", 0b110: "AB/B/B/AB",
        0b001: "AB/-/-/AB", 0b011: "B/B/-/-", 0b101: "B/-/-/-", 0b111: "-/-/-/-",
    }  # fmt: skip


def test_trailer_rights_are_those_of_table_7() -> None:
    said = {c: "/".join("".join(sorted(k)) or "-" for k in (r.write_key_a, r.read_access_bits, r.write_access_bits,
            r.read_key_b, r.write_key_b)) for c, r in TRAILER_RIGHTS.items()}  # fmt: skip
    assert said == {
        0b000: "A/A/-/A/A", 0b010: "-/A/-/A/-", 0b100: "B/AB/-/-/B", 0b110: "-/AB/-/-/-",
        0b001: "A/A/A/A/A", 0b011: "B/AB/B/-/B", 0b101: "-/AB/B/-/-", 0b111: "-/AB/-/-/-",
    }  # fmt: skip


def test_key_b_grants_nothing_where_it_can_be_read() -> None:
    assert TRANSPORT_ACCESS.data(0).write == frozenset("A")
    assert AccessBits((0b011, 0, 0, 0b001)).data(0).read == NEVER
    assert AccessBits((0b000, 0, 0, 0b011)).data(0).read == AB


@given(st.binary(min_size=4, max_size=4) | st.binary(min_size=7, max_size=7), st.binary(max_size=6))
def test_the_uid_is_found_in_the_manufacturer_block(uid: bytes, maker_data: bytes) -> None:
    assert uid_of_manufacturer_block(manufacturer_block(uid, maker_data)) == uid


def test_a_7_byte_uid_that_fits_the_check_byte_by_chance_is_still_7_bytes() -> None:
    uid = bytes.fromhex("04A1B2C3D4E5F6")
    assert uid_of_manufacturer_block(manufacturer_block(uid)) == uid


def test_a_blank_card_is_in_the_transport_state() -> None:
    image = blank_card(bytes.fromhex("1A2B3C4D"))
    assert len(image) == 1024
    assert image[:8].hex() == "1a2b3c4d40080400"
    assert all(image[trailer_of(s) * 16 :][:16].hex() == "ff" * 6 + "ff078069" + "ff" * 6 for s in range(16))
    assert all(image[b * 16 : b * 16 + 16] == bytes(16) for s in range(16) for b in data_blocks(s))


def test_block_0_is_no_data_block_and_blocks_end_at_63() -> None:
    assert (data_blocks(0), data_blocks(1), sector_of(63)) == ([1, 2], [4, 5, 6], 15)
    with pytest.raises(ValueError, match="64"):
        sector_of(64)


def test_the_check_sum_of_an_application_directory_is_the_one_of_the_application_note() -> None:
    content = bytes.fromhex("01 0108 0108 0108 0000 0000 0000 0400 0310 0310 0210 0210 0000 0000 0000 1130")
    assert mad_crc(content) == 0x89
    assert decode_mad(bytes([0x89]) + content)[7] == 0x0004


@given(st.dictionaries(st.integers(1, 15), st.integers(1, 0xFFFF)))
def test_an_application_directory_reads_as_it_was_written(applications: dict[int, int]) -> None:
    assert decode_mad(encode_mad(applications)) == applications


@given(st.integers(0, 255))
def test_a_flipped_bit_breaks_an_application_directory(bit: int) -> None:
    raw = bytearray(encode_mad({1: 0x4C59}))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError, match="check sum"):
        decode_mad(bytes(raw))


@pytest.mark.parametrize("sector", [0, 16])
def test_an_application_directory_covers_the_sectors_1_to_15(sector: int) -> None:
    with pytest.raises(ValueError, match="1 to 15"):
        encode_mad({sector: 1})


@pytest.mark.parametrize("sector", [-1, 16, 0x40])
def test_the_publisher_s_sector_is_one_that_the_directory_covers(sector: int) -> None:
    """Never 16 (10 hex), which belongs to version 2's own blocks; the two bits above are reserved."""
    assert encode_mad({}, publisher_sector=15)[1] == 15
    with pytest.raises(ValueError, match="1 to 15"):
        encode_mad({}, publisher_sector=sector)


@pytest.mark.parametrize("number", [-1, 0x10000])
def test_the_id_of_an_application_is_16_bits(number: int) -> None:
    with pytest.raises(ValueError, match="16 bits"):
        encode_mad({1: number})
