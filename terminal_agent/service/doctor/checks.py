"""``doctor``: self-checks, what was found and exactly what to do. A new check is one function and one line."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import stat
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from drivers import list_readers
from terminal_agent.errors import AgentError
from terminal_agent.journal.files import READ_ONLY_HINT
from terminal_agent.journal.journal import CLOCK_SKEW
from terminal_agent.service.agent import Agent
from terminal_agent.service.counts import counts
from terminal_agent.service.doctor.finding import Finding, Status, fail, ok, warn
from terminal_agent.service.keys.store import IMPORT
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
_SET_CLOCK = (
    "Have a time server set it: sudo timedatectl set-ntp true (it says NTP not supported: sudo apt-get install "
    "systemd-timesyncd); by hand: sudo timedatectl set-ntp false; sudo timedatectl set-time 'YYYY-MM-DD HH:MM:SS'. "
    "Wrong after each night: the machine's battery is empty"
)


def examine(agent: Agent, params: dict[str, Any]) -> dict[str, Any]:
    """The checks of an agent that could be opened. ``acknowledge`` in ``params``: the alarms were read by a person."""
    if params.get("acknowledge"):
        agent.journal.acknowledge_alarms()
    return {"checks": [_found(check, agent).to_json(name) for name, check in CHECKS]}


def quick_problems(agent: Agent) -> list[dict[str, Any]]:
    """What ``status`` tells of the agent's own checks, where it is not well; the alarms it tells by itself."""
    found = {
        name: _found(check, agent) for name, check in (("clock", clock), ("keys", key_files), ("crm", credentials))
    }
    return [finding.to_json(name) for name, finding in found.items() if finding.status is not Status.OK]


def _found(check: Callable[[Agent], Finding], agent: Agent) -> Finding:
    """A check that cannot be made has failed, and stops no other."""
    try:
        return check(agent)
    except AgentError as problem:
        return fail(problem.message, problem.hint)
    except OSError as problem:
        place = problem.filename or agent.settings.data_dir
        remedy = READ_ONLY_HINT if problem.errno == errno.EROFS else "Check its disk and rights"
        return fail(f"{place}: {problem.strerror}", remedy.format(folder=agent.settings.data_dir))


def data_directory(agent: Agent) -> Finding:
    """What lies there is for its owner alone."""
    folder = agent.settings.data_dir
    open_to_others = [path for path in sorted(folder.rglob("*")) if not path.is_dir() and _mode(path) & OTHERS]
    if open_to_others:
        names = " ".join(str(path) for path in open_to_others[:5])
        return warn(f"others on this machine may read {len(open_to_others)} files of ours", f"sudo chmod go= {names}")
    aside = sorted(path.name for path in folder.glob("damaged-*"))
    return ok(f"{folder} is private" + (f"; kept aside there: {', '.join(aside)}" if aside else ""))


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def key_files(agent: Agent) -> Finding:
    """Every key set that is here can be used."""
    for version, problem in agent.keys.unusable.items():
        return fail(f"cards of key set {version} cannot be used here: {problem.message}", problem.hint)
    return ok("every key set that is here can be used")


def keys(agent: Agent) -> Finding:
    """There is a key set to issue cards under."""
    if (found := key_files(agent)).status is not Status.OK:
        return found
    if not agent.keys.versions():
        return fail("there is no master key set", IMPORT)
    active = next(key_set for key_set in agent.keys.list() if key_set.active)
    said = f"version {active.version} is active, check value {active.kcv}, {agent.keys.kept(active.version)}"
    if agent.keys.left_behind:
        names = " ".join(str(path) for path in agent.keys.left_behind)
        return warn(f"{said}; key files lie here all the same", f"Keep copies elsewhere, then: sudo shred -u {names}")
    return ok(said)


def journal(agent: Agent) -> Finding:
    """SQLite finds nothing wrong in the whole file, indexes included."""
    problems = agent.journal.integrity_problems()
    if problems:
        return fail(
            f"the journal is damaged: {problems[0]}",
            "Stop the daemon, copy the data directory away, start it: what is damaged is then mended or moved aside",
        )
    return ok(f"whole, {agent.journal.position():,} events")


def hash_chain(agent: Agent) -> Finding:
    """Every event is what was minted."""
    link = agent.journal.events.broken_link()
    if link is not None:
        return fail(
            f"event {link.sequence} of install epoch {link.install_epoch} is not what was minted",
            "It is not sent as it is. Tell head office; terminal-agent queue list --state quarantined shows what waits",
        )
    return ok("every event is what was minted")


def durability(agent: Agent) -> Finding:
    """The settings without which a power cut loses sales."""
    mode, synchronous, version = agent.journal.durability()
    said = f"journal_mode={mode}, synchronous={synchronous}, SQLite {version}"
    if (mode, synchronous) != ("wal", 2):
        return fail(f"a power cut could lose sales: {said}", "Report this; restart the daemon meanwhile")
    return ok(f"each commit waits for the disk: {said}")


def disk_space(agent: Agent) -> Finding:
    """There is room for sales, and a reserve for when there is not."""
    health = agent.journal.health()
    free, reserve = health["free_bytes"] / 1e6, health["reserve_bytes"] / 1e6
    if agent.journal.short_of_space:
        return fail(
            f"{free:,.0f} MB are free: points are earned, none are redeemed",
            f"Free some space: df -h {agent.settings.data_dir}",
        )
    return ok(f"{free:,.0f} MB are free, {reserve:,.0f} MB are in reserve")


