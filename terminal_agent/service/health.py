"""The daemon looks at itself: whether its threads live, its loops come round and its journal answers.

The service manager hears that it is well only when all of them are. One that is not is told in the log, and the daemon
is killed and started anew (``WatchdogSec=`` of the unit): the start settles what was in flight.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator

from terminal_agent.errors import AgentError
from terminal_agent.service.manager import ALIVE, ServiceManager

log = logging.getLogger(__name__)

TELL_EACH_S = 5.0


class Health:
    """``threads`` live until the end; ``loops`` tell for how many seconds they have not come round.

    ``ask_journal`` waits for whoever has the journal: one that is held for ever shows by the silence of this thread.
    """

    def __init__(
        self,
        manager: ServiceManager,
        threads: Iterable[threading.Thread],
        loops: dict[str, Callable[[], float]],
        ask_journal: Callable[[], object],
        status: Callable[[], str],
    ) -> None:
        self._manager = manager
        self._threads = tuple(threads)
        self._loops = loops
        self._ask_journal = ask_journal
        self._status = status

    def watch(self, stop: threading.Event) -> None:
        """Until stopped; at once over when nobody listens."""
        patience = self._manager.patience_s
        while self._manager.listens:
            self.tell()
            if stop.wait(patience / 3 if patience else TELL_EACH_S):
                return

    def tell(self) -> bool:
        """Look once and tell; whether all is well."""
        try:
            problems = list(self._problems())
            self._ask_journal()
            status = self._status()
        except AgentError as error:
            problems, status = [f"journal={error}"], "the journal does not answer"
        if problems:
            log.error("unwell %s", " ".join(problems))
            self._manager.tell(status="unwell: " + " ".join(problems))
        else:
            self._manager.tell(ALIVE, status=status)
        return not problems

    def _problems(self) -> Iterator[str]:
        for thread in self._threads:
            if not thread.is_alive():
                yield f"{thread.name}=ended"
        for name, silent_s in self._loops.items():
            silence = silent_s()
            if self._manager.patience_s and silence > self._manager.patience_s:
                yield f"{name}=silent for {silence:.0f} s"
