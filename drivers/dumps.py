"""Card dumps as other tools keep them, in and out. Pure: bytes of a file to blocks of a card and back, no I/O.

| format | is                                                            | can say "unknown"      |
|--------|---------------------------------------------------------------|------------------------|
| .mfd   | the 1024 bytes of the card (libnfc, mfoc; .bin by Proxmark3)   | no                     |
| .eml   | 64 lines of 32 hex digits (Proxmark3)                          | no                     |
| .mct   | ``+Sector: N`` and its four lines, any sectors (MCT)           | ``--`` for a byte      |
| .nfc   | ``Block N: `` and 16 spaced hex bytes (Flipper Zero)           | ``??`` for a byte      |
| .json  | ``{"blocks": {"0": …}}`` (Proxmark3 "mfc v2" and v3, MCT)      | ``--`` for a byte      |

Sources: Flipper's NfcFileFormats.md; Proxmark3 client/src/fileutils.c; MifareClassicTool Common.isValidDump.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import PurePath
from typing import Any

from drivers.card_dump import UNKNOWN_BLOCK, Block, CardDump, DumpInvalid, card_dump, whole
from drivers.mifare_classic import (
    BLOCK_COUNT,
    BLOCK_SIZE,
    BLOCKS_PER_SECTOR,
    CARD_SIZE,
    KEY_SIZE,
    SECTOR_COUNT,
    KeyType,
    trailer_of,
)

MAX_DUMP_BYTES = 256 * 1024
"""No dump of a 1K card comes near; what is larger is refused unread."""


class DumpFormat(StrEnum):
    """The formats, by the suffix of their files."""

    MFD = "mfd"
    EML = "eml"
    MCT = "mct"
    NFC = "nfc"
    JSON = "json"

    @property
    def can_say_unknown(self) -> bool:
        return self not in (DumpFormat.MFD, DumpFormat.EML)


def format_of(file_name: str) -> DumpFormat:
    """The format that a file's suffix stands for, in either case. Raises :class:`DumpInvalid`."""
    suffix = PurePath(file_name).suffix.lower().removeprefix(".")
    try:
        return DumpFormat.MFD if suffix == "bin" else DumpFormat(suffix)
    except ValueError:
        raise DumpInvalid("a dump's name ends in " + ", ".join(f".{kind}" for kind in DumpFormat)) from None


def parse_dump(raw: bytes, kind: DumpFormat) -> CardDump:
    """The dump in a file's bytes. Raises :class:`DumpInvalid`, and says so when it is a dump of another format."""
    if len(raw) > MAX_DUMP_BYTES:
        raise DumpInvalid(f"larger than {MAX_DUMP_BYTES // 1024} KiB")
    try:
        return _PARSERS[kind](raw)
    except DumpInvalid as error:
        others = [other for other in DumpFormat if other is not kind and _is(raw, other)]
        raise DumpInvalid(f"{error}; it is a .{others[0]} file" if others else str(error)) from None


def _is(raw: bytes, kind: DumpFormat) -> bool:
    try:
        _PARSERS[kind](raw)
    except DumpInvalid:
        return False
    return True


def encode_dump(dump: CardDump, kind: DumpFormat) -> bytes:
    """The file's bytes. Raises :class:`DumpInvalid` when the format cannot say what the dump does not know."""
    if dump.unknown_blocks and not kind.can_say_unknown:
        raise DumpInvalid(f"a .{kind} file cannot say that {len(dump.unknown_blocks)} blocks are not known")
    return _ENCODERS[kind](dump)


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DumpInvalid("it is no text") from None


def _lines(raw: bytes) -> Iterator[tuple[str, str]]:
    """``("line 7", content)`` of every line that says something; comments and blank lines do not."""
    for number, line in enumerate(re.split(r"\r\n|\r|\n", _text(raw)), 1):
        content = line.strip(" \t")
        if content and not content.startswith("#"):
            yield f"line {number}", content


_HEX_BYTE = re.compile(r"[0-9A-Fa-f]{2}")


