"""Dump files in and out. The samples beside this file were made with printf and awk after the formats' descriptions:
``whole`` is a card by formula, ``partly`` the same read without sector 2's key B, block 13 and all of sector 5."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.card_dump import UNKNOWN_BLOCK, Block, CardDump, DumpInvalid, card_dump
from drivers.dumps import MAX_DUMP_BYTES, DumpFormat, encode_dump, format_of, parse_dump
from drivers.mifare_classic import KeyType, blank_card

SAMPLES = Path(__file__).parent / "dumps"
UID = bytes.fromhex("DEADBEEF")
TELL_UNKNOWN = [kind for kind in DumpFormat if kind.can_say_unknown]


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def read(name: str) -> CardDump:
    return parse_dump(sample(name), format_of(name))


def formula(number: int) -> bytes:
    """What ``whole`` holds in a block."""
    if number == 0:
        return bytes.fromhex("DEADBEEF220804006263646566676869")
    if number % 4 == 3:
        return bytes.fromhex(f"A0A1A2A3A4{number // 4:02X}78778869B0B1B2B3B4{number // 4:02X}")
    return bytes((number * 16 + i) % 256 for i in range(16))


def partly(number: int) -> Block:
    """What ``partly`` knows of a block."""
    if number == 11:
        return (*formula(11)[:10], *[None] * 6)
    return UNKNOWN_BLOCK if number == 13 or number // 4 == 5 else tuple(formula(number))


uids = st.binary(min_size=4, max_size=4) | st.binary(min_size=7, max_size=7)
atqas = st.binary(min_size=2, max_size=2)
images = st.binary(min_size=1024, max_size=1024)


def blocks_of(image: bytes, mask: bytes) -> list[Block]:
    """An image's blocks, with a byte not known where the mask is odd, and a block where 16 of it are."""
    known = [None if m & 1 else byte for byte, m in zip(image, mask, strict=True)]
    return [tuple(known[i : i + 16]) for i in range(0, 1024, 16)]


def dumps(masks: st.SearchStrategy[bytes]) -> st.SearchStrategy[CardDump]:
    return st.builds(card_dump, st.builds(blocks_of, images, masks), uids, atqas, st.integers(0, 255))


whole_dumps = dumps(st.just(bytes(1024)))
# A mask from a few bytes: whole blocks and sectors unknown as often as single bytes.
partial_dumps = dumps(images | st.lists(st.integers(0, 1), min_size=64, max_size=64).map(lambda m: bytes(m * 16)))
partial_dumps |= dumps(st.binary(min_size=16, max_size=16).map(lambda m: b"".join(bytes([b]) * 64 for b in m)))


# --- samples


@pytest.mark.parametrize("kind", DumpFormat)
def test_a_whole_dump_is_read_to_the_last_byte(kind: DumpFormat) -> None:
    found = read(f"whole.{kind}")
    assert [found.block(number) for number in range(64)] == [formula(number) for number in range(64)]
    assert (found.uid, found.atqa, found.unknown_blocks) == (UID, b"\x04\x00", [])
    assert found.sak == (0x88 if kind in (DumpFormat.NFC, DumpFormat.JSON) else 0x08)


@pytest.mark.parametrize("kind", TELL_UNKNOWN)
def test_a_partial_dump_tells_what_it_does_not_know(kind: DumpFormat) -> None:
    found = read(f"partly.{kind}")
    assert list(found.blocks) == [partly(number) for number in range(64)]
    assert found.unknown_blocks == [11, 13, 20, 21, 22, 23]
    assert (found.key(2, KeyType.A), found.key(2, KeyType.B)) == (bytes.fromhex("A0A1A2A3A402"), None)


def test_an_old_flipper_dump_has_its_atqa_the_other_way_round_and_its_keys_in_masks() -> None:
    found = read("masks.nfc")
    assert found.atqa == read("whole.nfc").atqa == b"\x04\x00"
    assert list(found.blocks) == [partly(n) if n != 13 else tuple(formula(13)) for n in range(64)]


