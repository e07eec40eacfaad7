"""Calls into pcscd that come back, also when pcscd hangs.

Its client library waits for each answer without end, a timed wait included: a daemon would neither tell, nor refuse a
sale, nor stop. A call that has begun is ended by hanging up the process's lines to pcscd: the library then finds the
service gone, as after a crash, and its contexts are made anew. Costs a call two look-ups in a table, no thread.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from drivers.errors import ServiceUnavailable

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

LIMIT_S = 5.0
"""Far above what a tap, or a reader that powers a card up, takes."""
_LOOK_S = 0.5
_SOCKET_NAME = "pcscd.comm"

_HUNG_UP = float("inf")
_under_way: dict[int, float] = {}
"""By thread: in which of the overseer's rounds its call began, or ``_HUNG_UP``. Rounds and not seconds: a process that
was held up itself, as on a machine that was paused, has answers waiting for it, and must not hang up on them."""
_round = 0
_starting = threading.Lock()
_overseer: threading.Thread | None = None


def ask(function: Callable[..., Answer], *arguments: Any) -> Answer:
    """Call into pcscd on a line that stands. Raises :class:`ServiceUnavailable` when no answer came in time."""
    _oversee()
    caller = threading.get_ident()
    _under_way[caller] = _round
    try:
        answer = function(*arguments)
    finally:
        ended = _under_way.pop(caller)
    if ended == _HUNG_UP:
        raise _no_answer()
    return answer


def _no_answer() -> ServiceUnavailable:
    problem = ServiceUnavailable("the smart-card service does not answer")
    problem.hint = "Start the smart-card service anew: sudo systemctl restart pcscd"
    return problem


def _oversee() -> None:
    global _overseer
    if _overseer is None:
        with _starting:
            if _overseer is None:
                _overseer = threading.Thread(target=_look_at_calls, name="pcscd-calls", daemon=True)
                _overseer.start()


def _look_at_calls() -> None:
    global _round
    while True:
        time.sleep(_LOOK_S)
        _round += 1
        late = [caller for caller, begun in tuple(_under_way.items()) if (_round - begun) * _LOOK_S > LIMIT_S]
        if late:
            for caller in late:
                if caller in _under_way:
                    _under_way[caller] = _HUNG_UP
            log.debug("the smart-card service does not answer: hung up on %d lines", _hang_up())


def _hang_up() -> int:
    """Shut every socket of this process that leads to pcscd; how many."""
    return sum(_shut(descriptor) for descriptor in _sockets())


def _sockets() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # closed meanwhile
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                found.append(os.dup(int(name)))
    return found


def _shut(descriptor: int) -> bool:
    with socket.socket(fileno=descriptor) as line, suppress(OSError):
        if line.family == socket.AF_UNIX and str(line.getpeername()).endswith(_SOCKET_NAME):
            line.shutdown(socket.SHUT_RDWR)
            return True
    return False


class LineOpener:
    """Opens lines to pcscd. There is nothing to hang up on while one is opened, so a thread of its own does it, and is
    left behind when pcscd hangs: one at a time, for pcscd takes only so many callers waiting at its door."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._handing_over = threading.Lock()
        self._left_behind = False

    def open(self, open_line: Callable[[], Answer], close_line: Callable[[Answer], object]) -> Answer:
        """What ``open_line`` gives; ``close_line`` gets it when it comes too late.

        Raises :class:`ServiceUnavailable`, at once while an earlier try has still no answer.
        """
        if not self._turn.acquire(timeout=0 if self._left_behind else LIMIT_S):
            raise _no_answer()
        answers: SimpleQueue[Answer] = SimpleQueue()
        threading.Thread(target=self._try, args=(open_line, close_line, answers), daemon=True).start()
        with suppress(Empty):
            return answers.get(timeout=LIMIT_S)
        with self._handing_over:
            if not answers.empty():
                return answers.get()
            self._left_behind = True
        raise _no_answer()

    def _try(
        self, open_line: Callable[[], Answer], close_line: Callable[[Answer], object], answers: SimpleQueue[Answer]
    ) -> None:
        try:
            line = open_line()
            with self._handing_over:
                if self._left_behind:
                    close_line(line)
                else:
                    answers.put(line)
        finally:
            self._left_behind = False
            self._turn.release()
