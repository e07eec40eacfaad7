"""The CRM's HTTP API, as docs/crm-api.md describes it."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from terminal_agent.club.phone import PhoneInvalid
from terminal_agent.contract import BATCH_MEDIA_TYPE, REQUEST_ID_HEADER, SIGNATURE_HEADER, canonical_json, sign
from terminal_agent.crm import enrolment, feed, holds, inbox, members, openapi, problems, restore, wire
from terminal_agent.crm.bodies import JSON_MEDIA_TYPE, json_body, read_batch, reader_of
from terminal_agent.crm.enrolment import Terminal
from terminal_agent.crm.lookups import card_answer
from terminal_agent.crm.problems import ProblemError, describe_problems
from terminal_agent.crm.store import Store, read_meta
from terminal_agent.ports import Clock, Ids, rfc3339

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_BEARER = HTTPBearer(auto_error=False, description="The token given at enrolment.")
_SIGNED = {"headers": {SIGNATURE_HEADER: {"schema": {"type": "string"}, "description": "v1=<hex HMAC-SHA256>"}}}


class _Service:
    """What the routes need; kept as ``app.state.service``."""

    def __init__(self, store: Store, clock: Clock, ids: Ids) -> None:
        self.store = store
        self.clock = clock
        self.ids = ids

    @property
    def now(self) -> str:
        return rfc3339(self.clock.now())


class _App(FastAPI):
    """FastAPI whose OpenAPI document is complete."""

    def openapi(self) -> dict[str, Any]:
        return openapi.complete(super().openapi())


def create_app(store: Store, clock: Clock, ids: Ids) -> FastAPI:
    """The CRM on ``store``; the caller closes the store."""
    app = _App(title="terminal-agent reference CRM", version="1", docs_url=None, redoc_url=None)
    app.state.service = _Service(store, clock, ids)
    problems.install(app)
    app.include_router(_open)
    app.include_router(_terminal, prefix="/v1")
    return app


def _service(request: Request) -> _Service:
    service: _Service = request.app.state.service
    return service


def _request_id(request: Request) -> str:
    """What ties the signed answer to this try."""
    given = request.headers.get(REQUEST_ID_HEADER, "")
    if not _REQUEST_ID.fullmatch(given):
        detail = f"Send a fresh {REQUEST_ID_HEADER} header with every try, 1 to 128 visible ASCII characters."
        raise ProblemError(400, "request_id_missing", detail)
    return given


ServiceIn = Annotated[_Service, Depends(_service)]
RequestIdIn = Annotated[str, Depends(_request_id)]


def _caller(
    service: ServiceIn, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
) -> Terminal:
    """The enrolled terminal that calls."""
    found = None
    if credentials is not None:
        with service.store.reading() as connection:
            found = enrolment.find_by_token(connection, credentials.credentials)
    if found is None:
        detail = "The token is missing or not known here; enrol the terminal again."
        raise ProblemError(401, "crm_unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
    if found.revoked:
        raise ProblemError(403, "crm_unauthorized", "This terminal was revoked.")
    return found


CallerIn = Annotated[Terminal, Depends(_caller)]


def _signed(secret: bytes, request_id: str, answer: BaseModel) -> Response:
    """A 2xx answer that only this CRM can have given to this try."""
    body = canonical_json(answer.model_dump(mode="json"))
    return Response(body, media_type=JSON_MEDIA_TYPE, headers={SIGNATURE_HEADER: sign(secret, request_id, body)})


_open = APIRouter()
_terminal = APIRouter()


@_open.get("/healthz", responses=describe_problems(503))
def healthz(service: ServiceIn) -> wire.Health:
    """Whether the CRM answers and can read its database."""
    try:
        with service.store.reading() as connection:
            read_meta(connection, "programme_id")
    except SQLAlchemyError as error:
        raise ProblemError(503, "unhealthy", "The database cannot be read.", retryable=True) from error
    return wire.Health(status="ok")


@_terminal.post(
    "/terminals/enroll",
    response_model=wire.EnrolAnswer,
    responses={200: _SIGNED, **describe_problems(400, 403, 413, 415)},
    openapi_extra=json_body(wire.EnrolRequest.model_json_schema(), JSON_MEDIA_TYPE),
)
def enroll(
    service: ServiceIn,
    request_id: RequestIdIn,
    asked: Annotated[wire.EnrolRequest, Depends(reader_of(wire.EnrolRequest))],
) -> Response:
    """Trades a one-time code for credentials; the answer is signed with the secret it delivers."""
    terminal_id = asked.terminal_id or service.ids.uuid()
    try:
        with service.store.writing() as connection:
            given = enrolment.enrol(connection, asked.code, terminal_id, asked.name, service.clock.now())
            programme_id = read_meta(connection, "programme_id")
    except enrolment.CodeInvalid as error:
        raise ProblemError(403, "code_invalid", "The code is wrong, used or expired.") from error
    answer = wire.EnrolAnswer(
        terminal_id=terminal_id,
        token=given.token,
        secret=given.secret_text,
        programme_id=programme_id,
        server_time=service.now,
    )
    return _signed(given.secret, request_id, answer)


@_terminal.post(
    "/events",
    response_model=wire.EventsAnswer,
    responses={200: _SIGNED, **describe_problems(400, 401, 403, 413, 415, 503)},
    openapi_extra=json_body(openapi.BATCH, BATCH_MEDIA_TYPE, JSON_MEDIA_TYPE),
)
def post_events(
    service: ServiceIn,
    caller: CallerIn,
    request_id: RequestIdIn,
    documents: Annotated[list[Any], Depends(read_batch)],
) -> Response:
    """Books a batch; the verdicts are given after the commit."""
    now = service.now
    with service.store.writing() as connection:
        results, acked_through = inbox.receive(connection, caller.terminal_id, documents, now)
    answer = wire.EventsAnswer(results=results, acked_through=acked_through, server_time=now)
    return _signed(caller.secret, request_id, answer)


@_terminal.post(
    "/holds",
    response_model=wire.HoldAnswer,
    responses={200: _SIGNED, **describe_problems(400, 401, 403, 404, 409, 413, 415, 503)},
    openapi_extra=json_body(wire.HoldRequest.model_json_schema(), JSON_MEDIA_TYPE),
)
def place_hold(
    service: ServiceIn,
    caller: CallerIn,
    request_id: RequestIdIn,
    asked: Annotated[wire.HoldRequest, Depends(reader_of(wire.HoldRequest))],
) -> Response:
    """Sets points aside for an online redemption; with ``card_sequence`` it also confirms the card's chain."""
    with service.store.writing() as connection:
        answer = holds.place(connection, caller.terminal_id, asked, service.ids.uuid(), service.clock.now())
    return _signed(caller.secret, request_id, answer)


