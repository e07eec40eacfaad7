"""How often one terminal may look members up: enough for any till, not for reading the whole club."""

from __future__ import annotations

import math
import threading

from terminal_agent.crm.problems import ProblemError
from terminal_agent.ports import Clock

AT_ONCE = 60
PER_SECOND = 0.5


class Allowance:
    """A bucket of lookups for each caller, filled up again with time. One for each server process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._left: dict[bytes, tuple[float, float]] = {}

    def take(self, caller: bytes) -> None:
        """Uses up one lookup. ProblemError: 429 with Retry-After when there is none left."""
        now = self._clock.monotonic()
        with self._lock:
            left, since = self._left.get(caller, (float(AT_ONCE), now))
            left = min(AT_ONCE, left + max(0.0, now - since) * PER_SECOND)
            if left >= 1:
                self._left[caller] = (left - 1, now)
                return
        wait_s = math.ceil((1 - left) / PER_SECOND)
        detail = f"This terminal looks up members too often; ask again in {wait_s} seconds."
        raise ProblemError(429, "too_many_lookups", detail, retryable=True, headers={"Retry-After": str(wait_s)})
