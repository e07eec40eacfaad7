"""``support-bundle``: what somebody far away needs to help, and nothing that is a secret or a person's.

Two walls. What goes in is chosen field by field; nothing is copied whole. And every text, log lines too, then goes
through :class:`~terminal_agent.service.doctor.redaction.Redaction`, which knows the terminal's own secrets and its
members' names by value. Where the agent cannot be opened nobody knows these, so free text is left out.
"""

from __future__ import annotations

import io
import json
import os
import platform
import tarfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from terminal_agent import __version__
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service.backend import open_backend
from terminal_agent.service.doctor.diagnosis import diagnose
from terminal_agent.service.doctor.redaction import Redaction
from terminal_agent.service.doctor.tools import said_by
from terminal_agent.service.files import write_private
from terminal_agent.service.settings import Settings, load_settings

SUPPORT = "support"
TOOLS = {
    "log": ("journalctl", "--unit=terminal-agent", "--lines=400", "--no-pager", "--output=short-iso"),
    "pcscd_log": ("journalctl", "--unit=pcscd", "--lines=100", "--no-pager", "--output=short-iso"),
    "pcscd": ("systemctl", "show", "pcscd.service", "pcscd.socket", "--property=Id,ActiveState,SubState,Result"),
    "usb": ("lsusb",),
    "modules": ("lsmod",),
}
"""What this machine tells of itself: the command for each text."""
PACKAGES = ("pyscard", "nfcpy", "sqlite-utils", "requests", "cryptography", "fastapi", "uvicorn", "pydantic")


def _say_nothing(_text: str) -> None:
    """Nobody reads along."""


def make_bundle(config: Path, output: Path) -> dict[str, Any]:
    """Write the bundle to a new file ``output``: ``{file, bytes, parts, left_out: [{part, problem}]}``.

    What cannot be read is named in the bundle and stops nothing else. Raises AgentError where nothing can be written.
    """
    if output.exists():
        raise AgentError(ErrorCode.INVALID_INPUT, f"{output} is there already", hint="Name another --output")
    parts, left_out = _collect(config)
    packed = _packed({**parts, "left_out": left_out})
    try:
        write_private(output, packed)
    except OSError as error:
        hint = "Name a place where there is room and where you may write"
        raise AgentError(ErrorCode.INVALID_INPUT, f"cannot write {output}: {error.strerror}", hint=hint) from error
    return {"file": str(output), "bytes": len(packed), "parts": sorted(parts), "left_out": left_out}


def _collect(config: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    parts: dict[str, Any] = {"about": _about()}
    left_out: list[dict[str, str]] = []

    def add(name: str, make: Callable[[], Any]) -> None:
        try:
            parts[name] = make()
        except AgentError as problem:
            left_out.append({"part": name, "problem": problem.code.value})

    add("config", lambda: _config(load_settings(config)))
    add("agent", lambda: _from_the_agent(config, left_out))
    if "agent" not in parts:  # then these are the checks around it, which name no member
        add("doctor", lambda: Redaction(set()).document(diagnose(config, {})))
    return parts, left_out


def _from_the_agent(config: Path, left_out: list[dict[str, str]]) -> dict[str, Any]:
    settings, texts = load_settings(config), {}
    for name, command in TOOLS.items():
        said = said_by(*command)
        if said is None:
            to_root = "; it may answer root: run this with sudo" if os.geteuid() and command[0] == "journalctl" else ""
            left_out.append({"part": name, "problem": f"{command[0]} does not answer here{to_root}"})
        else:
            texts[name] = said
    found = diagnose(config, {})
    with open_backend(settings, config.absolute()) as backend:
        status = backend.call("status", {}, _say_nothing)
        facts = backend.call(SUPPORT, {"status": status, "doctor": found, "texts": texts}, _say_nothing)
    assert isinstance(facts, dict)  # noqa: S101 - what redacted() gives
    return facts


def _about() -> dict[str, Any]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "version": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": versions,
    }


def _config(settings: Settings) -> dict[str, Any]:
    """The keys that say how this terminal works; none that says who runs it."""
    url = urlsplit(settings.crm.url or "")
    return {
        "terminal_id": settings.terminal_id,
        "currency": settings.currency,
        "reader": settings.reader,
        "crm": f"{url.scheme}://{url.hostname}" if url.hostname else None,
        "till": settings.till.listen,
        "origins": len(settings.till.origins),
        "rekey": settings.keys.rekey.value,
        "language": settings.shop.language.value,
        "amounts_in": settings.shop.amounts_in.value,
    }


def _packed(parts: dict[str, Any]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for name, content in parts.items():
            data = json.dumps(content, indent=1, ensure_ascii=False).encode()
            entry = tarfile.TarInfo(f"support/{name}.json")
            entry.size, entry.mode = len(data), 0o600
            archive.addfile(entry, io.BytesIO(data))
    return target.getvalue()
