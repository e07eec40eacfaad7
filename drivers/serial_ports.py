"""The serial lines of this machine on which a reader may be. None is opened: a printer might listen there."""

from __future__ import annotations

import grp
import os
from pathlib import Path

from drivers.base import ReaderInfo, ReaderState
from drivers.errors import NoReader

DEV = Path("/dev")
_ADAPTERS = ("ttyUSB*", "ttyACM*")


def list_lines() -> list[ReaderInfo]:
    """Every adapter from USB to a serial line: those this user may not open, and those that were not tried."""
    return [_seen(line) for pattern in _ADAPTERS for line in sorted(DEV.glob(pattern))]


def _seen(line: Path) -> ReaderInfo:
    url, name = f"pn532:{line}", _lasting_name(line)
    if not os.access(line, os.R_OK | os.W_OK, effective_ids=True):
        return ReaderInfo.with_problem(url, name, may_not_open(str(line)))
    return ReaderInfo(
        url,
        name,
        ReaderState.UNTRIED,
        "it was not tried: something else than a reader may listen there",
        f"If a PN532 is on it: terminal-agent reader test --reader {url}",
    )


def _lasting_name(line: Path) -> str:
    """What udev calls it by maker, product and number; the line itself where there is no such name."""
    links = sorted((DEV / "serial" / "by-id").glob("*"))
    return next((link.name for link in links if link.resolve() == line.resolve()), str(line))


def may_not_open(path: str) -> NoReader:
    """This user lacks the rights to ``path``: which group has them."""
    group_id = os.stat(path).st_gid
    try:
        group = grp.getgrgid(group_id).gr_name
    except KeyError:
        group = str(group_id)
    problem = NoReader(f"this user may not open {path}")
    problem.hint = f"Let this user in: sudo usermod -aG {group} {os.environ.get('USER', 'USER')}, then log in again"
    return problem
