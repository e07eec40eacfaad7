"""What ``doctor`` looks at around the agent, in the process of whoever asks: this works where nothing else does.

A new check is one function and one line. ``QUICK`` ones are told by ``status`` too.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from terminal_agent import __version__
from terminal_agent.errors import AgentError
from terminal_agent.journal.files import READ_ONLY_HINT, is_read_only
from terminal_agent.service import control
from terminal_agent.service.doctor import browsers, unit
from terminal_agent.service.doctor.finding import Finding, fail, ok, warn
from terminal_agent.service.doctor.listeners import listener_on
from terminal_agent.service.doctor.tools import said_by
from terminal_agent.service.settings import Settings

_KERNEL_READERS = ("pn533_usb", "pn533")
_MODPROBE_FOLDERS = ("etc/modprobe.d", "run/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d")
_BLACKLIST = "printf 'blacklist %s\\n' pn533_usb pn533 nfc | sudo tee /etc/modprobe.d/nfc-reader.conf"
_POLKIT_ACTIONS = "usr/share/polkit-1/actions/org.debian.pcsc-lite.policy"
_POLKIT_RULES = ("usr/share/polkit-1/rules.d", "etc/polkit-1/rules.d", "usr/local/share/polkit-1/rules.d")
_WRITES_KEYS = {"--apdu", "-a"}
_CREDENTIALS = struct.Struct("3i")
"""``struct ucred`` of unix(7): process, user, group."""


class Surroundings:
    """This machine, as far as the agent of one config file is concerned.

    ``status`` is the agent's own answer, None where nobody could be asked; ``root`` is another folder in tests.
    """

    def __init__(self, settings: Settings, config: Path, status: dict[str, Any] | None, root: Path = Path("/")) -> None:
        self.settings = settings
        self.config = config
        self.status = status
        self.root = root

    @cached_property
    def unit(self) -> unit.Unit | None:
        """What systemd says of the service."""
        return unit.ask_systemd()

    @cached_property
    def owner(self) -> int | None:
        """The process that answers on the control socket."""
        try:
            connection = control.connect(self.settings.socket_dir)
        except (AgentError, OSError):
            return None
        if connection is None:
            return None
        with connection:
            answered = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return int(_CREDENTIALS.unpack(answered)[0])


@dataclass(frozen=True)
class Check:
    """``look`` under its name; ``quick``: cheap enough for ``status``."""

    name: str
    look: Callable[[Surroundings], Finding]
    quick: bool = False


def around(here: Surroundings, *, only_quick: bool = False) -> list[dict[str, Any]]:
    """What every check finds, as ``doctor`` tells it."""
    return [_found(check, here).to_json(check.name) for check in CHECKS if check.quick or not only_quick]


def _found(check: Check, here: Surroundings) -> Finding:
    """One that cannot be made here says so, and stops no other."""
    try:
        return check.look(here)
    except OSError as problem:
        return warn(f"it cannot be looked at: {problem}", "Ask again as root: sudo terminal-agent doctor")


def version(here: Surroundings) -> Finding:
    """The daemon is of the version that is installed."""
    running = here.status["version"] if here.status else __version__
    if running != __version__:
        return warn(
            f"the daemon is of version {running}, this command of {__version__}",
            "sudo systemctl restart terminal-agent",
        )
    return ok(f"version {__version__}")


def access(here: Surroundings) -> Finding:
    """Whoever asks may talk to the daemon."""
    folder = here.settings.socket_dir
    if os.geteuid() == 0 or here.settings.runtime_dir is None or not folder.exists():
        return ok("this user may use the commands")
    try:
        group = grp.getgrgid(folder.stat().st_gid)
    except KeyError:
        return ok("the daemon's group has no name here")
    has_it = group.gr_gid in {os.getegid(), *os.getgroups()}
    return membership(_user_name(os.geteuid()), group.gr_name, group.gr_mem, has_it)


def membership(user: str, group: str, members: list[str], has_it: bool) -> Finding:
    """Whether ``user`` belongs to the daemon's ``group``, and this login knows it."""
    if has_it:
        return ok(f"{user} is in the group {group}")
    if user in members:
        return fail(
            f"{user} is in the group {group}, and this login is older than that",
            f"Log out and in again; at once, in this window: newgrp {group}",
        )
    return fail(f"{user} is not in the group {group}", f"sudo adduser {user} {group}, then log out and in again")


