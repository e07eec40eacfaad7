"""Where this machine's apt gets Debian from; run by itself, whether a clean Debian can be fetched there now.

Nothing but the standard library: ``scripts/test`` asks before anything is installed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

TIMEOUT_S = 30
_SOURCES = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]
_FETCH = ["/usr/lib/apt/apt-helper", "-o", "APT::Sandbox::User=root", "download-file"]


def mirror() -> str:
    """The first of apt's sources that is not for security updates alone. Raises LookupError when there is none."""
    sites = subprocess.run(_SOURCES, check=True, capture_output=True, text=True).stdout.split()
    for site in sites:
        if not site.rstrip("/").endswith("-security"):
            return site
    raise LookupError("apt has no source of Debian's packages: see sources.list(5)")


def main() -> int:
    """0 when the mirror gives out the release that the tests need first."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            words = [*_FETCH, f"{mirror()}/dists/bookworm/Release", str(Path(folder) / "Release")]
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL, timeout=TIMEOUT_S)
        except (OSError, LookupError, subprocess.SubprocessError) as problem:
            sys.stderr.write(f"{problem}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