@pytest.mark.parametrize("kind", [DumpFormat.MFD, DumpFormat.EML, DumpFormat.MCT])
def test_a_dump_is_written_as_the_sample_stands(kind: DumpFormat) -> None:
    assert encode_dump(read("whole.nfc"), kind) == sample(f"whole.{kind}")


@pytest.mark.parametrize("name", ["partly.mct", "whole.nfc", "partly.nfc"])
def test_a_partial_dump_is_written_as_the_sample_stands(name: str) -> None:
    said = [line for line in sample(name).decode().splitlines() if not line.startswith("#")]
    assert encode_dump(read(name), format_of(name)).decode().splitlines() == said


def test_a_json_dump_is_written_as_proxmark3_does() -> None:
    theirs = json.loads(sample("whole.json"))
    for sector in theirs["SectorKeys"].values():
        del sector["AccessConditionsText"]
    ours = json.loads(encode_dump(read("whole.json"), DumpFormat.JSON))
    assert ours == {**theirs, "Created": "terminal-agent"}


def test_the_atqa_of_a_7_byte_uid_is_known() -> None:
    found = parse_dump(bytes(blank_card(bytes.fromhex("04A1B2C3D4E5F7"))), DumpFormat.MFD)
    assert (found.uid, found.atqa) == (bytes.fromhex("04A1B2C3D4E5F7"), b"\x44\x00")
    assert b"ATQA: 00 44\n" in encode_dump(found, DumpFormat.NFC)


# --- round trips


@pytest.mark.parametrize("kind", TELL_UNKNOWN)
@given(partial_dumps)
def test_what_is_known_and_what_is_not_survives(kind: DumpFormat, dump: CardDump) -> None:
    again = parse_dump(encode_dump(dump, kind), kind)
    assert again.blocks == dump.blocks
    if kind is not DumpFormat.MCT:
        assert again == dump


@given(whole_dumps, st.permutations(list(DumpFormat)))
def test_a_whole_dump_goes_through_all_formats_in_any_order(dump: CardDump, order: list[DumpFormat]) -> None:
    blocks = dump.blocks
    for kind in order:
        dump = parse_dump(encode_dump(dump, kind), kind)
        assert dump.blocks == blocks


@pytest.mark.parametrize("kind", [DumpFormat.MFD, DumpFormat.EML])
def test_a_format_that_cannot_say_unknown_is_not_written(kind: DumpFormat) -> None:
    with pytest.raises(DumpInvalid, match="6 blocks"):
        encode_dump(read("partly.mct"), kind)


def test_a_flipper_dump_wants_a_uid() -> None:
    without = "\n".join(sample("whole.mct").decode().splitlines()[5:]).encode()
    found = parse_dump(without, DumpFormat.MCT)
    assert (found.uid, found.unknown_blocks) == (None, [0, 1, 2, 3])
    with pytest.raises(DumpInvalid, match="UID"):
        encode_dump(found, DumpFormat.NFC)
    assert parse_dump(encode_dump(found, DumpFormat.JSON), DumpFormat.JSON) == found


def test_a_repr_shows_no_key() -> None:
    for kind in DumpFormat:
        assert "160, 161" not in repr(read(f"whole.{kind}"))


# --- how text may be spelled

SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "Windows line ends": lambda raw: raw.replace(b"\n", b"\r\n"),
    "old Mac line ends": lambda raw: raw.replace(b"\n", b"\r"),
    "a byte order mark": lambda raw: b"\xef\xbb\xbf" + raw,
    "trailing blanks": lambda raw: raw.replace(b"\n", b" \t\n"),
    "no last line end": lambda raw: raw.rstrip(b"\n"),
    "blank lines": lambda raw: b"\n\n" + raw.replace(b"\n", b"\n\n"),
    "the other case": lambda raw: re.sub(rb"\b[0-9A-Fa-f]{2,32}(?=[\n ])", lambda m: m[0].swapcase(), raw),
}


