"""What every route of the CRM shares: the service behind it, who calls, the signed answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from fastapi import Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from terminal_agent.contract import REQUEST_ID_HEADER, SIGNATURE_HEADER, canonical_json, sign
from terminal_agent.crm import enrolment
from terminal_agent.crm.allowance import Allowance
from terminal_agent.crm.bodies import JSON_MEDIA_TYPE
from terminal_agent.crm.enrolment import Scope, Terminal
from terminal_agent.crm.problems import ProblemError
from terminal_agent.crm.store import Store
from terminal_agent.ports import Clock, Ids, rfc3339

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_BEARER = HTTPBearer(auto_error=False, description="The token given at enrolment.")
SIGNED = {"headers": {SIGNATURE_HEADER: {"schema": {"type": "string"}, "description": "v1=<hex HMAC-SHA256>"}}}


class Service:
    """What the routes need; kept as ``app.state.service``."""

    def __init__(self, store: Store, clock: Clock, ids: Ids) -> None:
        self.store = store
        self.clock = clock
        self.ids = ids
        self.lookups = Allowance(clock)

    @property
    def now(self) -> str:
        return rfc3339(self.clock.now())


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _request_id(request: Request) -> str:
    """What ties the signed answer to this try."""
    given = request.headers.get(REQUEST_ID_HEADER, "")
    if not _REQUEST_ID.fullmatch(given):
        detail = f"Send a fresh {REQUEST_ID_HEADER} header with every try, 1 to 128 visible ASCII characters."
        raise ProblemError(400, "request_id_missing", detail)
    return given


ServiceIn = Annotated[Service, Depends(_service)]
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


def require(caller: Terminal, scope: Scope) -> None:
    """ProblemError: 403 for a token that was not given for this."""
    if scope not in caller.scopes:
        detail = (
            f"This terminal's token lacks the scope {scope.value}; a code with it: terminal-agent crm code --scope."
        )
        raise ProblemError(403, "scope_missing", detail)


def signed(secret: bytes, request_id: str, answer: BaseModel, headers: Mapping[str, str] | None = None) -> Response:
    """A 2xx answer that only this CRM can have given to this try."""
    body = canonical_json(answer.model_dump(mode="json"))
    return Response(
        body, media_type=JSON_MEDIA_TYPE, headers={**(headers or {}), SIGNATURE_HEADER: sign(secret, request_id, body)}
    )
