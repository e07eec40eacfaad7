"""Every error the CRM answers is an RFC 9457 problem with ``code`` and ``retryable``."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from terminal_agent.contract import canonical_json
from terminal_agent.crm.holds import NOT_FOUND, HoldRefused
from terminal_agent.crm.wire import Problem

MEDIA_TYPE = "application/problem+json"
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_media_type"}


_CODES_OF: dict[int, tuple[str, ...]] = {
    400: ("request_invalid", "request_id_missing"),
    401: ("crm_unauthorized",),
    403: ("crm_unauthorized",),
    404: ("not_found",),
    409: (
        "insufficient_points",
        "card_blocked",
        "card_pending",
        "card_held",
        "chain_ahead",
        "chain_behind",
        "reference_reused",
        "hold_ended",
        "hold_released",
        "hold_spent",
    ),
    412: ("precondition_failed",),
    413: ("too_large",),
    415: ("unsupported_media_type",),
    428: ("precondition_required",),
    429: ("too_many_lookups",),
    503: ("busy",),
}


class ProblemError(Exception):
    """An answer other than 2xx."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        retryable: bool = False,
        headers: Mapping[str, str] | None = None,
        facts: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retryable = retryable
        self.headers = headers or {}
        self.facts = facts or {}


def problem_response(problem: ProblemError) -> Response:
    """The problem as an HTTP answer."""
    body = Problem(
        title=HTTPStatus(problem.status).phrase,
        status=problem.status,
        detail=problem.detail,
        code=problem.code,
        retryable=problem.retryable,
        **problem.facts,
    )
    content = canonical_json(body.model_dump(exclude_none=True))
    return Response(content, problem.status, dict(problem.headers), media_type=MEDIA_TYPE)


def describe_problems(*statuses: int, codes: Mapping[int, tuple[str, ...]] | None = None) -> dict[int | str, Any]:
    """The ``responses`` of a route for OpenAPI, each with the ``code`` it may carry; ``codes`` are the route's own."""
    told = {**_CODES_OF, **(codes or {})}
    return {status: _description(status, told[status]) for status in statuses}


def _description(status: int, codes: tuple[str, ...]) -> dict[str, Any]:
    own = {"properties": {"code": {"examples": list(codes)}}}
    schema = {"allOf": [{"$ref": "#/components/schemas/Problem"}, own]}
    return {
        "description": f"{HTTPStatus(status).phrase}: {', '.join(codes)}",
        "content": {MEDIA_TYPE: {"schema": schema}},
    }


def install(app: FastAPI) -> None:
    """Turns every error of ``app`` into a problem."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(HoldRefused, _on_refused_hold)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(OperationalError, _on_busy_database)
    app.add_exception_handler(Exception, _on_unexpected)


def _on_problem(_request: Request, error: Exception) -> Response:
    return problem_response(cast(ProblemError, error))  # Starlette types handlers loosely


def _on_refused_hold(_request: Request, error: Exception) -> Response:
    refused = cast(HoldRefused, error)
    status = 404 if refused.code == NOT_FOUND else 409
    return problem_response(ProblemError(status, refused.code, refused.detail, facts=refused.facts))


def _on_invalid_request(_request: Request, error: Exception) -> Response:
    first = cast(RequestValidationError, error).errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    return problem_response(ProblemError(400, "request_invalid", f"{field}: {first['msg']}"))


def _on_http_error(_request: Request, error: Exception) -> Response:
    found = cast(HTTPException, error)
    code = _CODES.get(found.status_code, "request_invalid")
    return problem_response(ProblemError(found.status_code, code, str(found.detail), headers=found.headers))


def _on_busy_database(_request: Request, _error: Exception) -> Response:
    detail = "The database is busy or cannot be written; nothing of this request was kept."
    return problem_response(ProblemError(503, "busy", detail, retryable=True, headers={"Retry-After": "2"}))


def _on_unexpected(_request: Request, _error: Exception) -> Response:
    return problem_response(ProblemError(500, "internal", "The CRM failed; its log says why.", retryable=True))