def service(here: Surroundings) -> Finding:
    """The service runs, and starts with the machine."""
    return unit.service(here.unit, here.config, here.owner)


def second_service(here: Surroundings) -> Finding:
    """Nobody starts the daemon a second time. The lock keeps the data safe; the restarts would never end."""
    said = said_by("systemctl", "show", "*.service", "--property=Id,ActiveState,ExecStart") if here.unit else None
    return unit.others(said, here.config)


def unit_drift(here: Surroundings) -> Finding:
    """The service is hardened and watched as the package has it."""
    return unit.drift(here.unit, here.config)


def package(here: Surroundings) -> Finding:
    """The files of the package are whole."""
    return unit.package() if here.unit is not None and here.unit.is_installed else ok("not installed from a package")


def data_disk(here: Surroundings) -> Finding:
    """The data directory can be written to, by the one who must."""
    folder = here.settings.data_dir
    if not folder.is_dir():
        return ok("see start")
    if is_read_only(folder):
        return fail(
            f"the disk of {folder} is read-only, and nothing can be recorded", READ_ONLY_HINT.format(folder=folder)
        )
    owner = folder.stat().st_uid
    wanted = (
        _user_id(here.unit["User"]) if here.unit and here.unit.is_installed and here.unit.uses(here.config) else None
    )
    strangers = [str(path) for path in _readable(folder) if path.lstat().st_uid != owner]
    if wanted is not None and owner != wanted:
        return fail(
            f"{folder} is not the service's own", _give_back(folder, str(here.unit["User"] if here.unit else ""))
        )
    if strangers:
        whose = _user_name(owner)
        return fail(f"{strangers[0]} is of another user: the daemon cannot open it", _give_back(folder, whose))
    return ok(f"{folder} can be written to")


