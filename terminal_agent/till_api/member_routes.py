"""Members at the till: looking one up by phone when the card is forgotten."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from terminal_agent.till_api import wire
from terminal_agent.till_api.routes import CallerIn, CashierIn, TillIn, _allow, _problems

SCOPE = "members"
LONGEST_PHONE = 40

router = APIRouter(prefix="/v1")


@router.get("/members", responses=_problems(404, 429))
def find_member(
    till: TillIn,
    caller: CallerIn,
    _: CashierIn,
    phone: Annotated[str, Query(min_length=1, max_length=LONGEST_PHONE)],
) -> wire.FoundMemberOut:
    """The member who has this phone, in any spelling. The CRM is asked for two seconds at most; without its answer
    what this terminal knows counts, and 503 means that it cannot be said now."""
    _allow(caller, SCOPE)
    till.lookups.take(caller.token_id)
    return wire.FoundMemberOut(**till.ask("member.show", {"phone": phone}))
