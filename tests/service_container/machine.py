"""A shop's PC: a clean Debian with a real systemd as process 1, in a container of its own, without a network.

The root file system is made by debootstrap, once, and lies under everything that a test writes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.cli.shop import wait_until
from tests.service_container.mirror import mirror

ROOT = Path(__file__).parents[2]
ROOTS = Path("/var/cache/terminal-agent-tests")
PACKAGES = (
    "systemd,systemd-sysv,libpam-systemd,dbus,polkitd,python3,python3-venv,pcscd,libccid,vsmartcard-vpcd,libfaketime"
)
BOOT_TIMEOUT_S = 180.0
VPCD_PORT = 35963
CRM_PORT = 8000
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def root_of(suite: str) -> Path:
    """A clean Debian ``suite``; made where it is not there yet. Raises CalledProcessError."""
    root = ROOTS / f"{suite}-{zlib.crc32(PACKAGES.encode()):08x}"
    if not root.exists():
        ROOTS.mkdir(parents=True, exist_ok=True)
        partial = ROOTS / f".{suite}.{os.getpid()}"
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, str(partial), mirror()]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for archive in (partial / "var" / "cache" / "apt" / "archives").glob("*.deb"):
            archive.unlink()
        # Ours, where we are in a container ourselves: it forbids to start services.
        (partial / "usr" / "sbin" / "policy-rc.d").unlink(missing_ok=True)
        partial.rename(root)
    return root


class ControlGroup:
    """A group of processes of its own. In one group, two containers take each other's services for their own: the same
    paths below it, and a service that starts or stops meets the other one's processes there."""

    def __init__(self, name: str) -> None:
        self._folders = [folder / name for folder in _own_groups()]

    def enter(self) -> list[str]:
        """The words before a command that is to run in it."""
        script = 'for folder in $0; do mkdir -p "$folder" && echo $$ > "$folder/cgroup.procs"; done; exec "$@"'
        return ["sh", "-c", script, " ".join(map(str, self._folders))]

    def remove(self) -> None:
        """With what the container made in it; what still holds a process stays."""
        for top in self._folders:
            for folder in sorted(top.rglob("*"), key=lambda path: len(path.parts), reverse=True):
                if folder.is_dir():
                    with contextlib.suppress(OSError):
                        folder.rmdir()
            with contextlib.suppress(OSError):
                top.rmdir()


