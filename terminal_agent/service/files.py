"""Files that hold secrets or must never be half-written."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.files import sync_folder

PRIVATE_FILE = 0o600
GROUP_FILE = 0o660
PRIVATE_FOLDER = 0o700
SHARED_FOLDER = 0o755


def write_private(path: Path, content: str | bytes) -> None:
    """Replace ``path`` in one step, readable by its owner alone; on disk when this returns."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read_up_to(path: Path, limit: int) -> bytes:
    """What is in a file; of one that is longer only as much as shows it. Raises AgentError ``invalid_input``."""
    hint = "Check the name, and that you may read it"
    if path.exists() and not path.is_file():
        raise AgentError(ErrorCode.INVALID_INPUT, f"{path} is no file", hint=hint)
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise AgentError(ErrorCode.INVALID_INPUT, f"cannot read {path}: {error.strerror}", hint=hint) from error


def make_folder(folder: Path, mode: int) -> None:
    """Create ``folder`` and what is missing above it; one that is there keeps its rights. On disk when this returns."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(mode, parents=True, exist_ok=True)
    for path in made:
        sync_folder(path.parent)
