"""Dump files on the disk of whoever runs the command: a dump holds keys, so it is private and never half-written."""

from __future__ import annotations

import os
from base64 import b64encode
from pathlib import Path

from drivers.dumps import MAX_DUMP_BYTES
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service.files import write_private


def check_output(path: Path, *, force: bool) -> None:
    """Raises AgentError ``invalid_input`` for a place where no dump may be put. Asked before the card is."""
    if os.path.lexists(path) and not path.is_file():
        hint = "Choose another name: it is written as a file of its own"
        raise AgentError(ErrorCode.INVALID_INPUT, f"{path} is there already, and is no file", hint=hint)
    if os.path.lexists(path) and not force:
        hint = "Choose another name, or add --force to replace it"
        raise AgentError(ErrorCode.INVALID_INPUT, f"{path} is there already", hint=hint)
    if not path.parent.is_dir():
        hint = f"Create it: mkdir -p {path.parent}"
        raise AgentError(ErrorCode.INVALID_INPUT, f"there is no folder {path.parent}", hint=hint)


def write_dump(path: Path, content: bytes, *, force: bool) -> None:
    """Put a dump on disk in one step, mode 0600. Raises AgentError ``invalid_input``."""
    check_output(path, force=force)
    try:
        write_private(path, content)
    except OSError as error:
        hint = "Choose a place you may write to and that has room; nothing else was changed"
        raise AgentError(ErrorCode.INVALID_INPUT, f"cannot write {path}: {error.strerror}", hint=hint) from error


def dump_to_send(path: Path) -> dict[str, str]:
    """A dump file as operations take it, ``{name, content}``; of one that is too large only as much as shows it.

    Raises AgentError ``invalid_input`` for one that cannot be read.
    """
    try:
        with path.open("rb") as file:
            return {"name": path.name, "content": b64encode(file.read(MAX_DUMP_BYTES + 1)).decode()}
    except OSError as error:
        hint = "Check the name, and that you may read it; nothing was written to the card"
        raise AgentError(ErrorCode.INVALID_INPUT, f"cannot read {path}: {error.strerror}", hint=hint) from error
