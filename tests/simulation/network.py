"""The line between a shop and the CRM: a transport for ``requests`` that carries each request to the CRM in process,
and loses, doubles, delays and spoils it on the way."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import HTTPResponse

from tests.simulation.crm import Answer, CrmHouse
from tests.simulation.faults import Faults
from tests.simulation.ports import Fuse, Timeline

CRM_URL = "http://127.0.0.1:9"
WATCHED_S = 1800.0
"""How long an outage is lived try by try; after that the world hurries."""
_BUILDER = HTTPAdapter()
_HTML = b"<html><body>Welcome! Accept the terms to go online.</body></html>"
_PAGE = {"Content-Type": "text/html"}

NETWORK = (
    "refused",
    "request_lost",
    "reply_lost",
    "doubled",
    "held_back",
    "truncated",
    "corrupted",
    "forged_signature",
    "old_answer",
    "too_many_requests",
    "unavailable",
    "internal_error",
)
PORTAL = ("portal_page", "portal_redirect", "portal_login", "portal_forbids", "impostor")


@dataclass
class Line:
    """One shop's way to the CRM. ``up`` is whether anything passes; ``tries`` counts the exchange's requests."""

    crm: CrmHouse
    timeline: Timeline
    faults: Faults
    chance: Random
    later: Callable[[float, Callable[[], None]], None]
    report: Callable[[str], None]
    """Told what went wrong inside the CRM that nobody injected."""
    up: bool = True
    since: float = 0.0
    """When it last went up or down."""
    tries: list[float] = field(default_factory=list)
    last_answers: dict[str, Answer] = field(default_factory=dict)

    def turn(self, *, up: bool) -> None:
        """The line goes up or down."""
        self.up, self.since = up, self.timeline.now

    def session(self, fuse: Fuse) -> requests.Session:
        """A session whose requests go over this line."""
        session = requests.Session()
        session.mount("http://", _Adapter(self, fuse))
        return session

    def carry(self, request: requests.PreparedRequest) -> Answer:
        """The answer that arrives. Raises ``requests.ConnectionError`` or ``ReadTimeout`` when none does."""
        if not any(part in (request.url or "") for part in ("/cards/", "/members")):
            self.tries.append(self.timeline.now)
        self.timeline.sleep(round(self.chance.uniform(0.01, 0.3), 3))
        if not self.up:
            raise requests.ConnectionError("no route to host")
        fault = self._draw()
        if fault is not None and not (request.url or "").endswith("/enroll"):  # a person stands by and tries again
            self.faults.count(fault)
            return _FAULTS[fault](self, request)
        return self.deliver(request)

    def _draw(self) -> str | None:
        if self.chance.random() < self.faults.rate("portal"):
            return self.chance.choice(PORTAL)
        if self.chance.random() < self.faults.rate("network"):
            return self.chance.choice(NETWORK)
        return None

    def deliver(self, request: requests.PreparedRequest) -> Answer:
        """The CRM's own answer."""
        if self.crm.down:
            raise requests.ConnectionError("connection refused")
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        assert isinstance(body, bytes)
        assert request.method is not None
        assert request.url is not None
        try:
            answer = self.crm.call(request.method, request.url, dict(request.headers), body)
        except Exception as error:  # noqa: BLE001 - a server's top: whatever comes here is a finding
            self.report(f"the CRM failed in an unforeseen way: {type(error).__name__}: {error}")
            raise requests.ConnectionError("connection reset") from error
        # A card not heard of yet, a hold not granted, a place in the feed that was forgotten.
        expected = answer.status in (404, 409) or (self.crm.went_back and b"cursor_invalid" in answer.body)
        if answer.status >= 400 and not expected:
            self.report(f"the CRM answered {answer.status}: {answer.body.decode()[:200]}")
        self.last_answers[_path(request)] = answer
        return answer

    def _deliver_late(self, request: requests.PreparedRequest) -> None:
        """An old request reaches the CRM after newer ones; nobody hears the answer."""
        if not self.crm.down:
            self.deliver(request)


def _path(request: requests.PreparedRequest) -> str:
    return (request.url or "").partition("?")[0]


