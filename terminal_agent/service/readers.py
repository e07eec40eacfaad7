"""What can be said of readers without opening a card: the configured one, and every one this machine has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from drivers import ReaderInfo, ReaderState, list_readers, open_reader
from drivers.errors import DriverError, ReaderLost
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service import control
from terminal_agent.service.settings import Settings

if TYPE_CHECKING:
    from terminal_agent.service.agent import Agent


def look_at_reader(url: str | None) -> dict[str, Any]:
    """``{url, name, state}`` of the configured reader, without opening a card."""
    if url is None:
        return {"url": None, "name": None, "state": "none"}
    try:
        with open_reader(url) as reader:
            return reader_seen(url, reader.name, reader.wait_for_change(ReaderState.EMPTY, 0))
    except DriverError as error:
        return reader_lost(url, None, error)


def reader_seen(url: str, name: str, state: ReaderState) -> dict[str, Any]:
    """The reader as ``status`` tells it."""
    if state is ReaderState.LOST:
        return reader_lost(url, name, ReaderLost("the reader is gone"))
    return {"url": url, "name": name, "state": "ready"}


def reader_lost(url: str, name: str | None, problem: DriverError) -> dict[str, Any]:
    """A reader that cannot be used now, with what is wrong and what to do."""
    return {"url": url, "name": name, "state": "lost", "problem": str(problem), "hint": problem.hint}


def reader_list(settings: Settings | None) -> list[dict[str, Any]]:
    """``[{url, name, state, problem, hint}]`` of every reader that can be seen, the configured one included; the last
    two are null for one that can be used. One that our own daemon holds can be: commands go through the daemon."""
    found = list_readers()
    if settings is None or settings.reader is None:
        return [_row(info) for info in found]
    url = settings.reader
    if not any(info.url == url for info in found):
        found = _with_configured(found, url)
    is_ours = _daemon_runs(settings)
    return [_row(info, is_ours=is_ours and info.url == url) for info in found]


def _with_configured(found: list[ReaderInfo], url: str) -> list[ReaderInfo]:
    """A reader in a file or on a serial line is known by the config file alone; one behind PC/SC or on USB stands in
    the list already, under its full name, unless something is wrong with it."""
    scheme, _, place = url.partition(":")
    seen = _look(url)
    if scheme in ("pcsc", "usb") and seen.problem is None:
        return found
    same_line = f"pn532:{os.path.realpath(place)}" if scheme == "pn532" else url
    return [*(info for info in found if info.url != same_line), seen]


def _look(url: str) -> ReaderInfo:
    try:
        with open_reader(url) as reader:
            state = reader.wait_for_change(ReaderState.EMPTY, 0)
            if state is ReaderState.LOST:
                raise ReaderLost("the reader is gone")
            return ReaderInfo(url, reader.name, state)
    except DriverError as problem:
        return ReaderInfo.with_problem(url, "", problem)


def _row(info: ReaderInfo, *, is_ours: bool = False) -> dict[str, Any]:
    state = "ready" if info.url.startswith("sim:") and info.problem is None else info.state.value
    told = not (is_ours and info.state is ReaderState.IN_USE)
    return {
        "url": info.url,
        "name": info.name or None,
        "state": state,
        "problem": info.problem if told else None,
        "hint": info.hint if told else None,
    }


def _daemon_runs(settings: Settings) -> bool:
    try:
        connection = control.connect(settings.socket_dir)
    except AgentError:  # it runs as another user
        return True
    if connection is None:
        return False
    connection.close()
    return True


def reader_url(agent: Agent, params: dict[str, Any]) -> str:
    """The reader a command named, else the configured one. Raises AgentError when there is neither."""
    url = params.get("reader") or agent.settings.reader
    if url is None:
        raise AgentError(
            ErrorCode.READER_MISSING,
            "no reader was named and the config file names none",
            hint='Add --reader pcsc: (see terminal-agent reader list), or reader = "pcsc:" to the config file',
        )
    return str(url)
