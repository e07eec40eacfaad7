"""The service as systemd has it: whether it runs, why not, and whether its unit still is what the package brought."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from terminal_agent.service.doctor.finding import Finding, fail, ok, warn
from terminal_agent.service.doctor.listeners import PROC, Process, process
from terminal_agent.service.doctor.tools import said_by

SERVICE = "terminal-agent.service"
PACKAGE = "terminal-agent"
PROMISED = {
    "Type": "notify",
    "NotifyAccess": "main",
    "User": "terminal-agent",
    "DynamicUser": "no",
    "Restart": "always",
    "StateDirectory": "terminal-agent",
    "StateDirectoryMode": "0700",
    "RuntimeDirectory": "terminal-agent",
    "RuntimeDirectoryPreserve": "yes",
    "UMask": "0077",
    "LimitCORE": "0",
    "CapabilityBoundingSet": "",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "ProtectProc": "invisible",
    "PrivateTmp": "yes",
    "PrivateUsers": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "RestrictSUIDSGID": "yes",
    "MemoryDenyWriteExecute": "yes",
}
"""What the unit says that no drop-in of ours changes, under the names and in the words of ``systemctl show``."""
_OTHERS = (
    "LoadState",
    "LoadError",
    "UnitFileState",
    "ActiveState",
    "SubState",
    "Result",
    "ExecMainStatus",
    "NRestarts",
    "MainPID",
    "FragmentPath",
    "DropInPaths",
    "NeedDaemonReload",
    "ExecStart",
    "WatchdogUSec",
)
_LOOKS, _PAUSE_S = 20, 0.1
_RUNS = re.compile(r"terminal[-_]agent\b.*\brun\b")
_VERIFIED = re.compile(r"(?:[?5.]{9}|missing)\s+(?:\w\s+)?(/\S.*?)(?:\s+\(.*\))?$")
"""A file's line of ``dpkg --verify``."""
_UNWATCHED = ("0", "infinity")
_LOG = f"sudo journalctl -u {PACKAGE} -n 20 --no-pager"
_RELOAD = f"sudo systemctl daemon-reload && sudo systemctl restart {PACKAGE}"
_REBUILD = f"sudo dpkg-reconfigure {PACKAGE}"
CREDENTIALS = "243"
# systemd.exec(5), "Process exit codes": what systemd says of a service that it could not begin.
_BEFORE_THE_START = {
    "200": ("its working directory cannot be entered", f"{_LOG} names it"),
    "203": ("its program cannot be started", f"Lay it anew: {_REBUILD}"),
    "217": ("its user cannot be found", f"Make it anew: sudo systemd-sysusers {PACKAGE}.conf && {_RELOAD}"),
    "226": ("its view of the disk cannot be made", f"Look for a disk that is read-only or missing: findmnt; {_LOG}"),
    "228": ("the kernel refuses its system call filter", f"Take the drop-in away that changes it; {_LOG}"),
    "233": ("/run/terminal-agent cannot be made", "Look for a full or read-only /run: df -h /run; findmnt /run"),
    "238": (
        "/var/lib/terminal-agent cannot be made or given to it",
        f"Make its disk writable: findmnt -T /var/lib; sudo mount -o remount,rw MOUNTPOINT; {_LOG}",
    ),
    CREDENTIALS: (
        "a sealed key or credential is missing, or cannot be deciphered on this machine",
        f"sudo {PACKAGE}-seal --check names it; move that file out of /etc/credstore.encrypted, sudo systemctl "
        f"restart {PACKAGE}, then bring in the copy you keep: terminal-agent keys import (for crm.json: "
        f"terminal-agent enroll), and: sudo {PACKAGE}-seal",
    ),
}
_ENDS = {
    "watchdog": "it hung and was ended by the watchdog",
    "oom-kill": "the machine ran out of memory",
    "timeout": "it did not start or stop in time",
    "signal": "it was killed",
    "core-dump": "it crashed",
}


@dataclass(frozen=True)
class Unit:
    """``systemctl show`` of the service."""

    properties: dict[str, str]

    def __getitem__(self, name: str) -> str:
        return self.properties.get(name, "")

    @property
    def is_installed(self) -> bool:
        return self["LoadState"] not in ("", "not-found")

    @property
    def is_tried_again(self) -> bool:
        """Whether it is being started anew just now: how it ended last is told again a moment later."""
        return self["ActiveState"] == "activating" and self["SubState"] != "auto-restart" and self["NRestarts"] != "0"

    @property
    def drop_ins(self) -> str:
        return self["DropInPaths"]

    def uses(self, config: Path) -> bool:
        """Whether the service is about this very config file; a unit that cannot be read may be."""
        return str(config) in self["ExecStart"] or self["LoadState"] != "loaded"


def ask_systemd() -> Unit | None:
    """The service's properties; None where systemd does not run."""
    names = ",".join((*PROMISED, *_OTHERS))
    for _ in range(_LOOKS):
        said = said_by("systemctl", "show", SERVICE, f"--property={names}")
        if said is None:
            return None
        unit = parse(said)
        if not unit.is_tried_again:
            break
        time.sleep(_PAUSE_S)
    return unit


def parse(said: str) -> Unit:
    """Of the lines of ``systemctl show``."""
    lines = (line.partition("=") for line in said.splitlines())
    return Unit({name: value for name, equals, value in lines if equals})


