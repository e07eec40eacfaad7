"""Log records as journald, programs and people get them, and what goes to a card without its keys."""

from __future__ import annotations

import io
import json
import logging
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.mifare_classic import KeyType, blank_card
from drivers.registry import open_reader
from drivers.traffic import TRAFFIC, watched
from terminal_agent.service.logs import (
    MESSAGE_IDS,
    JournalHandler,
    JsonFormatter,
    daemon_handler,
    fields_of,
    level_of,
    line_of,
)

KEY = bytes.fromhex("A0A1A2A3A4A5")
FACTORY = bytes.fromhex("FFFFFFFFFFFF")


def record(message: str, *arguments: object, error: bool = False) -> logging.LogRecord:
    told = sys.exc_info() if error else None
    return logging.LogRecord("terminal_agent.service.till", logging.WARNING, __file__, 1, message, arguments, told)


def read_fields(datagram: bytes) -> dict[str, str]:
    """As journald reads them."""
    fields, rest = {}, datagram
    while rest:
        line, _, rest = rest.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + length], rest[8 + length + 1 :]
        fields[name.decode()] = value.decode()
    return fields


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(tmp_path / "journal"))
        line.settimeout(5)
        yield line


def test_what_a_message_says_as_key_and_value_is_a_field_of_the_journal(
    journald: socket.socket, tmp_path: Path
) -> None:
    JournalHandler(str(tmp_path / "journal")).emit(record("tap=%s ms=%d", "done", 84))
    fields = read_fields(journald.recv(65536))
    assert fields["MESSAGE"] == "tap=done ms=84"
    assert (fields["TERMINAL_AGENT_TAP"], fields["TERMINAL_AGENT_MS"]) == ("done", "84")
    assert (fields["PRIORITY"], fields["SYSLOG_IDENTIFIER"]) == ("4", "terminal-agent")
    assert fields["MESSAGE_ID"] == MESSAGE_IDS["tap"]


def test_a_traceback_reaches_the_journal_as_one_record(journald: socket.socket, tmp_path: Path) -> None:
    handler = JournalHandler(str(tmp_path / "journal"))
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        handler.emit(record("it failed", error=True))
    fields = read_fields(journald.recv(65536))
    assert "ValueError: first\nsecond" in fields["MESSAGE"]
    assert "MESSAGE_ID" not in fields


def test_without_journald_nothing_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    JournalHandler(str(tmp_path / "nobody")).emit(record("reader=lost"))
    assert capsys.readouterr().err == "reader=lost\n"


def test_the_handler_is_chosen_by_what_stderr_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "log").open("w") as file:
        chosen = daemon_handler(file)
        assert isinstance(chosen.formatter, JsonFormatter)
        status = (tmp_path / "log").stat()
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert isinstance(daemon_handler(file), JournalHandler)
    assert isinstance(daemon_handler(io.StringIO()).formatter, JsonFormatter)


def test_json_lines_hold_the_fields_too() -> None:
    line = json.loads(JsonFormatter().format(record("reader=%s url=%s", "lost", "pcsc:")))
    assert line["fields"] == {"reader": "lost", "url": "pcsc:"}
    assert (line["level"], line["message"]) == ("warning", "reader=lost url=pcsc:")


def test_a_word_with_an_equals_sign_inside_is_no_field() -> None:
    assert fields_of("url=http://x/?a=b left=1 A=2 x-y=3") == {"url": "http://x/?a=b", "left": "1"}


@given(st.dictionaries(st.from_regex("[a-z][a-z0-9_]{0,9}", fullmatch=True), st.text(max_size=20), max_size=4))
def test_a_field_of_several_words_comes_out_whole(fields: dict[str, str]) -> None:
    assert fields_of(line_of(**fields)) == fields


def test_a_quote_in_a_word_is_no_field_of_several() -> None:
    assert fields_of('a="b c="d"e f="\\x"') == {"a": '"b', "c": '"d"e', "f": '"\\x"'}


def test_the_traffic_with_a_card_is_told_without_a_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(level_of("traffic"))
    trailer = KEY + bytes.fromhex("FF078069") + KEY
    (tmp_path / "card.mfd").write_bytes(bytes(blank_card(bytes.fromhex("1A2B3C4D"))))
    with open_reader(f"sim:{tmp_path / 'card.mfd'}") as reader, reader.connect() as connection:
        card = watched(connection)
        card.authenticate(4, KeyType.A, FACTORY)
        card.write_block(4, bytes(range(16)))
        assert card.read_blocks(4, 1) == bytes(range(16))
        card.write_block(7, trailer)
    told = caplog.text
    assert f"write block=4 data={bytes(range(16)).hex()} ok" in told
    assert "authenticate block=4 key_type=A key=****** ok" in told
    assert "write block=7 data=****** ff078069 ****** ok" in told
    for key in (KEY, FACTORY):
        assert key.hex() not in told.lower()


def test_the_traffic_is_not_even_looked_at_when_nobody_wants_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with open_reader(f"sim:{tmp_path / 'card.mfd'}") as reader, reader.connect() as connection:
        assert watched(connection) is connection
    assert level_of("traffic") == TRAFFIC < logging.DEBUG
