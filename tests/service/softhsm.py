"""A PKCS#11 token in software, with a folder of its own: initialised, unplugged and plugged in as a test wants."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

CONFIG_VARIABLE = "SOFTHSM2_CONF"
MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
_LOCK_ALL = """
import fcntl, sys
held = [open(name, "r+b") for name in sys.argv[1:]]
for file in held:
    fcntl.lockf(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""
LABEL, PIN, SO_PIN = "club", "4711-canary", "87654321"


def find_softhsm_problem() -> str | None:
    """What is missing, with the line that installs it."""
    if shutil.which("softhsm2-util") is None or not MODULE.exists():
        return "SoftHSM is missing; run: apt-get install softhsm2"
    return None if find_spec("pkcs11") else "python-pkcs11 is missing; run: pip install '.[pkcs11]'"


class SoftHsm:
    """The token ``club``. Its library reads the folder's name when it begins, from the environment."""

    def __init__(self, folder: Path) -> None:
        self._tokens = folder / "tokens"
        self._drawer = folder / "unplugged"
        self._config = folder / "softhsm2.conf"
        self._before = os.environ.get(CONFIG_VARIABLE)

    def __enter__(self) -> Self:
        self._tokens.mkdir(parents=True)
        self._config.write_text(f"directories.tokendir = {self._tokens}\nlog.level = ERROR\n")
        os.environ[CONFIG_VARIABLE] = str(self._config)
        self.begin_anew()
        self.util("--init-token", "--free", "--label", LABEL, "--so-pin", SO_PIN, "--pin", PIN)
        self.begin_anew()
        return self

    def __exit__(self, *_: object) -> None:
        self.library.finalize()
        os.environ.pop(CONFIG_VARIABLE)
        if self._before is not None:
            os.environ[CONFIG_VARIABLE] = self._before

    @property
    def library(self) -> Any:
        import pkcs11

        return pkcs11.lib(str(MODULE))

    def begin_anew(self) -> None:
        """Every session of this process is gone, as when a token's driver was restarted."""
        self.library.reinitialize()

    def unplug(self) -> None:
        self._tokens.rename(self._drawer)
        self._tokens.mkdir()
        self.begin_anew()

    def plug_in(self) -> None:
        self._tokens.rmdir()
        self._drawer.rename(self._tokens)

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Its library waits in the middle of a call, for files that another process has locked."""
        files = [str(path) for path in self._tokens.rglob("*") if path.is_file()]
        words = [sys.executable, "-c", _LOCK_ALL, *files]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdin is not None
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"locked\n"
            yield
            holder.stdin.close()

    @staticmethod
    def util(*arguments: str) -> None:
        """SoftHSM's own tool."""
        subprocess.run(["softhsm2-util", *arguments], check=True, capture_output=True, timeout=60)
