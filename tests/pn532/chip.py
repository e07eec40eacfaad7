"""A PN53x: its firmware's answers (UM0701-02 section 7) and its radio field, with simulated cards in it. No cable here.

Where the manual leaves a choice, the model takes the one that is hardest on the host: a card halted while a second one
was looked for stays deaf to REQA, a receiver whose CRC check was switched off hands the CRC bytes over as data.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from drivers.mifare_classic import BLOCK_COUNT, BLOCK_SIZE, KEY_SIZE, KeyType, ValueOperation, blank_card
from drivers.simulator import CardImage, ChipRefused, Fault, MemoryImage, SimulatedChip

SAK_1K, SAK_4K, SAK_MINI, SAK_INFINEON_1K, SAK_ULTRALIGHT, SAK_DESFIRE = 0x08, 0x18, 0x09, 0x88, 0x00, 0x20
TYPE_A_106 = 0
RX_MODE, FIFO_DATA = 0x6303, 0x6339
RX_CRC = 0x80
REQA = 0x26

OK, TIMEOUT, WRONG_FRAMING, REFUSED_KEY, WRONG_CONTEXT = 0x00, 0x01, 0x13, 0x14, 0x27
BAUD_RATES = (9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600, 1288000)
POWER_UP_BAUD = 115200

KIND_OF_CODE = {0x60: "auth", 0x61: "auth", 0x30: "read", 0xA0: "write"}


@dataclass
class FieldCard:
    """A card as the radio sees it. ``fault`` pulls it away at one call, as the simulator counts them."""

    image: CardImage = field(default_factory=MemoryImage)
    sak: int = SAK_1K
    fault: Fault | None = None
    open_block_0: bool = False
    chip: SimulatedChip = field(init=False)
    halts_when_it_refuses: bool = False
    halted: bool = False
    mute: bool = False
    uid: bytes = b""

    def __post_init__(self) -> None:
        self.chip = SimulatedChip(self.image, self.fault, open_block_0=self.open_block_0)

    @classmethod
    def blank(cls, uid: bytes, fault: Fault | None = None, sak: int = SAK_1K) -> FieldCard:
        return cls(MemoryImage(bytes(blank_card(uid))), sak, fault)

    @property
    def sens_res(self) -> bytes:
        """ATQA as the chip hands it over, most significant byte first."""
        if self.sak == SAK_4K:
            return b"\x00\x02"
        return b"\x00\x04" if len(self.uid) == 4 else b"\x00\x44"

    def select(self) -> bool:
        """Whether it answers; any sector is closed, a mute card speaks again."""
        try:
            self.uid = self.chip.select()
        except ChipRefused:
            return False
        self.mute = False
        return True

    def lose_power(self) -> None:
        self.halted = self.mute = False


class SyntaxProblem(Exception):
    """The firmware does not understand; it answers with the error frame."""


class Pn53xChip:
    """``command`` gives the answer to one command; counts what it was asked.

    ``register_status``: a PN533 puts a status byte before register values. ``max_targets``: how many it can hold.
    """

    def __init__(
        self, firmware: bytes = b"\x32\x01\x06\x07", *, max_targets: int = 2, register_status: bool = False
    ) -> None:
        self.cards: list[FieldCard] = []
        self.counts: Counter[str] = Counter()
        self.exchanges: deque[bytes] = deque(maxlen=1000)
        self.disturbances: deque[int] = deque()
        """Error codes that the next exchanges end with, whatever the card says: it is at the edge of the field."""
        self.asleep = False
        self.field_on = False
        self.baudrate = POWER_UP_BAUD
        self.next_baudrate: int | None = None
        self.registers: dict[int, int] = {RX_MODE: RX_CRC, FIFO_DATA: REQA}
        self._firmware = firmware
        self._max_targets = max_targets
        self._register_status = bytes(1) if register_status else b""
        self._targets: list[FieldCard] = []

    def command(self, payload: bytes) -> bytes:
        """D4 … in, D5 … out. Raises :class:`SyntaxProblem`."""
        if len(payload) < 2 or payload[0] != 0xD4:
            raise SyntaxProblem
        code, data = payload[1], payload[2:]
        handler = self._handlers().get(code)
        if handler is None:
            raise SyntaxProblem
        self.counts[f"{code:02x}"] += 1
        return bytes([0xD5, code + 1]) + handler(data)

    def _handlers(self) -> dict[int, Callable[[bytes], bytes]]:
        return {
            0x00: self._diagnose,
            0x02: lambda _: self._firmware,
            0x04: lambda _: bytes([0, 0, len(self._targets), 0, 0]),
            0x06: self._read_registers,
            0x08: self._write_registers,
            0x10: self._set_serial_baudrate,
            0x12: lambda _: b"",
            0x14: lambda _: b"",
            0x16: self._power_down,
            0x32: self._rf_configuration,
            0x40: self._in_data_exchange,
            0x42: lambda _: bytes([TIMEOUT]),
            0x44: self._let_go,
            0x4A: self._in_list_passive_target,
            0x52: self._let_go,
        }

    def abort(self) -> None:
        """A bare ACK of the host: whatever was under way ends, and a new baud rate is taken."""
        if self.next_baudrate is not None:
            self.baudrate, self.next_baudrate = self.next_baudrate, None

    def take_away(self, card: FieldCard) -> None:
        if card in self.cards:
            self.cards.remove(card)

    def _diagnose(self, data: bytes) -> bytes:
        if data[:1] != b"\x00":
            raise SyntaxProblem
        return data

    def _read_registers(self, data: bytes) -> bytes:
        addresses = [int.from_bytes(data[i : i + 2]) for i in range(0, len(data), 2)]
        if any(address >= 0xA000 for address in addresses):
            return b"\x01"  # a PN533 without EEPROM
        return self._register_status + bytes(self.registers.get(address, 0) for address in addresses)

    def _write_registers(self, data: bytes) -> bytes:
        for i in range(0, len(data), 3):
            self.registers[int.from_bytes(data[i : i + 2])] = data[i + 2]
        return self._register_status

    def _set_serial_baudrate(self, data: bytes) -> bytes:
        if len(data) != 1 or data[0] >= len(BAUD_RATES):
            raise SyntaxProblem
        self.next_baudrate = BAUD_RATES[data[0]]
        return b""

    def _power_down(self, data: bytes) -> bytes:
        if not data:
            raise SyntaxProblem
        self._switch_field(on=False)
        self.asleep = True
        return bytes([OK])

    def _rf_configuration(self, data: bytes) -> bytes:
        if len(data) < 2:
            raise SyntaxProblem
        if data[0] == 0x01:
            self._switch_field(on=bool(data[1] & 1))
        return b""

    def _switch_field(self, *, on: bool) -> None:
        if not on:
            self._targets = []
            for card in self.cards:
                card.lose_power()
        self.field_on = on

    def _in_list_passive_target(self, data: bytes) -> bytes:
        if len(data) < 2 or not 1 <= data[0] <= self._max_targets:
            raise SyntaxProblem
        self._targets = []
        self.field_on = True
        if data[1] != TYPE_A_106:
            return b"\x00"
        wanted = data[2:]
        answering = [card for card in self.cards if (wanted or not card.halted) and card.select()]
        self._targets = [card for card in answering if wanted in (b"", card.uid, b"\x88" + card.uid)][: data[0]]
        if data[0] > 1:
            for card in self._targets:
                card.halted = True  # each but the last, and the last one too when another was looked for in vain
        found = b"".join(
            bytes([number]) + card.sens_res + bytes([card.sak, len(card.uid)]) + card.uid
            for number, card in enumerate(self._targets, 1)
        )
        return bytes([len(self._targets)]) + found

    def _let_go(self, data: bytes) -> bytes:
        if len(data) != 1:
            raise SyntaxProblem
        for card in self._targets:
            card.halted = True
        self._targets = []
        return bytes([OK])

    def _in_data_exchange(self, data: bytes) -> bytes:
        if len(data) < 2:
            raise SyntaxProblem
        if not 1 <= data[0] & 0x3F <= len(self._targets):
            return bytes([WRONG_CONTEXT])
        card, command = self._targets[(data[0] & 0x3F) - 1], data[1:]
        self.exchanges.append(command)
        self.counts[KIND_OF_CODE.get(command[0], "other")] += 1
        if card.mute or card not in self.cards:
            return bytes([TIMEOUT])
        if self.disturbances:
            card.mute = True
            return bytes([self.disturbances.popleft()])
        try:
            answer = self._mifare(card, command)
        except ChipRefused as refused:
            card.mute, card.halted = True, card.halts_when_it_refuses
            if refused.gone:
                self.take_away(card)
                return bytes([TIMEOUT])
            return bytes([REFUSED_KEY if command[0] in (0x60, 0x61) else WRONG_FRAMING])
        if answer and not self.registers[RX_MODE] & RX_CRC:
            answer += crc_a(answer)
        return bytes([OK]) + answer

    def _mifare(self, card: FieldCard, command: bytes) -> bytes:
        code, block, data = command[0], command[1] if len(command) > 1 else BLOCK_COUNT, command[2:]
        lengths = {
            0x60: KEY_SIZE + 4,
            0x61: KEY_SIZE + 4,
            0x30: 0,
            0xA0: BLOCK_SIZE,
            0xC0: 4,
            0xC1: 4,
            0xC2: 4,
            0xB0: 0,
        }
        if lengths.get(code) != len(data):
            raise SyntaxProblem
        if block >= BLOCK_COUNT:
            raise ChipRefused
        if code == 0x30:
            return card.chip.read(block)
        if code == 0xA0:
            card.chip.write(block, data)
            return b""
        if code == 0xB0:
            card.chip.transfer(block)
            return b""
        if code in tuple(ValueOperation):
            card.chip.load(ValueOperation(code), block, int.from_bytes(data, "little"))
            return b""
        if data[KEY_SIZE:] != card.uid[-4:]:
            raise ChipRefused
        card.chip.authenticate(block, KeyType.A if code == 0x60 else KeyType.B, data[:KEY_SIZE])
        return b""


def crc_a(data: bytes) -> bytes:
    """CRC_A of ISO/IEC 14443-3, low byte first."""
    crc = 0x6363
    for byte in data:
        byte ^= crc & 0xFF
        byte ^= byte << 4 & 0xFF
        crc = crc >> 8 ^ byte << 8 ^ byte << 3 ^ byte >> 4
    return crc.to_bytes(2, "little")
