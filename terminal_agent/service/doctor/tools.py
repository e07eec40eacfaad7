"""What programs of this machine say when asked."""

from __future__ import annotations

import shutil
import subprocess

TOOL_TIMEOUT_S = 5.0
MOST_BYTES = 64_000


def said_by(*command: str, may_fail: bool = False) -> str | None:
    """The end of what a command says; None where it is missing, hangs, or fails and ``may_fail`` does not allow it."""
    path = shutil.which(command[0])
    if path is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - the words are ours
            [path, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if may_fail else subprocess.DEVNULL,
            timeout=TOOL_TIMEOUT_S,
            check=not may_fail,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout[-MOST_BYTES:].decode(errors="replace")
