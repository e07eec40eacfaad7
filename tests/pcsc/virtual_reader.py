"""A reader with a MIFARE Classic card on it, for the real pcscd: plays both behind vsmartcard's virtual reader (vpcd).

The card is ``drivers.simulator.SimulatedChip``; this file is the reader's firmware and the cable. By hand:

    python -m tests.pcsc.virtual_reader --image card.mfd --port 35963 --personality acs
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from drivers.mifare_classic import BLOCK_COUNT, BLOCK_SIZE, KEY_SIZE, KeyType, ValueOperation, blank_card, sector_of
from drivers.pseudo_apdu import (
    INS_ACS_VALUE,
    INS_GENERAL_AUTHENTICATE,
    INS_GET_DATA,
    INS_HID_DECREMENT,
    INS_HID_INCREMENT,
    INS_LOAD_KEYS,
    INS_READ_BINARY,
    INS_UPDATE_BINARY,
    StatusWord,
    storage_card_atr,
)
from drivers.reader_profiles import ValueFamily
from drivers.simulator import CardImage, ChipRefused, Fault, FileImage, MemoryImage, SimulatedChip

POWER_OFF, POWER_ON, RESET, GET_ATR = 0, 1, 2, 4

CLASSIC_1K_ATR = storage_card_atr(0x0001)
INFINEON_1K_ATR = storage_card_atr(0xFF88)
CLASSIC_4K_ATR = storage_card_atr(0x0002)
ULTRALIGHT_ATR = storage_card_atr(0x0003)
DESFIRE_ATR = bytes.fromhex("3B8180018080")

KIND_OF_INS = {
    INS_GET_DATA: "uid",
    INS_LOAD_KEYS: "load_key",
    INS_GENERAL_AUTHENTICATE: "auth",
    INS_READ_BINARY: "read",
    INS_UPDATE_BINARY: "write",
}


class Revival(StrEnum):
    """What selects a card again that fell silent after a refusal."""

    AT_ONCE = "at once"
    GET_UID = "get uid"
    RESET_ONLY = "reset only"


@dataclass(frozen=True)
class Personality:
    """How a family of readers answers. ``say`` turns the precise status word into what this family says."""

    name: str
    key_slots: frozenset[int]
    read_lengths: frozenset[int]
    revival: Revival
    say: Callable[[int], int] = int
    value_family: ValueFamily | None = None


_ACS_WORDS = {StatusWord.OK, StatusWord.FAILED, StatusWord.FUNCTION_NOT_SUPPORTED}
ACS = Personality(
    "acs",
    frozenset({0x00, 0x01}),
    frozenset({0x10}),
    Revival.GET_UID,
    lambda sw: sw if sw in _ACS_WORDS else int(StatusWord.FAILED),
    ValueFamily.ACS,
)
PART3 = Personality("part3", frozenset({0x20}), frozenset({0x10, 0x20, 0x30}), Revival.AT_ONCE)
PERSONALITIES = {"acs": ACS, "part3": PART3}


@dataclass
class VirtualCard:
    """What can lie on the reader. ``fault`` pulls it away at one call, as the simulator counts them."""

    image: CardImage = field(default_factory=MemoryImage)
    atr: bytes = CLASSIC_1K_ATR
    fault: Fault | None = None
    open_block_0: bool = False

    @classmethod
    def blank(cls, uid: bytes, fault: Fault | None = None) -> VirtualCard:
        return cls(MemoryImage(bytes(blank_card(uid))), fault=fault)


class Refused(Exception):
    """The reader says no with this status word."""

    def __init__(self, sw: int) -> None:
        super().__init__(f"{sw:04X}")
        self.sw = sw


class Firmware:
    """The reader's side of PC/SC part 3: pseudo-APDU in, answer out; counts what it was asked."""

    def __init__(self, personality: Personality) -> None:
        self.personality = personality
        self.counts: Counter[str] = Counter()
        self.commands: list[bytes] = []
        self.card_is_gone = False
        self._keys: dict[int, bytes] = {}  # volatile: lost when the reader is unplugged, not when the card leaves
        self._chip: SimulatedChip | None = None
        self._uid = b""

    def put(self, card: VirtualCard) -> None:
        self._chip = SimulatedChip(card.image, card.fault, open_block_0=card.open_block_0)
        self.card_is_gone = False
        self.select()

    def take_over(self, other: Firmware) -> None:
        self._chip, self._uid, self.card_is_gone = other._chip, other._uid, other.card_is_gone

    def select(self) -> None:
        assert self._chip is not None
        with contextlib.suppress(ChipRefused):
            self._uid = self._chip.select()

    def answer(self, apdu: bytes) -> bytes:
        self.commands.append(apdu)
        self.counts[KIND_OF_INS.get(apdu[1], "other")] += 1
        try:
            data, sw = self._run(apdu), int(StatusWord.OK)
        except Refused as refused:
            data, sw = b"", refused.sw
        except ChipRefused as refused:
            data, sw = b"", int(self._chip_said_no(apdu, refused))
        return data + self.personality.say(sw).to_bytes(2)

    def _chip_said_no(self, apdu: bytes, refused: ChipRefused) -> StatusWord:
        self.card_is_gone = self.card_is_gone or refused.gone
        if refused.gone:
            return StatusWord.FAILED
        if self.personality.revival is Revival.AT_ONCE:
            self.select()
        refused_write = apdu[1] == INS_UPDATE_BINARY
        return StatusWord.COMMAND_NOT_ALLOWED if refused_write else StatusWord.SECURITY_STATUS_NOT_SATISFIED

    def _run(self, apdu: bytes) -> bytes:
        assert self._chip is not None
        if len(apdu) < 5 or apdu[0] != 0xFF:
            raise Refused(StatusWord.CLASS_NOT_SUPPORTED)
        handlers = {
            INS_GET_DATA: self._get_data,
            INS_LOAD_KEYS: self._load_keys,
            INS_GENERAL_AUTHENTICATE: self._authenticate,
            INS_READ_BINARY: self._read,
            INS_UPDATE_BINARY: self._update,
            **self._value_handlers(),
        }
        if apdu[1] not in handlers:
            raise Refused(StatusWord.FUNCTION_NOT_SUPPORTED)
        return handlers[apdu[1]](self._chip, apdu)

    def _get_data(self, chip: SimulatedChip, apdu: bytes) -> bytes:
        if apdu[2:4] != b"\0\0":
            raise Refused(StatusWord.FUNCTION_NOT_SUPPORTED)
        if self.personality.revival is Revival.GET_UID:
            self._uid = chip.select()
        elif self.card_is_gone:
            raise Refused(StatusWord.FAILED)
        return self._uid

    def _load_keys(self, _: SimulatedChip, apdu: bytes) -> bytes:
        p1, slot, length, key = apdu[2], apdu[3], apdu[4], apdu[5:]
        if p1 & 0x20:
            raise Refused(StatusWord.NO_NON_VOLATILE_MEMORY)
        if p1:
            raise Refused(StatusWord.SECURED_TRANSMISSION_NOT_SUPPORTED)
        if slot not in self.personality.key_slots:
            raise Refused(StatusWord.KEY_NUMBER_NOT_VALID)
        if length != KEY_SIZE or len(key) != KEY_SIZE:
            raise Refused(StatusWord.KEY_LENGTH_NOT_CORRECT)
        self._keys[slot] = key
        return b""

    def _authenticate(self, chip: SimulatedChip, apdu: bytes) -> bytes:
        if apdu[2:4] != b"\0\0":
            raise Refused(StatusWord.WRONG_PARAMETERS)
        if len(apdu) != 10 or apdu[4] != 5:
            raise Refused(StatusWord.WRONG_LENGTH)
        version, _, block, key_type, slot = apdu[5:]
        if version != 1:
            raise Refused(StatusWord.AUTHENTICATION_METHOD_BLOCKED)
        if key_type not in (0x60, 0x61):
            raise Refused(StatusWord.COMMAND_NOT_ALLOWED)
        if slot not in self._keys:
            raise Refused(StatusWord.KEY_NUMBER_NOT_VALID)
        chip.authenticate(self._block(block), KeyType.A if key_type == 0x60 else KeyType.B, self._keys[slot])
        return b""

    def _read(self, chip: SimulatedChip, apdu: bytes) -> bytes:
        if len(apdu) != 5 or apdu[4] not in self.personality.read_lengths:
            raise Refused(StatusWord.WRONG_LENGTH)
        first, count = self._block(apdu[3]), apdu[4] // BLOCK_SIZE
        if sector_of(first) != sector_of(self._block(first + count - 1)):
            raise Refused(StatusWord.ADDRESS_INVALID)
        return b"".join(chip.read(block) for block in range(first, first + count))

    def _update(self, chip: SimulatedChip, apdu: bytes) -> bytes:
        if apdu[4] != BLOCK_SIZE or len(apdu) != 5 + BLOCK_SIZE:
            raise Refused(StatusWord.WRONG_LENGTH)
        chip.write(self._block(apdu[3]), apdu[5:])
        return b""

    def _value_handlers(self) -> dict[int, Callable[[SimulatedChip, bytes], bytes]]:
        if self.personality.value_family is ValueFamily.ACS:
            return {INS_ACS_VALUE: self._acs_value}
        if self.personality.value_family is ValueFamily.HID:
            return {INS_HID_INCREMENT: self._hid_value, INS_HID_DECREMENT: self._hid_value}
        return {}

    def _acs_value(self, chip: SimulatedChip, apdu: bytes) -> bytes:
        block, data = self._block(apdu[3]), apdu[5 : 5 + apdu[4]]
        if data[0] == 3 and len(data) == 2:
            chip.load(ValueOperation.RESTORE, block, 0)
            chip.transfer(self._block(data[1]))
        elif data[0] in (1, 2) and len(data) == 5:
            operation = ValueOperation.INCREMENT if data[0] == 1 else ValueOperation.DECREMENT
            chip.load(operation, block, int.from_bytes(data[1:]))
            chip.transfer(block)
        else:
            raise Refused(StatusWord.WRONG_LENGTH)
        return b""

    def _hid_value(self, chip: SimulatedChip, apdu: bytes) -> bytes:
        if len(apdu) != 9 or apdu[4] != 4:
            raise Refused(StatusWord.WRONG_LENGTH)
        block = self._block(apdu[3])
        operation = ValueOperation.INCREMENT if apdu[1] == INS_HID_INCREMENT else ValueOperation.DECREMENT
        chip.load(operation, block, int.from_bytes(apdu[5:], "little"))
        chip.transfer(block)
        return b""

    @staticmethod
    def _block(number: int) -> int:
        if number >= BLOCK_COUNT:
            raise Refused(StatusWord.ADDRESS_INVALID)
        return number


