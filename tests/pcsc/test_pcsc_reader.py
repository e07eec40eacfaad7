"""What only a real pcscd can show: its restarts, its events, its readers' manners. Counts are taken by the reader."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from drivers import KeyType, Reader, ReaderState, list_readers, open_reader, pcsc
from drivers.errors import (
    AccessDenied,
    AuthenticationFailed,
    CardRemoved,
    DriverError,
    NoReader,
    ReaderBusy,
    ReaderError,
    ReaderLost,
    ServiceUnavailable,
    UnsupportedCard,
)
from drivers.mifare_classic import TRANSPORT_KEY
from drivers.simulator import Fault
from tests.pcsc.service import PcscService
from tests.pcsc.virtual_reader import (
    ACS,
    CLASSIC_4K_ATR,
    DESFIRE_ATR,
    INFINEON_1K_ATR,
    PART3,
    ULTRALIGHT_ATR,
    Personality,
    Revival,
    VirtualCard,
    VirtualReader,
)

pytestmark = pytest.mark.pcsc
UID = bytes.fromhex("1A2B3C4D")
WRONG_KEY = bytes.fromhex("010203040506")
FAR_S = 60.0
"""A wait that ends with its time has failed; one that ends before has not, however busy the machine is."""


@pytest.fixture
def virtual_reader(shared_virtual_reader: VirtualReader) -> VirtualReader:
    """May still hold the last test's card: pcscd takes 0.4 s to see one come or go, so ``lay`` swaps where it can."""
    shared_virtual_reader.use(ACS)
    return shared_virtual_reader


@pytest.fixture
def reader(virtual_reader: VirtualReader) -> Iterator[Reader]:
    with open_reader("pcsc:") as opened:
        yield opened


@pytest.fixture
def empty_reader(virtual_reader: VirtualReader, reader: Reader) -> Reader:
    virtual_reader.remove()
    assert reader.wait_for_change(ReaderState.CARD, FAR_S) is ReaderState.EMPTY
    return reader


def lay(virtual: VirtualReader, reader: Reader, card: VirtualCard | None = None) -> None:
    card = card or VirtualCard.blank(UID)
    if virtual.holds_card and virtual.atr == card.atr and reader.wait_for_change(ReaderState.EMPTY, 1) == "card":
        virtual.swap(card)
        return
    virtual.remove()
    assert reader.wait_for_change(ReaderState.CARD, FAR_S) is ReaderState.EMPTY
    virtual.insert(card)
    assert reader.wait_for_change(ReaderState.EMPTY, FAR_S) is ReaderState.CARD


def test_readers_are_listed_with_the_url_that_opens_them(virtual_reader: VirtualReader, reader: Reader) -> None:
    lay(virtual_reader, reader)
    found = {info.url: info.state for info in list_readers() if info.url.startswith("pcsc:")}
    assert found == {"pcsc:Virtual PCD 00 00": ReaderState.CARD, "pcsc:Virtual PCD 00 01": ReaderState.EMPTY}
    for url in found:
        with open_reader(url) as opened:
            assert f"pcsc:{opened.name}" == url


def test_a_reader_that_is_not_there_is_no_reader(pcsc_service: PcscService) -> None:
    with pytest.raises(NoReader, match="Omnikey.*found: Virtual PCD 00 00"):
        open_reader("pcsc:Omnikey")


def test_an_unknown_profile_is_named_with_the_known_ones(pcsc_service: PcscService) -> None:
    with pytest.raises(NoReader, match="acr122u"):
        open_reader("pcsc:Virtual?profile=acr999")


def test_a_card_laid_down_and_lifted_ends_the_wait(
    virtual_reader: VirtualReader, empty_reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pcsc, "_LONGEST_WAIT_S", FAR_S)
    started = time.monotonic()
    threading.Timer(0.1, virtual_reader.insert, [VirtualCard.blank(UID)]).start()
    assert empty_reader.wait_for_change(ReaderState.EMPTY, FAR_S) is ReaderState.CARD
    threading.Timer(0.1, virtual_reader.remove).start()
    assert empty_reader.wait_for_change(ReaderState.CARD, FAR_S) is ReaderState.EMPTY
    assert time.monotonic() - started < FAR_S


