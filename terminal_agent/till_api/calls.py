"""What every route of the till's API works with: who asks, by which right, and the checkout that a request opens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import Depends, Header, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from terminal_agent.journal.till import TillToken
from terminal_agent.till_api import wire
from terminal_agent.till_api.access import FOR_CASHIERS, Access
from terminal_agent.till_api.allowance import Allowance
from terminal_agent.till_api.approvals import Approvals
from terminal_agent.till_api.asked import Asked, Asker
from terminal_agent.till_api.cashiers import Session, Sessions
from terminal_agent.till_api.counter import Counter
from terminal_agent.till_api.hub import Hub
from terminal_agent.till_api.problems import MEDIA_TYPE, Refusal, Refused

LONGEST_KEY = 128


@dataclass
class Till:
    """What the routes work with; ``ask`` carries out one of the agent's operations, ``looked_up`` adds to a request
    whose phone it names, ``asked_of`` is what a request stands for."""

    terminal_id: Callable[[], str]
    currency: str
    access: Access
    counter: Counter
    hub: Hub
    ask: Callable[[str, dict[str, Any]], Any]
    reader: Callable[[], dict[str, Any]]
    metrics: Callable[[], bytes]
    shop: Callable[[], dict[str, Any]]
    sessions: Sessions
    approvals: Approvals
    lookups: Allowance
    looked_up: Callable[[dict[str, Any]], dict[str, Any]]
    asked_of: Callable[[dict[str, Any]], Asked]
    streams: int = 0


def _till(request: Request) -> Till:
    return cast(Till, request.app.state.till)


TillIn = Annotated[Till, Depends(_till)]
_BEARER = HTTPBearer(auto_error=False, description="The token that POST /v1/pair gave.")


def caller_of(till: TillIn, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> TillToken:
    """Whose token it is. Raises Refused ``unauthorized``."""
    found = till.access.caller(credentials.credentials) if credentials else None
    if found is None:
        raise Refused(Refusal.UNAUTHORIZED)
    return found


CallerIn = Annotated[TillToken, Depends(caller_of)]
SessionHeader = Annotated[str | None, Header(alias="Cashier-Session", max_length=128)]


def _cashier(till: TillIn, caller: CallerIn, secret: SessionHeader = None) -> Session | None:
    """Who is signed in; None for a program that acts by itself, or where no cashier is named."""
    if FOR_CASHIERS not in caller.scopes or not till.sessions.is_asked_for:
        return None
    session = till.sessions.session(caller.token_id, secret)
    if session is None:
        raise Refused(Refusal.SIGN_IN_REQUIRED if till.sessions.names() else Refusal.CASHIERS_LOST)
    return session


CashierIn = Annotated[Session | None, Depends(_cashier)]


def _asker(caller: CallerIn, cashier: CashierIn) -> Asker:
    return Asker(caller.token_id, cashier.cashier if cashier else None)


AskerIn = Annotated[Asker, Depends(_asker)]
KeyIn = Annotated[str | None, Header(alias="Idempotency-Key", max_length=LONGEST_KEY)]


def allow(caller: TillToken, scope: str) -> None:
    """Raises Refused ``forbidden`` for a token without the scope."""
    if scope not in caller.scopes:
        raise Refused(Refusal.FORBIDDEN, f"This token does not have the scope {scope}.")


def checked_key(key: str | None) -> str:
    """Raises Refused ``key_missing``."""
    if not key or not key.isprintable():
        raise Refused(Refusal.KEY_MISSING)
    return key


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route for the OpenAPI document: these, and those of every route."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    common = (400, 401, 403, 408, 413, 415, 421, 500, 503)
    return {status: {"description": "Problem", "content": {MEDIA_TYPE: schema}} for status in (*common, *statuses)}


def opened(
    till: Till, asker: Asker, key: str | None, kind: str, body: dict[str, Any], response: Response
) -> wire.CheckoutOut:
    """The checkout of this request, new or the one that the key got before. Raises AgentError, Refused."""
    body = {"kind": kind, **body}
    fingerprint = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    key = checked_key(key)
    document = till.counter.answered(asker.token_id, key, fingerprint)
    if document is None:
        if "phone" in body:
            till.lookups.take(asker.token_id)
            body = till.looked_up(body)
        document = till.counter.open(asker, key, fingerprint, till.asked_of(body), body)
    response.headers["Location"] = f"/v1/checkouts/{document['id']}"
    return wire.CheckoutOut(**document)
