"""Master key sets: ``keys/active`` says which version is in use; where the keys are is the store's own affair.

:class:`FileKeyStore` keeps them in files, ``keys/v<N>.key`` with 32 hex digits. A key set may be a credential of the
service instead (``key-v<N>``), which systemd deciphers as the daemon starts: then no key lies in the data directory.
"""

from __future__ import annotations

import re
import secrets
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from terminal_agent.card.keys import AES_KEY, CardKeys, MasterKey, MasterKeyInMemory, check_value
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service.files import PRIVATE_FOLDER, make_folder, write_private

KEYS_FOLDER = "keys"
MAX_VERSION = 255
SEALED_KEY = re.compile(r"key-v([1-9][0-9]{0,2})")
KEY_FILE = re.compile(r"v([1-9][0-9]{0,2})\.key")
"""Other files, as in ``v1-old.key``, are the operator's own."""
ACTIVE, NO_ISSUE, RETIRED = "active", "no-issue", "retired"
"""Files beside the keys: the version in use; versions under which no cards are made here, and those of which none is
taken, a line each."""

IMPORT = (
    "Import the club's: terminal-agent keys import --file FILE --activate; only for the first terminal of a new club: "
    "terminal-agent keys generate --activate"
)
"""What a terminal without a key set needs."""


