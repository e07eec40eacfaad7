"""How a command reaches the data directory: through the daemon's socket when it runs, else by opening it itself."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.files import READ_ONLY_HINT
from terminal_agent.service import control
from terminal_agent.service.control import Talk
from terminal_agent.service.lock import DataDirLock
from terminal_agent.service.settings import Settings

if TYPE_CHECKING:
    from terminal_agent.service.agent import Agent

LOCK_WAIT_S = 15.0
LOCK_POLL_S = 0.05


class Backend(Protocol):
    """Carries out operations; raises AgentError."""

    def call(self, operation: str, params: dict[str, Any], talk: Talk) -> Any: ...


class RemoteBackend:
    """The running daemon."""

    def __init__(self, socket_dir: Path) -> None:
        self._socket_dir = socket_dir

    def call(self, operation: str, params: dict[str, Any], talk: Talk) -> Any:
        connection = control.connect(self._socket_dir)
        if connection is None:
            raise AgentError(ErrorCode.BUSY, "the daemon has just stopped", hint="Run the command again")
        return control.call(connection, operation, params, talk)


class LocalBackend:
    """This process, with the data directory's lock in hand."""

    def __init__(self, settings: Settings, config: Path) -> None:
        from terminal_agent.service.agent import Agent

        self._agent = Agent(settings, config)

    def call(self, operation: str, params: dict[str, Any], talk: Talk) -> Any:
        from terminal_agent.service.operations import OPERATIONS

        return OPERATIONS[operation](self._agent, params, talk)

    def close(self) -> None:
        self._agent.close()


@contextmanager
def open_backend(settings: Settings, config: Path) -> Iterator[Backend]:
    """The daemon if it runs, else this process once the data directory is free. Raises AgentError ``busy``."""
    with _as_owner_of(settings.data_dir):
        lock = _lock_of(settings)
        try:
            if _daemon_listens(settings, lock):
                yield RemoteBackend(settings.socket_dir)
            else:
                with closing(LocalBackend(settings, config)) as local:
                    yield local
        finally:
            lock.release()


@contextmanager
def _as_owner_of(data_dir: Path) -> Iterator[None]:
    """Root goes on as the data directory's owner: a daemon of that user could not open what root had written there."""
    if os.geteuid() != 0 or not data_dir.is_dir():
        yield
        return
    owner, group = data_dir.stat(), os.getegid()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)


@contextmanager
def own_data_dir(settings: Settings, config: Path) -> Iterator[Agent]:
    """The agent of a data directory: at once, or when a command that is at work there has ended.

    Raises AgentError ``busy`` when a daemon has it.
    """
    from terminal_agent.service.agent import Agent

    lock = _lock_of(settings)
    if _daemon_listens(settings, lock):
        raise data_dir_busy(lock)
    try:
        with closing(Agent(settings, config)) as agent:
            yield agent
    finally:
        lock.release()


def _lock_of(settings: Settings) -> DataDirLock:
    if not settings.data_dir.is_dir():
        raise AgentError(
            ErrorCode.CONFIG_INVALID,
            f"there is no folder {settings.data_dir}, the data directory",
            hint=f"Create it: terminal-agent init --data-dir {settings.data_dir} --force (keys and journals are kept)",
        )
    return DataDirLock(settings.data_dir)


def _daemon_listens(settings: Settings, lock: DataDirLock) -> bool:
    """Whether a daemon takes commands; if none does, this process holds the lock when this returns."""
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        probe = control.connect(settings.socket_dir)
        if probe is not None:
            probe.close()
            return True
        if _acquired(lock, settings):
            return False
        if time.monotonic() > deadline:
            raise data_dir_busy(lock)
        time.sleep(LOCK_POLL_S)


def _acquired(lock: DataDirLock, settings: Settings) -> bool:
    try:
        return lock.acquire()
    except PermissionError as error:
        raise AgentError(
            ErrorCode.BUSY,
            f"the daemon does not run, and {settings.data_dir} is another user's",
            hint="Start the daemon: sudo systemctl start terminal-agent; or run the command with sudo",
        ) from error
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        raise AgentError(
            ErrorCode.JOURNAL_FAILED,
            f"the disk of {settings.data_dir} is read-only: nothing can be recorded, so no points are given",
            hint=READ_ONLY_HINT.format(folder=settings.data_dir),
        ) from error


def data_dir_busy(lock: DataDirLock) -> AgentError:
    """Another process owns the data directory."""
    return AgentError(
        ErrorCode.BUSY,
        f"another terminal-agent (process {lock.owner()}) is using this data directory",
        hint="Wait for it to end, or stop it: sudo systemctl stop terminal-agent",
    )
