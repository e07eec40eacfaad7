"""A PN532 on a serial line: how it is found, woken up, shared, lost and found again. Counts are taken by the chip."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers import KeyType, Reader, ReaderState, open_reader
from drivers.errors import (
    AccessDenied,
    AuthenticationFailed,
    CardRemoved,
    NoReader,
    ReaderBusy,
    ReaderLost,
)
from drivers.mifare_classic import TRANSPORT_KEY
from tests.pn532.chip import (
    RX_CRC,
    RX_MODE,
    FieldCard,
)
from tests.pn532.frames import ACK_FRAME, frame
from tests.pn532.line import OTHER_UID, UID, WRONG_KEY, open_descriptors, state_of, use_the_card
from tests.pn532.serial_line import SerialPn532

pytestmark = pytest.mark.nfcpy


class TestFinding:
    def test_any_path_to_the_line_will_do(self, pn532: SerialPn532, card: FieldCard, tmp_path: Path) -> None:
        spaced = tmp_path / "a reader's; name"
        spaced.symlink_to(pn532.path)
        for path in (pn532.path, str(pn532.link), str(spaced)):
            with open_reader(f"pn532:{path}") as reader:
                assert (reader.url, reader.name) == (f"pn532:{path}", f"PN532v1.6 at {path}")
                use_the_card(reader)

    def test_a_path_that_is_not_there_is_no_reader(self, nfcpy: None, tmp_path: Path) -> None:
        for path, words in ((tmp_path / "none", "there is no"), (tmp_path, "no serial line"), ("", "needs a path")):
            with pytest.raises(NoReader, match=words) as failure:
                open_reader(f"pn532:{path}")
            assert failure.value.hint

    def test_a_file_is_no_serial_line(self, nfcpy: None, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("content")
        with pytest.raises(NoReader, match="no serial line"):
            open_reader(f"pn532:{tmp_path}/file")
        assert (tmp_path / "file").read_text() == "content"

    def test_a_line_this_user_may_not_open_names_the_group_to_join(self, pn532: SerialPn532) -> None:
        from drivers.serial_line import not_a_line

        problem = not_a_line(pn532.path, PermissionError(errno.EACCES, "Permission denied"))
        assert "may not open" in str(problem)
        assert "usermod -aG" in problem.hint

    def test_a_line_where_nobody_answers_is_no_reader_and_is_let_go(self, pn532: SerialPn532) -> None:
        pn532.answers = False
        before = open_descriptors()
        with pytest.raises(NoReader, match="no PN532 answers") as failure:
            open_reader(f"pn532:{pn532.link}")
        assert "HSU" in failure.value.hint
        assert open_descriptors() == before

    def test_a_sleeping_chip_is_woken_up(self, pn532: SerialPn532, card: FieldCard) -> None:
        for _ in range(2):
            with open_reader(f"pn532:{pn532.link}") as reader:
                use_the_card(reader)
            assert pn532.chip.asleep

    @pytest.mark.parametrize("baudrate", [230400, 460800, 921600])
    def test_a_chip_left_at_another_speed_is_found_and_brought_back(
        self, pn532: SerialPn532, card: FieldCard, baudrate: int
    ) -> None:
        pn532.chip.baudrate = baudrate
        with open_reader(f"pn532:{pn532.link}") as reader:
            assert (pn532.chip.baudrate, pn532.host_baudrate) == (115200, 115200)
            use_the_card(reader)

    def test_noise_on_the_line_does_not_keep_the_chip_from_being_found(self, pn532: SerialPn532) -> None:
        pn532.say(b"\x00\xff\x00")
        with open_reader(f"pn532:{pn532.link}") as reader:
            assert reader.name

    def test_a_receiver_left_without_crc_check_is_put_right(self, pn532: SerialPn532, card: FieldCard) -> None:
        pn532.chip.registers[RX_MODE] &= ~RX_CRC
        with open_reader(f"pn532:{pn532.link}") as reader:
            use_the_card(reader)


class TestLeftBehind:
    """What a killed process leaves, and what it must not leave."""

    SENSING = """
import sys, time, nfc
from nfc.clf import RemoteTarget, pn532, transport
frontend = nfc.ContactlessFrontend()
frontend.device = pn532.init(transport.TTY(sys.argv[1]))
assert frontend.sense(RemoteTarget("106A"))
print("ready", flush=True)
time.sleep(60)
"""
    OURS = """