@dataclass(frozen=True)
class KeySet:
    """One key-set version, as it may be shown: by its check value."""

    version: int
    kcv: str
    active: bool
    may_issue: bool = True
    retired: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class KeyStore(ABC):
    """The key sets of this terminal: a :class:`~terminal_agent.card.keys.KeyProvider` that can be added to.

    ``place`` says where they are, in words. Everything raises AgentError.
    """

    def __init__(self, folder: Path, place: str) -> None:
        self._folder = folder
        self.place = place
        self._chosen = _text_of(folder / ACTIVE)
        self._marked = {name: _versions_in(folder / name) for name in (NO_ISSUE, RETIRED)}

    @abstractmethod
    def _held(self) -> list[int]:
        """The versions that are here, in any order."""

    @abstractmethod
    def _master(self, version: int) -> MasterKey:
        """One that is here."""

    @abstractmethod
    def _check_value(self, version: int) -> str:
        """Of one that is here."""

    @abstractmethod
    def _is(self, version: int, key: bytes) -> bool:
        """Whether the key set that is here is this one."""

    @abstractmethod
    def _keep(self, version: int, key: bytes | None) -> None:
        """Keep a key under a free version, or under its own; None: a new random one."""

    @abstractmethod
    def _missing(self, version: int) -> AgentError:
        """The set in use is not here."""

    @abstractmethod
    def kept(self, version: int) -> str:
        """Where the key set is, in words."""

    @abstractmethod
    def only_copy(self, version: int) -> str:
        """What to do about a key set that was just made, and is nowhere else."""

    @property
    @abstractmethod
    def left_behind(self) -> list[Path]:
        """Key files in the data directory that should not be there."""

    @property
    def unusable(self) -> dict[int, AgentError]:
        """What is wrong with the sets that are here and cannot be used, by their versions."""
        return {}

    @abstractmethod
    def unlock(self) -> None:
        """Try the PIN again, which a person has put right."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what holds the keys."""

    def versions(self) -> list[int]:
        """The active version first, then the others, newest first."""
        held, active = self._held(), self._active
        if active is not None and active not in held:
            raise self._missing(active)
        if active is None and held:
            raise AgentError(
                ErrorCode.CONFIG_INVALID,
                "it is not clear which key set is in use",
                hint="Choose one: terminal-agent keys list, then terminal-agent keys activate VERSION",
            )
        return sorted(held, key=lambda version: (version != active, -version))

    def card_keys(self, version: int, uid: bytes) -> CardKeys:
        """Raises AgentError when this machine does not hold that key set."""
        if version not in self._held():
            raise self.unusable.get(version) or AgentError(
                ErrorCode.CONFIG_INVALID,
                f"key set {version} is not on this machine",
                hint="Import it: terminal-agent keys import --file FILE --version " + str(version),
            )
        return CardKeys(version, uid, self._master(version))

    def list(self) -> list[KeySet]:
        return [self._shown(version) for version in sorted(self._held())]

    def may_issue(self, version: int) -> bool:
        return version not in self._marked[NO_ISSUE] | self._marked[RETIRED]

    def is_retired(self, version: int) -> bool:
        return version in self._marked[RETIRED]

    def limit(self, version: int, *, may_issue: bool) -> KeySet:
        """From now on cards are made under ``version`` at this terminal, or not. Raises AgentError."""
        return self._mark(NO_ISSUE, version, marked=not may_issue)

    def retire(self, version: int, *, retired: bool) -> KeySet:
        """From now on no card of ``version`` is taken at this terminal, or they are again. Raises AgentError."""
        if retired and version == self._active:
            raise AgentError(
                ErrorCode.INVALID_INPUT,
                f"key set {version} is in use, and cannot be retired",
                hint="Put the next one into use first: terminal-agent keys import --file FILE --activate",
            )
        return self._mark(RETIRED, version, marked=retired)

    def _mark(self, name: str, version: int, *, marked: bool) -> KeySet:
        self._require(version)
        wanted = self._marked[name] - {version} | ({version} if marked else set())
        self._write(name, "\n".join(map(str, sorted(wanted))))
        self._marked[name] = wanted
        return self._shown(version)

    def _shown(self, version: int) -> KeySet:
        marks = self.may_issue(version), self.is_retired(version)
        return KeySet(version, self._check_value(version), version == self._active, *marks)

    def generate(self, *, activate: bool) -> KeySet:
        """A new random key set under the next free version."""
        return self._add(None, None, activate=activate)

    def add(self, key: bytes, version: int | None, *, activate: bool) -> KeySet:
        """Keep a key set, without a version under the next free one. One that is here stays what it is: under a second
        version its cards would be strangers to every other terminal. Raises AgentError."""
        if version is None:
            same = [held for held in self._held() if self._is(held, key)]
            version = min(same, key=lambda held: (held != self._active, held), default=None)
        return self._add(key, version, activate=activate)

    def _add(self, key: bytes | None, version: int | None, *, activate: bool) -> KeySet:
        held = self._held()
        version = version if version is not None else max((*held, *self.unusable), default=0) + 1
        if not 1 <= version <= MAX_VERSION:
            raise AgentError(
                ErrorCode.INVALID_INPUT, f"a key-set version is 1 to {MAX_VERSION}", hint="terminal-agent keys list"
            )
        if version in held and (key is None or not self._is(version, key)):
            raise AgentError(
                ErrorCode.CONFIG_INVALID,
                f"key set {version} is already here with another key (check value {self._check_value(version)})",
                hint="Use another --version; a key set is never overwritten, cards depend on it",
            )
        if version in self.unusable:
            raise self.unusable[version]
        self._keep(version, key)
        if activate or len(self._held()) == 1:
            self.activate(version)
        return self._shown(version)

    def activate(self, version: int) -> KeySet:
        """Issue cards under ``version`` from now on. Raises AgentError for one that is not here, or retired."""
        self._require(version)
        if self.is_retired(version):
            raise AgentError(
                ErrorCode.INVALID_INPUT,
                f"cards of key set {version} are taken no more, so none are made",
                hint=f"If that was a mistake: terminal-agent keys retire {version} --undo",
            )
        self._write(ACTIVE, str(version))
        self._chosen = str(version)
        return self._shown(version)

    def _require(self, version: int) -> None:
        if version not in self._held():
            raise self.unusable.get(version) or AgentError(
                ErrorCode.INVALID_INPUT, f"there is no key set {version}", hint="See them: terminal-agent keys list"
            )

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

    @property
    def _active(self) -> int | None:
        """None where it is not clear."""
        if self._chosen is None:
            return max((*self._held(), *self.unusable), default=None)
        try:
            return int(self._chosen)
        except ValueError:
            return None


