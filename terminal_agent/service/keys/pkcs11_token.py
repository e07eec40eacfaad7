"""A PKCS#11 token: one session, logged in once, and AES-CMAC under keys that never leave it.

The only file that imports pkcs11. A session that was lost, with its token or without, is opened anew once for each
call. A PIN is never tried twice by itself, because tokens lock: that one was refused is noted on disk until a person
says that it was put right. A library that hangs holds nobody up for long (:mod:`terminal_agent.service.keys.patience`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass, TokenFlag
from pkcs11 import exceptions as errors

from terminal_agent.card.keys import KeysUnavailable
from terminal_agent.errors import ErrorCode
from terminal_agent.service.keys.patience import Patience

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Session = Any
UNLOCK = "terminal-agent keys unlock"
KEY_BITS = 128
_ONLY_CMAC = {
    **dict.fromkeys((Attribute.ENCRYPT, Attribute.DECRYPT, Attribute.WRAP, Attribute.UNWRAP, Attribute.DERIVE), False),
    **dict.fromkeys((Attribute.VERIFY, Attribute.EXTRACTABLE, Attribute.MODIFIABLE), False),
    **dict.fromkeys((Attribute.SIGN, Attribute.SENSITIVE, Attribute.PRIVATE), True),
}
_REFUSED_PIN = (errors.PinIncorrect, errors.PinInvalid, errors.PinLenRange, errors.PinExpired, errors.PinLocked)
_NOT_ABLE = (errors.MechanismInvalid, errors.KeyTypeInconsistent, errors.FunctionNotSupported)


class Token:
    """``pin`` reads the PIN when it is needed; ``refused`` is the file that notes a refusal. Raises KeysUnavailable."""

    def __init__(self, module: Path, label: str, pin: Callable[[], str], refused: Path) -> None:
        self._module = module
        self._label = label
        self._pin = pin
        self._refused = refused
        self._was_refused = False
        self._patience = Patience(self._hangs)
        self._session: Session | None = None
        self._keys: dict[str, Any] = {}

    def __str__(self) -> str:
        return f"the token {self._label}"

    def cmac(self, key_label: str, message: bytes) -> bytes:
        """AES-CMAC (NIST SP 800-38B) of ``message``, 16 bytes, computed by the token."""

        def sign(session: Session) -> bytes:
            if key_label not in self._keys:
                _require_open(session)
                key = session.get_key(object_class=ObjectClass.SECRET_KEY, label=key_label)
                if not key[Attribute.SIGN]:
                    raise errors.FunctionNotSupported
                self._keys[key_label] = key
            return bytes(self._keys[key_label].sign(message, mechanism=Mechanism.AES_CMAC))

        return self._patience.ask(lambda: self._using(sign))

    def key_labels(self) -> list[str]:
        """The labels of its AES keys of 128 bits."""
        wanted = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.KEY_TYPE: KeyType.AES}

        def labels(session: Session) -> list[str]:
            _require_open(session)
            return [key.label for key in session.get_objects(wanted) if key.key_length == KEY_BITS]

        return self._patience.ask(lambda: self._using(labels))

    def put(self, key_label: str, key: bytes | None) -> None:
        """Store ``key``, or without one let the token make it; it can compute CMACs there, and nothing else."""

        def store() -> None:
            self._using(lambda _session: None)  # logged in: that holds for the next session too
            try:
                with self._find().open(rw=True) as session:
                    self._store(session, key_label, key)
            except errors.PKCS11Error as error:
                raise self._unusable(error) from error

        self._patience.ask(store)

    @staticmethod
    def _store(session: Session, key_label: str, key: bytes | None) -> None:
        if key is None:
            session.generate_key(KeyType.AES, KEY_BITS, label=key_label, store=True, template=_ONLY_CMAC)
            return
        what = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.KEY_TYPE: KeyType.AES, Attribute.TOKEN: True}
        session.create_object({**what, Attribute.LABEL: key_label, Attribute.VALUE: key, **_ONLY_CMAC})

    def unlock(self) -> None:
        """A person says that the PIN was put right: it may be tried once more, and is."""
        self._was_refused = False
        self._refused.unlink(missing_ok=True)
        self.close()
        self._patience.ask(lambda: self._using(lambda _session: None))

    def close(self) -> None:
        with suppress(KeysUnavailable):
            self._patience.ask(self._let_go)

    def _let_go(self) -> None:
        session, self._session, self._keys = self._session, None, {}
        with suppress(errors.PKCS11Error):
            if session is not None:
                session.close()

    def _using(self, job: Callable[[Session], Answer]) -> Answer:
        try:
            return job(self._opened())
        except (errors.NoSuchKey, errors.MultipleObjectsReturned, *_NOT_ABLE) as error:
            raise self._unusable(error) from error
        except errors.PKCS11Error as error:
            log.info("token=opened_anew error=%s", type(error).__name__)
        try:
            self._let_go()
            self._library().reinitialize()  # one in use may remember a token that was unplugged
            return job(self._opened())
        except errors.PKCS11Error as error:
            self._let_go()
            raise self._unusable(error) from error

    def _opened(self) -> Session:
        if self._session is None:
            self._session = self._log_in(self._find())
        return self._session

    def _library(self) -> Any:
        try:
            return pkcs11.lib(str(self._module))
        except RuntimeError as error:
            raise _invalid(
                f"the PKCS#11 library {self._module} cannot be used: {error or type(error).__name__}",
                "Correct module in the [keys] table of the config file; the token's maker says which it is",
            ) from error

    def _find(self) -> Any:
        try:
            return self._library().get_token(token_label=self._label)
        except errors.MultipleTokensReturned as error:
            raise _invalid(f"there are two tokens {self._label}", "Unplug one, or give it another label") from error

    def _log_in(self, token: Any) -> Session:
        if self._was_refused or self._refused.exists():
            raise self._wrong_pin()
        if token.flags & TokenFlag.USER_PIN_LOCKED:
            hint = f"Its administrator unlocks it with the SO PIN; then: {UNLOCK}"
            raise _invalid(f"{self} is locked: a wrong PIN was tried too often", hint)
        if token.flags & TokenFlag.USER_PIN_FINAL_TRY:
            hint = f"Log in to it with its maker's tool, so that it counts anew; then: {UNLOCK}"
            raise _invalid(f"{self} has one try left for its PIN, which is not used up from here", hint)
        try:
            return token.open(user_pin=self._pin())
        except errors.UserAlreadyLoggedIn:  # by another part of this process: that holds for all of it
            return token.open()
        except _REFUSED_PIN as error:
            self._was_refused = True
            self._note_refusal()
            raise self._wrong_pin() from error

    def _note_refusal(self) -> None:
        try:
            self._refused.touch(mode=0o600)
        except OSError as error:
            log.error("token=refusal_not_noted %s", error.strerror)

    def _wrong_pin(self) -> KeysUnavailable:
        return _invalid(
            f"{self} has refused its PIN; it is not tried again by itself, because tokens lock",
            f"Put the right PIN into its file, then: {UNLOCK}",
        )

    def _hangs(self) -> KeysUnavailable:
        return KeysUnavailable(
            ErrorCode.KEYS_UNAVAILABLE,
            f"{self} holds the master keys, and its library does not answer",
            hint="Unplug it and plug it in; it is asked again once the call has ended. If it stays so: sudo systemctl "
            "restart terminal-agent",
        )

    def _unusable(self, error: errors.PKCS11Error) -> KeysUnavailable:
        if isinstance(error, errors.NoSuchKey | errors.MultipleObjectsReturned):
            what = "no key" if isinstance(error, errors.NoSuchKey) else "two keys"
            return _invalid(f"{self} holds {what} of that label", "See what it holds: terminal-agent keys list")
        if isinstance(error, _NOT_ABLE):
            hint = "Use a token that computes AES-CMAC, and keys that may sign"
            return _invalid(f"{self} does not compute AES-CMAC with that key ({type(error).__name__})", hint)
        is_gone = isinstance(error, errors.NoSuchToken | errors.TokenNotPresent | errors.DeviceRemoved)
        why = "it is not plugged in" if is_gone else f"it answers {type(error).__name__} {error}".rstrip()
        return KeysUnavailable(
            ErrorCode.KEYS_UNAVAILABLE,
            f"{self} holds the master keys, and cannot be used: {why}",
            hint="Plug it in; it is looked for again at the next card. If it stays so: terminal-agent doctor",
        )


def _require_open(session: Session) -> None:
    """Before a search: the library cannot end one that it began on a session that is gone, and complains later."""
    with suppress(errors.RandomNoRNG, errors.FunctionNotSupported):
        session.generate_random(8)


def _invalid(message: str, hint: str) -> KeysUnavailable:
    return KeysUnavailable(ErrorCode.CONFIG_INVALID, message, hint=hint)