@pytest.mark.parametrize("kind", [DumpFormat.EML, DumpFormat.MCT, DumpFormat.NFC, DumpFormat.JSON])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_text_is_read_however_it_was_saved(kind: DumpFormat, spelling: str) -> None:
    assert parse_dump(SPELLINGS[spelling](sample(f"whole.{kind}")), kind) == read(f"whole.{kind}")


@pytest.mark.parametrize("kind", [DumpFormat.EML, DumpFormat.MCT, DumpFormat.NFC])
def test_comments_are_passed_over(kind: DumpFormat) -> None:
    raw = "# کارت مشتری\n".encode() + sample(f"whole.{kind}").replace(b"\n", b"\n  # FFFFFFFFFFFF\n")
    assert parse_dump(raw, kind) == read(f"whole.{kind}")


def test_the_suffix_tells_the_format() -> None:
    assert format_of("کارت‌ها/کارت.MFD") is DumpFormat.MFD
    assert (format_of("a.b.bin"), format_of("a.Json")) == (DumpFormat.MFD, DumpFormat.JSON)
    for name in ("card", "card.", "card.txt", ".mfd", "card.mfd.gz"):
        with pytest.raises(DumpInvalid, match=r"\.mfd, \.eml, \.mct, \.nfc, \.json"):
            format_of(name)


# --- what is refused


def edited(name: str, old: str, new: str, count: int = 1) -> bytes:
    text = sample(name).decode()
    assert old in text
    return text.replace(old, new, count).encode()


