"""Fixtures of the tests under a real systemd."""

from __future__ import annotations

import os
import shutil

import pytest

WITHOUT_CONTAINER = "TERMINAL_AGENT_WITHOUT_CONTAINER"
INSTALL = "as root: apt-get install systemd-container debootstrap"


@pytest.fixture(scope="session")
def systemd() -> None:
    """systemd's programs, root's rights and debootstrap. Fails, not skips, where they are missing."""
    missing = [name for name in ("systemd-analyze", "systemd-nspawn", "debootstrap") if shutil.which(name) is None]
    problem = f"{', '.join(missing)} missing; {INSTALL}" if missing else "only root may start a container"
    if os.environ.get(WITHOUT_CONTAINER) == "1":  # also where namespaces or Debian's mirror are missing
        pytest.skip(f"{WITHOUT_CONTAINER}=1")
    if missing or os.geteuid() != 0:
        pytest.fail(f"{problem}\nor set {WITHOUT_CONTAINER}=1 to go without these tests")
