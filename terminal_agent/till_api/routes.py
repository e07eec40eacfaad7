"""The routes of the till's API: pairing, checkouts, the card and the reader, events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, cast

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import PlainTextResponse
from sse_starlette import EventSourceResponse, ServerSentEvent

from terminal_agent.till.reversal import ReversalRequest
from terminal_agent.till_api import wire
from terminal_agent.till_api.calls import (
    AskerIn,
    CallerIn,
    CashierIn,
    KeyIn,
    Till,
    TillIn,
    allow,
    checked_key,
    opened,
    problems,
)
from terminal_agent.till_api.problems import Refusal, Refused

LONGEST_POLL_S = 60
PING_S = 15
MAX_STREAMS = 64
LONGEST_LIST = 100


public = APIRouter()
v1 = APIRouter(prefix="/v1")


@public.get("/healthz", responses=problems())
def healthz() -> wire.Health:
    """The process answers; needs no token and says nothing else."""
    return wire.Health(status="ok")


@public.get("/readyz", responses=problems())
def readyz(till: TillIn, caller: CallerIn) -> wire.Health:
    """Whether a sale can be made now: 200 with ``ready`` or ``degraded``, which sells too."""
    return wire.Health(status=str(till.ask("status", {})["state"]))


@public.get("/metrics", response_class=PlainTextResponse, responses=problems())
def metrics(till: TillIn, caller: CallerIn) -> Response:
    """Figures for Prometheus, in its text format."""
    return Response(till.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")


@v1.post("/pair", responses=problems())
def pair(till: TillIn, asked: wire.PairIn) -> wire.TokenOut:
    """Trade the code that ``terminal-agent till code`` shows for a token. Five tries, two minutes."""
    paired = till.access.pair(asked.code.strip(), asked.name, for_cashiers=asked.cashiers)
    if paired is None:
        raise Refused(Refusal.PAIRING_REFUSED)
    token, given = paired
    return wire.TokenOut(
        token=token,
        token_id=given.token_id,
        scopes=list(given.scopes),
        terminal_id=till.terminal_id(),
        currency=till.currency,
    )


@v1.post("/checkouts", status_code=201, responses=problems(404, 409, 422, 429, 507))
def open_checkout(
    till: TillIn, caller: CallerIn, asker: AskerIn, asked: wire.CheckoutIn, response: Response, key: KeyIn = None
) -> wire.CheckoutOut:
    """Open a checkout: the next card pays and earns. With a ``phone`` it is done at once without a card: it earns, and
    redeems nothing. The same key and body give the same answer again."""
    allow(caller, "checkout")
    body = asked.model_dump(mode="json")
    if asked.phone is None:
        del body["phone"]
    else:
        allow(caller, "members")
    if asked.currency != till.currency:
        raise Refused(Refusal.INVALID, f"currency: this till sells in {till.currency}")
    return opened(till, asker, key, "purchase", body, response)


@v1.post("/reversals", status_code=201, responses=problems(404, 409, 422, 507))
def open_reversal(
    till: TillIn,
    caller: CallerIn,
    cashier: CashierIn,
    asker: AskerIn,
    asked: wire.ReversalIn,
    response: Response,
    key: KeyIn = None,
    approval: Annotated[str | None, Header(alias="Cashier-Approval", max_length=128)] = None,
) -> wire.CheckoutOut:
    """Take an earlier sale back, whole or in part: a checkout of kind ``reversal`` that waits for the sale's card.
    Above what a cashier may give back of one receipt alone, with the approval that ``POST /v1/approvals`` gave."""
    allow(caller, "reverse")
    request = ReversalRequest(asked.receipt_no, asked.amount)
    permit = partial(till.approvals.permit, cashier, caller.token_id, approval, request)
    return opened(till, replace(asker, permit=permit), key, "reversal", asked.model_dump(mode="json"), response)


@v1.get("/checkouts", responses=problems())
def list_checkouts(
    till: TillIn, caller: CallerIn, limit: Annotated[int, Query(ge=1, le=LONGEST_LIST)] = 10
) -> wire.CheckoutsOut:
    """The checkout that is open now, and the last sales and returns of this terminal."""
    allow(caller, "read")
    return wire.CheckoutsOut(**till.counter.newest(limit))


@v1.get("/checkouts/{checkout_id}", responses=problems(404))
def show_checkout(till: TillIn, caller: CallerIn, checkout_id: str) -> wire.CheckoutOut:
    """A checkout as it stands now; this finds an answer that was lost."""
    return _found(till.counter.show(checkout_id))


@v1.post("/checkouts/{checkout_id}/cancel", responses=problems(404, 409))
def cancel_checkout(
    till: TillIn, caller: CallerIn, _: CashierIn, checkout_id: str, key: KeyIn = None
) -> wire.CheckoutOut:
    """End a checkout that waits for its card; 409 once the card is being read."""
    allow(caller, "checkout")
    checked_key(key)
    return _found(till.counter.cancel(checkout_id))


@v1.post("/checkouts/{checkout_id}/leave", responses=problems(404, 409))
def leave_checkout(
    till: TillIn, caller: CallerIn, _: CashierIn, checkout_id: str, key: KeyIn = None
) -> wire.CheckoutOut:
    """Wait no longer for the card of a sale in doubt, so that the next one can be opened. The sale stands: the next
    tap of its card settles it, or it is closed after the time that policy gives."""
    allow(caller, "checkout")
    checked_key(key)
    return _found(till.counter.leave(checkout_id))


def _found(document: dict[str, Any] | None) -> wire.CheckoutOut:
    if document is None:
        raise Refused(Refusal.NOT_FOUND, "There is no such checkout.")
    return wire.CheckoutOut(**document)


@v1.get("/card", responses=problems(404, 409))
def show_card(till: TillIn, caller: CallerIn) -> dict[str, Any]:
    """The card on the reader, read and checked; 404 when there is none."""
    allow(caller, "read")
    till.counter.refuse_if_busy()
    card = cast(dict[str, Any], till.ask("card.show", {"wait_s": 0}))
    return {**card, "member": till.counter.member_of(card["card_no"])}


@v1.get("/reader", responses=problems())
def show_reader(till: TillIn, caller: CallerIn) -> dict[str, Any]:
    """The reader: ``url``, ``name``, ``state`` (ready, lost, none) and whether a card is there (``card_present``)."""
    return till.reader()


@v1.get("/shop", responses=problems())
def show_shop(till: TillIn, caller: CallerIn) -> wire.ShopOut:
    """What a screen must know to speak as the shop does."""
    return wire.ShopOut(
        terminal_id=till.terminal_id(),
        currency=till.currency,
        cashiers=till.sessions.names(),
        sign_in=till.sessions.is_asked_for,
        **till.shop(),
    )


@v1.get("/status", responses=problems())
def show_status(till: TillIn, caller: CallerIn) -> dict[str, Any]:
    """What ``terminal-agent status`` says."""
    return cast(dict[str, Any], till.ask("status", {}))


@v1.get("/events", response_model=wire.EventsOut, responses=problems())
async def events(
    till: TillIn,
    caller: CallerIn,
    request: Request,
    after: Annotated[str | None, Query(max_length=128)] = None,
    wait_s: Annotated[float | None, Query(ge=0, le=LONGEST_POLL_S)] = None,
    last_event_id: Annotated[str | None, Header(max_length=128)] = None,
) -> Response:
    """Server-sent events, replayed after ``Last-Event-ID``; with ``after`` or ``wait_s`` one long poll in JSON."""
    if after is not None or wait_s is not None:
        found = await till.hub.wait(after or "", wait_s or 0)
        last_id = found[-1].event_id if found else after or till.hub.now()
        body = {"events": [event.to_json() for event in found], "last_id": last_id}
        return Response(json.dumps(body, ensure_ascii=False), media_type="application/json")
    if till.streams >= MAX_STREAMS:
        raise Refused(Refusal.TOO_MANY_STREAMS)
    return EventSourceResponse(_stream(till, last_event_id), ping=PING_S, send_timeout=PING_S)


async def _stream(till: Till, last_event_id: str | None) -> AsyncIterator[ServerSentEvent]:
    seen = last_event_id if last_event_id is not None else till.hub.now()
    till.streams += 1
    try:
        yield ServerSentEvent(comment="connected", retry=1000)
        while not till.hub.closed:
            for event in await till.hub.wait(seen, PING_S):
                seen = event.event_id
                data = json.dumps(event.data, ensure_ascii=False)
                yield ServerSentEvent(data=data, event=event.name.value, id=event.event_id)
    finally:
        till.streams -= 1