class FileKeyStore(KeyStore):
    """Key sets under one folder, mode 0600. Keys are read when the process starts, and never shown. A file that cannot
    be used stops the cards of its set and no others; it is read again until it can."""

    def __init__(self, folder: Path, credentials: Path | None = None) -> None:
        """``credentials``: where systemd has put those of this service, readable by it alone."""
        super().__init__(folder, str(folder))
        sealed = _named(credentials, "key-v*", SEALED_KEY) if credentials else {}
        plain = _named(folder, "v*.key", KEY_FILE)
        self._keys: dict[int, bytes] = {}
        self._unusable: dict[int, tuple[Path, AgentError]] = {}
        for version, path in [*sealed.items(), *plain.items()]:
            self._take(version, path)

    def _take(self, version: int, path: Path) -> None:
        """A sound file counts, and a plain one before a sealed one."""
        self._unusable.pop(version, None)
        try:
            self._keys[version] = _read_key(path, version, is_sealed=path.parent != self._folder)
        except AgentError as problem:
            if version not in self._keys:
                self._unusable[version] = path, problem

    def _held(self) -> list[int]:
        for version, (path, _problem) in tuple(self._unusable.items()):
            if path.exists():
                self._take(version, path)
            else:
                del self._unusable[version]
        return [*self._keys]

    @property
    def unusable(self) -> dict[int, AgentError]:
        self._held()
        return {version: problem for version, (_path, problem) in self._unusable.items()}

    def _master(self, version: int) -> MasterKey:
        return MasterKeyInMemory(self._keys[version])

    def _check_value(self, version: int) -> str:
        return check_value(self._keys[version])

    def _is(self, version: int, key: bytes) -> bool:
        return self._keys[version] == key

    def _keep(self, version: int, key: bytes | None) -> None:
        key = secrets.token_bytes(AES_KEY) if key is None else key
        self._write(f"v{version}.key", key.hex())
        self._keys[version] = key

    def kept(self, version: int) -> str:
        return "in the data directory" if version in _named(self._folder, "v*.key", KEY_FILE) else "sealed"

    def only_copy(self, version: int) -> str:
        return f"Keep a copy of {self._folder / f'v{version}.key'} in a safe place, on another machine"

    @property
    def left_behind(self) -> list[Path]:
        return []

    def unlock(self) -> None:
        raise AgentError(
            ErrorCode.INVALID_INPUT, "key sets in files have no PIN", hint="See them: terminal-agent keys list"
        )

    def close(self) -> None:
        """Nothing is held."""

    def _missing(self, version: int) -> AgentError:
        return self.unusable.get(version) or AgentError(
            ErrorCode.CONFIG_INVALID,
            f"key set {version} is in use, and is neither in {self._folder} nor among the service's credentials",
            hint=f"If it was sealed: look for terminal-agent.key-v{version} in /etc/credstore.encrypted, then: sudo "
            "systemctl restart terminal-agent. Else import it: terminal-agent keys import",
        )


def _versions_in(path: Path) -> set[int]:
    return {int(word) for word in (_text_of(path) or "").split() if word.isdecimal()}


def _text_of(path: Path) -> str | None:
    """None where there is no such file."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
    except ValueError:
        return ""


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


def key_files(folder: Path) -> list[Path]:
    """The key sets that lie in a folder as they are."""
    return [path for _version, path in sorted(_named(folder, "v*.key", KEY_FILE).items())]


def _named(folder: Path, names: str, pattern: re.Pattern[str]) -> dict[int, Path]:
    """The files of ``folder`` that ``pattern`` names, by the version in it."""
    found = [(pattern.fullmatch(path.name), path) for path in sorted(folder.glob(names))]
    return {int(match[1]): path for match, path in found if match}


def read_secret(path: Path, what: str, *, may_be_shared: bool = False) -> str:
    """The text of a file that its owner alone may read; "" where it is no text. Raises AgentError, without the text."""
    try:
        if path.stat().st_mode & 0o077 and not may_be_shared:
            raise AgentError(
                ErrorCode.CONFIG_INVALID, f"others may read the {what} {path}", hint=f"Close it: sudo chmod 600 {path}"
            )
        return path.read_text()
    except OSError as error:
        raise AgentError(
            ErrorCode.CONFIG_INVALID,
            f"the {what} {path} cannot be read: {error.strerror}",
            hint="Run the command as the user who owns the data directory",
        ) from error
    except UnicodeDecodeError:
        return ""


def _read_key(path: Path, version: int, *, is_sealed: bool) -> bytes:
    text = read_secret(path, "key file", may_be_shared=is_sealed)
    try:
        return parse_key(text)
    except AgentError as error:
        name = f"/etc/credstore.encrypted/terminal-agent.key-v{version}" if is_sealed else path
        anew = "; sudo systemctl restart terminal-agent" if is_sealed else ""
        raise AgentError(
            ErrorCode.CONFIG_INVALID,
            f"the key file {name} is damaged",
            hint=f"Take it away: sudo rm {name}{anew}; then bring in the copy you keep: terminal-agent keys import "
            f"--file FILE --version {version}",
        ) from error
