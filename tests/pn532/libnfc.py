"""libnfc's and libfreefare's programs: clients that share no code with us, to judge reader and cards by."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

PROGRAMS = ("nfc-list", "nfc-mfclassic", "mifare-classic-format")
INSTALL = "apt-get install --no-install-recommends libnfc-bin libnfc-examples libfreefare-bin"


def find_libnfc_problem() -> str | None:
    """Which program is missing, and how to get it."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"{', '.join(missing)} not installed; run: {INSTALL}" if missing else None


def run_on(line: Path | str, *command: str) -> str:
    """What a program says about the PN532 on a serial line. It must succeed."""
    environment = {**os.environ, "LIBNFC_DEVICE": f"pn532_uart:{line}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def read_card(line: Path | str, image: Path, keys: Path | None = None, key_type: str = "a") -> bytes:
    """The 1024 bytes that nfc-mfclassic reads; ``keys`` is an image whose trailers hold them."""
    given = [str(keys), "f"] if keys else []
    said = run_on(line, "nfc-mfclassic", "r", key_type, "u", str(image), *given)
    assert "64 of 64 blocks read" in said, said
    return image.read_bytes()
