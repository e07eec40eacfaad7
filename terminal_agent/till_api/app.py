"""The till's API as one ASGI application: routes, errors as problems, the guard around everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from terminal_agent import __version__
from terminal_agent.errors import AgentError
from terminal_agent.till_api import member_routes, page, receipts, staff_routes, wire
from terminal_agent.till_api.calls import Till, caller_of
from terminal_agent.till_api.guard import App, Guard
from terminal_agent.till_api.problems import Refusal, Refused, failed, refused
from terminal_agent.till_api.routes import public, v1

_BY_STATUS = {404: Refusal.NOT_FOUND, 405: Refusal.METHOD_NOT_ALLOWED}


def create_app(till: Till, hosts: Callable[[], frozenset[str]], origins: frozenset[str]) -> App:
    """The whole API around ``till``. ``hosts``: the values of Host that name us; ``origins``: pages that may call."""
    app = FastAPI(title="terminal-agent till", version=__version__, openapi_url=None, docs_url=None, redoc_url=None)
    app.state.till = till
    app.include_router(public)
    app.include_router(v1)
    app.include_router(receipts.router)
    app.include_router(member_routes.router)
    app.include_router(staff_routes.router)
    app.include_router(page.router)
    app.add_api_route("/openapi.json", _describe(app), include_in_schema=False, dependencies=[Depends(caller_of)])
    app.add_exception_handler(Refused, _on_refused)
    app.add_exception_handler(AgentError, _on_agent_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_unforeseen)
    return Guard(cast(App, app), hosts, origins)


def _describe(app: FastAPI) -> Callable[[], dict[str, Any]]:
    def openapi() -> dict[str, Any]:
        """The OpenAPI 3.1 document."""
        document = app.openapi()
        schemas = document["components"]["schemas"]
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        template = "#/components/schemas/{model}"
        problem = wire.Problem.model_json_schema(ref_template=template)
        schemas |= problem.pop("$defs") | {"Problem": problem}
        for methods in document["paths"].values():
            for operation in methods.values():
                if operation["responses"].get("422", {}).get("description") != "Problem":
                    operation["responses"].pop("422", None)  # FastAPI's own; ours is 400
        return document

    return openapi


def _on_refused(_request: Request, error: Exception) -> Response:
    problem = cast(Refused, error)
    status, media_type, body = refused(problem.refusal, problem.detail)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(problem.retry_after_s)
    return Response(body, status, headers, media_type=media_type)


def _on_agent_error(_request: Request, error: Exception) -> Response:
    status, media_type, body = failed(cast(AgentError, error))
    return Response(body, status, media_type=media_type)


def _on_invalid(request: Request, error: Exception) -> Response:
    first = cast(RequestValidationError, error).errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:]) or "the body"
    return _on_refused(request, Refused(Refusal.INVALID, f"{field}: {first['msg']}"))


def _on_http_error(request: Request, error: Exception) -> Response:
    status = cast(HTTPException, error).status_code
    return _on_refused(request, Refused(_BY_STATUS.get(status, Refusal.INVALID)))


def _on_unforeseen(request: Request, _error: Exception) -> Response:
    return _on_refused(request, Refused(Refusal.INTERNAL))
