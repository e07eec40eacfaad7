"""A member's rights at the till: everything held of them in one document, erasing it, and what they agree to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from terminal_agent import taps
from terminal_agent.card.card_number import is_card_number
from terminal_agent.club.text import TextInvalid, fold_digits, plain_text, reference
from terminal_agent.contract import EventType, subject_of_member
from terminal_agent.desk.one_card import block
from terminal_agent.desk.typed import card_number_of, phone_of
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.knowledge import Member
from terminal_agent.ports import rfc3339
from terminal_agent.service.agent import Agent
from terminal_agent.service.doctor.crm_problem import crm_problem
from terminal_agent.sync.adapters.base import CrmAdapter, CrmError, CrmRefused

Params = dict[str, Any]
Talk = Callable[[str], None]
LONGEST_WORD = 64
LONGEST_REASON = 100
CARD_TIMEOUT_S = 10.0
_PURPOSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def export(agent: Agent, params: Params, talk: Talk) -> Any:
    """``{member_id, exported_at, crm, terminal}``; ``crm`` is null where this terminal has not joined one."""
    phone = phone_of(params["phone"])
    found = _at_crm(agent, phone)
    local = agent.journal.knowledge.member_by_phone(phone)
    if found is None and local is None:
        raise _nobody()
    member_id = str(found["member_id"]) if found else _id_of(local)
    at_crm = None
    if found is not None:
        with _crm(agent) as client:
            at_crm = client.export_member(member_id) if client else None
    with agent.journal.transaction():
        agent.journal.audit("member.exported", member_id=member_id)
    now = rfc3339(agent.clock.now())
    held = [_held_here(agent, one) for one in dict.fromkeys([member_id, *([local.member_id] if local else [])])]
    return {"member_id": member_id, "exported_at": now, "crm": at_crm, "terminal": held}


def _held_here(agent: Agent, member_id: str) -> dict[str, Any]:
    """What this terminal's journal holds of one member id."""
    journal = agent.journal
    member = journal.knowledge.member(member_id)
    cards = journal.knowledge.cards_of(member_id)
    card_nos = {card.card_no for card in cards}
    sales = [sale for card_no in sorted(card_nos) for sale in journal.checkouts.of_card(card_no)]
    by_phone = [sale for sale in journal.checkouts.of_member(member_id) if sale.card_no not in card_nos]
    return {
        "terminal_id": agent.terminal_id,
        "member_id": member_id,
        "member": asdict(member) if member else None,
        "cards": [asdict(card) for card in cards],
        "events": journal.events.bodies_of(member_id, card_nos),
        "checkouts": [sale.result for sale in (*sales, *by_phone)],
    }


def erase(agent: Agent, params: Params, talk: Talk) -> Any:
    """``{member_id, card_nos, erased_at, files_left}``: at the CRM and here; other terminals follow by the feed.

    First everything that waits goes up, so that the CRM knows every card of the member. ``files_left`` are damaged
    journals that were moved aside: they may still tell who the member was, and are a person's to delete.
    """
    phone = phone_of(params["phone"])
    found = _at_crm(agent, phone)
    local = agent.journal.knowledge.member_by_phone(phone)
    if found is None and local is None:
        raise _nobody()
    answer = {"member_id": _id_of(local), "card_nos": [], "erased_at": rfc3339(agent.clock.now())}
    with _crm(agent) as client:
        if client is not None:  # asked by the id too: "nobody has this phone" is not signed, and may be an old answer
            answer = _erased_at(client, str(found["member_id"]) if found else _id_of(local)) or answer
    card_nos = {str(card_no) for card_no in answer["card_nos"]}
    for member_id in {str(answer["member_id"]), *([local.member_id] if local else [])}:
        mine = {card.card_no for card in agent.journal.knowledge.cards_of(member_id)}
        agent.journal.erase_member(member_id, card_nos | mine)
        card_nos |= mine
    agent.journal.purge()
    agent.sync.wake()
    return {**answer, "card_nos": sorted(card_nos), "files_left": agent.journal.damaged_folders()}


def consent(agent: Agent, params: Params, talk: Talk) -> Any:
    """``{member_id, purpose, given, text_version, time}``; recorded here and sent like any event, line or no line."""
    member_id = _member_id(agent, phone_of(params["phone"]))
    said = {
        "member_id": member_id,
        "purpose": _purpose(params["purpose"]),
        "given": bool(params["given"]),
        "text_version": _word(params["text_version"], "the text version") if params.get("text_version") else None,
    }
    terminal = agent.terminal
    event = taps.new_event(terminal, EventType.CONSENT_CHANGED, None, said, subject_of_member(member_id))
    with agent.journal.transaction():
        agent.journal.events.append(event)
        agent.journal.audit("consent.changed", **said)
    agent.sync.wake()
    return {**said, "time": event.time}


