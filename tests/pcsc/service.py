"""A pcscd of our own: own socket, own reader configuration, own ports. The machine's pcscd and readers stay untouched.

pcscd has no option for its socket, but takes one from whoever starts it, the way systemd hands it over (LISTEN_FDS);
clients find it through PCSCLITE_CSOCK_NAME. So no root is needed, and tests of several checkouts run side by side.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.ports import free_ports

SOCKET_VARIABLE = "PCSCLITE_CSOCK_NAME"
VPCD_CONFIGURATION = Path("/etc/reader.conf.d/vpcd")
RUN_DIRECTORY = Path("/run/pcscd")
READER_NAME = "Virtual PCD"
INSTALL = "apt-get install --no-install-recommends pcscd vsmartcard-vpcd"


def find_problem() -> str | None:
    """What is missing on this machine to run a pcscd with virtual readers, and how to get it."""
    if _pcscd() is None or not VPCD_CONFIGURATION.exists():
        return f"pcscd or vsmartcard-vpcd is not installed; run: {INSTALL}"
    if os.geteuid() != 0 and not RUN_DIRECTORY.is_dir():
        return f"pcscd wants {RUN_DIRECTORY}; run once: sudo mkdir {RUN_DIRECTORY}"
    return None


def _pcscd() -> str | None:
    return shutil.which("pcscd", path=os.environ.get("PATH", "") + ":/usr/sbin")


# The listening socket becomes descriptor 3 and LISTEN_PID the process itself, as sd_listen_fds(3) wants it; and
# pcscd is told to end with the test run (prctl PR_SET_PDEATHSIG), also with one that is killed.
_HAND_OVER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
listener, pcscd, configuration = sys.argv[1:]
os.dup2(int(listener), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(pcscd, [pcscd, "--foreground", "--config", configuration])
"""


class PcscService:
    """A pcscd that can be started, killed and started again on the same socket; two virtual readers."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.gettempdir()) / f"pcscd-{os.getpid()}-{secrets.token_hex(4)}"
        self.socket_path = self.directory / "pcscd.comm"
        self.port = free_ports(2)  # vpcd takes one for each of its two slots
        self._configuration = self.directory / "reader.conf.d"
        self._process: subprocess.Popen[bytes] | None = None

    def write_configuration(self, *, readers: bool = True, name: str = READER_NAME) -> None:
        """Debian's own vpcd entry, on our ports."""
        self._configuration.mkdir(parents=True, exist_ok=True)
        entry = re.sub(r"0x8C7B", f"0x{self.port:04X}", VPCD_CONFIGURATION.read_text()).replace(READER_NAME, name)
        (self._configuration / "vpcd").write_text(entry if readers else "# no reader\n")

    def start(self, *, readers: bool = True, name: str = READER_NAME) -> None:
        """Start pcscd and wait until it listens to virtual cards. Readers are called ``name`` and their slot."""
        self.write_configuration(readers=readers, name=name)
        self.socket_path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.socket_path))
            listener.listen(16)
            with (self.directory / "pcscd.log").open("ab") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _HAND_OVER, str(listener.fileno()), str(_pcscd()), str(self._configuration)],
                    pass_fds=(listener.fileno(),),
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
        # Our copy of the listening socket is closed by now: with it open, clients of a dead pcscd would wait for ever.
        if readers:
            self._wait_for_readers(self._process)

    def _wait_for_readers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 60
        while not _listens(self.port + 1):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("pcscd did not start: " + (self.directory / "pcscd.log").read_text()[-2000:])
            time.sleep(0.02)

    def kill(self) -> None:
        """As a crash would: no good-bye to clients."""
        self._end(signal.SIGKILL)
        self.socket_path.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Alive, and answering nobody, until :meth:`thaw`."""
        process = self._signal(signal.SIGSTOP)
        while not all(_is_stopped(thread) for thread in Path(f"/proc/{process.pid}/task").iterdir()):
            time.sleep(0.01)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, what: signal.Signals) -> subprocess.Popen[bytes]:
        assert self._process is not None
        self._process.send_signal(what)
        return self._process

    def stop(self) -> None:
        self._end(signal.SIGTERM)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _is_stopped(thread: Path) -> bool:
    """Whether the kernel has stopped it; one that has just ended counts."""
    with contextlib.suppress(OSError):
        return (thread / "stat").read_text().rpartition(")")[2].split()[0] == "T"
    return True


def _listens(port: int) -> bool:
    """Whether someone listens, without connecting: a connection would be a card."""
    rows = (line.split() for table in _TCP_TABLES if table.exists() for line in table.read_text().splitlines()[1:])
    return any(row[1].endswith(f":{port:04X}") and row[3] == _LISTENING for row in rows)


_TCP_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENING = "0A"
