"""Members over HTTP: looking one up, and their rights."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from terminal_agent.club.phone import PhoneInvalid
from terminal_agent.crm import audit, members, privacy, wire
from terminal_agent.crm.calls import SIGNED, CallerIn, RequestIdIn, ServiceIn, signed
from terminal_agent.crm.problems import ProblemError, describe_problems

router = APIRouter()
_ABOUT_ONE = {200: SIGNED, **describe_problems(400, 401, 403, 404, 429, 503)}


@router.get("/members", response_model=wire.MemberAnswer, responses=_ABOUT_ONE)
def get_member(
    service: ServiceIn,
    caller: CallerIn,
    request_id: RequestIdIn,
    phone: Annotated[str, Query(min_length=1, max_length=40)],
) -> Response:
    """The member who has this phone, in any spelling."""
    service.lookups.take(caller.secret)
    try:
        with service.store.reading() as connection:
            found = members.find_by_phone(connection, phone)
    except PhoneInvalid as error:
        raise ProblemError(400, "request_invalid", f"phone: {error}") from error
    if found is None:
        raise ProblemError(404, "not_found", "No member has this phone.")
    return signed(caller.secret, request_id, wire.MemberAnswer(**found))


@router.get("/members/{member_id}/export", response_model=wire.ExportAnswer, responses=_ABOUT_ONE)
def export_member(service: ServiceIn, caller: CallerIn, request_id: RequestIdIn, member_id: str) -> Response:
    """Everything this CRM holds of a member, for them to take away."""
    service.lookups.take(caller.secret)
    with service.store.writing() as connection:
        found = privacy.export(connection, member_id, audit.terminal(caller.terminal_id), service.now)
    if found is None:
        raise _nobody()
    return signed(caller.secret, request_id, wire.ExportAnswer(**found))


@router.post("/members/{member_id}/erase", response_model=wire.ErasureAnswer, responses=_ABOUT_ONE)
def erase_member(service: ServiceIn, caller: CallerIn, request_id: RequestIdIn, member_id: str) -> Response:
    """Forgets who a member is and tells every terminal; their cards are blanked at their next tap. The ledger stays."""
    service.lookups.take(caller.secret)
    found = service.store.write(
        lambda connection: privacy.erase(connection, member_id, audit.terminal(caller.terminal_id), service.now)
    )
    if found is None:
        raise _nobody()
    return signed(caller.secret, request_id, wire.ErasureAnswer(**found))


def _nobody() -> ProblemError:
    return ProblemError(404, "not_found", "No member has this id.")