def test_a_card_swapped_while_nobody_looked_is_seen_at_the_next_look(
    virtual_reader: VirtualReader, reader: Reader
) -> None:
    """And once only. The service has seen it: it counts the cards that come and go."""
    lay(virtual_reader, reader)
    assert reader.wait_for_change(ReaderState.CARD, 0) is ReaderState.CARD
    with open_reader("pcsc:") as another:
        virtual_reader.remove()
        assert another.wait_for_change(ReaderState.CARD, FAR_S) is ReaderState.EMPTY
        virtual_reader.insert(VirtualCard.blank(bytes.fromhex("55667788")))
        assert another.wait_for_change(ReaderState.EMPTY, FAR_S) is ReaderState.CARD
    assert reader.wait_for_change(ReaderState.CARD, 0) is ReaderState.EMPTY
    assert reader.wait_for_change(ReaderState.EMPTY, 0) is ReaderState.CARD
    assert reader.wait_for_change(ReaderState.CARD, 0.5) is ReaderState.CARD


def test_using_a_card_is_not_taken_for_another_card(virtual_reader: VirtualReader, reader: Reader) -> None:
    lay(virtual_reader, reader)
    with open_reader("pcsc:") as watch:
        assert watch.wait_for_change(ReaderState.EMPTY, FAR_S) is ReaderState.CARD
        for _ in range(2):
            with reader.connect() as card:
                card.authenticate(4, KeyType.A, TRANSPORT_KEY)
        assert watch.wait_for_change(ReaderState.CARD, 0.6) is ReaderState.CARD


def test_a_wait_ends_with_its_time(empty_reader: Reader) -> None:
    started = time.monotonic()
    assert empty_reader.wait_for_change(ReaderState.EMPTY, 0.2) is ReaderState.EMPTY
    assert 0.15 < time.monotonic() - started < FAR_S


def test_a_wait_can_be_interrupted_from_another_thread(empty_reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcsc, "_LONGEST_WAIT_S", FAR_S)
    started = time.monotonic()
    over = threading.Event()

    def interrupt() -> None:  # one that comes just before the wait begins is lost
        while not over.wait(0.1):
            empty_reader.interrupt()

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert empty_reader.wait_for_change(ReaderState.EMPTY, FAR_S) is ReaderState.EMPTY
    over.set()
    thread.join()
    assert time.monotonic() - started < FAR_S


def test_an_interrupt_before_the_wait_is_not_lost(empty_reader: Reader) -> None:
    empty_reader.interrupt()
    started = time.monotonic()
    assert empty_reader.wait_for_change(ReaderState.EMPTY, FAR_S) is ReaderState.EMPTY
    assert time.monotonic() - started < FAR_S


def test_our_own_connection_does_not_make_the_reader_look_in_use(virtual_reader: VirtualReader, reader: Reader) -> None:
    lay(virtual_reader, reader)
    with reader.connect(), open_reader("pcsc:") as another:
        assert reader.wait_for_change(ReaderState.CARD, 0) is ReaderState.CARD
        assert another.wait_for_change(ReaderState.CARD, 0) is ReaderState.IN_USE
        with pytest.raises(ReaderBusy, match="another program"):
            another.connect()


def test_a_program_that_looks_at_the_card_for_a_moment_is_waited_for(
    virtual_reader: VirtualReader, reader: Reader
) -> None:
    lay(virtual_reader, reader)
    with open_reader("pcsc:") as another:
        connection = another.connect()
        threading.Timer(0.15, connection.close).start()
        with reader.connect() as card:
            assert card.uid == UID


def test_no_card_is_card_removed(empty_reader: Reader) -> None:
    with pytest.raises(CardRemoved):
        empty_reader.connect()