class VirtualReader:
    """Plugs a card into a vpcd slot: a connected socket is a card in the field, a closed one an empty reader.

    ``goes_silent``: a card torn away ends the exchange without an answer. Else the reader says "failed" to it and to
    all that follows, as a reader does whose field went empty before the host noticed.
    """

    def __init__(self, port: int, personality: Personality = ACS) -> None:
        self.port = port
        self.firmware = Firmware(personality)
        self.goes_silent = True
        self.atr = CLASSIC_1K_ATR
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def use(self, personality: Personality) -> None:
        """Become another reader, with empty key slots; the card stays."""
        with self._lock:
            old, self.firmware = self.firmware, Firmware(personality)
            self.goes_silent = True
            self.firmware.take_over(old)

    @property
    def counts(self) -> Counter[str]:
        """Operations by kind as the reader saw them: uid, load_key, auth, read, write, reset, power."""
        return self.firmware.counts

    @property
    def holds_card(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def insert(self, card: VirtualCard) -> None:
        """Lay a card on the empty reader."""
        self.remove()
        self.swap(card)
        self._socket = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._thread = threading.Thread(target=self._serve, args=(self._socket,), daemon=True)
        self._thread.start()

    def swap(self, card: VirtualCard) -> None:
        """Another card in place of this one, too fast for pcscd to see."""
        with self._lock:
            self.atr = card.atr
            self.firmware.put(card)

    def remove(self) -> None:
        """Take the card away."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            self._socket = None
        if self._thread is not None:
            self._thread.join(5)
            self._thread = None

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                length = int.from_bytes(_receive(connection, 2))
                reply = self._reply(_receive(connection, length))
                if self.firmware.card_is_gone and self.goes_silent:
                    break
                if reply is not None:
                    connection.sendall(len(reply).to_bytes(2) + reply)
        connection.close()

    def _reply(self, message: bytes) -> bytes | None:
        with self._lock:
            if len(message) > 1:
                return self.firmware.answer(message)
            if message[0] == GET_ATR:
                return self.atr
            self.counts["reset" if message[0] == RESET else "power"] += 1
            if message[0] in (POWER_ON, RESET):
                self.firmware.select()
            return None


def _receive(connection: socket.socket, count: int) -> bytes:
    """Exactly ``count`` bytes. Without QUICKACK the kernel holds each ACK back 40 ms, and vpcd waits for it."""
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        if not piece:
            raise EOFError
        data += piece
    return data


def main() -> None:
    """Keep a card in a file on a virtual reader; Enter takes it away and puts it back."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--image", type=Path, required=True, help="the card's .mfd file; created blank if absent")
    parser.add_argument("--port", type=int, default=35963, help="vpcd's port (default 35963, the first slot)")
    parser.add_argument("--personality", choices=sorted(PERSONALITIES), default="acs")
    options = parser.parse_args()
    if not options.image.exists():
        options.image.write_bytes(blank_card(bytes.fromhex("5EEDCA4D")))
    reader = VirtualReader(options.port, PERSONALITIES[options.personality])
    card = VirtualCard(FileImage(options.image))
    with contextlib.suppress(KeyboardInterrupt, EOFError):
        while True:
            if reader.holds_card:
                reader.remove()
            else:
                reader.insert(card)
            state = "on" if reader.holds_card else "off"
            sys.stderr.write(f"card {state} the reader; {dict(reader.counts)}; Enter to change, Ctrl-C to end\n")
            input()
    reader.remove()


if __name__ == "__main__":
    main()
