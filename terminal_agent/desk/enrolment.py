"""Taking somebody in, with a card or without: whom a phone stands for, and the events that tell of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from terminal_agent import taps
from terminal_agent.contract import EventType, salted, subject_of_member
from terminal_agent.desk.typed import name_of, phone_of
from terminal_agent.journal.events import NewEvent
from terminal_agent.journal.journal import CLOSED, CLUB
from terminal_agent.journal.knowledge import NAMED, Member
from terminal_agent.taps import ACTIVE, PENDING, Terminal

MARKETING = "marketing"
"""The purpose that a box at the till asks for."""


@dataclass(frozen=True)
class Person:
    """Who is taken in; all may be unknown. ``phone`` in any spelling."""

    phone: str | None = None
    name: str | None = None
    tier: str | None = None

    def __post_init__(self) -> None:
        """Raises AgentError ``invalid_input``."""
        object.__setattr__(self, "phone", None if self.phone is None else phone_of(self.phone))
        object.__setattr__(self, "name", None if self.name is None else name_of(self.name, "name"))
        object.__setattr__(self, "tier", None if self.tier is None else name_of(self.tier, "tier"))


@dataclass(frozen=True)
class Told:
    """What else a new member says: who brought them, and whether they may be written to."""

    referrer_member_id: str | None = None
    marketing_consent: bool = False


def member_for(terminal: Terminal, person: Person, member_id: str | None = None) -> tuple[Member, bool]:
    """The member this is, and whether they are one already, by their phone. ``member_id``: who is known at the CRM."""
    knowledge = terminal.journal.knowledge
    if member_id:
        return knowledge.member(member_id) or Member(member_id, None, None, None), True
    known = knowledge.member_by_phone(person.phone) if person.phone else None
    if known is not None and known.status != NAMED:
        return known, True
    status = PENDING if terminal.journal.meta(CLUB) == CLOSED else ACTIVE
    new_id = known.member_id if known else terminal.ids.uuid()
    return Member(new_id, person.phone, person.name, person.tier, status), False


def enrol(terminal: Terminal, person: Person, told: Told, member_id: str | None = None) -> tuple[Member, bool]:
    """Take somebody in without a card: on disk, and in the queue, in one commit. Whom :func:`member_for` gives."""
    journal = terminal.journal

    def enrolled() -> tuple[Member, bool]:
        member, known = member_for(terminal, person, member_id)
        for event in events_of(terminal, member, told, known=known):
            journal.events.append(event)
        if not known:
            journal.knowledge.remember_new_member(member)
            journal.audit("member.enrolled", member_id=member.member_id)
        return member, known

    return journal.write(enrolled)


def events_of(terminal: Terminal, member: Member, told: Told, *, known: bool) -> list[NewEvent]:
    """What is told of an enrolment: who it is, unless they are ``known``, and what they agreed to."""
    events, subject = [], subject_of_member(member.member_id)
    if not known:
        brought = {"referrer_member_id": told.referrer_member_id} if told.referrer_member_id else {}
        policy_version = terminal.journal.knowledge.policy().version
        who = salted({**member_data(member), **brought}, terminal.ids.uuid())
        enrolled = {"member": who, "policy_version": policy_version}
        events.append(taps.new_event(terminal, EventType.MEMBER_ENROLLED, None, enrolled, subject))
    if told.marketing_consent:
        agreed = {"member_id": member.member_id, "purpose": MARKETING, "given": True, "text_version": None}
        events.append(taps.new_event(terminal, EventType.CONSENT_CHANGED, None, agreed, subject))
    return events


def other_cards(terminal: Terminal, member_id: str, card_no: str) -> dict[str, list[str]]:
    """A member's cards beside a new one, as far as they are known here: ``takes_over``: blocked, and what they hold
    comes to the new one; ``also_in_use``: they keep what they hold."""
    knowledge = terminal.journal.knowledge
    others = [each for each in knowledge.card_numbers_of(member_id) if each != card_no]
    blocked = {each: knowledge.block_reason(each) for each in others}
    return {
        "takes_over": [each for each in others if blocked[each] not in (None, taps.REPLACED)],
        "also_in_use": [each for each in others if blocked[each] is None and not knowledge.is_wiped(each)],
    }


def member_data(member: Member) -> dict[str, Any]:
    """``member`` of an enrolment."""
    return {"member_id": member.member_id, "phone": member.phone, "name": member.name, "tier": member.tier}
