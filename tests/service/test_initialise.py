"""``init`` makes a whole terminal or nothing, and never takes keys away."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.journal import JOURNAL_FILE
from terminal_agent.service import initialise as module
from terminal_agent.service.initialise import initialise
from terminal_agent.service.lock import DataDirLock
from terminal_agent.service.settings import load_settings


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "config.toml"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "var" / "data"


def values(data_dir: Path, **changed: Any) -> dict[str, Any]:
    return {"data_dir": str(data_dir), "terminal_id": "till-1", "currency": "IRR", **changed}


def test_init_makes_a_terminal_that_can_be_used(config: Path, data_dir: Path) -> None:
    answer = initialise(config, values(data_dir, reader="sim:card.mfd"), force=False)
    assert answer == {
        "config": str(config),
        "data_dir": str(data_dir),
        "terminal_id": "till-1",
        "key_set_version": 1,
        "kcv": answer["kcv"],
    }
    assert load_settings(config).reader == "sim:card.mfd"
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data_dir.rglob("*") if path.is_file()}
    assert {JOURNAL_FILE, "v1.key", "active"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_a_second_init_is_refused_and_changes_nothing(config: Path, data_dir: Path, tmp_path: Path) -> None:
    initialise(config, values(data_dir), force=False)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for other in (config, tmp_path / "other.toml"):
        with pytest.raises(AgentError, match="already there") as refused:
            initialise(other, values(data_dir, terminal_id="till-2"), force=False)
        assert refused.value.code is ErrorCode.CONFIG_INVALID
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_force_writes_the_config_anew_and_keeps_the_keys(config: Path, data_dir: Path) -> None:
    first = initialise(config, values(data_dir), force=False)
    again = initialise(config, values(data_dir, terminal_id="till-2"), force=True)
    assert (again["kcv"], again["key_set_version"]) == (first["kcv"], 1)
    assert load_settings(config).terminal_id == "till-2"


@pytest.mark.parametrize("step", ["Agent", "write_private"])
def test_an_init_that_fails_half_way_can_simply_be_run_again(
    config: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device", str(config))

    with monkeypatch.context() as patched:
        patched.setattr(module, step, fail)
        with pytest.raises(AgentError, match="No space left") as told:
            initialise(config, values(data_dir), force=False)
    assert told.value.code is ErrorCode.CONFIG_INVALID
    assert not config.exists()
    assert not (data_dir / "keys").exists()
    initialise(config, values(data_dir), force=False)


def test_a_forced_init_that_fails_keeps_the_keys(config: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = initialise(config, values(data_dir), force=False)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_private", fail)
        with pytest.raises(AgentError):
            initialise(config, values(data_dir), force=True)
    assert initialise(config, values(data_dir), force=True)["kcv"] == first["kcv"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"terminal_id": "a b"}, "terminal_id"),
        ({"currency": "x"}, "currency"),
        ({"till": {"listen": "x"}}, "till.listen"),
    ],
)
def test_values_that_cannot_be_are_refused_before_anything_is_made(
    config: Path, data_dir: Path, tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    with pytest.raises(AgentError, match=told) as refused:
        initialise(config, values(data_dir, **changed), force=False)
    assert refused.value.code is ErrorCode.INVALID_INPUT
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told(config: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AgentError, match=r"cannot write .*file"):
        initialise(config, values(tmp_path / "file" / "data"), force=False)
    with pytest.raises(AgentError, match=r"cannot write .*file"):
        initialise(tmp_path / "file" / "config.toml", values(tmp_path / "data"), force=False)


def test_a_data_directory_in_use_is_left_alone(config: Path, data_dir: Path) -> None:
    data_dir.mkdir(parents=True)
    lock = DataDirLock(data_dir)
    assert lock.acquire()
    with pytest.raises(AgentError) as refused:
        initialise(config, values(data_dir), force=False)
    lock.release()
    assert refused.value.code is ErrorCode.BUSY
    assert not config.exists()


def test_a_folder_that_was_there_keeps_its_rights(config: Path, data_dir: Path) -> None:
    data_dir.mkdir(parents=True)
    data_dir.chmod(0o755)
    initialise(config, values(data_dir), force=False)
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o755
    files = [path for path in data_dir.rglob("*") if path.is_file()]
    assert files
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
