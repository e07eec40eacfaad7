"""A pcscd that is alive and answers nobody: every call comes back, and all is well when it answers again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from drivers import KeyType, Reader, ReaderState, open_reader, pcsc, pcsc_patience
from drivers.base import ClassicConnection
from drivers.errors import CardRemoved, ReaderBusy, ServiceUnavailable
from drivers.mifare_classic import TRANSPORT_KEY
from tests.cli.shop import wait_until
from tests.pcsc.service import PcscService
from tests.pcsc.virtual_reader import VirtualCard, VirtualReader

pytestmark = pytest.mark.pcsc
UID = bytes.fromhex("1A2B3C4D")
LIMIT_S = 0.5
AT_MOST_S = 30.0


class Freezer:
    """Stops the service, and has less patience with it meanwhile than a till has; while it runs it may be slow."""

    def __init__(self, service: PcscService, monkeypatch: pytest.MonkeyPatch) -> None:
        self._service = service
        self._monkeypatch = monkeypatch
        self._patience_s = pcsc_patience.LIMIT_S

    def freeze(self) -> None:
        self._service.freeze()
        self._monkeypatch.setattr(pcsc_patience, "LIMIT_S", LIMIT_S)

    def thaw(self) -> None:
        self._monkeypatch.setattr(pcsc_patience, "LIMIT_S", self._patience_s)
        self._service.thaw()


@pytest.fixture
def frozen(pcsc_service: PcscService, monkeypatch: pytest.MonkeyPatch) -> Iterator[Freezer]:
    """The service, to be frozen by the test."""
    freezer = Freezer(pcsc_service, monkeypatch)
    yield freezer
    freezer.thaw()
    wait_until(answers)


@pytest.fixture
def reader(frozen: Freezer, virtual_reader: VirtualReader) -> Iterator[Reader]:
    with open_reader("pcsc:") as opened:
        assert opened.wait_for_change(ReaderState.CARD, 3) is ReaderState.EMPTY
        virtual_reader.insert(VirtualCard.blank(UID))
        use(opened)
        yield opened


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def answers() -> bool:
    try:
        return bool(pcsc.list_readers())
    except ServiceUnavailable:
        return False


def comes_back(call: Callable[[], object]) -> None:
    """The call ends with "does not answer", in a time that a till can wait."""
    caught: list[Exception] = []

    def run() -> None:
        try:
            call()
        except ServiceUnavailable as error:
            caught.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(AT_MOST_S)
    assert not thread.is_alive(), "the call never came back"
    assert caught, "the call said that all is well"


def use(reader: Reader) -> None:
    """Once another holder of the card is gone, within the time a person waits."""
    deadline = time.monotonic() + AT_MOST_S
    while True:
        try:
            reader.wait_for_change(ReaderState.EMPTY, 1)
            with reader.connect() as card:
                card.authenticate(4, KeyType.A, TRANSPORT_KEY)
                return
        except (ServiceUnavailable, ReaderBusy, CardRemoved):
            assert time.monotonic() < deadline, "the reader is not used again"
            time.sleep(0.1)


@pytest.mark.parametrize(
    "call",
    [
        lambda reader: reader.wait_for_change(ReaderState.CARD, 0.2),
        lambda reader: reader.connect(),
        lambda _reader: pcsc.list_readers(),
        lambda _reader: open_reader("pcsc:"),
    ],
    ids=["wait", "connect", "list", "open"],
)
def test_a_call_to_a_service_that_hangs_comes_back(
    frozen: Freezer, reader: Reader, call: Callable[[Reader], object]
) -> None:
    frozen.freeze()
    comes_back(lambda: call(reader))
    frozen.thaw()
    use(reader)


@pytest.mark.parametrize(
    "call",
    [
        lambda card: card.authenticate(4, KeyType.A, TRANSPORT_KEY),
        lambda card: card.read_block(4),
        lambda card: card.write_block(4, bytes(16)),
    ],
    ids=["authenticate", "read", "write"],
)
def test_an_exchange_with_a_card_comes_back(
    frozen: Freezer, reader: Reader, call: Callable[[ClassicConnection], object]
) -> None:
    card = reader.connect()
    card.authenticate(4, KeyType.A, TRANSPORT_KEY)
    frozen.freeze()
    comes_back(lambda: call(card))
    card.close()
    frozen.thaw()
    use(reader)


def test_the_remedy_is_to_start_the_service_anew(frozen: Freezer, reader: Reader) -> None:
    frozen.freeze()
    with pytest.raises(ServiceUnavailable, match="does not answer") as failure:
        reader.wait_for_change(ReaderState.CARD, 0.2)
    assert "restart pcscd" in failure.value.hint


def test_a_write_that_hung_is_carried_out_before_the_card_can_be_read_again(
    frozen: Freezer, reader: Reader, virtual_reader: VirtualReader
) -> None:
    """Else a sale in doubt might be judged by a card that is about to change."""
    lying = VirtualCard.blank(UID)
    virtual_reader.swap(lying)
    card = reader.connect()
    card.authenticate(4, KeyType.A, TRANSPORT_KEY)
    frozen.freeze()
    comes_back(lambda: card.write_block(4, b"\x07" * 16))
    card.close()
    assert lying.image.read(4) == bytes(16)
    frozen.thaw()
    use(reader)
    assert lying.image.read(4) == b"\x07" * 16


def test_a_service_that_hangs_for_long_costs_no_threads_and_no_descriptors(frozen: Freezer, reader: Reader) -> None:
    before = descriptors()
    frozen.freeze()
    with pytest.raises(ServiceUnavailable):
        reader.wait_for_change(ReaderState.CARD, 0.2)
    comes_back(lambda: open_reader("pcsc:"))
    threads, meanwhile, began = threading.active_count(), descriptors(), time.monotonic()
    for _ in range(100):
        with pytest.raises(ServiceUnavailable):
            open_reader("pcsc:")
    assert time.monotonic() - began < AT_MOST_S, "who asks once more is refused at once"
    assert threading.active_count() == threads
    assert descriptors() == meanwhile
    frozen.thaw()
    use(reader)
    wait_until(lambda: descriptors() <= before)


def test_other_sockets_of_the_process_are_let_be(frozen: Freezer, reader: Reader) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        frozen.freeze()
        with pytest.raises(ServiceUnavailable):
            reader.wait_for_change(ReaderState.CARD, 0.2)
        ours.sendall(b"still here")
        assert theirs.recv(16) == b"still here"


PAUSED = """
import os, signal, threading, time
from drivers import pcsc_patience

sleep, looked = time.sleep, threading.Event()
def sleep_after_a_look(seconds):
    looked.set()
    sleep(seconds)
time.sleep = sleep_after_a_look

def answered():
    os.kill(os.getpid(), signal.SIGSTOP)
    looked.clear()
    looked.wait()
    return "answered"

pcsc_patience.LIMIT_S = 1.0
print(pcsc_patience.ask(answered))
"""


def test_a_process_that_was_paused_itself_does_not_hang_up_on_the_answer() -> None:
    """As on a virtual machine that was moved, or where other programs took every processor."""
    with subprocess.Popen([sys.executable, "-c", PAUSED], stdout=subprocess.PIPE, text=True) as process:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        time.sleep(1.2)  # longer than a call may take
        process.send_signal(signal.SIGCONT)
        out, _ = process.communicate(timeout=60)
    assert (out, process.returncode) == ("answered\n", 0)