_HOLD_RESPONSES = {200: _SIGNED, **describe_problems(400, 401, 403, 404, 409, 503)}


@_terminal.post("/holds/{hold_id}/confirm", response_model=wire.HoldAnswer, responses=_HOLD_RESPONSES)
def confirm_hold(service: ServiceIn, caller: CallerIn, request_id: RequestIdIn, hold_id: str) -> Response:
    """The redemption stands: the points stay aside until its event arrives."""
    with service.store.writing() as connection:
        answer = holds.confirm(connection, caller.terminal_id, hold_id, service.clock.now())
    return _signed(caller.secret, request_id, answer)


@_terminal.post("/holds/{hold_id}/release", response_model=wire.HoldAnswer, responses=_HOLD_RESPONSES)
def release_hold(service: ServiceIn, caller: CallerIn, request_id: RequestIdIn, hold_id: str) -> Response:
    """Nothing is redeemed: the points are free at once."""
    with service.store.writing() as connection:
        answer = holds.release(connection, caller.terminal_id, hold_id, service.clock.now())
    return _signed(caller.secret, request_id, answer)


@_terminal.get("/feed", response_model=wire.FeedAnswer, responses={200: _SIGNED, **describe_problems(400, 401, 403)})
def get_feed(
    service: ServiceIn,
    caller: CallerIn,
    request_id: RequestIdIn,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=feed.MAX_LIMIT)] = feed.DEFAULT_LIMIT,
) -> Response:
    """What the CRM decided since ``cursor``; from the beginning without one."""
    try:
        with service.store.reading() as connection:
            page = feed.read_page(connection, cursor, limit)
            acked = inbox.acked_through(connection, caller.terminal_id)
    except feed.CursorInvalid as error:
        if isinstance(error, feed.CursorUnknown):
            with service.store.writing() as connection:
                restore.note_once(connection, service.now)
        detail = "This CRM gave out no such cursor, or has forgotten it; read from the beginning."
        raise ProblemError(400, "cursor_invalid", detail) from error
    answer = wire.FeedAnswer(
        items=page.items, next_cursor=page.next_cursor, has_more=page.has_more, acked_through=acked
    )
    return _signed(caller.secret, request_id, answer)


@_terminal.get(
    "/members", response_model=wire.MemberAnswer, responses={200: _SIGNED, **describe_problems(400, 401, 403, 404)}
)
def get_member(
    service: ServiceIn,
    caller: CallerIn,
    request_id: RequestIdIn,
    phone: Annotated[str, Query(min_length=1, max_length=40)],
) -> Response:
    """The member who has this phone, in any spelling."""
    try:
        with service.store.reading() as connection:
            found = members.find_by_phone(connection, phone)
    except PhoneInvalid as error:
        raise ProblemError(400, "request_invalid", f"phone: {error}") from error
    if found is None:
        raise ProblemError(404, "not_found", "No member has this phone.")
    return _signed(caller.secret, request_id, wire.MemberAnswer(**found))


@_terminal.get(
    "/cards/{card_no}",
    response_model=wire.CardAnswer,
    responses={200: _SIGNED, **describe_problems(400, 401, 403, 404)},
)
def get_card(service: ServiceIn, caller: CallerIn, request_id: RequestIdIn, card_no: str) -> Response:
    """What the CRM knows of a card."""
    with service.store.reading() as connection:
        answer = card_answer(connection, card_no)
    if answer is None:
        raise ProblemError(404, "not_found", "No card has this number.")
    return _signed(caller.secret, request_id, answer)
