"""``init``: a config file, a data directory and a fresh master key set."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service.agent import Agent
from terminal_agent.service.backend import data_dir_busy
from terminal_agent.service.files import PRIVATE_FOLDER, SHARED_FOLDER, make_folder, write_private
from terminal_agent.service.keys.store import KEYS_FOLDER, FileKeyStore
from terminal_agent.service.lock import DataDirLock
from terminal_agent.service.settings import Settings, first_problem, render_config


def initialise(config: Path, values: dict[str, Any], *, force: bool) -> dict[str, Any]:
    """Write ``config`` and the data directory it names; keys and a journal that are there are kept.

    Gives ``config, data_dir, terminal_id, key_set_version, kcv``. Raises AgentError and leaves nothing half-done.
    """
    settings = _settings(values)
    _refuse_overwriting(config, settings, force)
    try:
        # A folder that was there keeps its rights: it may be shared, and each file of ours is private by itself.
        make_folder(settings.data_dir, PRIVATE_FOLDER)
        make_folder(config.parent, SHARED_FOLDER)
        lock = DataDirLock(settings.data_dir)
        if not lock.acquire():
            raise data_dir_busy(lock)
        fresh = not (settings.data_dir / KEYS_FOLDER).exists()
        try:
            return _fill(config, settings)
        except BaseException:
            if fresh:  # nothing was sealed under these keys yet, and left behind they would stop the next init
                shutil.rmtree(settings.data_dir / KEYS_FOLDER, ignore_errors=True)
            raise
        finally:
            lock.release()
    except OSError as error:
        raise AgentError(
            ErrorCode.CONFIG_INVALID,
            f"cannot write {error.filename or settings.data_dir}: {error.strerror}",
            hint="Choose a folder you may write to, or run as root",
        ) from error


def _settings(values: dict[str, Any]) -> Settings:
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise AgentError(ErrorCode.INVALID_INPUT, first_problem(error), hint="terminal-agent init --help") from error


def _refuse_overwriting(config: Path, settings: Settings, force: bool) -> None:
    there = next((p for p in (config, settings.data_dir / KEYS_FOLDER) if p.exists()), None)
    if there is not None and not force:
        raise AgentError(
            ErrorCode.CONFIG_INVALID,
            f"{there} is already there",
            hint="Use it as it is, choose another place, or add --force (keys and journal are kept)",
        )


def _fill(config: Path, settings: Settings) -> dict[str, Any]:
    store = FileKeyStore(settings.data_dir / KEYS_FOLDER)
    if not store.versions():
        store.generate(activate=True)
    agent = Agent(settings, config)
    agent.close()
    write_private(config, render_config(settings))
    active = next(key_set for key_set in store.list() if key_set.active)
    return {
        "config": str(config),
        "data_dir": str(settings.data_dir),
        "terminal_id": settings.terminal_id,
        "key_set_version": active.version,
        "kcv": active.kcv,
    }
