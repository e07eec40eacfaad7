"""Members over HTTP: looking one up, and their rights."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response
from sqlalchemy import Connection

from terminal_agent.club.phone import PhoneInvalid, normalise_phone
from terminal_agent.crm import audit, members, privacy, turns, wire
from terminal_agent.crm.bodies import JSON_MEDIA_TYPE, json_body, reader_of
from terminal_agent.crm.calls import SIGNED, CallerIn, RequestIdIn, Service, ServiceIn, require, signed
from terminal_agent.crm.enrolment import Scope, Terminal
from terminal_agent.crm.problems import ProblemError, describe_problems

router = APIRouter()
_CODES = {403: ("crm_unauthorized", "scope_missing"), 409: ("phone_taken",)}
_ABOUT_ONE = {200: SIGNED, **describe_problems(400, 401, 403, 404, 429, 503, codes=_CODES)}


@router.get("/members", response_model=wire.MemberAnswer, responses=_ABOUT_ONE)
def get_member(
    service: ServiceIn,
    caller: CallerIn,
    request_id: RequestIdIn,
    phone: Annotated[str, Query(min_length=1, max_length=40)],
) -> Response:
    """The member who has this phone, in any spelling."""
    _admit(service, caller, Scope.MEMBERS)
    try:
        with service.store.reading() as connection:
            found = members.find_by_phone(connection, phone)
    except PhoneInvalid as error:
        raise ProblemError(400, "request_invalid", f"phone: {error}") from error
    if found is None:
        raise ProblemError(404, "not_found", "No member has this phone.")
    return _told(caller, request_id, found)


@router.get("/members/{member_id}", response_model=wire.MemberAnswer, responses=_ABOUT_ONE)
def get_member_by_id(service: ServiceIn, caller: CallerIn, request_id: RequestIdIn, member_id: str) -> Response:
    """The member behind an id, which may be an alias of theirs."""
    _admit(service, caller, Scope.MEMBERS)
    with service.store.reading() as connection:
        row = members.find(connection, member_id)
        if row is None:
            raise _nobody()
        found = members.in_full(connection, row)
    return _told(caller, request_id, found)


@router.patch(
    "/members/{member_id}",
    response_model=wire.MemberAnswer,
    responses={200: SIGNED, **describe_problems(400, 401, 403, 404, 409, 412, 413, 415, 428, 429, 503, codes=_CODES)},
    openapi_extra=json_body(wire.MemberChange.model_json_schema(), JSON_MEDIA_TYPE),
)
def change_member(
    service: ServiceIn,
    caller: CallerIn,
    request_id: RequestIdIn,
    member_id: str,
    asked: Annotated[wire.MemberChange, Depends(reader_of(wire.MemberChange))],
    if_match: Annotated[str | None, Header(alias="If-Match", max_length=100)] = None,
) -> Response:
    """Changes a profile, if it is still the one that was read: ``If-Match`` is its ``ETag``."""
    _admit(service, caller, Scope.MEMBERS)
    if if_match is None:
        raise ProblemError(428, "precondition_required", "Read the member first, and send its ETag as If-Match.")
    values, who = _values(asked), audit.terminal(caller.terminal_id)
    found = service.store.write(lambda connection: _changed(connection, member_id, if_match, values, who, service.now))
    return _told(caller, request_id, found)


def _admit(service: Service, caller: Terminal, scope: Scope) -> None:
    require(caller, scope)
    service.lookups.take(caller.secret)


def _changed(
    connection: Connection, member_id: str, if_match: str, values: dict[str, str], who: str, now: str
) -> dict[str, Any]:
    """The member after the change. ProblemError: 404, 409, 412."""
    turns.take_members(connection, [member_id, *([values["phone"]] if "phone" in values else [])])
    row = members.find(connection, member_id)
    if row is None or row["status"] == members.ERASED:
        raise _nobody()
    if if_match != _etag(members.version_of(row)):
        raise ProblemError(412, "precondition_failed", "The member was changed meanwhile; read it again.")
    try:
        members.change(connection, row["member_id"], values, now)
    except members.PhoneTaken as error:
        raise ProblemError(409, "phone_taken", "Another member has this phone.") from error
    audit.note(connection, who, "member.changed", row["member_id"], now, fields=sorted(values))
    return members.in_full(connection, members.get(connection, row["member_id"]))


def _values(asked: wire.MemberChange) -> dict[str, str]:
    """What is to change, the phone in its normal form."""
    values = asked.model_dump(exclude_none=True)
    try:
        return values | ({"phone": normalise_phone(asked.phone)} if asked.phone else {})
    except PhoneInvalid as error:
        raise ProblemError(400, "request_invalid", f"phone: {error}") from error


def _told(caller: Terminal, request_id: str, found: dict[str, Any]) -> Response:
    answer = wire.MemberAnswer(**found)
    return signed(caller.secret, request_id, answer, {"ETag": _etag(answer.version)})


def _etag(version: str) -> str:
    return f'"{version}"'


@router.get("/members/{member_id}/export", response_model=wire.ExportAnswer, responses=_ABOUT_ONE)
def export_member(service: ServiceIn, caller: CallerIn, request_id: RequestIdIn, member_id: str) -> Response:
    """Everything this CRM holds of a member, for them to take away."""
    _admit(service, caller, Scope.PRIVACY)
    who = audit.terminal(caller.terminal_id)
    found = service.store.write(lambda connection: privacy.export(connection, member_id, who, service.now))
    if found is None:
        raise _nobody()
    return signed(caller.secret, request_id, wire.ExportAnswer(**found))


@router.post("/members/{member_id}/erase", response_model=wire.ErasureAnswer, responses=_ABOUT_ONE)
def erase_member(service: ServiceIn, caller: CallerIn, request_id: RequestIdIn, member_id: str) -> Response:
    """Forgets who a member is and tells every terminal; their cards are blanked at their next tap. The ledger stays."""
    _admit(service, caller, Scope.PRIVACY)
    found = service.store.write(
        lambda connection: privacy.erase(connection, member_id, audit.terminal(caller.terminal_id), service.now)
    )
    if found is None:
        raise _nobody()
    return signed(caller.secret, request_id, wire.ErasureAnswer(**found))


def _nobody() -> ProblemError:
    return ProblemError(404, "not_found", "No member has this id.")