class _Adapter(BaseAdapter):
    """``requests``' own seam for transports. The fuse burns before a request leaves and before its answer is heard."""

    def __init__(self, line: Line, fuse: Fuse) -> None:
        super().__init__()
        self._line = line
        self._fuse = fuse

    def send(self, request: requests.PreparedRequest, *_args: Any, **_options: Any) -> requests.Response:
        self._fuse.touch()
        try:
            answer = self._line.carry(request)
        finally:
            self._fuse.touch()
        raw = HTTPResponse(
            body=io.BytesIO(answer.body),
            headers=answer.headers,
            status=answer.status,
            preload_content=False,
            decode_content=False,
            enforce_content_length=True,
            request_method=request.method,
        )
        return _BUILDER.build_response(request, raw)

    def close(self) -> None:
        """Nothing is held."""


def _refused(_line: Line, _request: requests.PreparedRequest) -> Answer:
    raise requests.ConnectionError("connection refused")


def _request_lost(line: Line, _request: requests.PreparedRequest) -> Answer:
    line.timeline.sleep(30)
    raise requests.ReadTimeout("timed out")


def _reply_lost(line: Line, request: requests.PreparedRequest) -> Answer:
    line.deliver(request)
    raise requests.ConnectionError("connection reset")


def _doubled(line: Line, request: requests.PreparedRequest) -> Answer:
    line.deliver(request)
    return line.deliver(request)


def _held_back(line: Line, request: requests.PreparedRequest) -> Answer:
    copy = request.copy()
    line.later(line.chance.uniform(1, 20_000), lambda: line._deliver_late(copy))
    raise requests.ReadTimeout("timed out")


def _truncated(line: Line, request: requests.PreparedRequest) -> Answer:
    answer = line.deliver(request)
    return Answer(answer.status, answer.headers, answer.body[: len(answer.body) // 2])


def _corrupted(line: Line, request: requests.PreparedRequest) -> Answer:
    answer = line.deliver(request)
    body = bytearray(answer.body)
    body[line.chance.randrange(len(body))] ^= 1 << line.chance.randrange(8)
    return Answer(answer.status, answer.headers, bytes(body))


def _forged_signature(line: Line, request: requests.PreparedRequest) -> Answer:
    answer = line.deliver(request)
    return Answer(answer.status, {**answer.headers, "Terminal-Signature": "v1=" + "0" * 64}, answer.body)


def _old_answer(line: Line, request: requests.PreparedRequest) -> Answer:
    """A cache on the way gives what the CRM said to an earlier request."""
    return line.last_answers.get(_path(request)) or line.deliver(request)


def _problem(status: int, retry_after_s: int | None) -> Callable[[Line, requests.PreparedRequest], Answer]:
    document = {"title": "not now", "status": status, "detail": "later", "code": "busy", "retryable": True}
    headers = {"Content-Type": "application/problem+json"}
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    return lambda _line, _request: Answer(status, headers, json.dumps(document).encode())


def _page(status: int, **headers: str) -> Callable[[Line, requests.PreparedRequest], Answer]:
    return lambda _line, _request: Answer(status, {**_PAGE, **headers}, _HTML)


def _impostor(line: Line, request: requests.PreparedRequest) -> Answer:
    """Says yes to everything in the CRM's own words, without its secret."""
    if request.method == "POST":
        body = _events_in(request)
        results = [{"id": event["id"], "status": "accepted"} for event in body]
        document: dict[str, Any] = {"results": results, "acked_through": 10**6, "server_time": "2030-01-01T00:00:00Z"}
    else:
        document = {"items": [], "next_cursor": "ZjE6OTk5OTk5", "has_more": False, "balance": 10**6, "sequence": 1}
    headers = {"Content-Type": "application/json", "Terminal-Signature": "v1=" + "ab" * 32}
    return Answer(200, headers, json.dumps(document).encode())


def _events_in(request: requests.PreparedRequest) -> list[dict[str, Any]]:
    body = request.body if isinstance(request.body, bytes) else b"[]"
    plain = gzip.decompress(body) if request.headers.get("Content-Encoding") == "gzip" else body
    events = json.loads(plain)
    return events if isinstance(events, list) else []


_FAULTS: dict[str, Callable[[Line, requests.PreparedRequest], Answer]] = {
    "refused": _refused,
    "request_lost": _request_lost,
    "reply_lost": _reply_lost,
    "doubled": _doubled,
    "held_back": _held_back,
    "truncated": _truncated,
    "corrupted": _corrupted,
    "forged_signature": _forged_signature,
    "old_answer": _old_answer,
    "too_many_requests": _problem(429, 30),
    "unavailable": _problem(503, 120),
    "internal_error": _problem(500, None),
    "portal_page": _page(200),
    "portal_redirect": _page(302, Location="http://portal.example/login"),
    "portal_login": _page(401),
    "portal_forbids": _page(403),
    "impostor": _impostor,
}
