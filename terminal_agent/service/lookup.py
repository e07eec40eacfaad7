"""Who has this phone? Asked while a customer waits: the CRM for a moment, else what this terminal knows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from terminal_agent.desk.typed import phone_of
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.knowledge import NAMED, Member
from terminal_agent.service.agent import Agent
from terminal_agent.service.doctor.crm_problem import crm_problem
from terminal_agent.sync.adapters.base import CrmError, CrmRefused, CrmUnreachable
from terminal_agent.taps import ACTIVE, PENDING
from terminal_agent.till.by_phone import nobody
from terminal_agent.till_api.shown import first_name_and_tier

PATIENCE_S = 2.0
"""For the CRM's answer; a customer waits."""
_IN_USE = (ACTIVE, PENDING)


class Source(StrEnum):
    """Who says so."""

    CRM = "crm"
    TERMINAL = "terminal"


@dataclass(frozen=True)
class Found:
    """A member with the newest card of theirs that is in use; ``points`` None where they are not known."""

    member: Member
    card_no: str | None
    points: int | None
    source: Source


def show(agent: Agent, params: dict[str, Any], talk: Callable[[str], None]) -> Any:
    """``{member_id, first_name, tier, card_no, points, status, source}``: no more than a screen that customers see may
    say. Raises AgentError ``member_not_found``, ``crm_unreachable`` where nobody can say."""
    found = by_phone(agent, phone_of(params["phone"]))
    if found is None:
        raise nobody()
    return {
        "member_id": found.member.member_id,
        **first_name_and_tier(found.member),
        "card_no": found.card_no,
        "points": found.points,
        "status": found.member.status or ACTIVE,
        "source": found.source.value,
    }


def looked_up(agent: Agent, body: dict[str, Any]) -> dict[str, Any]:
    """A request that names a phone, with what could be found out: ``phone`` in its normal form, ``found``:
    ``{member_id, card_no, member}`` or None, ``certain``: whether None means nobody. Raises AgentError
    ``invalid_input``."""
    phone, found, certain = phone_of(body["phone"]), None, True
    try:
        found = by_phone(agent, phone)
    except AgentError as error:
        if error.code not in (ErrorCode.CRM_UNREACHABLE, ErrorCode.CRM_UNAUTHORIZED):
            raise
        certain = False
    told = found and {
        "member_id": found.member.member_id,
        "card_no": found.card_no,
        "member": first_name_and_tier(found.member),
    }
    return {**body, "phone": phone, "found": told, "certain": certain}


def by_phone(agent: Agent, phone: str) -> Found | None:
    """The member of a phone in its normal form; None: nobody, for certain. Raises AgentError where the CRM cannot be
    asked and this terminal knows nobody."""
    here = known_here(agent, phone)
    try:
        at_crm = _at_crm(agent, phone)
    except CrmError as error:
        if here is None:
            raise crm_problem(error, agent.crm_url) from error
        return here
    # The CRM's word counts once it has heard all that happened here: it may lack just this enrolment.
    return at_crm or (here if agent.credentials is None or agent.journal.events.count_waiting(0) else None)


def known_here(agent: Agent, phone: str) -> Found | None:
    """The member as this terminal knows them: enrolled here, or told by the CRM's feed."""
    knowledge = agent.journal.knowledge
    member = knowledge.member_by_phone(phone)
    if member is None or member.status == NAMED:
        return None
    usable = [no for no in knowledge.card_numbers_of(member.member_id) if knowledge.block_reason(no) is None]
    if not usable:
        return Found(member, None, None, Source.TERMINAL)
    return Found(member, usable[-1], _points_here(agent, usable[-1]), Source.TERMINAL)


def _points_here(agent: Agent, card_no: str) -> int | None:
    """What the card held when it was last seen here, with what has come for it since; None for one never seen."""
    knowledge = agent.journal.knowledge
    card = knowledge.card(card_no)
    if card is None:
        return None
    coming = knowledge.adjustments_after(card_no, card.state["adjustments_through"])
    return int(card.state["balance"]) + sum(adjustment.points for adjustment in coming)


def _at_crm(agent: Agent, phone: str) -> Found | None:
    """The member as the CRM knows them; None: nobody there, or this terminal has joined no CRM. Raises CrmError."""
    if agent.credentials is None:
        return None
    client = agent.crm_to_wait_for()
    if client is None:
        raise CrmUnreachable("it did not answer before, and is not asked while a customer waits")
    with closing(client):
        try:
            found = _found(client.get_member(phone, PATIENCE_S))
            return None if found.member.status == NAMED else found
        except CrmRefused as refused:
            if refused.status != HTTPStatus.NOT_FOUND:
                raise
            return None
        except (KeyError, TypeError, ValueError) as error:
            raise CrmUnreachable("its answer cannot be read") from error


def _found(told: dict[str, Any]) -> Found:
    """Raises KeyError, TypeError, ValueError for an answer that is none."""
    texts = (told.get(key) for key in ("phone", "name", "tier", "status"))
    member = Member(str(told["member_id"]), *(None if text is None else str(text) for text in texts))
    usable = [card for card in told["cards"] if card["status"] in _IN_USE]
    if not usable:
        waiting = told.get("waiting_points")
        return Found(member, None, None if waiting is None else int(waiting), Source.CRM)
    return Found(member, str(usable[-1]["card_no"]), int(usable[-1]["balance"]), Source.CRM)