@pytest.mark.parametrize(
    ("atr", "words"),
    [(CLASSIC_4K_ATR, "4K"), (ULTRALIGHT_ATR, "Ultralight or NTAG"), (DESFIRE_ATR, "ISO 14443-4")],
)
def test_another_kind_of_card_is_refused_by_name(
    virtual_reader: VirtualReader, reader: Reader, atr: bytes, words: str
) -> None:
    lay(virtual_reader, reader, replace(VirtualCard.blank(UID), atr=atr))
    with pytest.raises(UnsupportedCard, match=words):
        reader.connect()
    assert virtual_reader.counts["auth"] == 0


def test_infineons_1k_is_a_1k(virtual_reader: VirtualReader, reader: Reader) -> None:
    lay(virtual_reader, reader, replace(VirtualCard.blank(UID), atr=INFINEON_1K_ATR))
    with reader.connect() as card:
        card.authenticate(4, KeyType.A, TRANSPORT_KEY)


def test_a_tap_costs_no_command_too_many(virtual_reader: VirtualReader, reader: Reader) -> None:
    lay(virtual_reader, reader)
    before = virtual_reader.counts.copy()
    with reader.connect() as card:
        card.authenticate(4, KeyType.A, TRANSPORT_KEY)
        for block in (4, 5, 6):
            card.read_block(block)
        card.write_block(5, bytes(16))
        card.read_block(5)
        assert virtual_reader.counts - before == {"uid": 1, "load_key": 1, "auth": 1, "read": 4, "write": 1}
        card.authenticate(8, KeyType.A, TRANSPORT_KEY)
        assert virtual_reader.counts["load_key"] - before["load_key"] == 1


def test_the_key_slot_that_works_is_remembered(virtual_reader: VirtualReader, reader: Reader) -> None:
    virtual_reader.use(PART3)
    lay(virtual_reader, reader)
    for _ in range(2):
        with reader.connect() as card:
            card.authenticate(4, KeyType.A, TRANSPORT_KEY)
    loads = [command[2:4] for command in virtual_reader.firmware.commands if command[1] == 0x82]
    assert loads == [b"\x00\x00", b"\x00\x20", b"\x00\x20"]


def test_a_reader_that_takes_no_key_is_the_readers_fault(virtual_reader: VirtualReader, reader: Reader) -> None:
    virtual_reader.use(replace(ACS, key_slots=frozenset()))
    lay(virtual_reader, reader)
    with reader.connect() as card, pytest.raises(ReaderError, match="P1 00 slot 00: 6300") as failure:
        card.authenticate(4, KeyType.A, WRONG_KEY)
    assert "?profile=" in failure.value.hint
    assert WRONG_KEY.hex() not in str(failure.value).lower()


def test_a_profile_lets_three_blocks_come_at_once(virtual_reader: VirtualReader) -> None:
    virtual_reader.use(replace(PART3, key_slots=frozenset({0})))
    with open_reader("pcsc:Virtual PCD 00 00?profile=acr1252u") as reader:
        lay(virtual_reader, reader)
        with reader.connect() as card:
            card.authenticate(4, KeyType.A, TRANSPORT_KEY)
            card.write_block(5, b"\x05" * 16)
            before = virtual_reader.counts["read"]
            assert card.read_blocks(4, 3) == bytes(16) + b"\x05" * 16 + bytes(16)
            assert virtual_reader.counts["read"] - before == 1


@pytest.mark.parametrize("revival", list(Revival))
@pytest.mark.parametrize("manners", [ACS, PART3], ids=["acs", "part3"])
def test_a_mute_card_is_revived_however_the_reader_does_it(
    virtual_reader: VirtualReader, reader: Reader, manners: Personality, revival: Revival
) -> None:
    virtual_reader.use(replace(manners, revival=revival))
    lay(virtual_reader, reader)
    with reader.connect() as card:
        for _ in range(2):
            with pytest.raises(AuthenticationFailed):
                card.authenticate(4, KeyType.A, WRONG_KEY)
        card.authenticate(4, KeyType.A, TRANSPORT_KEY)
        with pytest.raises(AccessDenied):
            card.read_block(8)
        card.authenticate(8, KeyType.A, TRANSPORT_KEY)
        assert card.read_block(8) == bytes(16)


