"""A daemon that cannot begin ends, and leaves nothing running."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from terminal_agent.service.agent import Agent
from terminal_agent.service.control import ControlServer
from terminal_agent.service.daemon import Daemon
from terminal_agent.service.initialise import initialise
from terminal_agent.service.manager import ServiceManager
from terminal_agent.service.settings import load_settings
from terminal_agent.service.signals import END
from terminal_agent.till_api.counter import Counter


def _fail(*_args: object) -> None:
    raise ZeroDivisionError("a bug")


@pytest.mark.parametrize("step", [(Counter, "resume"), (ControlServer, "start"), (ServiceManager, "tell")])
def test_whatever_goes_wrong_as_it_begins_no_thread_keeps_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: tuple[type, str]
) -> None:
    config = tmp_path / "config.toml"
    words = {"data_dir": str(tmp_path / "data"), "terminal_id": "till-1", "till": {"listen": "127.0.0.1:0"}}
    initialise(config, words, force=False)
    agent, before = Agent(load_settings(config), config), set(threading.enumerate())
    monkeypatch.setattr(*step, _fail)
    try:
        with pytest.raises(ZeroDivisionError):
            Daemon(agent).run()
        assert {thread.name for thread in _left(before)} == set()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, END)  # a daemon waits for them; the tests do not
        agent.close()


def _left(before: set[threading.Thread]) -> set[threading.Thread]:
    return {thread for thread in set(threading.enumerate()) - before if not thread.daemon}
