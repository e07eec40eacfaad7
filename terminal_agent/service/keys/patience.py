"""Calls into a library that may never come back: whoever asks gets an answer, or is told in time that there is none.

A call into a library cannot be ended from outside. So a thread of its own makes it, and is left behind when it hangs;
nobody else calls meanwhile, and the process can end.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from terminal_agent.errors import AgentError

Answer = TypeVar("Answer")

LIMIT_S = 10.0
"""Far above what a slow smart card takes to log in and sign; a card lies on the reader meanwhile."""
THREAD = "token-call"


class Patience:
    """One call at a time. ``late`` makes the error for one that does not come back."""

    def __init__(self, late: Callable[[], AgentError]) -> None:
        self._late = late
        self._turn = threading.Lock()
        self._left_behind = False

    def ask(self, job: Callable[[], Answer]) -> Answer:
        """What ``job`` gives or raises. Raises ``late``'s error: at once, while an earlier call has not come back."""
        if not self._turn.acquire(timeout=0 if self._left_behind else LIMIT_S):
            raise self._late()
        call = _Call()
        threading.Thread(target=self._make, args=(job, call), name=THREAD, daemon=True).start()
        if not call.ended.wait(LIMIT_S):
            self._left_behind = not call.ended.is_set()
            raise self._late()
        if call.error is not None:
            raise call.error
        answer: Answer = call.answer
        return answer

    def _make(self, job: Callable[[], Answer], call: _Call) -> None:
        with suppress(AgentError):  # it is raised where the call was asked for
            try:
                call.answer = job()
            finally:
                call.error = sys.exc_info()[1]
                self._left_behind = False
                call.ended.set()
                self._turn.release()


class _Call:
    def __init__(self) -> None:
        self.ended = threading.Event()
        self.answer: Any = None
        self.error: BaseException | None = None