def _byte(pair: str, where: str, unknown: str | None) -> int | None:
    if pair == unknown:
        return None
    if not _HEX_BYTE.fullmatch(pair):
        raise DumpInvalid(f"{where}: not hex digits")
    return int(pair, 16)


def _block(text: str, where: str, unknown: str | None = None) -> Block:
    """A block from 32 hex digits, where ``unknown`` (two characters) may stand for a byte."""
    if len(text) != 2 * BLOCK_SIZE:
        raise DumpInvalid(f"{where}: {len(text)} characters, a block has {2 * BLOCK_SIZE} hex digits")
    return tuple(_byte(text[i : i + 2], where, unknown) for i in range(0, len(text), 2))


def _known_bytes(text: str, where: str, *sizes: int) -> bytes:
    pairs = [text[i : i + 2] for i in range(0, len(text), 2)]
    if len(pairs) not in sizes or not all(map(_HEX_BYTE.fullmatch, pairs)):
        raise DumpInvalid(f"{where}: not {' or '.join(map(str, sizes))} hex bytes")
    return bytes.fromhex(text)


def _hex(block: Iterable[int | None], unknown: str = "--", between: str = "") -> str:
    return between.join(unknown if byte is None else f"{byte:02X}" for byte in block)


# --- .mfd: the card's memory

_OTHER_CARDS = {320: "Mini", 1152: "EV1 with its two hidden sectors", 2048: "2K", 4096: "4K"}


def _parse_mfd(raw: bytes) -> CardDump:
    if len(raw) != CARD_SIZE:
        other = f", as of a MIFARE Classic {_OTHER_CARDS[len(raw)]}" if len(raw) in _OTHER_CARDS else ""
        raise DumpInvalid(f"{len(raw)} bytes{other}; a 1K card has {CARD_SIZE}")
    return card_dump(tuple(raw[i : i + BLOCK_SIZE]) for i in range(0, CARD_SIZE, BLOCK_SIZE))


def _encode_mfd(dump: CardDump) -> bytes:
    return b"".join(whole(block) or b"" for block in dump.blocks)


# --- .eml: one block per line


def _parse_eml(raw: bytes) -> CardDump:
    lines = list(_lines(raw))
    if len(lines) != BLOCK_COUNT:
        raise DumpInvalid(f"{len(lines)} lines; a 1K card has {BLOCK_COUNT} blocks, one per line")
    return card_dump(_block(content, where) for where, content in lines)


def _encode_eml(dump: CardDump) -> bytes:
    return "".join(f"{_hex(block).lower()}\n" for block in dump.blocks).encode()


# --- .mct: sectors under their headings, some may be missing

_SECTOR_HEADING = re.compile(r"\+Sector: ([0-9]{1,2})")


def _parse_mct(raw: bytes) -> CardDump:
    sectors: dict[int, list[Block]] = {}
    missing: list[Block] | None = None  # the blocks of the sector that still wants some
    for where, content in _lines(raw):
        if missing is None or len(missing) == BLOCKS_PER_SECTOR:
            missing = sectors[_heading(content, where, sectors)] = []
        elif content.startswith("*"):  # "No keys found or dead sector"
            missing += [UNKNOWN_BLOCK] * (BLOCKS_PER_SECTOR - len(missing))
        else:
            missing.append(_block(content, where, "--"))
    if missing is None or len(missing) != BLOCKS_PER_SECTOR:
        raise DumpInvalid("it ends within a sector" if sectors else "there is no sector in it")
    dead = [UNKNOWN_BLOCK] * BLOCKS_PER_SECTOR
    return card_dump(block for sector in range(SECTOR_COUNT) for block in sectors.get(sector, dead))


def _heading(content: str, where: str, sectors: dict[int, list[Block]]) -> int:
    match = _SECTOR_HEADING.fullmatch(content)
    if match is None:
        raise DumpInvalid(f"{where}: a sector's heading should stand here")
    sector = int(match[1])
    if sector >= SECTOR_COUNT:
        raise DumpInvalid(f"{where}: a 1K card has no sector {sector}")
    if sector in sectors:
        raise DumpInvalid(f"{where}: sector {sector} stands there twice")
    return sector


