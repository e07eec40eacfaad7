"""How often one paired program may ask for phone numbers: enough for any till, not for reading the whole club."""

from __future__ import annotations

import math
import threading

from terminal_agent.ports import Clock
from terminal_agent.till_api.problems import Refusal, Refused

AT_ONCE = 30
EVERY_S = 10.0


class Allowance:
    """A bucket of phone numbers for each token, filled up again with time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, token_id: str) -> None:
        """Uses up one. Raises Refused ``too_many_lookups`` when there is none left."""
        now = self._clock.monotonic()
        with self._lock:
            left, since = self._left.get(token_id, (float(AT_ONCE), now))
            left = min(AT_ONCE, left + (now - since) / EVERY_S)
            if left >= 1:
                self._left[token_id] = (left - 1, now)
                return
        raise Refused(Refusal.TOO_MANY_LOOKUPS, retry_after_s=math.ceil((1 - left) * EVERY_S))