@pytest.mark.parametrize("manners", [ACS, PART3], ids=["acs", "part3"])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_reader_that_says_failed_for_a_card_gone_is_seen_through(
    virtual_reader: VirtualReader, reader: Reader, manners: Personality, call: int
) -> None:
    virtual_reader.use(manners)
    virtual_reader.goes_silent = False
    lay(virtual_reader, reader, VirtualCard.blank(UID, Fault(call)))
    with reader.connect() as card:

        def use_the_card() -> None:
            card.authenticate(4, KeyType.A, TRANSPORT_KEY)
            card.read_block(4)
            card.write_block(4, bytes(16))

        with pytest.raises(CardRemoved):
            use_the_card()


def test_a_card_swapped_in_an_open_connection_is_noticed(virtual_reader: VirtualReader, reader: Reader) -> None:
    lay(virtual_reader, reader)
    with reader.connect() as card:
        virtual_reader.swap(VirtualCard.blank(bytes.fromhex("55667788")))
        with pytest.raises(CardRemoved, match="another card"):
            card.authenticate(4, KeyType.A, WRONG_KEY)


def test_a_torn_card_that_comes_back_at_once_is_seen(virtual_reader: VirtualReader, reader: Reader) -> None:
    """Before pcscd looked again: resetting the gone card would hide the returned one until it is lifted once more."""
    lay(virtual_reader, reader, VirtualCard.blank(UID, Fault(1)))
    with reader.connect() as card, pytest.raises(CardRemoved):
        card.authenticate(4, KeyType.A, TRANSPORT_KEY)
    virtual_reader.insert(VirtualCard.blank(UID))
    deadline = time.monotonic() + 20
    while True:
        try:
            reader.connect().close()
            break
        except CardRemoved:
            assert time.monotonic() < deadline, "pcscd never sees the card that came back"
            reader.wait_for_change(ReaderState.EMPTY, 0.1)
            time.sleep(0.05)


def test_a_card_lifted_as_it_is_let_go_of_and_put_back_at_once_is_seen(
    virtual_reader: VirtualReader, reader: Reader
) -> None:
    """The reset at the end meets an empty reader; without more ado pcscd would not see the card for minutes."""
    lay(virtual_reader, reader)
    with reader.connect() as card:
        card.authenticate(4, KeyType.A, TRANSPORT_KEY)
        virtual_reader.remove()
    virtual_reader.insert(VirtualCard.blank(UID))
    assert reader.wait_for_change(ReaderState.EMPTY, FAR_S) is ReaderState.CARD
    with reader.connect() as card:
        card.authenticate(4, KeyType.A, TRANSPORT_KEY)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (0x80100069, CardRemoved),
        (0x8010000C, CardRemoved),
        (0x80100068, CardRemoved),
        (0x80100066, CardRemoved),
        (0x80100016, CardRemoved),
        (0x8010001D, ServiceUnavailable),
        (0x8010001E, ServiceUnavailable),
        (0x8010006A, ServiceUnavailable),
        (0x80100009, ReaderLost),
        (0x80100017, ReaderLost),
        (0x8010000B, ReaderBusy),
        (0x80100001, ReaderError),
        (0x80100069 - (1 << 32), CardRemoved),
    ],
)
def test_each_pcsc_code_is_the_error_it_means(code: int, error: type[DriverError]) -> None:
    with pytest.raises(error, match="while reading") as failure:
        pcsc._raise_for(code, "reading")
    assert type(failure.value) is error
    assert f"0x{code & 0xFFFFFFFF:08X}" in str(failure.value)