def _encode_mct(dump: CardDump) -> bytes:
    lines = []
    for sector in range(SECTOR_COUNT):
        blocks = dump.blocks[sector * BLOCKS_PER_SECTOR :][:BLOCKS_PER_SECTOR]
        dead = all(block == UNKNOWN_BLOCK for block in blocks)
        lines += [f"+Sector: {sector}", *(["*No keys found or dead sector"] if dead else map(_hex, blocks))]
    return "".join(f"{line}\n" for line in lines).encode()


# --- .nfc: Flipper Zero. The order of the ATQA's bytes changed between versions 2 and 3

_NFC_FILE_TYPE, _NFC_DEVICE_TYPE = "Flipper NFC device", "Mifare Classic"


def _parse_nfc(raw: bytes) -> CardDump:
    fields: dict[str, str] = {}
    for where, content in _lines(raw):
        name, colon, value = content.partition(":")
        if not colon or name in fields:
            raise DumpInvalid(f"{where}: " + ("stands there twice" if colon else "no name and value"))
        fields[name] = value.strip(" \t")
    for name, accepted in (
        ("Filetype", (_NFC_FILE_TYPE,)),
        ("Version", ("2", "3", "4")),
        ("Device type", (_NFC_DEVICE_TYPE,)),
        ("Mifare Classic type", ("1K",)),
        ("Data format version", ("1", "2")),
    ):
        if _field(fields, name) not in accepted:
            raise DumpInvalid(f"{name} is not {' or '.join(accepted)}")
    if sum(name.startswith("Block ") for name in fields) > BLOCK_COUNT:
        raise DumpInvalid(f"it has more than {BLOCK_COUNT} blocks")
    blocks = [_nfc_block(_field(fields, f"Block {number}"), f"Block {number}") for number in range(BLOCK_COUNT)]
    if fields["Data format version"] == "1":
        blocks = _without_unfound_keys(blocks, fields)
    uid, atqa, sak = (_nfc_bytes(fields, name, *sizes) for name, sizes in _NFC_ANSWERS.items())
    return card_dump(blocks, uid, atqa if fields["Version"] == "2" else atqa[::-1], sak[0])


_NFC_ANSWERS = {"UID": (4, 7), "ATQA": (2,), "SAK": (1,)}


def _field(fields: dict[str, str], name: str) -> str:
    if name not in fields:
        raise DumpInvalid(f"there is no line {name!r}")
    return fields[name]


def _nfc_bytes(fields: dict[str, str], name: str, *sizes: int) -> bytes:
    return _known_bytes("".join(_field(fields, name).split()), name, *sizes)


def _nfc_block(value: str, where: str) -> Block:
    return _block("".join(value.split()), where, "??")


def _without_unfound_keys(blocks: list[Block], fields: dict[str, str]) -> list[Block]:
    """Data format 1 says in two bit masks which keys are real; a sector without any was not read."""
    found_a, found_b = (
        int.from_bytes(_nfc_bytes(fields, f"Key {key_type} map", 8), "big") for key_type in (KeyType.A, KeyType.B)
    )
    for sector in range(SECTOR_COUNT):
        last = trailer_of(sector)
        a, b = found_a >> sector & 1, found_b >> sector & 1
        if not a and not b:
            blocks[last + 1 - BLOCKS_PER_SECTOR : last + 1] = [UNKNOWN_BLOCK] * BLOCKS_PER_SECTOR
        unknown_key = UNKNOWN_BLOCK[:KEY_SIZE]
        trailer = blocks[last]
        blocks[last] = (
            (trailer[:KEY_SIZE] if a else unknown_key)
            + trailer[KEY_SIZE:-KEY_SIZE]
            + (trailer[-KEY_SIZE:] if b else unknown_key)
        )
    return blocks


