"""A MIFARE Classic 1K spoken to with PC/SC part 3 commands, over any channel that carries them. No pyscard here."""

from __future__ import annotations

from typing import NamedTuple, NoReturn, Protocol

from drivers import pseudo_apdu
from drivers.base import ClassicConnection, ValueCommands
from drivers.errors import AccessDenied, AuthenticationFailed, CardRemoved, ReaderError, UnsupportedCard
from drivers.mifare_classic import BLOCK_SIZE, KeyType, ValueOperation, is_trailer, sector_of
from drivers.pseudo_apdu import StatusWord
from drivers.reader_profiles import KeySlot, ReaderProfile, ValueFamily


class Answer(NamedTuple):
    """What the reader gave to one command."""

    data: bytes
    sw: int

    @property
    def ok(self) -> bool:
        return self.sw == StatusWord.OK


class CardChannel(Protocol):
    """What carries commands to the reader that holds the card."""

    def send(self, apdu: bytes) -> Answer:
        """One exchange. Raises :class:`CardRemoved` when no answer came."""

    def reset(self) -> None:
        """Select the card anew; every sector is closed."""

    def close(self) -> None:
        """Let go of the card. Never raises."""


class StorageCardConnection(ClassicConnection):
    """An open MIFARE Classic 1K behind a PC/SC reader."""

    def __init__(self, channel: CardChannel, profile: ReaderProfile, slots: list[KeySlot]) -> None:
        self._channel = channel
        self._profile = profile
        self._slots = slots  # the reader's: the one that works stays in front
        self._loaded: bytes | None = None
        self._revived_by_uid_alone = False
        self._uid = self._fetch_uid()

    @property
    def uid(self) -> bytes:
        return self._uid

    def authenticate(self, block: int, key_type: KeyType, key: bytes) -> None:
        sector_of(block)
        answer = self._try_key(block, key_type, key)
        if not answer.ok and self._revived_by_uid_alone:
            # Readers disagree whether GET UID selects a mute card again: this refusal may be the last one's echo.
            self._check_presence(reset=True)
            answer = self._try_key(block, key_type, key)
        if answer.ok:
            self._revived_by_uid_alone = False
            return
        self._check_presence()
        raise AuthenticationFailed(block, key_type)

    def read_block(self, block: int) -> bytes:
        return self._read(block, BLOCK_SIZE)

    def read_blocks(self, first: int, count: int) -> bytes:
        blocks = range(first, first + count)
        fits = count * BLOCK_SIZE <= self._profile.max_read_bytes
        if count > 1 and fits and sector_of(first) == sector_of(blocks[-1]) and not any(map(is_trailer, blocks)):
            return self._read(first, count * BLOCK_SIZE)
        return super().read_blocks(first, count)

    def write_block(self, block: int, data: bytes) -> None:
        sector_of(block)
        answer = self._channel.send(pseudo_apdu.update_block(block, data))
        if not answer.ok:
            self._refused(block, "write", answer)

    @property
    def value_commands(self) -> ValueCommands | None:
        return self if self._profile.value_family else None

    def increment(self, block: int, amount: int) -> None:
        self._count(ValueOperation.INCREMENT, block, amount)

    def decrement(self, block: int, amount: int) -> None:
        self._count(ValueOperation.DECREMENT, block, amount)

    def restore(self, source: int, target: int) -> None:
        if self._profile.value_family is ValueFamily.HID:  # has no such command
            self.write_block(target, self.read_block(source))
            return
        sector_of(source), sector_of(target)
        answer = self._channel.send(pseudo_apdu.acs_restore(source, target))
        if not answer.ok:
            self._refused(source, "restore", answer)

    def _count(self, operation: ValueOperation, block: int, amount: int) -> None:
        sector_of(block)
        by_hid = self._profile.value_family is ValueFamily.HID
        command = (pseudo_apdu.hid_value if by_hid else pseudo_apdu.acs_value)(block, operation, amount)
        answer = self._channel.send(command)
        if not answer.ok:
            self._refused(block, operation.name.lower(), answer)

    def close(self) -> None:
        self._loaded = None
        self._channel.close()

    def _read(self, block: int, length: int) -> bytes:
        sector_of(block)
        answer = self._channel.send(pseudo_apdu.read_block(block, length))
        if not answer.ok or len(answer.data) != length:
            self._refused(block, "read", answer)
        return answer.data

    def _try_key(self, block: int, key_type: KeyType, key: bytes) -> Answer:
        if key != self._loaded:
            self._load(key)
        return self._channel.send(pseudo_apdu.authenticate(block, key_type, self._slots[0].number))

    def _load(self, key: bytes) -> None:
        """Into the first volatile slot that the reader takes; it is remembered for the cards to come."""
        self._loaded = None
        refusals = []
        for slot in list(self._slots):
            answer = self._channel.send(pseudo_apdu.load_key(slot.p1, slot.number, key))
            if answer.ok:
                self._slots.remove(slot)
                self._slots.insert(0, slot)
                self._loaded = key
                return
            refusals.append(f"P1 {slot.p1:02X} slot {slot.number:02X}: {pseudo_apdu.describe_status(answer.sw)}")
        self._check_presence()
        problem = ReaderError("the reader takes no key (" + ", ".join(refusals) + ")")
        problem.hint = "Name the reader's family: ?profile=NAME at the end of the reader URL"
        raise problem

    def _refused(self, block: int, action: str, answer: Answer) -> NoReturn:
        """6300 means "no" and "gone" alike on many readers: only asking for the UID tells which."""
        self._check_presence()
        raise AccessDenied(block, action, pseudo_apdu.describe_status(answer.sw))

    def _check_presence(self, *, reset: bool = False) -> None:
        """Make sure that the same card is there, selected anew. Raises :class:`CardRemoved`."""
        answer = Answer(b"", 0) if reset else self._channel.send(pseudo_apdu.get_uid())
        self._revived_by_uid_alone = answer.ok
        if not answer.ok:
            self._loaded = None  # a reset may reach the reader's key slots too
            self._channel.reset()
            answer = self._channel.send(pseudo_apdu.get_uid())
        if not answer.ok or answer.data != self._uid:
            raise CardRemoved("the card left the reader" if not answer.ok else "another card lies on the reader")

    def _fetch_uid(self) -> bytes:
        answer = self._channel.send(pseudo_apdu.get_uid())
        if not answer.ok:  # a card that another program left mute
            self._channel.reset()
            answer = self._channel.send(pseudo_apdu.get_uid())
        if not answer.ok:
            raise CardRemoved(f"the card does not tell its UID ({pseudo_apdu.describe_status(answer.sw)})")
        if len(answer.data) not in (4, 7):
            raise UnsupportedCard(f"a card with a UID of {len(answer.data)} bytes")
        return answer.data
