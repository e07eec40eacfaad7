"""Where log records go: to journald as fields under systemd, as JSON to a pipe or a file, as text to a person.

What a message says as ``key=value`` becomes a field, so a line reads the same everywhere:
``journalctl -t terminal-agent TERMINAL_AGENT_TAP=done``.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import struct
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TextIO

from drivers.traffic import TRAFFIC
from terminal_agent.ports import rfc3339

JOURNAL_SOCKET = "/run/systemd/journal/socket"
IDENTIFIER = "terminal-agent"
TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_FIELD = re.compile(r'(?:^|(?<=\s))([a-z][a-z0-9_]*)=("(?:[^"\\]|\\.)*"(?!\S)|\S+)')
_ONE_WORD = re.compile(r'[^\s"]+')
# Of syslog: what journalctl colours and filters by (-p warning).
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG = 7
LONGEST_MESSAGE = 64 * 1024
MESSAGE_IDS = {
    "tap": "6f0f7a5a1a5b4d0f9a5f4b8c35e6a001",
    "reader": "6f0f7a5a1a5b4d0f9a5f4b8c35e6a002",
    "unwell": "6f0f7a5a1a5b4d0f9a5f4b8c35e6a003",
}
"""Kinds of lines, by the word that begins them: ``journalctl MESSAGE_ID=…``."""


def line_of(**fields: str) -> str:
    """``reader=lost name="A reader"``: the line of these fields, values of several words quoted as JSON does."""
    quoted = {name: value if _ONE_WORD.fullmatch(value) else _quote(value) for name, value in fields.items()}
    return " ".join(f"{name}={value}" for name, value in quoted.items())


def _quote(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def fields_of(message: str) -> dict[str, str]:
    """``{"tap": "done", "ms": "84"}`` of ``tap=done ms=84``; what :func:`line_of` quoted is whole again."""
    return {name: _unquoted(value) for name, value in _FIELD.findall(message)}


def _unquoted(value: str) -> str:
    if value[:1] == '"' and len(value) > 1:
        with suppress(ValueError):
            return str(json.loads(value))
    return value


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ``{time, level, logger, message, fields, traceback?}``."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        document = {
            "time": rfc3339(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
            "fields": fields_of(message),
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=False)


class JournalHandler(logging.Handler):
    """journald's own protocol, a datagram per record (systemd.journal-fields(7)); to stderr what it does not take."""

    def __init__(self, address: str = JOURNAL_SOCKET) -> None:
        super().__init__()
        self._address = address
        self.setFormatter(logging.Formatter("%(message)s"))  # level and logger are fields of their own

    def emit(self, record: logging.LogRecord) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
                line.sendto(self._datagram(record), self._address)
        except OSError:
            sys.stderr.write(self.format(record) + "\n")

    def _datagram(self, record: logging.LogRecord) -> bytes:
        message = record.getMessage()
        fields = {
            "MESSAGE": self.format(record)[:LONGEST_MESSAGE],
            "PRIORITY": str(next((number for level, number in _PRIORITIES if record.levelno >= level), _DEBUG)),
            "SYSLOG_IDENTIFIER": IDENTIFIER,
            "LOGGER": record.name,
            "THREAD": str(record.threadName),
            **{f"TERMINAL_AGENT_{name.upper()}": value for name, value in fields_of(message).items()},
        }
        kind = MESSAGE_IDS.get(re.split(r"[ =]", message, maxsplit=1)[0])
        if kind:
            fields["MESSAGE_ID"] = kind
        return b"".join(_field(name, value.encode("utf-8", "replace")) for name, value in fields.items())


def _field(name: str, value: bytes) -> bytes:
    if b"\n" not in value:
        return name.encode() + b"=" + value + b"\n"
    return name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"


def daemon_handler(stream: TextIO) -> logging.Handler:
    """Where the daemon's records go, by what its stderr is."""
    if _is_journal(stream):
        return JournalHandler()
    if stream.isatty():
        return text_handler(stream)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    return handler


def text_handler(stream: TextIO | None = None) -> logging.Handler:
    """Lines for people, on stderr unless told otherwise."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(TEXT))
    return handler


def level_of(name: str) -> int:
    """The number of a level that :mod:`logging` or the drivers define: ``traffic debug info warning error``."""
    return {"traffic": TRAFFIC, **{known.lower(): n for known, n in logging.getLevelNamesMapping().items()}}[name]


def _is_journal(stream: TextIO) -> bool:
    """Whether systemd has put its journal behind ``stream``, as systemd.exec(5) has it told."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
