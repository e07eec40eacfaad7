"""Joining a CRM, and joining it again: what enrolment gave is in use from then on."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.opening import INSTALL_EPOCH
from terminal_agent.service import operations
from terminal_agent.service.agent import Agent
from terminal_agent.service.initialise import initialise
from terminal_agent.service.keys.credentials import load_credentials
from terminal_agent.service.settings import load_settings
from terminal_agent.sync.client import Credentials
from terminal_agent.sync.exchange import FEED_CURSOR
from terminal_agent.sync.upload import ACKED_THROUGH
from terminal_agent.sync.worker import CRM_STATE, NEXT_TRY, CrmState

OLD, NEW = "https://old.example", "https://new.example"


def credentials(url: str, terminal_id: str = "till-1") -> Credentials:
    return Credentials(url, terminal_id, "p", "canary-token", b"canary-secret-of-thirty-two-byte")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    initialise(path, {"data_dir": str(tmp_path / "data"), "terminal_id": "till-1", "crm": {"url": OLD}}, force=False)
    return path


@pytest.fixture
def agent(config: Path) -> Iterator[Agent]:
    opened = Agent(load_settings(config), config)
    yield opened
    opened.close()


def test_a_terminal_that_joins_again_does_not_sit_out_the_old_pause(agent: Agent) -> None:
    agent.join(credentials(OLD))
    with agent.journal.transaction():
        agent.journal.set_meta(CRM_STATE, CrmState.UNAUTHORIZED)
        agent.journal.set_meta(NEXT_TRY, "2999-01-01T00:00:00.000Z")
        agent.journal.set_meta(FEED_CURSOR, "of the old CRM")
    agent.join(credentials(NEW))
    assert agent.sync.state is CrmState.UNKNOWN
    assert (agent.journal.meta(NEXT_TRY), agent.journal.meta(FEED_CURSOR)) == (None, None)


@pytest.mark.parametrize("content", ["{", '{"token": "canary"}', ""])
def test_credentials_that_cannot_be_read_stop_no_sale_and_joining_again_mends_them(
    agent: Agent, config: Path, content: str
) -> None:
    agent.join(credentials(OLD, terminal_id="till-of-the-crm"))
    epoch = agent.journal.meta(INSTALL_EPOCH)
    agent.close()
    (load_settings(config).data_dir / "crm.json").write_text(content)
    with closing(Agent(load_settings(config), config)) as broken:
        assert (broken.terminal_id, broken.journal.meta(INSTALL_EPOCH)) == ("till-of-the-crm", epoch)
        (problem,) = operations.status(broken, {}, print)["problems"]
        doctor = {check["id"]: check for check in operations.doctor(broken, {}, print)["checks"]}
        with pytest.raises(AgentError, match="cannot be read"):
            operations.sync_now(broken, {}, print)
        assert (problem["id"], problem["status"], "enroll" in problem["fix"]) == ("crm", "fail", True)
        assert doctor["crm"]["detail"] == problem["detail"]
        assert "canary" not in str(problem)
        broken.join(credentials(OLD, terminal_id="till-of-the-crm"))
        assert operations.status(broken, {}, print)["problems"] == []
        assert broken.journal.meta(INSTALL_EPOCH) == epoch


def test_a_join_that_is_cut_short_leaves_no_word_of_the_crm_before_to_the_new_one(
    agent: Agent, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken for the new CRM's, it would have events of the club before sent there, and items of the feed skipped."""
    agent.join(credentials(OLD))
    with agent.journal.transaction():
        agent.journal.set_meta(FEED_CURSOR, "of the old CRM")
        agent.journal.set_meta(ACKED_THROUGH + "epoch", "7")

    def power_cut(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("terminal_agent.service.agent.set_crm_url", power_cut)
    with pytest.raises(KeyboardInterrupt):
        agent.join(replace(credentials(NEW), programme_id="another club"))
    agent.close()
    after = Agent(load_settings(config), config)
    assert load_credentials(after.settings.data_dir, None) == replace(credentials(NEW), programme_id="another club")
    assert [after.journal.meta(key) for key in (FEED_CURSOR, ACKED_THROUGH + "epoch")] == [None, None]
    after.close()


def test_credentials_that_cannot_be_written_are_told_with_the_remedy(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("terminal_agent.service.agent.store_credentials", no_space)
    with pytest.raises(AgentError, match="No space left") as told:
        agent.join(credentials(OLD))
    assert told.value.code is ErrorCode.CONFIG_INVALID
    assert "new code" in told.value.hint


def test_the_new_address_and_name_are_in_use_and_in_the_config(agent: Agent, config: Path) -> None:
    agent.join(credentials(NEW, "till-renamed"))
    assert (agent.crm_url, agent.terminal_id, agent.journal.events.terminal_id) == (NEW, "till-renamed", "till-renamed")
    assert load_settings(config).crm.url == NEW


def test_a_config_that_cannot_be_changed_and_names_another_crm_is_told_with_the_remedy(
    agent: Agent, config: Path
) -> None:
    text = config.read_text().replace(f'[crm]\nurl = "{OLD}"\n', "")
    config.write_text(f'crm = {{url = "{OLD}"}}\n' + text)
    with pytest.raises(AgentError, match="still names") as told:
        agent.join(credentials(NEW))
    assert told.value.code is ErrorCode.CONFIG_INVALID
    assert f'url = "{NEW}"' in told.value.hint
