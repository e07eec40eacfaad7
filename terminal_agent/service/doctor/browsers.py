"""Whether the browsers of this machine let the POS's page talk to the till.

Chromium and its kin ask the user before a page of another site may reach 127.0.0.1, and without an answer the till sees
no request at all. A policy file answers for everybody (Local Network Access; Chrome 142, split in 146).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from terminal_agent.service.doctor.finding import Finding, fail, ok, warn

ALLOWED = ("LoopbackNetworkAllowedForUrls", "LocalNetworkAccessAllowedForUrls")
# The first of these that names the origin decides.
_PRECEDENCE = (
    ("LoopbackNetworkBlockedForUrls", False),
    ("LoopbackNetworkAllowedForUrls", True),
    ("LocalNetworkAccessBlockedForUrls", False),
    ("LocalNetworkAccessAllowedForUrls", True),
)
POLICY_FILE = "terminal-agent.json"


@dataclass(frozen=True)
class Browser:
    """One that may be installed: where its program and its policies lie."""

    name: str
    programs: tuple[str, ...]
    policies: str


BROWSERS = (
    Browser("Chrome", ("opt/google/chrome/chrome",), "etc/opt/chrome/policies/managed"),
    Browser("Chromium", ("usr/bin/chromium", "usr/bin/chromium-browser"), "etc/chromium/policies/managed"),
    Browser("Edge", ("opt/microsoft/msedge/msedge",), "etc/opt/edge/policies/managed"),
)


def pos_pages(origins: tuple[str, ...], root: Path) -> Finding:
    """Each page of ``till.origins`` may reach the till without a question to the cashier."""
    here = [b for b in BROWSERS if any((root / program).exists() for program in b.programs)]
    if not origins or not here:
        return ok("no page of other software calls this till" if not origins else "no Chromium is installed")
    for browser in here:
        policies = _policies(root / browser.policies)
        blocked = [origin for origin in origins if _decided(policies, origin) is False]
        if blocked:
            return fail(
                f"a policy of {browser.name} keeps {blocked[0]} from the till",
                f"Take it out of the ...BlockedForUrls policies in /{browser.policies}; chrome://policy shows them",
            )
        if any(_decided(policies, origin) is None for origin in origins):
            return warn(
                f"{browser.name} asks the cashier before {origins[0]} may use the till", _allow(browser, origins)
            )
    return ok(f"{', '.join(browser.name for browser in here)}: the POS's pages may use the till")


def _policies(folder: Path) -> dict[str, list[str]]:
    """Every list in the policy files; a file that cannot be read counts as none, as it does for the browser."""
    found: dict[str, list[str]] = {}
    for file in sorted(folder.glob("*.json")):
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(document, dict):
            found |= {name: list(map(str, value)) for name, value in document.items() if isinstance(value, list)}
    return found


def _decided(policies: dict[str, list[str]], origin: str) -> bool | None:
    """What the policies say of ``origin``; None where they leave it to the user."""
    for name, allowed in _PRECEDENCE:
        if _names(policies.get(name, ()), origin):
            return allowed
    return None


def _names(patterns: Iterable[str], origin: str) -> bool:
    """Whether one of Chromium's URL patterns names the origin: ``*``, ``[*.]example.com``, with or without scheme."""
    place = urlsplit(origin)
    host = place.hostname or ""
    for pattern in patterns:
        scheme, _, rest = pattern.rpartition("://")
        name = rest.rstrip("/").lower()
        if scheme not in ("", "*", place.scheme):
            continue
        below = name.removeprefix("[*.]")
        if name in ("*", host, place.netloc) or (below != name and (host == below or host.endswith(f".{below}"))):
            return True
    return False


def _allow(browser: Browser, origins: tuple[str, ...]) -> str:
    document = shlex.quote(json.dumps({name: list(origins) for name in ALLOWED}))
    folder = f"/{browser.policies}"
    return f"sudo mkdir -p {folder} && echo {document} | sudo tee {folder}/{POLICY_FILE}"
