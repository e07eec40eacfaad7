"""Master keys and what is derived from them for one card: AN10922 diversification, one label per purpose.

Source: NXP AN10922 rev 2.2 section 2.2 (AES-128), whose vectors the tests repeat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

from drivers.mifare_classic import KEY_SIZE, KeyType
from terminal_agent.errors import AgentError

AES_BLOCK = 16
AES_KEY = 16
MAX_DIVERSIFICATION_INPUT = 31
CHECK_VALUE_BYTES = 3
SYSTEM_LABEL = b"LOYALTY1"


def aes_encrypt_block(key: bytes, block: bytes) -> bytes:
    """One AES-128 block (FIPS 197)."""
    return _block_cipher(key)(block)


def aes_decrypt_block(key: bytes, block: bytes) -> bytes:
    """The inverse of :func:`aes_encrypt_block`."""
    decryptor = Cipher(algorithms.AES(key), modes.ECB()).decryptor()  # noqa: S305 - one block, no mode
    return decryptor.update(block) + decryptor.finalize()


def _double(value: bytes) -> bytes:
    """Multiply by x in GF(2^128), as CMAC makes its subkeys (NIST SP 800-38B section 6.1)."""
    number = int.from_bytes(value, "big") << 1
    return ((number ^ (0x87 if number >> 128 else 0)) & (1 << 128) - 1).to_bytes(AES_BLOCK, "big")


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left) ^ int.from_bytes(right)).to_bytes(AES_BLOCK)


def diversify_aes128(master_key: bytes, diversification_input: bytes) -> bytes:
    """A 16-byte key from a 16-byte master key and 1..31 bytes of input (AN10922 section 2.2).

    Not plain CMAC: the input is always padded to two blocks, also where one would do.
    """
    encrypt = _block_cipher(master_key)
    return _diversify(encrypt, _subkeys(encrypt), diversification_input)


def _block_cipher(key: bytes) -> Callable[[bytes], bytes]:
    """AES-128 of one block after the other, each by itself."""
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update  # noqa: S305 - single blocks, no mode


def _subkeys(encrypt: Callable[[bytes], bytes]) -> tuple[bytes, bytes]:
    """CMAC's K1 and K2: for a message of whole blocks, and for one that was padded."""
    k1 = _double(encrypt(bytes(AES_BLOCK)))
    return k1, _double(k1)


def _diversify(encrypt: Callable[[bytes], bytes], subkeys: tuple[bytes, bytes], diversification_input: bytes) -> bytes:
    if not 1 <= len(diversification_input) <= MAX_DIVERSIFICATION_INPUT:
        raise ValueError("the diversification input is 1 to 31 bytes")
    message = b"\x01" + diversification_input
    is_whole = len(message) == 2 * AES_BLOCK
    padded = message if is_whole else (message + b"\x80").ljust(2 * AES_BLOCK, b"\0")
    subkey = subkeys[0] if is_whole else subkeys[1]
    first = encrypt(padded[:AES_BLOCK])
    return encrypt(_xor(_xor(padded[AES_BLOCK:], subkey), first))


def check_value(master_key: bytes) -> str:
    """Six hex digits to compare keys by without showing them: the first 3 bytes of CMAC over 16 zero bytes."""
    cmac = CMAC(algorithms.AES(master_key))
    cmac.update(bytes(AES_BLOCK))
    return cmac.finalize()[:CHECK_VALUE_BYTES].hex().upper()


class MasterKey(Protocol):
    """A master key that need not be seen to be used."""

    def diversify(self, diversification_input: bytes) -> bytes:
        """The 16-byte key of AN10922 for 16..31 bytes of input. Raises :class:`KeysUnavailable`."""
        ...


class MasterKeyInMemory:
    """A master key that this process holds. Its repr shows no key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @cached_property
    def _encrypt(self) -> Callable[[bytes], bytes]:
        return _block_cipher(self._key)

    @cached_property
    def _subkeys(self) -> tuple[bytes, bytes]:
        return _subkeys(self._encrypt)

    def diversify(self, diversification_input: bytes) -> bytes:
        return _diversify(self._encrypt, self._subkeys, diversification_input)


class KeysUnavailable(AgentError):
    """Master keys that are not in this process cannot be used now: that says nothing about the card in hand."""


@dataclass(frozen=True)
class CardKeys:
    """Every key of one card under one key-set version, each derived once. Its repr shows no key."""

    version: int
    uid: bytes
    _master: MasterKey = field(repr=False)
    _derived: dict[bytes, bytes] = field(default_factory=dict, repr=False, compare=False)

    def _diversify(self, label: bytes) -> bytes:
        if label not in self._derived:
            self._derived[label] = self._master.diversify(bytes([len(self.uid)]) + self.uid + SYSTEM_LABEL + label)
        return self._derived[label]

    def sector_key(self, sector: int, key_type: KeyType) -> bytes:
        """The 6-byte Crypto1 key of a sector: the first 6 of the 16 bytes derived for it."""
        return self._diversify(b"SK" + key_type.value.encode() + bytes([sector]))[:KEY_SIZE]

    @property
    def identity_key(self) -> bytes:
        """The AES-128 key that seals block 4."""
        return self._diversify(b"IDENTITY")

    @property
    def state_key(self) -> bytes:
        """The AES-128 key that seals the two state slots."""
        return self._diversify(b"STATE")

    @property
    def history_key(self) -> bytes:
        """The AES-128 key that seals the history ring."""
        return self._diversify(b"HISTORY")


class KeyProvider(Protocol):
    """Where master keys live: files, or a PKCS#11 token. Cards ask for diversified keys only."""

    def versions(self) -> list[int]:
        """Versions to try on a card, the active one first."""
        ...

    def card_keys(self, version: int, uid: bytes) -> CardKeys:
        """The keys of a card under ``version``."""
        ...

    def may_issue(self, version: int) -> bool:
        """Whether this terminal makes cards under ``version``: issues them, or brings others under it."""
        ...

    def is_retired(self, version: int) -> bool:
        """Whether cards of ``version`` are known, and taken no more: its key is no longer a secret."""
        ...


class OneTap:
    """A provider for one tap: what is derived for its card is derived once, and forgotten with the tap."""

    def __init__(self, provider: KeyProvider) -> None:
        self._provider = provider
        self._cards: dict[tuple[int, bytes], CardKeys] = {}

    def versions(self) -> list[int]:
        return self._provider.versions()

    def card_keys(self, version: int, uid: bytes) -> CardKeys:
        if (version, uid) not in self._cards:
            self._cards[version, uid] = self._provider.card_keys(version, uid)
        return self._cards[version, uid]

    def may_issue(self, version: int) -> bool:
        return self._provider.may_issue(version)

    def is_retired(self, version: int) -> bool:
        return self._provider.is_retired(version)


def key_sets(provider: KeyProvider, uid: bytes) -> list[CardKeys]:
    """A card's keys under every set this terminal holds, the active one first; nothing is derived before it is used."""
    return [provider.card_keys(version, uid) for version in provider.versions()]
