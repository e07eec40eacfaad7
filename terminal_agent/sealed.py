"""Files that terminal and CRM hand each other when the line is down for days: lines under a header, sealed with the
terminal's secret.

    {"format":"terminal-agent/queue-export","version":1,"terminal_id":"till-1","export_id":"…","created_at":"…"}
    {…one event, the bytes that would go over the line…}
    v1=<hex HMAC-SHA256 over every byte before this line>

The key of the seal is made of the secret and the format's name, so that no seal can stand for another kind of file, or
for the signature of an answer. docs/sync.md has the prose.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from terminal_agent.contract import canonical_json
from terminal_agent.errors import AgentError, ErrorCode

VERSION = 1
MAX_FILE_BYTES = 16 * 1024 * 1024
"""Some 15 000 sales: read whole, so that nothing is believed of a file whose seal is broken."""
SEAL_BYTES = len(b"v1=\n") + 64
_SEAL = re.compile(rb"v1=[0-9a-f]{64}")


class Format(StrEnum):
    EXPORT = "terminal-agent/queue-export"
    RECEIPT = "terminal-agent/queue-receipt"


def header_line(kind: Format, terminal_id: str, export_id: str, created_at: str, **facts: Any) -> bytes:
    """The first line of a file."""
    named = {"terminal_id": terminal_id, "export_id": export_id, "created_at": created_at}
    return canonical_json({"format": kind.value, "version": VERSION, **named, **facts})


def seal(secret: bytes, kind: Format, header: bytes, lines: Iterable[bytes]) -> bytes:
    """The whole file. No line holds a line feed: JSON writes it as ``\\n``."""
    body = b"".join(line + b"\n" for line in (header, *lines))
    return body + _seal_of(secret, kind, body) + b"\n"


def _seal_of(secret: bytes, kind: Format, body: bytes) -> bytes:
    key = hmac.new(secret, f"{kind.value} v{VERSION}".encode(), hashlib.sha256).digest()
    return b"v1=" + hmac.new(key, body, hashlib.sha256).hexdigest().encode()


@dataclass(frozen=True)
class SealedFile:
    """A file as it was found. Nothing in it may be believed before :meth:`lines` gave them, the header neither."""

    kind: Format
    header: dict[str, Any]
    _body: bytes
    _seal: bytes

    @property
    def terminal_id(self) -> str:
        return str(self.header["terminal_id"])

    @property
    def export_id(self) -> str:
        return str(self.header["export_id"])

    def lines(self, secret: bytes) -> list[bytes]:
        """What stands under the header, once the seal is proven. Raises AgentError ``file_invalid``."""
        if not hmac.compare_digest(_seal_of(secret, self.kind, self._body), self._seal):
            hint = "It was changed on the way, or made before the terminal joined anew: have it made again"
            raise AgentError(ErrorCode.FILE_INVALID, "the file's seal does not fit what is in it", hint=hint)
        return self._body.split(b"\n")[1:-1]


def open_sealed(content: bytes, kind: Format) -> SealedFile:
    """The parts of a file of this kind, nothing proven yet. Raises AgentError ``file_invalid``."""
    if len(content) > MAX_FILE_BYTES:
        raise _invalid(f"it is larger than {MAX_FILE_BYTES:,} bytes")
    body, found = content[:-SEAL_BYTES], content[-SEAL_BYTES:-1]
    if not content.endswith(b"\n") or not body.endswith(b"\n") or not _SEAL.fullmatch(found):
        raise _invalid("it does not end with a seal: it is cut short, or no file of ours")
    header = _header(body.partition(b"\n")[0])
    if header.get("format") != kind:
        raise _invalid(f"it is no {kind.value}")
    if header.get("version") != VERSION:
        raise _invalid(f"it has version {header.get('version')!r}, and this program reads version {VERSION}")
    if not all(isinstance(header.get(name), str) for name in ("terminal_id", "export_id", "created_at")):
        raise _invalid("its header is not complete")
    return SealedFile(kind, header, body, found)


def _header(line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _invalid("its first line is no header") from error
    if not isinstance(header, dict):
        raise _invalid("its first line is no header")
    return header


def _invalid(why: str) -> AgentError:
    hint = "Take the very file that was written, whole, and have it made again if there is none"
    return AgentError(ErrorCode.FILE_INVALID, f"the file cannot be used: {why}", hint=hint)
