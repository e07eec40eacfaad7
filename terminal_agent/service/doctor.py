"""``doctor``: self-checks, what was found and exactly what to do. A new check is one function and one line."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from terminal_agent.errors import AgentError
from terminal_agent.journal.journal import CLOCK_SKEW
from terminal_agent.service.agent import Agent
from terminal_agent.service.counts import counts
from terminal_agent.service.readers import look_at_reader
from terminal_agent.sync.adapters.base import CrmError, CrmRefused, CrmUnauthorized
from terminal_agent.sync.worker import CrmState
from terminal_agent.till.decided import EARLIEST_SANE_YEAR, SKEW_TOLERATED_S

OTHERS = 0o077
SYNC_PROBES = 5
SUSPICIOUSLY_FAST_S = 50e-6
COPY_TOO_OLD = timedelta(days=2)
CRM_TIMEOUT_S = 5.0
PENDING_TOO_OLD_S = 24 * 3600.0


class Status(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """What one check found; ``fix`` is None where nothing needs to be done."""

    status: Status
    detail: str
    fix: str | None = None

    def to_json(self, name: str) -> dict[str, Any]:
        return {"id": name, "status": self.status.value, "detail": self.detail, "fix": self.fix}


def _ok(detail: str) -> Finding:
    return Finding(Status.OK, detail)


def _warn(detail: str, fix: str) -> Finding:
    return Finding(Status.WARN, detail, fix)


def _fail(detail: str, fix: str) -> Finding:
    return Finding(Status.FAIL, detail, fix)


def examine(agent: Agent, params: dict[str, Any]) -> dict[str, Any]:
    """The checks of an agent that could be opened. ``acknowledge`` in ``params``: the alarms were read by a person."""
    if params.get("acknowledge"):
        agent.journal.acknowledge_alarms()
    return {"checks": [_found(check, agent).to_json(name) for name, check in CHECKS]}


def _found(check: Callable[[Agent], Finding], agent: Agent) -> Finding:
    """A check that cannot be made has failed, and stops no other."""
    try:
        return check(agent)
    except AgentError as problem:
        return _fail(problem.message, problem.hint)
    except OSError as problem:
        return _fail(f"{problem.filename or agent.settings.data_dir}: {problem.strerror}", "Check its disk and rights")


def data_directory(agent: Agent) -> Finding:
    """What lies there is for its owner alone."""
    folder = agent.settings.data_dir
    open_to_others = [path for path in sorted(folder.rglob("*")) if not path.is_dir() and _mode(path) & OTHERS]
    if open_to_others:
        names = " ".join(str(path) for path in open_to_others[:5])
        return _warn(f"others on this machine may read {len(open_to_others)} files of ours", f"chmod go= {names}")
    aside = sorted(path.name for path in folder.glob("damaged-*"))
    return _ok(f"{folder} is private" + (f"; kept aside there: {', '.join(aside)}" if aside else ""))


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def keys(agent: Agent) -> Finding:
    """There is a key set to issue cards under."""
    if not agent.keys.versions():
        return _fail(
            "there is no master key set", "Import the shop's: terminal-agent keys import --file FILE --activate"
        )
    active = next(key_set for key_set in agent.keys.list() if key_set.active)
    kept = "in the data directory" if active.version in agent.keys.unsealed else "sealed"
    return _ok(f"version {active.version} is active, check value {active.kcv}, {kept}")


def journal(agent: Agent) -> Finding:
    """SQLite finds nothing wrong in the whole file, indexes included."""
    problems = agent.journal.integrity_problems()
    if problems:
        return _fail(
            f"the journal is damaged: {problems[0]}",
            "Stop the daemon, copy the data directory away, start it: what is damaged is then mended or moved aside",
        )
    return _ok(f"whole, {agent.journal.position():,} events")


def hash_chain(agent: Agent) -> Finding:
    """Every event is what was minted."""
    link = agent.journal.events.broken_link()
    if link is not None:
        return _fail(
            f"event {link.sequence} of install epoch {link.install_epoch} is not what was minted",
            "It is not sent as it is. Tell head office; terminal-agent queue list --state quarantined shows what waits",
        )
    return _ok("every event is what was minted")


def durability(agent: Agent) -> Finding:
    """The settings without which a power cut loses sales."""
    mode, synchronous, version = agent.journal.durability()
    said = f"journal_mode={mode}, synchronous={synchronous}, SQLite {version}"
    if (mode, synchronous) != ("wal", 2):
        return _fail(f"a power cut could lose sales: {said}", "Report this; restart the daemon meanwhile")
    return _ok(f"each commit waits for the disk: {said}")


def disk_space(agent: Agent) -> Finding:
    """There is room for sales, and a reserve for when there is not."""
    health = agent.journal.health()
    free, reserve = health["free_bytes"] / 1e6, health["reserve_bytes"] / 1e6
    if agent.journal.short_of_space:
        return _fail(
            f"{free:,.0f} MB are free: points are earned, none are redeemed",
            f"Free some space: df -h {agent.settings.data_dir}",
        )
    return _ok(f"{free:,.0f} MB are free, {reserve:,.0f} MB are in reserve")


def disk_sync(agent: Agent) -> Finding:
    """How long the disk takes to say that data is safe. One that answers at once did not do it."""
    fastest = min(_sync_times(agent.settings.data_dir / ".fsync-probe"))
    if fastest < SUSPICIOUSLY_FAST_S:
        return _warn(
            f"the disk says after {fastest * 1e6:.0f} µs that data is safe: it is memory, or not telling the truth",
            "Keep the data directory on a disk of the machine, no RAM disk or USB stick, or have a battery behind it",
        )
    return _ok(f"data is safe after {fastest * 1e3:.2f} ms")


def _sync_times(probe: Path) -> list[float]:
    handle = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        return [_sync_once(handle) for _ in range(SYNC_PROBES)]
    finally:
        os.close(handle)
        probe.unlink()


def _sync_once(handle: int) -> float:
    os.write(handle, bytes(4096))
    began = time.perf_counter()
    os.fsync(handle)
    return time.perf_counter() - began


def clock(agent: Agent) -> Finding:
    """The machine's date is possible, and near the CRM's."""
    now, skew = agent.clock.now(), float(agent.journal.meta(CLOCK_SKEW) or 0)
    if now.year < EARLIEST_SANE_YEAR:
        return _fail(f"this machine says it is {now:%Y-%m-%d}", "Set its clock: timedatectl set-ntp true")
    if abs(skew) > SKEW_TOLERATED_S:
        return _warn(f"this machine's clock is {skew:+,.0f} s from the CRM's", "Set it: timedatectl set-ntp true")
    return _ok(f"it is {now:%Y-%m-%d %H:%M} UTC" + (f", {skew:+.0f} s from the CRM's clock" if skew else ""))


def backups(agent: Agent) -> Finding:
    """There is a copy, and it is not old. The daemon makes one each day."""
    last = agent.journal.health()["last_backup_at"]
    if last is None:
        return _warn("no copy of the journal was made yet", "terminal-agent backup --output FILE, or run the daemon")
    if agent.clock.now() - datetime.fromisoformat(last) > COPY_TOO_OLD:
        return _warn(f"the last copy is of {last}", "Free some space, run the daemon, or: terminal-agent backup")
    return _ok(f"the last copy is of {last}")


def reader(agent: Agent) -> Finding:
    """The configured reader answers."""
    seen = look_at_reader(agent.settings.reader)
    if seen["state"] == "none":
        return _warn("the config file names no reader", 'Add to it: reader = "pcsc:" (see terminal-agent reader list)')
    if seen["state"] == "lost":
        return _fail(f"{seen['url']}: {seen['problem']}", seen["hint"] or "terminal-agent reader list")
    return _ok(f"{seen['name'] or seen['url']} answers")


def crm(agent: Agent) -> Finding:
    """The CRM answers, and accepts this terminal. A shop goes on without; it is worth knowing."""
    client = agent.open_crm()
    if client is None:
        return _warn("this terminal has not joined a CRM", "terminal-agent enroll --crm-url URL --code-file FILE")
    try:
        with closing(client):
            client.probe(CRM_TIMEOUT_S)
    except CrmUnauthorized as problem:
        return _fail(f"{agent.crm_url}: {problem}", "Get a new code from head office: terminal-agent enroll …")
    except CrmRefused as problem:
        return _fail(f"{agent.crm_url} is no CRM: {problem}", "Correct its address: terminal-agent enroll …")
    except CrmError as problem:
        return _warn(f"{agent.crm_url}: {problem}", "Nothing is lost, everything waits in the queue. Check the line")
    return _ok(f"{agent.crm_url} answers and accepts this terminal")


def queue(agent: Agent) -> Finding:
    """Nothing waits for a person, nothing waits for long."""
    if agent.sync.state is CrmState.BLOCKED:
        return _fail("every event is refused, by something that does not sign", "Ask who runs the network or the CRM")
    count = counts(agent)
    age = count["oldest_pending_age_s"] or 0.0
    said = f"{count['pending']} pending, {count['in_doubt']} in doubt, {count['quarantined']} quarantined"
    if count["quarantined"] or count["in_doubt"]:
        return _warn(said, "terminal-agent queue list shows which, and what to do")
    if age > PENDING_TOO_OLD_S:
        return _warn(f"{said}, the oldest for {age / 3600:.0f} hours", "Check the line to the CRM: terminal-agent sync")
    return _ok(said)


def alarms(agent: Agent) -> Finding:
    """What happened to the journal, until somebody has read it."""
    standing = agent.journal.standing_alarms()
    if standing:
        told = [alarm.to_json() for alarm in standing]
        return _fail("; ".join(str(alarm["detail"]) for alarm in told), str(told[0]["fix"]))
    return _ok("none")


CHECKS: tuple[tuple[str, Callable[[Agent], Finding]], ...] = (
    ("data_dir", data_directory),
    ("keys", keys),
    ("journal", journal),
    ("hash_chain", hash_chain),
    ("durability", durability),
    ("disk_space", disk_space),
    ("disk_sync", disk_sync),
    ("clock", clock),
    ("backups", backups),
    ("reader", reader),
    ("crm", crm),
    ("queue", queue),
    ("alarms", alarms),
)