def _encode_nfc(dump: CardDump) -> bytes:
    if dump.uid is None:
        raise DumpInvalid("a .nfc file tells the UID, and the dump does not know it")
    lines = [
        f"Filetype: {_NFC_FILE_TYPE}",
        "Version: 4",
        f"Device type: {_NFC_DEVICE_TYPE}",
        f"UID: {_hex(dump.uid, between=' ')}",
        f"ATQA: {_hex(dump.atqa[::-1], between=' ')}",
        f"SAK: {dump.sak:02X}",
        "Mifare Classic type: 1K",
        "Data format version: 2",
        *(f"Block {number}: {_hex(block, '??', ' ')}" for number, block in enumerate(dump.blocks)),
    ]
    return "".join(f"{line}\n" for line in lines).encode()


# --- .json: Proxmark3, and MCT without "Card" and "SectorKeys"

_JSON_FILE_TYPES = ("mfc v2", "mfc v3", "mfcard")
_BLOCK_NUMBER = re.compile(r"0|[1-9][0-9]{0,3}")


def _parse_json(raw: bytes) -> CardDump:
    """The blocks decide; ``SectorKeys`` only repeats what stands in the trailers."""
    try:
        document = json.loads(_text(raw), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        raise DumpInvalid("it is no JSON") from None
    if not isinstance(document, dict) or document.get("FileType") not in _JSON_FILE_TYPES:
        raise DumpInvalid("FileType is not " + " or ".join(map(repr, _JSON_FILE_TYPES)))
    told, card = document.get("blocks"), document.get("Card", {})
    if not isinstance(told, dict) or not told or not isinstance(card, dict):
        raise DumpInvalid("there are no blocks in it")
    blocks = [UNKNOWN_BLOCK] * BLOCK_COUNT
    for name, value in told.items():
        if not _BLOCK_NUMBER.fullmatch(name) or int(name) >= BLOCK_COUNT:
            raise DumpInvalid(f"a 1K card has the blocks 0 to {BLOCK_COUNT - 1} and no other")
        if not isinstance(value, str):
            raise DumpInvalid(f"block {name}: not hex digits")
        blocks[int(name)] = _block(value, f"block {name}", "--")
    uid, atqa, sak = (_answer(card, name, *sizes) for name, sizes in _NFC_ANSWERS.items())
    return card_dump(blocks, uid, atqa, sak[0] if sak else None)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise DumpInvalid("a name stands there twice")
    return found


def _answer(card: dict[str, Any], name: str, *sizes: int) -> bytes | None:
    value = card.get(name)
    if value is not None and not isinstance(value, str):
        raise DumpInvalid(f"{name}: not hex digits")
    return None if value is None else _known_bytes(value, name, *sizes)


def _encode_json(dump: CardDump) -> bytes:
    card = {"ATQA": _hex(dump.atqa), "SAK": f"{dump.sak:02X}"}
    trailers = {str(sector): dump.blocks[trailer_of(sector)] for sector in range(SECTOR_COUNT)}
    document = {
        "Created": "terminal-agent",
        "FileType": "mfc v2",
        "Card": card if dump.uid is None else {"UID": _hex(dump.uid), **card},
        "blocks": {str(number): _hex(block) for number, block in enumerate(dump.blocks)},
        "SectorKeys": {
            sector: {"KeyA": _hex(raw[:6]), "KeyB": _hex(raw[10:]), "AccessConditions": _hex(raw[6:10])}
            for sector, raw in trailers.items()
        },
    }
    return (json.dumps(document, indent=2) + "\n").encode()


_PARSERS: dict[DumpFormat, Callable[[bytes], CardDump]] = {
    DumpFormat.MFD: _parse_mfd,
    DumpFormat.EML: _parse_eml,
    DumpFormat.MCT: _parse_mct,
    DumpFormat.NFC: _parse_nfc,
    DumpFormat.JSON: _parse_json,
}
_ENCODERS: dict[DumpFormat, Callable[[CardDump], bytes]] = {
    DumpFormat.MFD: _encode_mfd,
    DumpFormat.EML: _encode_eml,
    DumpFormat.MCT: _encode_mct,
    DumpFormat.NFC: _encode_nfc,
    DumpFormat.JSON: _encode_json,
}