def _own_groups() -> list[Path]:
    """Where systemd keeps the processes of our own group: in the unified hierarchy, and in its own older one."""
    lines = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
    paths = {kind: path.strip("/") for _, kind, path in lines}
    mounted = {"": ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"), "name=systemd": ("/sys/fs/cgroup/systemd",)}
    places = ((Path(top), paths[kind]) for kind, tops in mounted.items() for top in tops if kind in paths)
    return [top / path for top, path in places if (top / path / "cgroup.procs").exists()]


class Machine:
    """One shop's PC. ``run`` runs a command in it; ``beside`` one of ours on its network, with our own files."""

    def __init__(self, suite: str, folder: Path) -> None:
        self._folder = folder
        self.root = folder / "root"
        self._suite = suite
        self._group = ControlGroup(f"terminal-agent-test-{os.getpid()}-{suite}")
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._beside: list[subprocess.Popen[str]] = []
        self._mount()

    def _mount(self) -> None:
        top = self._folder / "top"
        for path in (top, self.root):
            path.mkdir()
        mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(top))
        (top / "upper").mkdir()
        (top / "work").mkdir()
        layers = f"lowerdir={root_of(self._suite)},upperdir={top}/upper,workdir={top}/work"
        mount("-t", "overlay", "-o", layers, "overlay", str(self.root))

    def boot(self) -> float:
        """Power on; gives the seconds until systemd has started what is enabled."""
        begun = time.monotonic()
        options = ["--private-network", "--register=no", "--keep-unit", "--hostname=till", "--console=pipe"]
        # Our own machine may have the older control groups, which Debian 13 takes only when told so.
        command = [
            *self._group.enter(),
            "systemd-nspawn",
            "-q",
            "-D",
            str(self.root),
            *options,
            "-b",
            "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1",
        ]
        with (self._folder / "console").open("wb") as console:
            self._nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        wait_until(self._is_up, BOOT_TIMEOUT_S)
        return time.monotonic() - begun

    def _is_up(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, (self._folder / "console").read_text(errors="replace")[-2000:]
        if not self._leader():
            return False
        return self.try_to("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")

    def _leader(self) -> str:
        """Process 1 of the container, as we see it."""
        assert self._nspawn is not None
        pid = self._nspawn.pid
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if children and Path(f"/proc/{children[0]}/comm").read_text().strip() == "systemd":
                return children[0]
        return ""

    def enter(self, *arguments: str) -> list[str]:
        """The words that run ``arguments`` in the container, as root."""
        inside = ["nsenter", "-t", self._leader(), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"]
        return [*inside, "env", "-i", f"PATH={PATH}", "HOME=/root", "LC_ALL=C.UTF-8", *arguments]

    def try_to(self, *command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """A command in the container, as root."""
        enter = self.enter(*command)
        return subprocess.run(enter, input=text, capture_output=True, text=True, check=False, timeout=180)

    def run(self, *command: str, text: str | None = None) -> str:
        """One that must succeed; gives what it says."""
        done = self.try_to(*command, text=text)
        told = self.journal()[-1500:] if done.returncode and command[0] == "systemctl" else ""
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}{told}"
        return done.stdout

    def ta(self, *arguments: str, text: str | None = None) -> Any:
        """The JSON answer of ``terminal-agent``, whether it went well or not."""
        done = self.try_to("terminal-agent", "--json", *arguments, text=text)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def property(self, name: str) -> str:
        """What systemd says of the service."""
        return self.run("systemctl", "show", "terminal-agent", "--value", "--property", name).strip()

    def wait_for(self, name: str, value: str, timeout_s: float = 120.0) -> None:
        wait_until(lambda: self.property(name) == value, timeout_s)

    def journal(self) -> str:
        return self.run("journalctl", "--no-pager", "-u", "terminal-agent", "-o", "cat")

    def beside(self, *module_and_arguments: str) -> subprocess.Popen[str]:
        """A module of this checkout, on the container's network."""
        command = ["nsenter", "-t", self._leader(), "-n", sys.executable, "-m", *module_and_arguments]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        self._beside.append(process)
        return process

    def lay_card(self, image: Path) -> subprocess.Popen[str]:
        """A card on the virtual reader, until the process is ended."""
        options = ("--image", str(image), "--port", str(VPCD_PORT), "--personality", "acs")
        return self.beside("tests.pcsc.virtual_reader", *options)

    def take(self, process: subprocess.Popen[str]) -> None:
        """End what :meth:`beside` began: the card is taken away, the CRM is down."""
        process.terminate()
        process.communicate(timeout=20)
        self._beside.remove(process)

    def write(self, path: str, text: str) -> None:
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def power_off(self) -> None:
        """An orderly end."""
        for process in list(self._beside):
            self.take(process)
        if self._nspawn is not None:
            self._nspawn.send_signal(signal.SIGTERM)  # systemd-nspawn asks process 1 to power off
            try:
                self._nspawn.wait(30)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait()
            self._nspawn = None

    def remove(self) -> None:
        self.power_off()
        self._group.remove()
        for path in (self.root, self._folder / "top"):
            subprocess.run(["umount", "--lazy", str(path)], check=False, capture_output=True)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def installed(suite: str, folder: Path, package: Path) -> Iterator[Machine]:
    """A machine that is up, with the package installed, and nothing else done."""
    machine = Machine(suite, folder)
    try:
        machine.boot()
        shutil.copy(package, machine.root / "opt" / package.name)
        (machine.root / "opt" / "scripts").mkdir()
        shutil.copy(ROOT / "scripts" / "install", machine.root / "opt" / "scripts")
        machine.run("/opt/scripts/install", "--package", f"/opt/{package.name}")
        yield machine
    finally:
        machine.remove()
