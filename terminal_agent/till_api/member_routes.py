"""Members at the till: looking one up by phone when the card is forgotten, and taking a new one in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from terminal_agent.till_api import wire
from terminal_agent.till_api.calls import AskerIn, CallerIn, CashierIn, KeyIn, TillIn, allow, opened, problems

SCOPE = "members"

router = APIRouter(prefix="/v1")


@router.get("/members", responses=problems(404, 429))
def find_member(
    till: TillIn,
    caller: CallerIn,
    _: CashierIn,
    phone: Annotated[str, Query(min_length=1, max_length=wire.LONGEST_PHONE)],
) -> wire.FoundMemberOut:
    """The member who has this phone, in any spelling. The CRM is asked for two seconds at most; without its answer
    what this terminal knows counts, and 503 means that it cannot be said now."""
    allow(caller, SCOPE)
    till.lookups.take(caller.token_id)
    return wire.FoundMemberOut(**till.ask("member.show", {"phone": phone}))


@router.post("/enrolments", status_code=201, responses=problems(409, 422, 429, 507))
def open_enrolment(
    till: TillIn, caller: CallerIn, asker: AskerIn, asked: wire.EnrolmentIn, response: Response, key: KeyIn = None
) -> wire.CheckoutOut:
    """Take somebody in: a checkout of kind ``enrolment``. Without a card it is done at once, line or no line; with one
    it waits for a blank card. Whoever is a member already stays the one they are: ``already_member``."""
    allow(caller, SCOPE)
    return opened(till, asker, key, "enrolment", asked.model_dump(mode="json"), response)
