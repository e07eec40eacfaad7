"""HTTP to the CRM: one request at a time, every answer authenticated before it is believed.

tenacity repeats one call a few times at once; waiting longer is the sync worker's persisted schedule.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import requests
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.nap import sleep

from terminal_agent import __version__
from terminal_agent.contract import (
    BATCH_MEDIA_TYPE,
    REQUEST_ID_HEADER,
    SIGNATURE_HEADER,
    canonical_json,
    signature_is_valid,
)
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.ports import Ids

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
TRIES_PER_CALL = 3
PAUSE_BASE_S = 0.2
PAUSE_CAP_S = 2.0
MAX_ANSWER_BYTES = 16 * 1024 * 1024
GZIP_FROM_BYTES = 4096
SECRET_BYTES = 32
PROBLEM_MEDIA_TYPE = "application/problem+json"
BATCH_REFUSALS = frozenset({400, 413, 422})
RETRIED = frozenset({408, 425, 429})
"""A 4xx but these says no for good, and only as a problem document: a proxy's or a portal's page is no answer. A 409
must say that it is not to be tried again: an earlier try may still be running."""


class CrmError(Exception):
    """What the CRM, or the way to it, answered."""


class CrmUnreachable(CrmError):
    """No answer that counts: nothing can be said of what the CRM did. ``retry_after_s`` if it asked for a pause."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CrmUnauthorized(CrmError):
    """The CRM does not accept this terminal's token (401, 403). ``certain``: a problem document says so; a portal or a
    proxy on the way may answer the same without one."""

    def __init__(self, message: str, *, certain: bool = True) -> None:
        super().__init__(message)
        self.certain = certain


