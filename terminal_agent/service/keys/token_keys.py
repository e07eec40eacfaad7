"""Master key sets in a PKCS#11 token: keys of cards are derived there, so that a stolen disk yields none.

AN10922 pads to two blocks always; for the 17 bytes of input and more that a card's keys have, that is AES-CMAC.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from terminal_agent.card.keys import AES_BLOCK, CHECK_VALUE_BYTES, KeysUnavailable, MasterKey, MasterKeyInMemory
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service.files import PRIVATE_FOLDER, make_folder
from terminal_agent.service.keys.pkcs11_token import Token
from terminal_agent.service.keys.store import MAX_VERSION, KeySet, KeyStore, key_files, read_secret
from terminal_agent.service.settings import KeySettings

PIN_FILE = "token-pin"
"""In the data directory, or a credential of the service."""
PIN_REFUSED = "pin-refused"
_PROBE = b"the same key, or another?"


class TokenKey:
    """A master key in the token, by its label."""

    def __init__(self, token: Token, label: str) -> None:
        self._token = token
        self._label = label

    def diversify(self, diversification_input: bytes) -> bytes:
        if len(diversification_input) < AES_BLOCK:
            raise ValueError("for less than 16 bytes of input AN10922 is no CMAC")
        return self._token.cmac(self._label, b"\x01" + diversification_input)

    def check_value(self) -> str:
        """As of a key that can be seen (:func:`~terminal_agent.card.keys.check_value`), computed in the token."""
        return self._token.cmac(self._label, bytes(AES_BLOCK))[:CHECK_VALUE_BYTES].hex().upper()


class TokenKeyStore(KeyStore):
    """Key sets are the token's AES-128 keys whose label is ``key_label`` with a version in it.

    The token is asked when a key is needed for the first time: a terminal starts, and says what is wrong, without it.
    """

    def __init__(self, settings: KeySettings, data_dir: Path, folder: Path, credentials: Path | None) -> None:
        if settings.module is None or settings.token is None:
            raise AgentError(
                ErrorCode.CONFIG_INVALID,
                "the master keys are to be in a PKCS#11 token, and the config file does not say in which",
                hint='Put into its [keys] table: module = "PATH OF THE LIBRARY" and token = "LABEL"',
            )
        sealed = credentials / PIN_FILE if credentials else None
        self._pin_file = settings.pin_file or data_dir / PIN_FILE
        self._sealed_pin = sealed if settings.pin_file is None and sealed is not None and sealed.exists() else None
        make_folder(folder, PRIVATE_FOLDER)
        self._token = Token(settings.module, settings.token, self._pin, folder / PIN_REFUSED)
        self._label = settings.key_label
        self._versions: list[int] | None = None
        super().__init__(folder, str(self._token))

    def unlock(self) -> None:
        self._versions = None
        self._token.unlock()

    def close(self) -> None:
        self._token.close()

    def kept(self, version: int) -> str:
        """With what a derivation takes: a sale waits for five of them, a re-key for 54."""
        key, began = self._key(version), time.perf_counter()
        key.diversify(_PROBE)
        return f"in {self.place}, {(time.perf_counter() - began) * 1e3:.1f} ms for each key of a card"

    def only_copy(self, version: int) -> str:
        return f"Take good care of {self.place}: the key set is in there alone"

    @property
    def left_behind(self) -> list[Path]:
        return key_files(self._folder)

    def _held(self) -> list[int]:
        if self._versions is None:
            form = re.escape(self._label).replace(re.escape("{version}"), "([1-9][0-9]{0,2})")
            found = [re.fullmatch(form, label) for label in self._token.key_labels()]
            self._versions = sorted({int(match[1]) for match in found if match and int(match[1]) <= MAX_VERSION})
        return self._versions

    def _key(self, version: int) -> TokenKey:
        return TokenKey(self._token, self._label.format(version=version))

    def _master(self, version: int) -> MasterKey:
        return self._key(version)

    def _check_value(self, version: int) -> str:
        return self._key(version).check_value()

    def _is(self, version: int, key: bytes) -> bool:
        return self._key(version).diversify(_PROBE) == MasterKeyInMemory(key).diversify(_PROBE)

    def _keep(self, version: int, key: bytes | None) -> None:
        if version not in self._held():
            self._token.put(self._label.format(version=version), key)
            self._versions = None

    def _missing(self, version: int) -> AgentError:
        return AgentError(
            ErrorCode.CONFIG_INVALID,
            f"key set {version} is in use, and {self.place} holds no key {self._label.format(version=version)}",
            hint="Import it: terminal-agent keys import, or choose another: terminal-agent keys activate VERSION",
        )

    def _pin(self) -> str:
        path = self._sealed_pin or self._pin_file
        try:
            return read_secret(path, "PIN file", may_be_shared=path == self._sealed_pin).strip()
        except AgentError as problem:
            hint = (
                problem.hint if path.exists() else f"Put the PIN of {self.place} into it, then: sudo chmod 600 {path}"
            )
            raise KeysUnavailable(problem.code, problem.message, hint=hint) from problem

    def list(self) -> list[KeySet]:
        self._versions = None  # other programs may have put keys there
        return super().list()