def test_the_wire_log_shows_commands_but_no_key(
    virtual_reader: VirtualReader, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(5, "drivers.pcsc")
    lay(virtual_reader, reader)
    with reader.connect() as card:
        card.authenticate(7, KeyType.A, TRANSPORT_KEY)
        card.read_block(7)
        card.write_block(7, WRONG_KEY + bytes.fromhex("FF078069") + WRONG_KEY)
        with pytest.raises(AuthenticationFailed):
            card.authenticate(7, KeyType.A, TRANSPORT_KEY)
    assert "> ff b0 00 07 10" in caplog.text
    assert WRONG_KEY.hex(" ") not in caplog.text
    assert TRANSPORT_KEY.hex(" ") not in caplog.text
    assert all(record.levelno == 5 for record in caplog.records if record.name == "drivers.pcsc")


def test_without_wire_log_nothing_is_formatted(
    virtual_reader: VirtualReader, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    lay(virtual_reader, reader)
    reader.connect().close()
    assert not [record for record in caplog.records if record.name == "drivers.pcsc"]


def test_a_dead_service_is_told_and_a_restarted_one_is_used_again(
    pcsc_service: PcscService, virtual_reader: VirtualReader, reader: Reader
) -> None:
    lay(virtual_reader, reader)
    card = reader.connect()
    virtual_reader.remove()
    pcsc_service.kill()
    try:
        with pytest.raises((ServiceUnavailable, CardRemoved)):
            card.authenticate(4, KeyType.A, TRANSPORT_KEY)
        card.close()
        for attempt in (reader.connect, pcsc.list_readers, lambda: open_reader("pcsc:")):
            with pytest.raises(ServiceUnavailable) as failure:
                attempt()
            assert "pcscd" in failure.value.hint
        told = next(info for info in list_readers() if info.url == "pcsc:")
        assert (told.state, told.hint) == (ReaderState.UNUSABLE, failure.value.hint)
        with pytest.raises(ServiceUnavailable):
            reader.wait_for_change(ReaderState.CARD, 1)
    finally:
        pcsc_service.start()
    lay(virtual_reader, reader)
    with reader.connect() as card:
        assert card.uid == UID


def test_a_service_that_dies_during_the_wait_ends_the_wait(pcsc_service: PcscService, empty_reader: Reader) -> None:
    killer = threading.Timer(0.2, pcsc_service.kill)
    killer.start()
    try:
        with pytest.raises(ServiceUnavailable):
            empty_reader.wait_for_change(ReaderState.EMPTY, 10)
    finally:
        killer.join()
        pcsc_service.start()
    assert empty_reader.wait_for_change(ReaderState.CARD, FAR_S) is ReaderState.EMPTY


def test_an_unplugged_reader_is_lost_until_it_is_back(
    pcsc_service: PcscService, virtual_reader: VirtualReader, empty_reader: Reader
) -> None:
    pcsc_service.kill()
    pcsc_service.start(readers=False)
    try:
        with pytest.raises(ServiceUnavailable):
            empty_reader.wait_for_change(ReaderState.EMPTY, 0)
        assert empty_reader.wait_for_change(ReaderState.EMPTY, FAR_S) is ReaderState.LOST
        assert pcsc.list_readers() == []
        assert not [info for info in list_readers() if info.url.startswith("pcsc:")]
        with pytest.raises(NoReader, match="found: none"):
            empty_reader.connect()
        started = time.monotonic()
        assert empty_reader.wait_for_change(ReaderState.LOST, 0.2) is ReaderState.LOST
        assert time.monotonic() - started < FAR_S
    finally:
        pcsc_service.kill()
        pcsc_service.start()
    with pytest.raises(ServiceUnavailable):
        empty_reader.wait_for_change(ReaderState.LOST, 1)
    assert empty_reader.wait_for_change(ReaderState.LOST, FAR_S) is ReaderState.EMPTY
    lay(virtual_reader, empty_reader)