class CrmRefused(CrmError):
    """The CRM understood and said no (4xx). ``code`` is the problem's code, ``facts`` are all its members."""

    def __init__(self, status: int, code: str, detail: str, facts: dict[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.facts = facts or {}


@dataclass(frozen=True)
class Credentials:
    """What enrolment gave. Its repr shows no secret."""

    crm_url: str
    terminal_id: str
    programme_id: str
    token: str = field(repr=False)
    secret: bytes = field(repr=False)


def checked_url(url: str) -> str:
    """``url`` without a trailing slash. Raises AgentError unless it is https, or http on loopback."""
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


def enroll(
    url: str, code: str, terminal_id: str, ids: Ids, session: requests.Session | None = None
) -> tuple[Credentials, str]:
    """Join a CRM with a one-time code; gives credentials and the server's time. Raises :class:`CrmError`."""
    request_id = ids.uuid()
    body = {"code": code, "terminal_id": terminal_id}
    with session or requests.Session() as session:
        response = _send(session, "POST", f"{url}/v1/terminals/enroll", {REQUEST_ID_HEADER: request_id}, json_body=body)
        raw = _read(response)
    _raise_for_status(response, raw)
    answer = _json(raw)
    try:
        secret = base64.b64decode(answer["secret"], validate=True)
        credentials = Credentials(url, answer["terminal_id"], str(answer["programme_id"]), answer["token"], secret)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise CrmUnreachable("the answer to the enrolment is not one of a CRM") from error
    if len(secret) != SECRET_BYTES:
        raise CrmUnreachable(f"the enrolment brought a secret of {len(secret)} bytes, not {SECRET_BYTES}")
    if not signature_is_valid(secret, request_id, raw, response.headers.get(SIGNATURE_HEADER)):
        raise CrmUnreachable("the answer to the enrolment is not signed with the secret it brings")
    return credentials, str(answer.get("server_time", ""))


class CrmClient:
    """The calls of an enrolled terminal. One thread at a time. ``session`` and ``pause`` are the ways to the network
    and to real time, for those who run in a time of their own."""

    def __init__(
        self,
        credentials: Credentials,
        ids: Ids,
        session: requests.Session | None = None,
        pause: Callable[[float], None] = sleep,
    ) -> None:
        self._credentials = credentials
        self._ids = ids
        self._session = session or requests.Session()
        self._pause = pause

    @property
    def url(self) -> str:
        return self._credentials.crm_url

    def post_events(self, bodies: list[str]) -> dict[str, Any]:
        """Send a batch, the stored bytes as they are; gives ``{results, acked_through, server_time}``."""
        payload = ("[" + ",".join(bodies) + "]").encode()
        headers = {"Content-Type": BATCH_MEDIA_TYPE}
        if len(payload) >= GZIP_FROM_BYTES:
            payload = gzip.compress(payload, mtime=0)
            headers["Content-Encoding"] = "gzip"
        return self._call("POST", "/v1/events", headers=headers, payload=payload)

    def get_feed(self, cursor: str | None, limit: int) -> dict[str, Any]:
        """The next page of the CRM's decisions: ``{items, next_cursor, has_more}``."""
        parameters = f"limit={limit}" + (f"&cursor={quote(cursor, safe='')}" if cursor else "")
        return self._call("GET", f"/v1/feed?{parameters}")

    def get_card(self, card_no: str, timeout_s: float) -> dict[str, Any]:
        """What the CRM knows of a card, asked once and not for long: a customer waits."""
        return self._call("GET", f"/v1/cards/{quote(card_no, safe='')}", tries=1, timeout_s=timeout_s)

    def post_hold(
        self, card_no: str, points: int, card_sequence: int, reference: str, timeout_s: float
    ) -> dict[str, Any]:
        """Set a card's points aside, if ``card_sequence`` is the CRM's own counter of it: ``{hold_id, expires_at}``."""
        asked = {"card_no": card_no, "points": points, "card_sequence": card_sequence, "reference": reference}
        headers = {"Content-Type": "application/json"}
        payload = canonical_json(asked)
        return self._call("POST", "/v1/holds", headers=headers, payload=payload, tries=1, timeout_s=timeout_s)

    def end_hold(self, hold_id: str, how: Literal["confirm", "release"], timeout_s: float) -> dict[str, Any]:
        """The points of a hold are spent for certain, or free again."""
        return self._call("POST", f"/v1/holds/{quote(hold_id, safe='')}/{how}", tries=1, timeout_s=timeout_s)

    def get_member(self, phone: str) -> dict[str, Any]:
        """The member who has this phone: ``{member_id, name, phone, tier, status, cards}``."""
        return self._call("GET", f"/v1/members?phone={quote(phone, safe='')}", tries=1)

    def export_member(self, member_id: str) -> dict[str, Any]:
        """Everything the CRM holds of a member."""
        return self._call("GET", f"/v1/members/{quote(member_id, safe='')}/export")

    def erase_member(self, member_id: str) -> dict[str, Any]:
        """Have the CRM forget who a member is: ``{member_id, card_nos, erased_at}``."""
        return self._call("POST", f"/v1/members/{quote(member_id, safe='')}/erase")

    def probe(self, timeout_s: float) -> None:
        """Ask once for something small: does the CRM answer, and accept this terminal? Raises :class:`CrmError`."""
        self._call("GET", "/v1/feed?limit=1", tries=1, timeout_s=timeout_s)

    def close(self) -> None:
        self._session.close()

    def _call(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        payload: bytes | None = None,
        tries: int = TRIES_PER_CALL,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> dict[str, Any]:
        for attempt in Retrying(
            retry=retry_if_exception_type(_PassingFault),
            stop=stop_after_attempt(tries),
            wait=self._pause_s,
            sleep=self._pause,
            reraise=True,
        ):
            with attempt:
                return self._call_once(method, path, headers or {}, payload, timeout_s)
        raise AssertionError("tenacity re-raises the last fault")

    def _pause_s(self, state: RetryCallState) -> float:
        """Full jitter: uniform in 0..min(cap, base * 2^n) before try n."""
        return self._ids.uniform(0, min(PAUSE_CAP_S, PAUSE_BASE_S * 2.0 ** (state.attempt_number - 1)))

    def _call_once(
        self, method: str, path: str, headers: dict[str, str], payload: bytes | None, timeout_s: float
    ) -> dict[str, Any]:
        request_id = self._ids.uuid()
        credentials = self._credentials
        headers = {
            **headers,
            "Authorization": f"Bearer {credentials.token}",
            REQUEST_ID_HEADER: request_id,
        }
        url = credentials.crm_url + path
        response = _send(self._session, method, url, headers, payload=payload, read_timeout_s=timeout_s)
        raw = _read(response)
        _raise_for_status(response, raw)
        if not signature_is_valid(credentials.secret, request_id, raw, response.headers.get(SIGNATURE_HEADER)):
            raise CrmUnreachable("the answer is not signed by the CRM: something between answered in its place")
        return _json(raw)


class _PassingFault(CrmUnreachable):
    """Worth another try at once: the connection broke. A CRM that asks for a pause gets one instead."""


def _send(
    session: requests.Session,
    method: str,
    url: str,
    headers: dict[str, str],
    *,
    payload: bytes | None = None,
    json_body: dict[str, Any] | None = None,
    read_timeout_s: float = READ_TIMEOUT_S,
) -> requests.Response:
    if url.startswith("http:"):
        session.trust_env = False  # plain http is for this machine alone; a proxy of the environment is not on it
    try:
        return session.request(
            method,
            url,
            auth=_keep_headers,
            headers={"Accept": "application/json", "User-Agent": f"terminal-agent/{__version__}", **headers},
            data=payload,
            json=json_body,
            timeout=(min(CONNECT_TIMEOUT_S, read_timeout_s), read_timeout_s),
            allow_redirects=False,
            stream=True,
        )
    except requests.ConnectionError as error:
        raise _PassingFault(f"no connection to {urlsplit(url).netloc}: {_cause(error)}") from error
    except requests.RequestException as error:
        raise CrmUnreachable(f"no answer from {urlsplit(url).netloc}: {type(error).__name__}") from error


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


def _raise_for_status(response: requests.Response, raw: bytes) -> None:
    status = response.status_code
    if 200 <= status < 300:
        return
    problem = _problem(raw)
    detail = str(problem.get("detail") or problem.get("title") or "")[:300]
    is_problem = response.headers.get("Content-Type", "").startswith(PROBLEM_MEDIA_TYPE)
    if status in (401, 403):
        raise CrmUnauthorized(detail or f"the CRM answered {status}", certain=is_problem)
    says_so = (
        problem.get("retryable") is False or status != HTTPStatus.CONFLICT and problem.get("retryable") is not True
    )
    if is_problem and says_so and status < 500 and status not in RETRIED:
        raise CrmRefused(status, str(problem.get("code", "")), detail or f"the CRM answered {status}", problem)
    raise CrmUnreachable(f"the CRM answered {status}" + (f": {detail}" if detail else ""), _retry_after(response))


def _problem(raw: bytes) -> dict[str, Any]:
    """An RFC 9457 problem document; empty where the body is something else."""
    try:
        problem = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return problem if isinstance(problem, dict) else {}


def _retry_after(response: requests.Response) -> float | None:
    """Seconds from ``Retry-After``; only delta-seconds, because a date needs a clock that is right."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 9 else None


def _json(raw: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CrmUnreachable("the answer is no JSON") from error
    if not isinstance(answer, dict):
        raise CrmUnreachable("the answer is no JSON object")
    return answer
