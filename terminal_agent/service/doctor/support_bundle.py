"""``support-bundle``: what somebody far away needs to help, and nothing that is a secret or a person's.

Two walls. What goes in is chosen field by field; nothing is copied whole. And every text, log lines too, then goes
through :class:`Redaction`, which knows the terminal's own secrets and its members' names by value. Where the agent
cannot be opened nobody knows these, so free text is left out.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import platform
import re
import secrets
import tarfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from terminal_agent import __version__
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service.backend import open_backend
from terminal_agent.service.doctor.diagnosis import diagnose
from terminal_agent.service.doctor.tools import said_by
from terminal_agent.service.files import write_private
from terminal_agent.service.settings import Settings, load_settings

if TYPE_CHECKING:
    from terminal_agent.service.agent import Agent

SUPPORT = "support"
HIDDEN = "[hidden]"
TOOLS = {
    "log": ("journalctl", "--unit=terminal-agent", "--lines=400", "--no-pager", "--output=short-iso"),
    "pcscd_log": ("journalctl", "--unit=pcscd", "--lines=100", "--no-pager", "--output=short-iso"),
    "pcscd": ("systemctl", "show", "pcscd.service", "pcscd.socket", "--property=Id,ActiveState,SubState,Result"),
    "usb": ("lsusb",),
    "modules": ("lsmod",),
}
"""What this machine tells of itself: the command for each text."""
PACKAGES = ("pyscard", "nfcpy", "sqlite-utils", "requests", "cryptography", "fastapi", "uvicorn", "pydantic")
_LOOKS_SECRET = re.compile(r"\b(?:[0-9A-Fa-f]{2}[ :]?){6,}\b|[A-Za-z0-9+_-]{24,}={0,2}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CARD_NO = re.compile(r"(?<!\d)\d{16}(?!\d)")
_PHONE = re.compile(r"(?<!\d)(?:\+98|0098|0)?9\d{9}(?!\d)")
SHORTEST_NAME = 2


class Redaction:
    """Takes out of a text what must not leave the shop. A card has the same pseudonym all through one bundle, and
    another in the next: its key is kept nowhere."""

    def __init__(self, known: set[str]) -> None:
        """``known``: secrets and names, by value."""
        self._key = secrets.token_bytes(32)
        words = sorted((word for word in known if len(word) >= SHORTEST_NAME), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, words)), re.IGNORECASE) if words else None

    def card(self, card_no: str | None) -> str | None:
        if card_no is None:
            return None
        return "card-" + hmac.new(self._key, card_no.encode(), hashlib.sha256).hexdigest()[:8]

    def text(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        text = _CARD_NO.sub(lambda match: str(self.card(match[0])), text)
        return _LOOKS_SECRET.sub(_hide_secret, _PHONE.sub(HIDDEN, text))

    def document(self, value: Any) -> Any:
        """The same for every text inside of a JSON document."""
        if isinstance(value, dict):
            return {name: self.document(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.document(inner) for inner in value]
        return self.text(value) if isinstance(value, str) else value


def _hide_secret(match: re.Match[str]) -> str:
    """All but ids, which look like it and are needed."""
    return match[0] if _UUID.fullmatch(match[0]) else HIDDEN


def redacted(agent: Agent, params: dict[str, Any]) -> dict[str, Any]:
    """In the agent, who knows what to hide: its own facts, and those of ``params``, without secrets and persons."""
    from terminal_agent.service.operations import OPERATIONS

    redaction = Redaction(_known_to(agent))
    queue = OPERATIONS["queue.list"](agent, {}, _say_nothing)
    facts = {
        "key_sets": _key_sets(agent),
        "queue": {
            **{name: value for name, value in queue.items() if not isinstance(value, list)},
            "events": [_event(event, redaction) for event in queue["events"]],
            "checkouts_in_doubt": [
                {"since": sale["since"], "card": redaction.card(sale["card_no"])}
                for sale in queue["checkouts_in_doubt"]
            ],
        },
    }
    more = {name: params[name] for name in ("status", "doctor", "texts") if name in params}
    return {**facts, **{name: redaction.document(value) for name, value in more.items()}}


def _key_sets(agent: Agent) -> Any:
    """By their check values; or why they cannot be told, which may be what help is asked for."""
    try:
        return [key_set.to_json() for key_set in agent.keys.list()]
    except AgentError as problem:
        return {"problem": problem.message}


def _event(event: dict[str, Any], redaction: Redaction) -> dict[str, Any]:
    chosen = {name: event[name] for name in ("id", "type", "sequence", "state", "attempts")}
    return {**chosen, "card": redaction.card(event["card_no"])}


def _known_to(agent: Agent) -> set[str]:
    """Every secret and every person this terminal knows, in the ways they may be written."""
    known: set[str] = set()
    credentials = agent.credentials
    if credentials is not None:
        known |= {credentials.token, credentials.secret.hex(), base64.b64encode(credentials.secret).decode()}
    staff = [cashier.name for cashier in agent.journal.staff.cashiers()]
    for text in [*agent.journal.knowledge.names_and_phones(), *staff]:
        known |= {text, *text.split()}
    if agent.settings.shop.name:
        known.add(agent.settings.shop.name)
    return known


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
            left_out.append({"part": name, "problem": f"{command[0]} does not answer here"})
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
