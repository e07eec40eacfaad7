"""Ports for servers of the tests that are started later, or again: nobody else's connection may take them meanwhile."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

LOWEST = 20_000


def free_ports(count: int = 1) -> int:
    """The first of ``count`` ports in a row that nobody has, below those that the kernel gives to outgoing
    connections (ip(7), ip_local_port_range)."""
    highest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = LOWEST + secrets.randbelow(highest - LOWEST - count)
        if all(_is_free(port + place) for place in range(count)):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True