def disk_sync(agent: Agent) -> Finding:
    """How long the disk takes to say that data is safe. One that answers at once did not do it."""
    fastest = min(_sync_times(agent.settings.data_dir / ".fsync-probe"))
    if fastest < SUSPICIOUSLY_FAST_S:
        return warn(
            f"the disk says after {fastest * 1e6:.0f} µs that data is safe: it is memory, or not telling the truth",
            "Keep the data directory on a disk of the machine, no RAM disk or USB stick, or have a battery behind it",
        )
    return ok(f"data is safe after {fastest * 1e3:.2f} ms")


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
    newest = agent.journal.events.newest_time()
    if now.year < EARLIEST_SANE_YEAR:
        return fail(f"this machine says it is {now:%Y-%m-%d}; sales go on, marked as of an unsure time", _SET_CLOCK)
    if newest is not None and newest - now > timedelta(seconds=SKEW_TOLERATED_S):
        return warn(f"it is {now:%Y-%m-%d %H:%M} UTC here, and a sale is of {newest:%Y-%m-%d %H:%M}", _SET_CLOCK)
    if abs(skew) > SKEW_TOLERATED_S:
        return warn(f"this machine's clock is {skew:+,.0f} s from the CRM's", _SET_CLOCK)
    return ok(f"it is {now:%Y-%m-%d %H:%M} UTC" + (f", {skew:+.0f} s from the CRM's clock" if skew else ""))


def backups(agent: Agent) -> Finding:
    """There is a copy, and it is not old. The daemon makes one each day."""
    last = agent.journal.health()["last_backup_at"]
    if last is None:
        return warn("no copy of the journal was made yet", "terminal-agent backup --output FILE, or run the daemon")
    if agent.clock.now() - datetime.fromisoformat(last) > COPY_TOO_OLD:
        return warn(f"the last copy is of {last}", "Free some space, run the daemon, or: terminal-agent backup")
    return ok(f"the last copy is of {last}")


def reader(agent: Agent) -> Finding:
    """The configured reader answers."""
    seen = look_at_reader(agent.settings.reader)
    if seen["state"] == "none":
        return warn("the config file names no reader", 'Add to it: reader = "pcsc:" (see terminal-agent reader list)')
    if seen["state"] == "lost":
        known = _plugged_in(str(seen["url"]))
        problem, hint = known or (seen["problem"], seen["hint"])
        return fail(f"{seen['url']}: {problem}", hint or "terminal-agent reader list")
    return ok(f"{seen['name'] or seen['url']} answers")


def _plugged_in(url: str) -> tuple[str, str] | None:
    """Problem and hint of a reader that is there and cannot be used: a driver is missing, or another one holds it."""
    scheme = url.partition(":")[0]
    for info in list_readers() if scheme in ("pcsc", "usb") else []:
        if info.url.startswith(f"{scheme}:") and info.name and info.problem and info.hint:
            return f"{info.name}: {info.problem}", info.hint
    return None


def credentials(agent: Agent) -> Finding:
    """What enrolment gave can be read."""
    problem = agent.credentials_problem
    if problem is not None:
        return fail(f"{problem.message}; sales go on, and wait", problem.hint)
    return ok("nothing is wrong with them")


def crm(agent: Agent) -> Finding:
    """The CRM answers, and accepts this terminal. A shop goes on without; it is worth knowing."""
    if (found := credentials(agent)).status is not Status.OK:
        return found
    client = agent.open_crm()
    if client is None:
        return warn("this terminal has not joined a CRM", "terminal-agent enroll --crm-url URL --code-file FILE")
    try:
        with closing(client):
            client.probe(CRM_TIMEOUT_S)
    except CrmUnauthorized as problem:
        return fail(f"{agent.crm_url}: {problem}", "Get a new code from head office: terminal-agent enroll …")
    except CrmRefused as problem:
        return fail(f"{agent.crm_url} is no CRM: {problem}", "Correct its address: terminal-agent enroll …")
    except CrmError as problem:
        return warn(f"{agent.crm_url}: {problem}", _way_to_the_crm(problem, agent.crm_url or ""))
    return ok(f"{agent.crm_url} answers and accepts this terminal")


def _way_to_the_crm(problem: BaseException, url: str) -> str:
    """What to look at, by what broke underneath. Sales go on meanwhile, and wait in the queue."""
    causes: list[BaseException] = [problem]
    while (deeper := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(deeper)
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return f"Its name is not found: check the line and its name server: resolvectl query {urlsplit(url).hostname}"
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return (
            "Its certificate is not trusted: check this machine's date (timedatectl) and its list of authorities: "
            "sudo apt-get install ca-certificates"
        )
    return "Nothing is lost, everything waits in the queue. Check the line"


def queue(agent: Agent) -> Finding:
    """Nothing waits for a person, nothing waits for long."""
    if agent.sync.state is CrmState.BLOCKED:
        return fail("every event is refused, by something that does not sign", "Ask who runs the network or the CRM")
    count = counts(agent)
    age = count["oldest_pending_age_s"] or 0.0
    said = f"{count['pending']} pending, {count['in_doubt']} in doubt, {count['quarantined']} quarantined"
    if count["quarantined"] or count["in_doubt"]:
        return warn(said, "terminal-agent queue list shows which, and what to do")
    if age > PENDING_TOO_OLD_S:
        return warn(f"{said}, the oldest for {age / 3600:.0f} hours", "Check the line to the CRM: terminal-agent sync")
    return ok(said)


def alarms(agent: Agent) -> Finding:
    """What happened to the journal, until somebody has read it."""
    standing = agent.journal.standing_alarms()
    if standing:
        told = [alarm.to_json() for alarm in standing]
        return fail("; ".join(str(alarm["detail"]) for alarm in told), str(told[0]["fix"]))
    return ok("none")


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