def _readable(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*")) if os.access(folder, os.R_OK | os.X_OK, effective_ids=True) else []


def _give_back(folder: Path, user: str) -> str:
    return f"sudo chown -R {user}: {folder} && sudo systemctl restart terminal-agent"


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _user_id(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def till_port(here: Surroundings) -> Finding:
    """The till's port is the till's. Cards and commands work without it, and it is tried again all the time."""
    if here.status and here.status["till_url"]:
        return ok(f"the till is reached at {here.status['till_url']}")
    problem = here.status["till_problem"] if here.status else None
    port = int(here.settings.till.listen.rpartition(":")[2])
    holder = listener_on(port) if port else None
    if holder is None:
        return fail(str(problem), "Correct listen in the [till] table") if problem else ok(f"port {port} is free")
    if here.status is None and here.unit and here.unit.uses(here.config) and holder.user == here.unit["User"]:
        return ok(f"the service has port {port}")  # whoever asks may not talk to it: see access
    ends = holder.process.ended_by if holder.process else f"find it: sudo ss -ltnp 'sport = :{port}'"
    fix = f"End it ({ends}), or give the till another port: listen in the [till] table of {here.config}"
    if here.status is None:
        return warn(f"port {port} is in use by {holder}", fix)
    return fail(f"the till's port {port} is in use by {holder}", fix)


def kernel_modules(here: Surroundings) -> Finding:
    """No NFC driver of the kernel takes the readers that pcscd or nfcpy are to drive."""
    modules = here.root / "proc" / "modules"
    loaded = {line.split()[0] for line in modules.read_text().splitlines()} if modules.exists() else set()
    taken = [name for name in _KERNEL_READERS if name in loaded]
    if not taken:
        return ok("the kernel leaves the readers alone")
    fix = "sudo modprobe -r pn533_usb pn533 nfc"
    if not _blacklisted(here.root):
        fix += f"; for good: {_BLACKLIST}"
    return warn(f"the kernel's module {taken[0]} is loaded: it takes ACR122U and PN533 readers for itself", fix)


def _blacklisted(root: Path) -> bool:
    files = (file for folder in _MODPROBE_FOLDERS for file in (root / folder).glob("*.conf"))
    return any(re.search(r"^\s*blacklist\s+pn533_usb\s*$", file.read_text(), re.MULTILINE) for file in files)


def smart_card_service(here: Surroundings) -> Finding:
    """pcscd lets the daemon in, and writes no keys into its log."""
    if not (here.settings.reader or "").startswith("pcsc:"):
        return ok("the reader is not behind pcscd")
    if here.root.joinpath("usr/sbin").is_dir() and not (here.root / "usr/sbin/pcscd").exists():
        return fail("pcscd is not installed", "sudo apt-get install pcscd libccid")
    talkative = _pcscd_options(here.root) & _WRITES_KEYS
    if talkative:
        return warn(
            f"pcscd runs with {' '.join(sorted(talkative))}: its log holds card keys in clear",
            "Take it out of /etc/default/pcscd and of: systemctl cat pcscd; then: sudo systemctl restart pcscd",
        )
    return _polkit(here)


def _pcscd_options(root: Path) -> set[str]:
    for name in (root / "proc").glob("[0-9]*/comm"):
        try:
            if name.read_text().strip() == "pcscd":
                return set((name.parent / "cmdline").read_text().split("\0"))
        except OSError:
            continue
    return set()


def _polkit(here: Surroundings) -> Finding:
    """Where pcscd asks polkit, as from Debian 13 on, a rule must name the daemon's user."""
    if not (here.root / _POLKIT_ACTIONS).exists() or not here.settings.data_dir.is_dir():
        return ok("pcscd serves every user")
    owner = here.settings.data_dir.stat().st_uid
    user = _user_name(owner)
    if owner != 0 and not _ruled(here.root, user):
        return fail(
            f"no polkit rule lets {user} use pcscd",
            "Lay the package again, or from the source: sudo install -m 644 config/polkit/50-terminal-agent.rules "
            "/etc/polkit-1/rules.d/; then: sudo systemctl restart polkit pcscd",
        )
    hidden = re.search(r"^\S+ /proc proc \S*hidepid=(2|invisible)", _text(here.root / "proc" / "mounts"), re.MULTILINE)
    if hidden:
        return fail(
            "/proc hides processes (hidepid): pcscd cannot ask polkit who calls, and refuses everybody",
            "sudo mount -o remount,hidepid=0 /proc, and take hidepid out of /etc/fstab",
        )
    return ok(f"a polkit rule lets {user} use pcscd")


def _ruled(root: Path, user: str) -> bool:
    """A folder that only root may read counts as one with the rule: the reader itself shows whether it is so."""
    for folder in (root / name for name in _POLKIT_RULES):
        if folder.exists() and not os.access(folder, os.R_OK, effective_ids=True):
            return True
        texts = [_text(file) for file in folder.glob("*.rules")]
        if any("pcsc-lite.access_pcsc" in text and "pcsc-lite.access_card" in text and user in text for text in texts):
            return True
    return False


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def pos_pages(here: Surroundings) -> Finding:
    """The browser lets the POS's page talk to the till."""
    return browsers.pos_pages(here.settings.till.origins, here.root)


def time_server(_here: Surroundings) -> Finding:
    """A time server keeps this machine's clock."""
    return kept_in_step(said_by("timedatectl", "show"))


def kept_in_step(said: str | None) -> Finding:
    """Of the lines of ``timedatectl show``."""
    if said is None:
        return ok("nobody can be asked here whether a time server keeps the clock")
    lines = set(said.splitlines())
    if "NTPSynchronized=yes" in lines:
        return ok("a time server keeps the clock")
    if "CanNTP=no" in lines:
        return warn("no time server keeps this machine's clock", "sudo apt-get install systemd-timesyncd")
    if "NTP=no" in lines:
        return warn("no time server keeps this machine's clock", "sudo timedatectl set-ntp true")
    return warn(
        "no time server was reached since this machine was switched on",
        "Check the line, then: timedatectl timesync-status",
    )


CHECKS = (
    Check("version", version),
    Check("access", access),
    Check("service", service, quick=True),
    Check("second_service", second_service, quick=True),
    Check("unit", unit_drift, quick=True),
    Check("package", package),
    Check("data_disk", data_disk),
    Check("till_port", till_port, quick=True),
    Check("pos_pages", pos_pages),
    Check("pcscd", smart_card_service),
    Check("kernel_modules", kernel_modules),
    Check("time_server", time_server),
)
