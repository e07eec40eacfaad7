"""Taking somebody in at the till: with a blank card or without one, by a screen or a command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from terminal_agent.desk import enrolment
from terminal_agent.desk.enrolment import Person, Told
from terminal_agent.desk.issue import IssueRequest, issue
from terminal_agent.journal.intents import Checkout, CheckoutState
from terminal_agent.service import lookup
from terminal_agent.service.agent import Agent
from terminal_agent.taps import Terminal
from terminal_agent.till_api import asked
from terminal_agent.till_api.asked import Asked, Attempt

Body = dict[str, Any]
ENROLMENT = "enrolment"


@dataclass(frozen=True)
class Enrolment:
    """Somebody to take in. ``found``: whom the phone stands for already, as it was looked up."""

    person: Person
    told: Told
    card: bool
    found: Body | None
    expires_in_s: int
    kind: str = ENROLMENT

    @property
    def _member_id(self) -> str | None:
        return str(self.found["member_id"]) if self.found else None

    def shown(self, terminal: Terminal) -> Body:
        return {"amount": None, "receipt_no": None, "redeem_points": 0}

    def begun(self, terminal: Terminal) -> Checkout | None:
        return None

    def recorded(self, terminal: Terminal) -> Body | None:
        """Nothing: an enrolment is known by its phone, which :meth:`at_once` looks at."""
        return None

    def at_once(self, terminal: Terminal, checkout_id: str) -> Body | None:
        """Done without a card where none is wanted, and for a member who has one."""
        if self.card and not (self.found and self.found["card_no"]):
            return None
        member, known = enrolment.enrol(terminal, self.person, self.told, self._member_id)
        card_no = self.found["card_no"] if self.found else None
        return {**_done(member.member_id, card_no, known=known), "member": self.found and self.found["member"]}

    def carry_out(self, attempt: Attempt) -> Body:
        """The blank card in the field becomes theirs, as ``card issue`` does it."""
        known = enrolment.member_for(attempt.terminal, self.person, self._member_id)[1]
        consent = self.told.marketing_consent
        who = (self.person.phone, self.person.name, self.person.tier)
        request = IssueRequest(*who, member_id=self._member_id, marketing_consent=consent)
        issued = issue(attempt.terminal, attempt.connection, request, attempt.writing)
        card = {"points_after": issued["points"], "sequence": issued["sequence"], "takes_over": issued["takes_over"]}
        return {**_done(issued["member_id"], issued["card_no"], known=known), **card}


def _done(member_id: str, card_no: str | None, *, known: bool) -> Body:
    state = CheckoutState.DONE.value
    return {"state": state, "member_id": member_id, "card_no": card_no, "already_member": known}


def asked_of(body: Body) -> Asked:
    """What a request to the till stands for; one that names a phone as :func:`lookup.looked_up` gives it. Raises
    AgentError ``invalid_input``."""
    if body["kind"] != ENROLMENT:
        return asked.asked_of(body)
    person, told = Person(body["phone"], body["name"]), Told(marketing_consent=body["marketing_consent"])
    return Enrolment(person, told, body["card"], body["found"], body["expires_in_s"])


def enroll(agent: Agent, params: Body, talk: Callable[[str], None]) -> Body:
    """``{member_id, card_no, already_member}``: take somebody in without a card."""
    found = lookup.looked_up(agent, {"phone": params["phone"]})["found"]
    person, told = Person(params["phone"], params.get("name")), Told(marketing_consent=params["marketing_consent"])
    member, known = enrolment.enrol(agent.terminal, person, told, found and found["member_id"])
    agent.sync.wake()
    return {"member_id": member.member_id, "card_no": found and found["card_no"], "already_member": known}
