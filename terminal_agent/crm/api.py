"""The CRM's HTTP API, as docs/crm-api.md describes it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Response
from sqlalchemy.exc import SQLAlchemyError

from terminal_agent.contract import BATCH_MEDIA_TYPE
from terminal_agent.crm import enrolment, feed, holds, inbox, member_routes, openapi, problems, restore, wire
from terminal_agent.crm.bodies import JSON_MEDIA_TYPE, json_body, read_batch, reader_of
from terminal_agent.crm.calls import SIGNED, CallerIn, RequestIdIn, Service, ServiceIn, signed
from terminal_agent.crm.lookups import card_answer
from terminal_agent.crm.problems import ProblemError, describe_problems
from terminal_agent.crm.store import Store, read_meta
from terminal_agent.ports import Clock, Ids


class _App(FastAPI):
    """FastAPI whose OpenAPI document is complete."""

    def openapi(self) -> dict[str, Any]:
        return openapi.complete(super().openapi())


def create_app(store: Store, clock: Clock, ids: Ids) -> FastAPI:
    """The CRM on ``store``; the caller closes the store."""
    app = _App(title="terminal-agent reference CRM", version="1", docs_url=None, redoc_url=None)
    app.state.service = Service(store, clock, ids)
    problems.install(app)
    app.include_router(_open)
    app.include_router(_terminal, prefix="/v1")
    app.include_router(_open, prefix="/v1", include_in_schema=False)
    app.add_api_route("/v1/openapi.json", app.openapi, include_in_schema=False)
    app.include_router(member_routes.router, prefix="/v1")
    return app


_open = APIRouter()
_terminal = APIRouter()


@_open.get("/healthz", responses=describe_problems(503, codes={503: ("unhealthy",)}))
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
    responses={200: SIGNED, **describe_problems(400, 403, 413, 415, 503, codes={403: ("code_invalid",)})},
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
        given = service.store.write(
            lambda connection: enrolment.enrol(connection, asked.code, terminal_id, asked.name, service.clock.now())
        )
        with service.store.reading() as connection:
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
    return signed(given.secret, request_id, answer)


@_terminal.post(
    "/events",
    response_model=wire.EventsAnswer,
    responses={200: SIGNED, **describe_problems(400, 401, 403, 413, 415, 503)},
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
    results, acked_through = service.store.write(
        lambda connection: inbox.receive(connection, caller.terminal_id, documents, now)
    )
    answer = wire.EventsAnswer(results=results, acked_through=acked_through, server_time=now)
    return signed(caller.secret, request_id, answer)


@_terminal.post(
    "/holds",
    response_model=wire.HoldAnswer,
    responses={200: SIGNED, **describe_problems(400, 401, 403, 404, 409, 413, 415, 503)},
    openapi_extra=json_body(wire.HoldRequest.model_json_schema(), JSON_MEDIA_TYPE),
)
def place_hold(
    service: ServiceIn,
    caller: CallerIn,
    request_id: RequestIdIn,
    asked: Annotated[wire.HoldRequest, Depends(reader_of(wire.HoldRequest))],
) -> Response:
    """Sets points aside for an online redemption; with ``card_sequence`` it also confirms the card's chain."""
    answer = service.store.write(
        lambda connection: holds.place(connection, caller.terminal_id, asked, service.ids.uuid(), service.clock.now())
    )
    return signed(caller.secret, request_id, answer)


_HOLD_RESPONSES = {200: SIGNED, **describe_problems(400, 401, 403, 404, 409, 503)}


@_terminal.post("/holds/{hold_id}/confirm", response_model=wire.HoldAnswer, responses=_HOLD_RESPONSES)
def confirm_hold(service: ServiceIn, caller: CallerIn, request_id: RequestIdIn, hold_id: str) -> Response:
    """The redemption stands: the points stay aside until its event arrives."""
    with service.store.writing() as connection:
        answer = holds.confirm(connection, caller.terminal_id, hold_id, service.clock.now())
    return signed(caller.secret, request_id, answer)


@_terminal.post("/holds/{hold_id}/release", response_model=wire.HoldAnswer, responses=_HOLD_RESPONSES)
def release_hold(service: ServiceIn, caller: CallerIn, request_id: RequestIdIn, hold_id: str) -> Response:
    """Nothing is redeemed: the points are free at once."""
    with service.store.writing() as connection:
        answer = holds.release(connection, caller.terminal_id, hold_id, service.clock.now())
    return signed(caller.secret, request_id, answer)


_CURSOR_CODES = {400: ("request_invalid", "request_id_missing", "cursor_invalid")}


@_terminal.get(
    "/feed",
    response_model=wire.FeedAnswer,
    responses={200: SIGNED, **describe_problems(400, 401, 403, 503, codes=_CURSOR_CODES)},
)
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
    return signed(caller.secret, request_id, answer)


@_terminal.get(
    "/cards/{card_no}",
    response_model=wire.CardAnswer,
    responses={200: SIGNED, **describe_problems(400, 401, 403, 404)},
)
def get_card(service: ServiceIn, caller: CallerIn, request_id: RequestIdIn, card_no: str) -> Response:
    """What the CRM knows of a card."""
    with service.store.reading() as connection:
        answer = card_answer(connection, card_no)
    if answer is None:
        raise ProblemError(404, "not_found", "No card has this number.")
    return signed(caller.secret, request_id, answer)
