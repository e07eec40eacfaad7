"""HTTP to a CRM: one request at a time, each with an end, every answer authenticated before it is believed.

tenacity repeats one call a few times at once; waiting longer is the sync worker's persisted schedule.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.nap import sleep

from terminal_agent import __version__
from terminal_agent.contract import REQUEST_ID_HEADER, SIGNATURE_HEADER, signature_is_valid
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.ports import Ids
from terminal_agent.sync.adapters.base import CrmFailed, CrmRefused, CrmUnauthorized, CrmUnreachable
from terminal_agent.sync.prompt import OutOfTime, Sockets, within

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
CALL_LIMIT_S = 120.0
"""For the whole of a call that nobody waits for: a slow line may take long over a batch, but not for ever."""
TRIES_PER_CALL = 3
PAUSE_BASE_S = 0.2
PAUSE_CAP_S = 2.0
MAX_ANSWER_BYTES = 16 * 1024 * 1024
SECRET_BYTES = 32
PROBLEM_MEDIA_TYPE = "application/problem+json"
FAILED = frozenset({500, 502, 504})
"""It may be this very request that it, or the server behind a proxy, cannot bear; a 503 speaks of the whole CRM."""
RETRIED = frozenset({408, 425, 429})
"""A 4xx but these says no for good, and only as a problem document: a proxy's or a portal's page is no answer. A 409
must say that it is not to be tried again: an earlier try may still be running."""


@dataclass(frozen=True)
class Credentials:
    """What enrolment gave. Its repr shows no secret."""

    crm_url: str
    terminal_id: str
    programme_id: str
    token: str = field(repr=False)
    secret: bytes = field(repr=False)


def checked_url(url: str) -> str:
    """``url`` without a trailing slash. Raises AgentError unless it is https, or http on loopback, and for one with a
    password in it, which is then not told: it would reach every message and log that names the address."""
    if "@" in url:
        raise AgentError(
            ErrorCode.CONFIG_INVALID,
            "an address with a name or a password in it cannot be used as the CRM's",
            hint="Use https://HOST: this terminal proves itself by what enrolment gave it",
        )
    try:
        parts = urlsplit(url)
    except ValueError:  # as in https://[::1
        parts = urlsplit("")
    try:
        loopback = parts.hostname == "localhost" or ip_address(parts.hostname or "").is_loopback
    except ValueError:
        loopback = False
    if parts.scheme == "https" and parts.hostname or parts.scheme == "http" and loopback:
        return url.rstrip("/")
    raise AgentError(
        ErrorCode.CONFIG_INVALID,
        f"{url!r} cannot be used as the CRM's address",
        hint="Use https://HOST, or http://127.0.0.1:PORT for a CRM on this machine",
    )


@dataclass(frozen=True)
class Reply:
    """What came back: the body after any content encoding."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def signed_with(self, secret: bytes, request_id: str) -> bool:
        return signature_is_valid(secret, request_id, self.body, self.headers.get(SIGNATURE_HEADER))


class Wire:
    """The way to the network. ``session`` is another one, for those who run in a time of their own: nothing is cut off
    on it, because its time does not pass by itself."""

    def __init__(self, session: requests.Session | None = None) -> None:
        self._given = session
        self._closed = False
        self._sockets = Sockets()
        self._session = session or self._new_session()

    def _new_session(self) -> requests.Session:
        session, self._sockets = requests.Session(), Sockets()
        for scheme in ("https://", "http://"):
            session.mount(scheme, CuttableAdapter(self._sockets))
        return session

    def ask(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        payload: bytes | None = None,
        limit_s: float = CALL_LIMIT_S,
    ) -> Reply:
        """One request and its whole answer within ``limit_s``. Raises :class:`CrmUnreachable`."""
        session = self._session
        if url.startswith("http:"):
            session.trust_env = False  # plain http is for this machine alone; a proxy of the environment is not on it
        headers = {"Accept": "application/json", "User-Agent": f"terminal-agent/{__version__}", **headers}
        if self._given is not None:
            return _ask(session, method, url, headers, payload, limit_s)
        try:
            return within(limit_s, lambda: _ask(session, method, url, headers, payload, limit_s), self._sockets)
        except OutOfTime:
            if self._closed:
                raise CrmUnreachable("the call was ended here") from None
            self._session = self._new_session()  # the old one is still in the hands of the call that was cut off
            raise CrmUnreachable(f"no answer from {urlsplit(url).netloc} in {limit_s:g} s") from None

    def close(self) -> None:
        """Let go; a call under way ends at once, in whatever thread it is."""
        self._closed = True
        self._sockets.cut()
        self._session.close()


class CuttableAdapter(HTTPAdapter):
    """requests' own transport, on connections that another thread can cut off."""

    def __init__(self, sockets: Sockets) -> None:
        self._pools = sockets.pool_classes()
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = self._pools
        return manager


def enroll(
    url: str, code: str, terminal_id: str, ids: Ids, session: requests.Session | None = None
) -> tuple[Credentials, str]:
    """Join a CRM with a one-time code; gives credentials and the server's time. Raises :class:`CrmError`."""
    request_id = ids.uuid()
    headers = {REQUEST_ID_HEADER: request_id, "Content-Type": "application/json"}
    payload = json.dumps({"code": code, "terminal_id": terminal_id}).encode()
    with closing(Wire(session)) as wire:
        reply = wire.ask("POST", f"{url}/v1/terminals/enroll", headers, payload)
    _raise_for_status(reply, signed=False)
    answer = _json(reply.body)
    try:
        secret = base64.b64decode(answer["secret"], validate=True)
        credentials = Credentials(url, answer["terminal_id"], str(answer["programme_id"]), answer["token"], secret)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise CrmUnreachable("the answer to the enrolment is not one of a CRM") from error
    if len(secret) != SECRET_BYTES:
        raise CrmUnreachable(f"the enrolment brought a secret of {len(secret)} bytes, not {SECRET_BYTES}")
    if not reply.signed_with(secret, request_id):
        raise CrmUnreachable("the answer to the enrolment is not signed with the secret it brings")
    return credentials, str(answer.get("server_time", ""))


