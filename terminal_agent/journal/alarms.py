"""What a person must know of the journal: each alarm stands until it is acknowledged, or until its cause is gone."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from terminal_agent.journal.database import Database
from terminal_agent.journal.files import READ_ONLY_HINT, is_read_only
from terminal_agent.journal.space import Space
from terminal_agent.ports import Clock, rfc3339

log = logging.getLogger(__name__)


class AlarmCode(StrEnum):
    """Stable names; docs/journal.md says what each means. The first three stand until acknowledged."""

    STARTED_OVER = "started_over"
    RESTORED = "restored"
    INDEXES_REBUILT = "indexes_rebuilt"
    READ_ONLY = "read_only"
    SHORT_OF_SPACE = "short_of_space"
    HASH_CHAIN_BROKEN = "hash_chain_broken"
    POLICY_UNREADABLE = "policy_unreadable"


_ACKNOWLEDGE = "tell head office, then: terminal-agent doctor --acknowledge"
_FIXES = {
    AlarmCode.STARTED_OVER: f"Keep what was moved aside, have the disk checked, {_ACKNOWLEDGE}",
    AlarmCode.RESTORED: f"What was sold after the copy was made is not in it: {_ACKNOWLEDGE}",
    AlarmCode.INDEXES_REBUILT: "Nothing was lost; have the disk checked, then: terminal-agent doctor --acknowledge",
    AlarmCode.SHORT_OF_SPACE: "Free some space: df -h shows where",
    AlarmCode.HASH_CHAIN_BROKEN: "What was recorded was changed, by the disk or by a hand. See which: "
    "terminal-agent queue list --state quarantined",
    AlarmCode.POLICY_UNREADABLE: "Have the disk checked, and head office publish the policy again",
}


@dataclass(frozen=True)
class Alarm:
    """One thing to know. ``since`` is RFC 3339; None for one that stands as long as its cause does. ``fix``: where the
    one that all alarms of this code have will not do."""

    code: AlarmCode
    since: str | None
    detail: str
    fix: str | None = None

    def to_json(self) -> dict[str, str | None]:
        fix = self.fix or _FIXES[self.code]
        return {"code": self.code.value, "since": self.since, "detail": self.detail, "fix": fix}


def alarms_of_the_disk(folder: Path, space: Space | None) -> list[Alarm]:
    """What stands as long as the disk is as it is."""
    if is_read_only(folder):
        detail = f"the disk of {folder} is read-only: no sale can be recorded, so none is taken; cards can be read"
        return [Alarm(AlarmCode.READ_ONLY, None, detail, READ_ONLY_HINT.format(folder=folder))]
    if space is None or not space.short:
        return []
    detail = f"{space.free_bytes():,} bytes are free in {folder}: points are earned, none are redeemed"
    return [Alarm(AlarmCode.SHORT_OF_SPACE, None, detail)]


class Alarms:
    """Those that stand until acknowledged, kept in ``meta``; writers run inside the caller's transaction."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def sound(self, code: AlarmCode, detail: str) -> None:
        log.error("journal=%s %s", code.value, detail)
        key = f"alarm:{rfc3339(self._clock.now())}:{code.value}"
        self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", key, detail)

    def standing(self) -> list[Alarm]:
        """Oldest first."""
        rows = self._database.query("SELECT key, value FROM meta WHERE key GLOB 'alarm:*' ORDER BY key")
        alarms = []
        for row in rows:
            since, _, code = row["key"].removeprefix("alarm:").rpartition(":")
            alarms.append(Alarm(AlarmCode(code), since, row["value"]))
        return alarms

    def acknowledge(self) -> int:
        """A person has read them; how many there were."""
        return self._database.execute("DELETE FROM meta WHERE key GLOB 'alarm:*'")