def service(unit: Unit | None, config: Path, owner: int | None, proc: Path = PROC) -> Finding:
    """Whether the service runs, and why not. ``owner``: the process that answers on the control socket."""
    if unit is None:
        return ok("systemd does not run here")
    if not unit.is_installed:
        return ok("no service is installed: whoever starts terminal-agent run keeps it running")
    if not unit.uses(config):
        return ok("the service of this machine uses another config file")
    if unit["LoadState"] == "masked":
        return fail(
            "the service is masked", f"sudo systemctl unmask {PACKAGE} && sudo systemctl enable --now {PACKAGE}"
        )
    if unit["LoadState"] != "loaded":
        why = "; ".join(_complaints("Refusing")) or unit["LoadError"] or unit["LoadState"]
        return fail(f"systemd cannot use the unit: {why}", _mend(unit))
    return _another_daemon(unit, owner, proc) or _how_it_runs(unit)


def _another_daemon(unit: Unit, owner: int | None, proc: Path) -> Finding | None:
    """Somebody else has the data directory: the service ends each time it starts, and is started again for ever."""
    other = process(owner, proc) if owner not in (None, int(unit["MainPID"] or 0)) else None
    if other is None or (other.unit == SERVICE):
        return None
    return fail(f"{other} has the data directory, and the service waits for it", _ended(other))


def _ended(other: Process) -> str:
    return f"End it: {other.ended_by}; then: sudo systemctl restart {PACKAGE}"


def _how_it_runs(unit: Unit) -> Finding:
    restarts = int(unit["NRestarts"] or 0)
    if unit["ActiveState"] == "active" and restarts == 0:
        if unit["UnitFileState"] == "disabled":
            return warn("it runs, and will not start with the machine", f"sudo systemctl enable {PACKAGE}")
        return ok("it runs, and starts with the machine")
    if unit["ActiveState"] == "activating" and restarts == 0:
        return ok("it is starting")
    if unit["ActiveState"] == "active":
        return warn(
            f"it runs, and had to be started anew {restarts} times",
            f"sudo journalctl -u {PACKAGE} -p warning says why; to count anew: sudo systemctl restart {PACKAGE}",
        )
    if unit["Result"] in ("success", "") and restarts == 0:
        return fail("it does not run", f"sudo systemctl enable --now {PACKAGE}")
    why, remedy = _why_not(unit)
    return fail(f"it does not run: {why}", remedy)


def _why_not(unit: Unit) -> tuple[str, str]:
    status = unit["ExecMainStatus"]
    if unit["Result"] in _ENDS:
        return _ENDS[unit["Result"]], _LOG
    return _BEFORE_THE_START.get(status, (f"it ended with exit code {status or '?'}", f"{_LOG} says why"))


def drift(unit: Unit | None, config: Path) -> Finding:
    """The unit is the package's, and what was added to it weakens nothing."""
    if unit is None or not unit.is_installed or not unit.uses(config):
        return ok("no unit to look at")
    if unit["NeedDaemonReload"] == "yes":
        return warn("its files were changed, and systemd still goes by the old ones", _RELOAD)
    changed = [f"{name}={unit[name]}" for name, value in PROMISED.items() if unit[name] != value]
    if unit["WatchdogUSec"] in _UNWATCHED:
        changed.append("WatchdogSec=0: a hung daemon is not ended")
    told = [f"the unit is not the package's: {', '.join(changed)}"] if changed else []
    told += [f"systemd does not understand {line}" for line in _complaints(", ignoring")]
    if told:
        return warn("; ".join(told), _mend(unit))
    return ok("as the package brought it" + (f", with {unit.drop_ins}" if unit.drop_ins else ""))


def _complaints(about: str) -> list[str]:
    """What ``systemd-analyze verify`` says of our unit's files, with the words ``about`` in it."""
    said = said_by("systemd-analyze", "verify", "--man=no", SERVICE, may_fail=True) or ""
    return [line for line in said.splitlines() if PACKAGE in line and about in line]


def _mend(unit: Unit) -> str:
    """Our own drop-ins and those of :program:`terminal-agent-seal` are never among the files to be taken away."""
    own = ("/usr/lib/systemd/system/", "/lib/systemd/system/")
    files = [unit["FragmentPath"], *unit.drop_ins.split()]
    strange = [file for file in files if file and not file.startswith(own) and not file.endswith("/credentials.conf")]
    if not strange:
        return f"Lay the package again: sudo apt-get install --reinstall ./{PACKAGE}_VERSION_ARCH.deb"
    return f"Look what they change, then: sudo rm {' '.join(strange)} && {_RELOAD}"


def others(said: str | None, config: Path) -> Finding:
    """No other unit runs the daemon on the same config file. ``said``: ``systemctl show`` of all services."""
    for lines in (said or "").split("\n\n"):
        other = parse(lines)
        if other["Id"] == SERVICE or other["ActiveState"] not in ("active", "activating"):
            continue
        start = other["ExecStart"]
        if _RUNS.search(start) and (str(config) in start or "--config" not in start):
            return warn(
                f"{other['Id']} starts the daemon too, and one of the two ends each time",
                f"sudo systemctl disable --now {other['Id']}",
            )
    return ok("no other unit starts the daemon")


def package() -> Finding:
    """Every file of the package is what it brought (unit, polkit rule, udev, wheels), by dpkg's sums."""
    said = said_by("dpkg", "--verify", PACKAGE, may_fail=True)
    if said is None or "not installed" in said:
        return ok("not installed from a package")
    changed = changed_files(said)
    if changed:
        return warn(
            f"{len(changed)} files are not what the package brought: {' '.join(changed[:5])}",
            f"Lay the package again: sudo apt-get install --reinstall ./{PACKAGE}_VERSION_ARCH.deb",
        )
    return ok("every file is what it brought")


def changed_files(said: str) -> list[str]:
    """Of the lines of ``dpkg --verify``; one that whoever asks may not see is no change."""
    files = (_VERIFIED.match(line) for line in said.splitlines() if not line.endswith("(Permission denied)"))
    return [found[1] for found in files if found]