class SignedClient:
    """Calls with a terminal's credentials, whose answers are believed for their signature. One thread at a time.

    ``session`` and ``pause`` are the ways to the network and to real time, for those who run in a time of their own.
    """

    def __init__(
        self,
        credentials: Credentials,
        ids: Ids,
        session: requests.Session | None = None,
        pause: Callable[[float], None] = sleep,
    ) -> None:
        self._credentials = credentials
        self._ids = ids
        self._wire = Wire(session)
        self._pause = pause

    def close(self) -> None:
        self._wire.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        payload: bytes | None = None,
        tries: int = TRIES_PER_CALL,
        limit_s: float = CALL_LIMIT_S,
    ) -> dict[str, Any]:
        """The answer to one call; a broken connection is tried again at once. Raises :class:`CrmError`."""
        for attempt in Retrying(
            retry=retry_if_exception_type(_PassingFault),
            stop=stop_after_attempt(tries),
            wait=self._pause_s,
            sleep=self._pause,
            reraise=True,
        ):
            with attempt:
                return self._call_once(method, path, headers or {}, payload, limit_s)
        raise AssertionError("tenacity re-raises the last fault")

    def _pause_s(self, state: RetryCallState) -> float:
        """Full jitter: uniform in 0..min(cap, base * 2^n) before try n."""
        return self._ids.uniform(0, min(PAUSE_CAP_S, PAUSE_BASE_S * 2.0 ** (state.attempt_number - 1)))

    def _call_once(
        self, method: str, path: str, headers: dict[str, str], payload: bytes | None, limit_s: float
    ) -> dict[str, Any]:
        request_id = self._ids.uuid()
        credentials = self._credentials
        ours = {"Authorization": f"Bearer {credentials.token}", REQUEST_ID_HEADER: request_id}
        reply = self._wire.ask(method, credentials.crm_url + path, {**headers, **ours}, payload, limit_s)
        signed = reply.signed_with(credentials.secret, request_id)
        _raise_for_status(reply, signed=signed)
        if not signed:
            raise CrmUnreachable("the answer is not signed by the CRM: something between answered in its place")
        return _json(reply.body)


class _PassingFault(CrmUnreachable):
    """Worth another try at once: the connection broke. A CRM that asks for a pause gets one instead."""


def _ask(
    session: requests.Session, method: str, url: str, headers: dict[str, str], payload: bytes | None, limit_s: float
) -> Reply:
    read_timeout_s = min(READ_TIMEOUT_S, limit_s)
    try:
        response = session.request(
            method,
            url,
            auth=_keep_headers,
            headers=headers,
            data=payload,
            timeout=(min(CONNECT_TIMEOUT_S, read_timeout_s), read_timeout_s),
            allow_redirects=False,
            stream=True,
        )
    except requests.ConnectionError as error:
        raise _PassingFault(f"no connection to {urlsplit(url).netloc}: {_cause(error)}") from error
    except requests.RequestException as error:
        raise CrmUnreachable(f"no answer from {urlsplit(url).netloc}: {type(error).__name__}") from error
    return Reply(response.status_code, response.headers, _read(response))


def _keep_headers(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Our token is the authorization; without this, requests puts one of ~/.netrc in its place."""
    return request


def _cause(error: BaseException) -> str:
    """The innermost reason of a connection error, in the system's words."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _read(response: requests.Response) -> bytes:
    """The body, after any content encoding, up to a limit."""
    chunks, size = [], 0
    try:
        for chunk in response.iter_content(64 * 1024):
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise CrmUnreachable("the answer is longer than any answer of a CRM")
            chunks.append(chunk)
    except requests.RequestException as error:
        raise _PassingFault(f"the answer broke off: {type(error).__name__}") from error
    finally:
        response.close()
    return b"".join(chunks)


def _raise_for_status(reply: Reply, *, signed: bool) -> None:
    status = reply.status
    if 200 <= status < 300:
        return
    problem = _problem(reply.body)
    detail = str(problem.get("detail") or problem.get("title") or "")[:300]
    is_problem = reply.headers.get("Content-Type", "").startswith(PROBLEM_MEDIA_TYPE)
    if status in (401, 403):
        raise CrmUnauthorized(detail or f"the CRM answered {status}", certain=is_problem)
    says_so = (
        problem.get("retryable") is False or status != HTTPStatus.CONFLICT and problem.get("retryable") is not True
    )
    if is_problem and says_so and status < 500 and status not in RETRIED:
        code = str(problem.get("code", ""))
        raise CrmRefused(status, code, detail or f"the CRM answered {status}", problem, signed=signed)
    kind = CrmFailed if status in FAILED else CrmUnreachable
    raise kind(f"the CRM answered {status}" + (f": {detail}" if detail else ""), _retry_after(reply))


def _problem(raw: bytes) -> dict[str, Any]:
    """An RFC 9457 problem document; empty where the body is something else."""
    try:
        problem = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return problem if isinstance(problem, dict) else {}


def _retry_after(reply: Reply) -> float | None:
    """Seconds from ``Retry-After``; only delta-seconds, because a date needs a clock that is right."""
    value = reply.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 9 else None


def _json(raw: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CrmUnreachable("the answer is no JSON") from error
    if not isinstance(answer, dict):
        raise CrmUnreachable("the answer is no JSON object")
    return answer