REFUSED = {
    "an empty .mfd": (DumpFormat.MFD, b"", "0 bytes"),
    "a torn .mfd": (DumpFormat.MFD, sample("whole.mfd")[:-1], "1023 bytes"),
    "a 4K .mfd": (DumpFormat.MFD, bytes(4096), "MIFARE Classic 4K"),
    "a Mini .mfd": (DumpFormat.MFD, bytes(320), "MIFARE Classic Mini"),
    "an .eml named .mfd": (DumpFormat.MFD, sample("whole.eml"), "it is a .eml file"),
    "an .mfd named .eml": (DumpFormat.EML, sample("whole.mfd"), "it is a .mfd file"),
    "a .json named .nfc": (DumpFormat.NFC, sample("whole.json"), "it is a .json file"),
    "a .mct named .json": (DumpFormat.JSON, sample("whole.mct"), "it is a .mct file"),
    "a .nfc named .mct": (DumpFormat.MCT, sample("whole.nfc"), "it is a .nfc file"),
    "an empty .eml": (DumpFormat.EML, b"", "0 lines"),
    "a 4K .eml": (DumpFormat.EML, sample("whole.eml") * 4, "256 lines"),
    "an .eml that says unknown": (DumpFormat.EML, edited("whole.eml", "101112", "--1112"), "line 2: not hex"),
    "an .eml with a short line": (DumpFormat.EML, edited("whole.eml", "101112", "1011"), "line 2: 30 characters"),
    "an .eml in two spellings": (DumpFormat.EML, edited("whole.eml", "101112", "१0१1१2"), "line 2: not hex"),
    "text in UTF-16": (DumpFormat.EML, sample("whole.eml").decode().encode("utf-16"), "no text"),
    "an empty .mct": (DumpFormat.MCT, b"\n", "no sector"),
    "a torn .mct": (DumpFormat.MCT, b"\n".join(sample("whole.mct").split(b"\n")[:-2]), "ends within a sector"),
    "an .mct without a heading": (DumpFormat.MCT, edited("whole.mct", "+Sector: 3\n", ""), "line 16: a sector's"),
    "an .mct with a sector too long": (
        DumpFormat.MCT,
        edited("whole.mct", "+Sector: 3", f"{'0' * 32}\n+Sector: 3"),
        "line 16: a sector's",
    ),
    "an .mct that has a sector twice": (DumpFormat.MCT, edited("whole.mct", "+Sector: 3", "+Sector: 2"), "2 stands"),
    "a 4K .mct": (DumpFormat.MCT, edited("whole.mct", "+Sector: 3", "+Sector: 39"), "no sector 39"),
    "an .mct with half a byte unknown": (DumpFormat.MCT, edited("whole.mct", "101112", "-01112"), "not hex"),
    "an .mct with Flipper's unknown": (DumpFormat.MCT, edited("whole.mct", "101112", "??1112"), "not hex"),
    "an empty .nfc": (DumpFormat.NFC, b"", "'Filetype'"),
    "another Flipper file": (DumpFormat.NFC, edited("whole.nfc", "NFC device", "RFID key"), "Filetype is not"),
    "a .nfc of the first version": (DumpFormat.NFC, edited("whole.nfc", "Version: 4", "Version: 1"), "Version is"),
    "a .nfc of the future": (DumpFormat.NFC, edited("whole.nfc", "Version: 4", "Version: 5"), "2 or 3 or 4"),
    "an NTAG .nfc": (DumpFormat.NFC, edited("whole.nfc", ": Mifare Classic\n", ": NTAG216\n"), "Device type"),
    "a 4K .nfc": (DumpFormat.NFC, edited("whole.nfc", "type: 1K", "type: 4K"), "Mifare Classic type is not 1K"),
    "a .nfc of a new data format": (DumpFormat.NFC, edited("whole.nfc", "version: 2", "version: 3"), "Data format"),
    "a .nfc without a block": (DumpFormat.NFC, edited("whole.nfc", "Block 7:", "# Block 7:"), "'Block 7'"),
    "a .nfc with a block too many": (DumpFormat.NFC, sample("whole.nfc") + b"Block 65: 00\n", "more than 64"),
    "a .nfc that has a block twice": (DumpFormat.NFC, edited("whole.nfc", "Block 7:", "Block 6:"), "twice"),
    "a .nfc with a line that says nothing": (DumpFormat.NFC, sample("whole.nfc") + b"Block\n", "no name and value"),
    "a .nfc with a short block": (DumpFormat.NFC, edited("whole.nfc", "10 11 12", "10 11"), "Block 1: 30 char"),
    "a .nfc with a UID of 5 bytes": (DumpFormat.NFC, edited("whole.nfc", "UID: DE", "UID: DE DE"), "4 or 7"),
    "a .nfc without an ATQA": (DumpFormat.NFC, edited("whole.nfc", "ATQA: 00 04\n", ""), "'ATQA'"),
    "a .nfc with half an ATQA": (DumpFormat.NFC, edited("whole.nfc", "ATQA: 00 04", "ATQA: 04"), "ATQA: not 2"),
    "a .nfc that does not know its SAK": (DumpFormat.NFC, edited("whole.nfc", "SAK: 88", "SAK: ??"), "SAK: not 1"),
    "an old .nfc without its masks": (DumpFormat.NFC, edited("masks.nfc", "Key B map", "# Key B map"), "Key B map"),
    "no JSON": (DumpFormat.JSON, b"{", "no JSON"),
    "JSON too deep": (DumpFormat.JSON, b"[" * 100_000, "no JSON"),
    "a number too long": (DumpFormat.JSON, b'{"FileType": ' + b"9" * 5000 + b"}", "no JSON"),
    "JSON that is a list": (DumpFormat.JSON, b"[]", "FileType"),
    "JSON of another card": (DumpFormat.JSON, edited("whole.json", "mfc v2", "mfu"), "FileType"),
    "JSON without blocks": (DumpFormat.JSON, b'{"FileType": "mfcard"}', "no blocks"),
    "JSON with no block": (DumpFormat.JSON, b'{"FileType": "mfcard", "blocks": {}}', "no blocks"),
    "JSON with blocks in a list": (DumpFormat.JSON, b'{"FileType": "mfcard", "blocks": ["00"]}', "no blocks"),
    "JSON with a number for a block": (DumpFormat.JSON, b'{"FileType": "mfcard", "blocks": {"7": 7}}', "block 7"),
    "JSON of a 4K card": (DumpFormat.JSON, edited("whole.json", '"63": "A0', '"64": "A0'), "0 to 63"),
    "JSON with a block by another name": (DumpFormat.JSON, edited("whole.json", '"7": "A0', '"07": "A0'), "0 to 63"),
    "JSON that has a block twice": (DumpFormat.JSON, edited("whole.json", '"7": "A0', '"6": "A0'), "twice"),
    "JSON with a short block": (DumpFormat.JSON, edited("whole.json", "101112", "1011"), "block 1: 30"),
    "JSON with a card that is none": (DumpFormat.JSON, b'{"FileType":"mfcard","blocks":{"1":""},"Card":1}', "blocks"),
    "JSON with a UID that is none": (DumpFormat.JSON, edited("whole.json", '"DEADBEEF"', "4"), "UID: not hex"),
    "JSON with an odd UID": (DumpFormat.JSON, edited("whole.json", "DEADBEEF", "DEADBEE"), "UID: not 4 or 7"),
    "a file beyond all bounds": (DumpFormat.JSON, b" " * (MAX_DUMP_BYTES + 1), "larger than 256 KiB"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_dump_is_refused_with_its_reason(what: str) -> None:
    kind, raw, reason = REFUSED[what]
    with pytest.raises(DumpInvalid, match=re.escape(reason)):
        parse_dump(raw, kind)


# --- anything at all


def parse_or_refuse(raw: bytes, kind: DumpFormat) -> None:
    """Nothing but DumpInvalid comes out, and it shows nothing of the file that could be a key."""
    refusal, dump = "", None
    try:
        dump = parse_dump(raw, kind)
    except DumpInvalid as error:
        refusal = str(error)
    assert not re.search(r"[0-9A-Fa-f]{6}|([0-9A-Fa-f]{2} ){4}", refusal), refusal
    assert len(refusal) < 200
    if dump is None:
        return
    assert parse_dump(encode_dump(dump, DumpFormat.JSON), DumpFormat.JSON).blocks == dump.blocks


@pytest.mark.parametrize("kind", DumpFormat)
@given(st.one_of(st.binary(max_size=3000), st.text(max_size=3000).map(lambda text: text.encode("utf-8", "replace"))))
def test_any_bytes_are_a_dump_or_refused(kind: DumpFormat, raw: bytes) -> None:
    parse_or_refuse(raw, kind)


@pytest.mark.parametrize("name", sorted(path.name for path in SAMPLES.iterdir()))
@given(data=st.data())
def test_a_dump_damaged_anywhere_is_a_dump_or_refused(name: str, data: st.DataObject) -> None:
    raw = sample(name)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        cut = data.draw(st.sampled_from([0, 1, 1, 2, 33, 400]))
        put = data.draw(st.one_of(st.binary(max_size=40), st.sampled_from([b"?", b"-", b"\n", b"*", b":", b'"', b"{"])))
        raw = raw[:at] + put + raw[at + cut :]
    parse_or_refuse(raw, format_of(name))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.fixed_dictionaries(
        {"FileType": st.sampled_from(["mfc v2", "mfc v3", "mfcard"])},
        optional={
            "Card": st.dictionaries(st.sampled_from(["UID", "ATQA", "SAK", "ATS"]), json_values) | json_values,
            "blocks": st.dictionaries(st.integers(-1, 70).map(str) | st.text(max_size=3), json_values) | json_values,
        },
    )
)
def test_any_json_is_a_dump_or_refused(document: dict[str, object]) -> None:
    parse_or_refuse(json.dumps(document).encode(), DumpFormat.JSON)
