"""What the daemon does for the journal now and then."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service import daemon as module
from terminal_agent.service.agent import Agent
from terminal_agent.service.daemon import Daemon
from terminal_agent.service.initialise import initialise
from terminal_agent.service.settings import load_settings
from terminal_agent.service.signals import END
from tests.cli.shop import wait_until


@pytest.mark.parametrize("problem", [None, ZeroDivisionError("a bug"), AgentError(ErrorCode.INTERNAL, "no", hint="")])
def test_the_daemon_makes_the_daily_copy_by_itself_whatever_becomes_of_its_other_chores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception | None
) -> None:
    config = tmp_path / "config.toml"
    initialise(config, {"data_dir": str(tmp_path / "data"), "terminal_id": "till-1"}, force=False)
    agent = Agent(load_settings(config), config)
    daemon = Daemon(agent)

    def close_overdue(_agent: Agent) -> int:
        if problem is not None:
            raise problem
        return 0

    monkeypatch.setattr(module, "close_overdue", close_overdue)
    monkeypatch.setattr(module, "HOUSEKEEPING_S", 0.01)
    daemon._control.start()
    housekeeping = threading.Thread(target=daemon._housekeeping)
    housekeeping.start()
    try:
        wait_until(lambda: agent.journal.health()["last_backup_at"] is not None)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, END)  # a daemon waits for them; the tests do not
        daemon._stop.set()
        housekeeping.join()
        daemon._control.stop()
        agent.close()
    assert len(list((tmp_path / "data" / "backups").glob("journal-*.sqlite3"))) == 1