def somebody(agent: Agent, text: str) -> str:
    """The member who has this phone or this card. Raises AgentError."""
    card_no = fold_digits(text).replace(" ", "").replace("-", "")
    return owner_of(agent, card_no) if is_card_number(card_no) else _member_id(agent, phone_of(text))


def owner_of(agent: Agent, card_no: str) -> str:
    """The member whose card this is: as far as it is known here, else as the CRM says. Raises AgentError."""
    known = agent.journal.knowledge.card(card_no)
    if known is not None and known.member_id is not None:
        return known.member_id
    with _crm(agent) as client:
        try:
            owner = (client.get_card(card_no, CARD_TIMEOUT_S).get("member") or {}).get("member_id") if client else None
        except CrmRefused as refused:
            if refused.status != HTTPStatus.NOT_FOUND:
                raise
            owner = None
    if owner is None:
        hint = "Check the number; it stands in crm card, in the member's export and on old receipts"
        raise AgentError(ErrorCode.NOT_FOUND, f"nobody knows whose card {card_no} is", hint=hint)
    return str(owner)


def block_card(agent: Agent, params: Params, talk: Talk) -> Any:
    """``{card_no, blocked, reason}``: on the hotlist here at once, everywhere when the CRM has heard of it."""
    card_no = card_number_of(params["card_no"])
    reason = plain_text_of(params["reason"], "the reason")
    terminal = agent.terminal
    with agent.journal.transaction():
        block(terminal, card_no, reason)
    agent.sync.wake()
    return {"card_no": card_no, "blocked": True, "reason": reason}


def _member_id(agent: Agent, phone: str) -> str:
    """Whose phone this is: as far as it is known here, else as the CRM says. Raises AgentError."""
    local = agent.journal.knowledge.member_by_phone(phone)
    if local is not None:
        return local.member_id
    with _crm(agent) as client:
        found = _look_up(client, phone) if client else None
    if found is None:
        raise _nobody()
    return str(found["member_id"])


def _at_crm(agent: Agent, phone: str) -> dict[str, Any] | None:
    """The member at the CRM, once it has heard all that this terminal knows. None: nobody there, or no CRM."""
    with _crm(agent) as client:
        if client is None:
            return None
        agent.sync.exchange_now()
        return _look_up(client, phone)


def _look_up(client: CrmAdapter, phone: str) -> dict[str, Any] | None:
    try:
        return client.get_member(phone)
    except CrmRefused as refused:
        if refused.status != HTTPStatus.NOT_FOUND:
            raise
        return None


@contextmanager
def _crm(agent: Agent) -> Iterator[CrmAdapter | None]:
    """A client of its own, its failures as a person is told them; None before enrolment."""
    client = agent.open_crm()
    if client is None:
        yield None
        return
    with closing(client):
        try:
            yield client
        except CrmError as error:
            raise crm_problem(error, agent.crm_url) from error


def _erased_at(client: CrmAdapter, member_id: str) -> dict[str, Any] | None:
    """What the CRM answers; None: nobody there."""
    try:
        return client.erase_member(member_id)
    except CrmRefused as refused:
        if refused.status != HTTPStatus.NOT_FOUND:
            raise
        return None


def _id_of(member: Member | None) -> str:
    return member.member_id if member else ""


def _purpose(text: str) -> str:
    if not _PURPOSE.fullmatch(text):
        hint = "Use Latin letters, digits, dots and dashes, as in marketing"
        raise AgentError(ErrorCode.INVALID_INPUT, f"{text!r} is no name of a purpose", hint=hint)
    return text


def plain_text_of(text: str, what: str) -> str:
    """Words that are kept and shown, in their one form. Raises AgentError."""
    try:
        return plain_text(text, LONGEST_REASON)
    except TextInvalid as error:
        raise AgentError(ErrorCode.INVALID_INPUT, f"{what} {error}", hint="Say it in fewer words") from error


def _word(text: str, what: str) -> str:
    try:
        return reference(text, LONGEST_WORD)
    except TextInvalid as error:
        raise AgentError(ErrorCode.INVALID_INPUT, f"{what} {error}", hint="terminal-agent member --help") from error


def _nobody() -> AgentError:
    return AgentError(
        ErrorCode.NOT_FOUND, "no member has this phone", hint="Check the number; a member who was erased is not found"
    )
