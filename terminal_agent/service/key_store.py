"""Master key sets in files: ``keys/v<N>.key`` holds 32 hex digits, ``keys/active`` the version in use.

A key set may be a credential of the service instead (``key-v<N>``), which systemd deciphers as the daemon starts: then
no key lies in the data directory.

The seam for a SAM or PKCS#11 is :class:`~terminal_agent.card.keys.KeyProvider`; this is its first implementation.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terminal_agent.card.keys import AES_KEY, CardKeys, check_value
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service.files import PRIVATE_FOLDER, make_folder, write_private

MAX_VERSION = 255
SEALED_KEY = re.compile(r"key-v([1-9][0-9]{0,2})")
KEY_FILE = re.compile(r"v([1-9][0-9]{0,2})\.key")
"""Other files, as in ``v1-old.key``, are the operator's own."""


@dataclass(frozen=True)
class KeySet:
    """One key-set version, as it may be shown: by its check value."""

    version: int
    kcv: str
    active: bool

    def to_json(self) -> dict[str, Any]:
        return {"version": self.version, "kcv": self.kcv, "active": self.active}


class FileKeyStore:
    """Key sets under one folder, mode 0600. Keys are read when used and never shown."""

    def __init__(self, folder: Path, credentials: Path | None = None) -> None:
        """``credentials``: where systemd has put those of this service, readable by it alone."""
        self._folder = folder
        sealed = _named(credentials, "key-v*", SEALED_KEY) if credentials else {}
        plain = _named(folder, "v*.key", KEY_FILE)
        self._keys = {version: _read_key(path, may_be_shared=True) for version, path in sealed.items()}
        self._keys |= {version: _read_key(path) for version, path in plain.items()}
        self._active = self._read_active()

    @property
    def unsealed(self) -> list[int]:
        """Versions that lie in the data directory as they are."""
        return sorted(_named(self._folder, "v*.key", KEY_FILE))

    def versions(self) -> list[int]:
        """The active version first, then the others, newest first."""
        active = self._active
        if active is not None and active not in self._keys:
            raise AgentError(
                ErrorCode.CONFIG_INVALID,
                f"key set {active} is in use, and is neither in {self._folder} nor among the service's credentials",
                hint=f"If it was sealed: look for terminal-agent.key-v{active} in /etc/credstore.encrypted, then: sudo "
                "systemctl restart terminal-agent. Else import it: terminal-agent keys import",
            )
        if active is None and self._keys:
            raise AgentError(
                ErrorCode.CONFIG_INVALID,
                "it is not clear which key set is in use",
                hint="Choose one: terminal-agent keys list, then terminal-agent keys activate VERSION",
            )
        return sorted(self._keys, key=lambda version: (version != active, -version))

    def card_keys(self, version: int, uid: bytes) -> CardKeys:
        """Raises AgentError when this machine does not hold that key set."""
        if version not in self._keys:
            raise AgentError(
                ErrorCode.CONFIG_INVALID,
                f"key set {version} is not on this machine",
                hint="Import it: terminal-agent keys import --file FILE --version " + str(version),
            )
        return CardKeys(version, uid, self._keys[version])

    def list(self) -> list[KeySet]:
        active = self._active
        return [KeySet(version, check_value(key), version == active) for version, key in sorted(self._keys.items())]

    def generate(self, *, activate: bool) -> KeySet:
        """A new random key set under the next free version."""
        return self.add(secrets.token_bytes(AES_KEY), None, activate=activate)

    def add(self, key: bytes, version: int | None, *, activate: bool) -> KeySet:
        """Keep a key set. The same key under the same version again changes nothing. Raises AgentError."""
        version = version if version is not None else max(self._keys, default=0) + 1
        if not 1 <= version <= MAX_VERSION:
            raise AgentError(
                ErrorCode.INVALID_INPUT, f"a key-set version is 1 to {MAX_VERSION}", hint="terminal-agent keys list"
            )
        if self._keys.get(version, key) != key:
            raise AgentError(
                ErrorCode.CONFIG_INVALID,
                f"key set {version} is already here with another key (check value {check_value(self._keys[version])})",
                hint="Use another --version; a key set is never overwritten, cards depend on it",
            )
        self._write(f"v{version}.key", key.hex())
        self._keys[version] = key
        if activate or len(self._keys) == 1:
            self.activate(version)
        return KeySet(version, check_value(key), version == self._active)

    def activate(self, version: int) -> KeySet:
        """Issue cards under ``version`` from now on. Raises AgentError for one that is not here."""
        key_set = next((known for known in self.list() if known.version == version), None)
        if key_set is None:
            raise AgentError(
                ErrorCode.INVALID_INPUT, f"there is no key set {version}", hint="See them: terminal-agent keys list"
            )
        self._write("active", str(version))
        self._active = version
        return KeySet(version, key_set.kcv, True)

    def _write(self, name: str, content: str) -> None:
        try:
            make_folder(self._folder, PRIVATE_FOLDER)
            write_private(self._folder / name, content + "\n")
        except OSError as error:
            raise AgentError(
                ErrorCode.CONFIG_INVALID,
                f"the key sets in {self._folder} cannot be written: {error.strerror}",
                hint="Make room on the disk (df -h) and check the folder's rights, then run the command again",
            ) from error

    def _read_active(self) -> int | None:
        try:
            return int((self._folder / "active").read_text())
        except FileNotFoundError:
            return max(self._keys, default=None)
        except ValueError:
            return None


def parse_key(text: str) -> bytes:
    """A key from the text of a key file: 32 hex digits, spaces allowed. Raises AgentError; never shows the text."""
    digits = re.sub(r"\s", "", text)
    if not re.fullmatch(r"[0-9a-fA-F]{32}", digits):
        raise AgentError(
            ErrorCode.INVALID_INPUT,
            "a key file holds 32 hex digits (16 bytes) and nothing else",
            hint="Check the file; make one with: openssl rand -hex 16",
        )
    return bytes.fromhex(digits)


def _named(folder: Path, names: str, pattern: re.Pattern[str]) -> dict[int, Path]:
    """The files of ``folder`` that ``pattern`` names, by the version in it."""
    found = [(pattern.fullmatch(path.name), path) for path in sorted(folder.glob(names))]
    return {int(match[1]): path for match, path in found if match}


def _read_key(path: Path, *, may_be_shared: bool = False) -> bytes:
    try:
        if path.stat().st_mode & 0o077 and not may_be_shared:
            raise AgentError(
                ErrorCode.CONFIG_INVALID, f"others may read the key file {path}", hint=f"Close it: chmod 600 {path}"
            )
        text = path.read_text()
    except OSError as error:
        raise AgentError(
            ErrorCode.CONFIG_INVALID,
            f"the key file {path} cannot be read: {error.strerror}",
            hint="Run the command as the user who owns the data directory",
        ) from error
    except UnicodeDecodeError:
        text = ""
    try:
        return parse_key(text)
    except AgentError as error:
        raise AgentError(
            ErrorCode.CONFIG_INVALID, f"the key file {path} is damaged", hint="Restore it from its backup"
        ) from error
