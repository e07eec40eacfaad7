"""What every request must pass before any route sees it: the right host, a known origin, JSON, a small body in time.

Pages of other sites reach a server on loopback too. A page whose name was bound anew to 127.0.0.1 sends no Origin, only
its own name as Host (DNS rebinding); other pages send theirs as Origin; forms cannot send JSON (Fetch standard, CORS).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from terminal_agent.till_api.problems import Refusal, refused

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 256 * 1024
BODY_TIMEOUT_S = 10.0
_WITH_BODY = {"POST", "PUT", "PATCH", "DELETE"}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_ALLOWED_TO_ASK = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Cashier-Approval, Cashier-Session, Content-Type, Idempotency-Key, "
    "Last-Event-ID",
    "Access-Control-Max-Age": "600",
}


# No browser can reach the Unix socket; its clients have no port to name.
_NATIVE = frozenset({"localhost"})


class Guard:
    """Wraps the API. ``hosts``: the values of Host that name us; ``origins``: other programs' pages that may call."""

    def __init__(self, app: App, hosts: Callable[[], frozenset[str]], origins: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = _single_headers(scope)
        origin = headers.get("origin", "")
        send = _with_headers(send, {**_HEADERS, **self._cors(origin)})
        problem = self._refusal(scope, headers, origin)
        if problem is not None:
            await _answer(send, problem)
        elif scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await _preflight(send)
        elif scope["method"] in _WITH_BODY:
            await self._with_body(scope, headers, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: dict[str, str], origin: str) -> Refusal | None:
        hosts = self._hosts()
        if headers.get("host", "").lower() not in (_NATIVE if _is_native(scope) else hosts):
            return Refusal.WRONG_HOST
        if origin and origin not in self._origins and origin.lower() not in {f"http://{host}" for host in hosts}:
            return Refusal.FOREIGN_ORIGIN
        return Refusal.NOT_JSON if scope["method"] in _WITH_BODY and not _is_json(headers) else None

    def _cors(self, origin: str) -> dict[str, str]:
        """A page of an allowed origin may read the answer; which one is never guessed or reflected."""
        return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"} if origin in self._origins else {}

    async def _with_body(self, scope: Scope, headers: dict[str, str], receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await _read(receive)
        except TimeoutError:
            await _answer(send, Refusal.TOO_SLOW)
            return
        if body is None:
            await _answer(send, Refusal.TOO_LARGE)
            return
        told = False

        async def replay() -> Message:
            nonlocal told
            if told:
                return await receive()
            told = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)


def _is_native(scope: Scope) -> bool:
    """Whether the request came by the Unix socket: its server has no port (ASGI, connection scope)."""
    return not scope.get("server") or scope["server"][1] is None


def _single_headers(scope: Scope) -> dict[str, str]:
    """Each header once; one that is there twice becomes a value that nothing allows."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip()
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _is_json(headers: dict[str, str]) -> bool:
    """No body at all will do too: what a form sends has a type, and a page's script its origin."""
    if "content-type" not in headers:
        return headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    return headers["content-type"].split(";")[0].strip().lower() == "application/json"


async def _read(receive: Receive) -> bytes | None:
    """The whole body, or None when it is too large."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            return None
        if message["type"] != "http.request" or not message.get("more_body", False):
            return bytes(body)


def _with_headers(send: Send, more: dict[str, str]) -> Send:
    encoded = [(name.lower().encode(), value.encode()) for name, value in more.items()]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [*message["headers"], *((n, v) for n, v in encoded if n not in given)]
        await send(message)

    return sending


async def _answer(send: Send, refusal: Refusal) -> None:
    status, media_type, body = refused(refusal)
    headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
    if status == 413 or status == 408:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _preflight(send: Send) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in _ALLOWED_TO_ASK.items()]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