import sys, time
from drivers import KeyType, open_reader
card = open_reader("pn532:" + sys.argv[1]).connect()
card.authenticate(4, KeyType.A, b"\\xff" * 6)
print("ready", flush=True)
time.sleep(60)
"""

    def killed_at_work(self, program: str, path: str) -> None:
        process = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def test_after_a_killed_nfcpy_program_the_reader_works(self, pn532: SerialPn532, card: FieldCard) -> None:
        self.killed_at_work(self.SENSING, pn532.path)
        assert pn532.chip.baudrate == 921600
        assert not pn532.chip.registers[RX_MODE] & RX_CRC
        with open_reader(f"pn532:{pn532.link}") as reader:
            use_the_card(reader)

    def test_a_kill_of_ours_leaves_the_speed_alone_and_no_sector_open(
        self, pn532: SerialPn532, card: FieldCard
    ) -> None:
        self.killed_at_work(self.OURS, pn532.path)
        assert pn532.chip.baudrate == 115200
        assert pn532.counts["10"] == 0
        with open_reader(f"pn532:{pn532.link}") as reader:
            connection = reader.connect()
            with pytest.raises(AccessDenied):
                connection.read_block(4)

    def test_a_card_let_go_has_no_sector_open(self, pn532: SerialPn532, reader: Reader, card: FieldCard) -> None:
        use_the_card(reader)
        assert not pn532.chip.field_on


class TestWaiting:
    def test_a_card_laid_down_and_lifted_ends_the_wait(self, pn532: SerialPn532, reader: Reader) -> None:
        threading.Timer(0.1, pn532.lay, [FieldCard.blank(UID)]).start()
        assert reader.wait_for_change(ReaderState.EMPTY, 5) is ReaderState.CARD
        threading.Timer(0.1, pn532.lift).start()
        assert reader.wait_for_change(ReaderState.CARD, 5) is ReaderState.EMPTY

    def test_a_wait_ends_with_its_time(self, reader: Reader) -> None:
        started = time.monotonic()
        assert reader.wait_for_change(ReaderState.EMPTY, 0.2) is ReaderState.EMPTY
        assert 0.15 < time.monotonic() - started < 10

    @pytest.mark.parametrize("delay_s", [0.0, 0.1], ids=["before", "during"])
    def test_a_wait_can_be_interrupted(self, reader: Reader, delay_s: float) -> None:
        if delay_s:
            threading.Timer(delay_s, reader.interrupt).start()
        else:
            reader.interrupt()
        started = time.monotonic()
        assert reader.wait_for_change(ReaderState.EMPTY, 30) is ReaderState.EMPTY
        assert time.monotonic() - started < 20

    def test_a_card_swapped_for_another_during_the_wait_is_noticed(
        self, pn532: SerialPn532, reader: Reader, card: FieldCard
    ) -> None:
        assert reader.wait_for_change(ReaderState.EMPTY, 1) is ReaderState.CARD
        threading.Timer(0.1, pn532.lay, [FieldCard.blank(OTHER_UID)]).start()
        assert reader.wait_for_change(ReaderState.CARD, 5) is ReaderState.EMPTY
        assert reader.wait_for_change(ReaderState.EMPTY, 1) is ReaderState.CARD

    def test_however_many_wait_the_chip_is_asked_once(self, pn532: SerialPn532, reader: Reader) -> None:
        def looks_of(waiters: list[Reader]) -> int:
            before = pn532.counts["4a"]
            threads = [threading.Thread(target=w.wait_for_change, args=(ReaderState.EMPTY, 1.0)) for w in waiters]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return pn532.counts["4a"] - before

        with open_reader(f"pn532:{pn532.path}") as second, open_reader(f"pn532:{pn532.path}") as third:
            assert looks_of([reader, second, third]) <= 12

    def test_the_field_is_off_while_nobody_uses_a_card(
        self, pn532: SerialPn532, reader: Reader, card: FieldCard
    ) -> None:
        assert reader.wait_for_change(ReaderState.EMPTY, 1) is ReaderState.CARD
        assert not pn532.chip.field_on


class TestSharing:
    def test_readers_of_one_process_share_the_line_however_they_name_it(
        self, pn532: SerialPn532, reader: Reader, card: FieldCard
    ) -> None:
        before = open_descriptors()
        with open_reader(f"pn532:{pn532.path}") as second:
            assert open_descriptors() == before
            use_the_card(second)
            use_the_card(reader)
        use_the_card(reader)
        assert pn532.counts["14"] == 1, "the line was opened once"

    def test_waiting_never_touches_a_card_that_a_job_holds(
        self, pn532: SerialPn532, reader: Reader, card: FieldCard
    ) -> None:
        with open_reader(f"pn532:{pn532.link}") as watch, reader.connect() as connection:
            connection.authenticate(4, KeyType.A, TRANSPORT_KEY)
            before = pn532.counts["4a"]
            assert watch.wait_for_change(ReaderState.IN_USE, 0.5) is ReaderState.IN_USE
            assert reader.wait_for_change(ReaderState.CARD, 0.5) is ReaderState.CARD
            assert pn532.counts["4a"] == before
            assert connection.read_block(4) == bytes(16)

    def test_a_wait_ends_when_a_job_takes_the_card_and_when_it_lets_go(
        self, pn532: SerialPn532, reader: Reader, card: FieldCard
    ) -> None:
        with open_reader(f"pn532:{pn532.link}") as watch:
            assert watch.wait_for_change(ReaderState.EMPTY, 1) is ReaderState.CARD
            connection = reader.connect()
            assert watch.wait_for_change(ReaderState.CARD, 5) is ReaderState.IN_USE
            threading.Timer(0.1, connection.close).start()
            assert watch.wait_for_change(ReaderState.IN_USE, 5) is ReaderState.CARD

    def test_a_card_in_use_in_this_process_is_waited_for_a_moment(
        self, pn532: SerialPn532, reader: Reader, card: FieldCard
    ) -> None:
        with open_reader(f"pn532:{pn532.link}") as second:
            connection = reader.connect()
            with pytest.raises(ReaderBusy):
                second.connect()
            threading.Timer(0.1, connection.close).start()
            use_the_card(second)

    def test_another_process_is_told_that_the_line_is_taken(self, pn532: SerialPn532, reader: Reader) -> None:
        program = (
            "import sys; from drivers import open_reader; from drivers.errors import ReaderBusy\n"
            "try: open_reader(sys.argv[1])\n"
            "except ReaderBusy as busy: print(busy, busy.hint)"
        )
        done = subprocess.run([sys.executable, "-c", program, reader.url], capture_output=True, text=True, check=True)
        assert f"another program is using {pn532.link}" in done.stdout
        assert "fuser" in done.stdout

    def test_a_closed_reader_lets_go_of_the_line_for_others(self, pn532: SerialPn532) -> None:
        before = open_descriptors()
        for _ in range(3):
            open_reader(f"pn532:{pn532.link}").close()
        assert open_descriptors() == before

    def test_a_reader_closed_with_its_card_open_closes_the_card(self, pn532: SerialPn532, card: FieldCard) -> None:
        reader = open_reader(f"pn532:{pn532.link}")
        connection = reader.connect()
        reader.close()
        with pytest.raises(CardRemoved):
            connection.read_block(4)
        reader.close()
        with pytest.raises(ReaderLost):
            reader.connect()


class TestComingAndGoing:
    def test_a_reader_pulled_out_is_lost_until_it_is_back(
        self, pn532: SerialPn532, reader: Reader, card: FieldCard
    ) -> None:
        pn532.unplug()
        assert state_of(reader, ReaderState.LOST) is ReaderState.LOST
        assert reader.wait_for_change(ReaderState.LOST, 0.2) is ReaderState.LOST
        with pytest.raises(ReaderLost):
            reader.connect()
        pn532.plug()
        assert reader.wait_for_change(ReaderState.LOST, 5) is ReaderState.CARD
        use_the_card(reader)

    def test_a_line_that_comes_back_under_another_name_is_still_shared(
        self, pn532: SerialPn532, reader: Reader, card: FieldCard
    ) -> None:
        """As /dev/ttyUSB0 comes back as /dev/ttyUSB1 under the link that udev keeps."""
        old, before = pn532.path, open_descriptors()
        pn532.unplug()
        assert state_of(reader, ReaderState.LOST) is ReaderState.LOST
        taken = os.openpty()
        pn532.plug()
        assert pn532.path != old
        assert state_of(reader, ReaderState.CARD) is ReaderState.CARD
        for url in (f"pn532:{pn532.link}", f"pn532:{pn532.path}"):
            with open_reader(url) as second:
                use_the_card(second)
        use_the_card(reader)
        for descriptor in taken:
            os.close(descriptor)
        assert open_descriptors() == before

    def test_a_reader_pulled_out_during_the_wait_ends_it(self, pn532: SerialPn532, reader: Reader) -> None:
        threading.Timer(0.1, pn532.unplug).start()
        assert reader.wait_for_change(ReaderState.EMPTY, 30) is ReaderState.LOST

    @pytest.mark.parametrize("step", [0, 1, 2], ids=["authenticate", "read", "write"])
    def test_a_reader_pulled_out_in_the_middle_of_a_job_is_the_readers_fault(
        self, pn532: SerialPn532, reader: Reader, card: FieldCard, step: int
    ) -> None:
        with reader.connect() as connection:
            steps: list[Callable[[], object]] = [
                lambda: connection.authenticate(4, KeyType.A, TRANSPORT_KEY),
                lambda: connection.read_block(4),
                lambda: connection.write_block(4, bytes(16)),
            ]
            for do in steps[:step]:
                do()
            pn532.unplug()
            for _ in range(2):
                with pytest.raises(ReaderLost):
                    steps[step]()
        pn532.plug()
        assert state_of(reader, ReaderState.CARD) is ReaderState.CARD
        use_the_card(reader)

    def test_a_chip_that_falls_silent_is_lost_and_found_again(
        self, pn532: SerialPn532, reader: Reader, card: FieldCard
    ) -> None:
        with reader.connect() as connection:
            pn532.answers = False
            with pytest.raises(ReaderLost):
                connection.authenticate(4, KeyType.A, TRANSPORT_KEY)
            pn532.answers = True
            with pytest.raises(ReaderLost):
                connection.authenticate(4, KeyType.A, TRANSPORT_KEY)
        assert state_of(reader, ReaderState.CARD) is ReaderState.CARD
        use_the_card(reader)

    def test_a_chip_that_hangs_up_between_answer_and_close_closes_quietly(
        self, pn532: SerialPn532, reader: Reader, card: FieldCard
    ) -> None:
        connection = reader.connect()
        pn532.unplug()
        connection.close()
        assert state_of(reader, ReaderState.LOST) is ReaderState.LOST

    def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(
        self, pn532: SerialPn532, reader: Reader, card: FieldCard
    ) -> None:
        with reader.connect() as connection:
            connection.authenticate(4, KeyType.A, TRANSPORT_KEY)
            pn532.say(ACK_FRAME + frame(b"\xd5\x41\x00" + b"\xaa" * 16))
            assert connection.read_block(4) == bytes(16)

    def test_noise_in_place_of_an_answer_is_a_lost_reader(
        self, pn532: SerialPn532, reader: Reader, card: FieldCard
    ) -> None:
        with reader.connect() as connection:
            pn532.answers = False
            threading.Timer(0.02, pn532.say, [b"\x00\xaa"]).start()
            with pytest.raises(ReaderLost):
                connection.authenticate(4, KeyType.A, TRANSPORT_KEY)

    def test_coming_and_going_costs_no_descriptors(self, pn532: SerialPn532, reader: Reader, card: FieldCard) -> None:
        before = open_descriptors()
        for _ in range(5):
            pn532.unplug()
            assert state_of(reader, ReaderState.LOST) is ReaderState.LOST
            pn532.plug()
            assert state_of(reader, ReaderState.CARD) is ReaderState.CARD
        assert open_descriptors() == before


class TestSecrets:
    def test_the_wire_log_shows_commands_but_no_key(
        self, pn532: SerialPn532, reader: Reader, card: FieldCard, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(1)
        caplog.set_level(5, "drivers.chip_card")
        with reader.connect() as connection:
            connection.authenticate(7, KeyType.A, TRANSPORT_KEY)
            connection.read_block(7)
            connection.write_block(7, WRONG_KEY + bytes.fromhex("FF078069") + WRONG_KEY)
            with pytest.raises(AuthenticationFailed):
                connection.authenticate(7, KeyType.A, TRANSPORT_KEY)
        assert "> 30 07" in caplog.text
        assert "> 60 07 (key masked)" in caplog.text
        for key in (WRONG_KEY, TRANSPORT_KEY):
            assert key.hex(" ") not in caplog.text
            assert key.hex() not in caplog.text

    def test_nfcpy_says_nothing_of_its_own(
        self, pn532: SerialPn532, card: FieldCard, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(1)
        logging.getLogger("nfc.clf").debug("a line of nfcpy's")
        with open_reader(f"pn532:{pn532.link}") as reader:
            use_the_card(reader)
            pn532.unplug()
            assert state_of(reader, ReaderState.LOST) is ReaderState.LOST
        assert not [record for record in caplog.records if record.name.startswith("nfc")]
