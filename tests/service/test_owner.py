"""Who owns a data directory: one daemon, or one command after the other."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service.backend import own_data_dir
from terminal_agent.service.control import ControlServer
from terminal_agent.service.lock import DataDirLock
from terminal_agent.service.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, terminal_id="till-1")


def test_a_daemon_that_starts_waits_for_a_command_still_at_work(settings: Settings) -> None:
    command = DataDirLock(settings.data_dir)
    assert command.acquire()
    end = threading.Timer(0.3, command.release)
    end.start()
    with own_data_dir(settings, settings.data_dir / "config.toml") as agent:
        assert agent.terminal_id == "till-1"
    end.join()


def test_a_second_daemon_is_refused_at_once(settings: Settings) -> None:
    daemon = DataDirLock(settings.data_dir)
    assert daemon.acquire()
    control = ControlServer(settings.data_dir, lambda _operation, _params, _talk: None)
    control.start()
    try:
        with pytest.raises(AgentError) as refused, ExitStack() as stack:
            stack.enter_context(own_data_dir(settings, settings.data_dir / "config.toml"))
        assert refused.value.code is ErrorCode.BUSY
    finally:
        control.stop()
        daemon.release()
