"""What must not leave the shop is taken out of facts and texts: secrets, names, phones, card numbers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from typing import Any

from terminal_agent.errors import AgentError
from terminal_agent.service.agent import Agent

HIDDEN = "[hidden]"
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


def redacted(agent: Agent, queue: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """In the agent, who knows what to hide: its own facts, ``queue`` as ``queue list`` answers, and those of
    ``params``, without secrets and persons."""
    redaction = Redaction(_known_to(agent))
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
