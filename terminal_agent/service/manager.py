"""Telling the service manager how the daemon is: sd_notify(3), one datagram each. Without systemd nothing is said."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)

READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"


class ServiceManager:
    """What ``Type=notify`` and ``WatchdogSec=`` of the unit hand over in the environment."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET")
        ours = environment.get("WATCHDOG_PID") in (None, str(os.getpid()))
        self.patience_s = int(environment.get("WATCHDOG_USEC", "0")) / 1e6 if ours else 0.0
        """A daemon that says nothing for so many seconds is killed and started anew; 0 for one nobody watches."""

    @property
    def listens(self) -> bool:
        return self._address is not None

    def tell(self, *lines: str, status: str | None = None) -> None:
        """Say ``lines``; ``status`` is for people, in ``systemctl status``."""
        if self._address is None:
            return
        said = [*lines, *([f"STATUS={status}"] if status is not None else [])]
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
                line.connect(address)
                line.sendall("\n".join(said).encode())
        except OSError as error:
            log.warning("the service manager cannot be told: %s", error.strerror)
