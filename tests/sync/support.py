"""A CRM on loopback that answers what a test tells it to."""

from __future__ import annotations

import gzip
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from terminal_agent.contract import sign
from terminal_agent.ports import Ids
from terminal_agent.sync.adapters.native import NativeCrm
from terminal_agent.sync.client import Credentials
from terminal_agent.sync.upload import SyncReport

SECRET = b"canary-secret-of-thirty-two-byte"
TOKEN = "canary-token"

Answer = Callable[[Request], Response]
Exchange = Callable[[], SyncReport]


def credentials(url: str) -> Credentials:
    return Credentials(url, "till-1", "programme-1", TOKEN, SECRET)


def signed(request: Request, document: Any, *, request_id: str | None = None, secret: bytes = SECRET) -> Response:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    signature = sign(secret, request_id or request.headers["Request-Id"], body)
    return Response(body, 200, {"Terminal-Signature": signature}, content_type="application/json")


def events_of(request: Request) -> list[dict[str, Any]]:
    body = request.get_data()
    events: list[dict[str, Any]] = json.loads(
        gzip.decompress(body) if request.headers.get("Content-Encoding") == "gzip" else body
    )
    return events


def verdicts(request: Request, judge: Callable[[dict[str, Any]], str | None]) -> Response:
    """A verdict for each event; none where ``judge`` gives None."""
    results = [{"id": e["id"], "status": judge(e), "code": "why"} for e in events_of(request) if judge(e)]
    return signed(request, {"results": results, "acked_through": 0, "server_time": "2026-11-22T09:30:10Z"})


def accept(request: Request) -> Response:
    return verdicts(request, lambda _event: "accepted")


def problem(status: int, code: str = "bad", **headers: str) -> Answer:
    document = {"title": "no", "status": status, "detail": "the detail", "code": code, "retryable": False}
    return lambda _request: Response(json.dumps(document), status, headers, content_type="application/problem+json")


def page(status: int, **headers: str) -> Answer:
    """What a portal or a proxy answers in the CRM's place."""
    return lambda _request: Response("<html>welcome, canary-token</html>", status, headers, content_type="text/html")


def no_feed(request: Request) -> Response:
    return signed(request, {"items": [], "next_cursor": "end", "has_more": False})


@dataclass
class ScriptedCrm:
    """Answers each call with the next of its script, then with its usual answer."""

    url: str
    usual_events: Answer = accept
    usual_feed: Answer = no_feed
    events_script: list[Answer] = field(default_factory=list)
    feed_script: list[Answer] = field(default_factory=list)
    posts: list[Request] = field(default_factory=list)
    feeds: list[Request] = field(default_factory=list)

    def on_events(self, request: Request) -> Response:
        request.get_data()
        self.posts.append(request)
        return (self.events_script.pop(0) if self.events_script else self.usual_events)(request)

    def on_feed(self, request: Request) -> Response:
        self.feeds.append(request)
        return (self.feed_script.pop(0) if self.feed_script else self.usual_feed)(request)

    @property
    def sent_ids(self) -> list[list[str]]:
        return [[event["id"] for event in events_of(post)] for post in self.posts]


def scripted(server: HTTPServer) -> ScriptedCrm:
    crm = ScriptedCrm(server.url_for("").rstrip("/"))
    server.expect_request("/v1/events", method="POST").respond_with_handler(crm.on_events)
    server.expect_request("/v1/feed").respond_with_handler(crm.on_feed)
    return crm


@contextmanager
def raw_server(talk: Callable[[socket.socket, bytes], None]) -> Iterator[tuple[str, list[bytes]]]:
    """A server below HTTP: ``talk`` gets each connection with the request it sent. Gives its URL and the requests."""
    requests: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                request = _read_request(connection)
                if request:
                    requests.append(request)
                    talk(connection, request)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", requests
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _read_request(connection: socket.socket) -> bytes:
    request = b""
    while chunk := connection.recv(65536):
        request += chunk
        head, end, body = request.partition(b"\r\n\r\n")
        length = re.search(rb"\r\nContent-Length: (\d+)", head)
        if end and len(body) >= int(length[1] if length else 0):
            break
    return request


def client_of(url: str, ids: Ids) -> NativeCrm:
    return NativeCrm(credentials(url), ids)
