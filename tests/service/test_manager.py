"""What systemd hears of the daemon, and that a daemon which is not well does not say that it is."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service.health import Health
from terminal_agent.service.manager import READY, ServiceManager


class Systemd:
    """The other end of ``NOTIFY_SOCKET``."""

    def __init__(self, address: str) -> None:
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._line.bind(address)
        self._line.settimeout(5)

    def hear(self) -> list[str]:
        return self._line.recv(4096).decode().split("\n")

    def close(self) -> None:
        self._line.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    manager = Systemd(str(tmp_path / "notify"))
    yield manager
    manager.close()


@pytest.fixture
def manager(systemd: Systemd, tmp_path: Path) -> ServiceManager:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}
    return ServiceManager({**environment, "WATCHDOG_PID": str(os.getpid())})


@pytest.fixture
def ended() -> threading.Thread:
    thread = threading.Thread(target=lambda: None, name="counter")
    thread.start()
    thread.join()
    return thread


def health(
    manager: ServiceManager,
    *,
    threads: tuple[threading.Thread, ...] = (),
    silent_s: float = 0.0,
    journal: object = None,
) -> Health:
    def ask_journal() -> None:
        if isinstance(journal, Exception):
            raise journal

    return Health(manager, threads, {"till": lambda: silent_s}, ask_journal, lambda: "ready; reader ready")


def test_systemd_is_told_line_by_line(manager: ServiceManager, systemd: Systemd) -> None:
    manager.tell(READY, status="reader ready")
    assert systemd.hear() == ["READY=1", "STATUS=reader ready"]


def test_an_abstract_socket_is_found() -> None:
    systemd = Systemd(f"\0terminal-agent-{os.getpid()}")
    ServiceManager({"NOTIFY_SOCKET": f"@terminal-agent-{os.getpid()}"}).tell(READY)
    assert systemd.hear() == ["READY=1"]
    systemd.close()


def test_without_systemd_nothing_is_said_and_nothing_waits() -> None:
    alone = ServiceManager({})
    alone.tell(READY)
    health(alone).watch(threading.Event())


def test_a_manager_that_has_gone_stops_nothing(manager: ServiceManager, systemd: Systemd, tmp_path: Path) -> None:
    systemd.close()
    (tmp_path / "notify").unlink()
    manager.tell(READY)


def test_the_watchdog_of_another_process_is_not_ours() -> None:
    assert ServiceManager({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).patience_s == 0
    assert ServiceManager({"WATCHDOG_USEC": "1000000"}).patience_s == 1


def test_a_daemon_that_is_well_feeds_the_watchdog(manager: ServiceManager, systemd: Systemd) -> None:
    assert health(manager, threads=(threading.main_thread(),), silent_s=29).tell()
    assert systemd.hear() == ["WATCHDOG=1", "STATUS=ready; reader ready"]


def test_a_loop_that_hangs_is_not_fed_and_named(manager: ServiceManager, systemd: Systemd) -> None:
    assert not health(manager, silent_s=31).tell()
    assert systemd.hear() == ["STATUS=unwell: till=silent for 31 s"]


def test_a_thread_that_has_ended_is_not_fed_and_named(
    manager: ServiceManager, systemd: Systemd, ended: threading.Thread
) -> None:
    assert not health(manager, threads=(ended,)).tell()
    assert systemd.hear() == ["STATUS=unwell: counter=ended"]


def test_a_journal_that_does_not_answer_is_not_fed_and_told(manager: ServiceManager, systemd: Systemd) -> None:
    problem = AgentError(ErrorCode.INTERNAL, "the disk fails", hint="Look at it")
    assert not health(manager, journal=problem).tell()
    assert systemd.hear() == ["STATUS=unwell: journal=the disk fails"]


def test_the_watchdog_is_fed_three_times_in_its_time_until_the_daemon_stops(
    manager: ServiceManager, systemd: Systemd
) -> None:
    manager.patience_s = 0.03
    stop = threading.Event()
    watch = threading.Thread(target=health(manager).watch, args=(stop,), daemon=True)
    watch.start()
    fed = [systemd.hear()[0] for _ in range(4)]
    stop.set()
    watch.join()
    assert fed == ["WATCHDOG=1"] * 4
