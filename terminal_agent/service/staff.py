"""Who may sign in at the till, as commands and administrators at the page change it.

``by`` in the parameters is the administrator who asks from the page. That way there is always one left; a command of
this machine, which has none, may do everything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from drivers.base import ClassicConnection
from terminal_agent import taps
from terminal_agent.club.text import TextInvalid, fold_digits, plain_text
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.staff import Cashier, Role
from terminal_agent.ports import rfc3339
from terminal_agent.service.agent import Agent
from terminal_agent.service.readers import reader_url
from terminal_agent.till_api.access import LONGEST_NAME
from terminal_agent.till_api.cashiers import PIN_FORM, hash_pin
from terminal_agent.till_api.problems import Refusal, Refused

Params = dict[str, Any]
Talk = Callable[[str], None]


def cashier_add(agent: Agent, params: Params, talk: Talk) -> Any:
    """``{name, role}``. For a command one of that name gets the new PIN and role, and keeps the staff card; from the
    page that is another request. Raises AgentError ``invalid_input``, Refused."""
    name, pin, by = _name(params["name"]), _pin(params["pin"]), params.get("by")
    fresh = Cashier(name, Role(params["role"]).value, hash_pin(pin), rfc3339(agent.clock.now()))
    with agent.journal.transaction():
        before = agent.journal.staff.cashier(name)
        if before is not None and by is not None:
            raise Refused(Refusal.CASHIER_EXISTS)
        card_no = before.card_no if before else None
        agent.journal.staff.put(replace(fresh, card_no=card_no))
        agent.journal.audit("till.cashier_added", cashier=name, role=fresh.role, by=by)
    agent.journal.staff.note_named()
    return {"name": name, "role": fresh.role}


def cashier_change(agent: Agent, params: Params, talk: Talk) -> Any:
    """``{name, role}``; a role or PIN that is None stays. A new PIN ends what was signed in with the old one. Raises
    AgentError ``invalid_input`` ``not_found``, Refused."""
    pin, by = params.get("pin"), params.get("by")
    pin_hash = hash_pin(_pin(pin)) if pin is not None else None
    with agent.journal.transaction():
        before = _cashier(agent, params["name"])
        role = Role(params.get("role") or before.role)
        if role is not Role.ADMINISTRATOR:
            _keep_an_administrator(agent, before, by)
        changed = replace(before, role=role.value)
        if pin_hash is not None:
            changed = replace(changed, pin_hash=pin_hash, wrong_pins=0, next_try_at=None)
        agent.journal.staff.put(changed)
        agent.journal.audit("till.cashier_changed", cashier=before.name, role=role, new_pin=pin_hash is not None, by=by)
    return {"name": before.name, "role": role.value}


def cashier_list(agent: Agent, params: Params, talk: Talk) -> Any:
    """Nothing of their PINs, and not which card."""
    shown = [
        {"name": one.name, "role": one.role, "card": one.card_no is not None, "created_at": one.created_at}
        for one in agent.journal.staff.cashiers()
    ]
    return {"cashiers": shown}


def cashier_remove(agent: Agent, params: Params, talk: Talk) -> Any:
    """Raises AgentError ``not_found``, Refused."""
    by = params.get("by")
    with agent.journal.transaction():
        before = _cashier(agent, params["name"])
        _keep_an_administrator(agent, before, by)
        agent.journal.staff.remove(before.name)
        agent.journal.audit("till.cashier_removed", cashier=before.name, by=by)
    agent.journal.staff.note_named(removed=True)
    return {"name": before.name, "removed": True}


def cashier_card(agent: Agent, params: Params, talk: Talk) -> Any:
    """``{name, card}``: the issued card on the reader is this cashier's from now on, or with ``remove`` none is.
    Raises AgentError ``not_found``, ``card_taken``, and for every card that may not be used."""
    name = _cashier(agent, params["name"]).name  # before anybody looks for a card
    card_no = None if params.get("remove") else card_on_reader(agent, params, talk)["card_no"]
    with agent.journal.transaction():
        owner = agent.journal.staff.owner_of(card_no) if card_no else None
        if owner is not None and owner.name != name:
            raise AgentError(
                ErrorCode.CARD_TAKEN,
                f"this card is {owner.name}'s staff card",
                hint="Take another card, or first: terminal-agent till cashier card NAME --remove",
            )
        agent.journal.staff.put(replace(_cashier(agent, name), card_no=card_no))
        agent.journal.audit("till.cashier_card", cashier=name, card_no=card_no, by=params.get("by"))
    return {"name": name, "card": card_no is not None}


def card_on_reader(agent: Agent, params: Params, talk: Talk) -> Any:
    """``{card_no}`` of the card on the reader, proven by its keys and seals; changes nothing on it. Raises AgentError
    for one that is not ours, blocked, or older than this shop has seen it."""
    terminal = agent.terminal

    def identify(connection: ClassicConnection) -> dict[str, str]:
        card = taps.present(terminal, connection)
        taps.refuse_unusable(terminal, card)
        return {"card_no": card.card_no}

    return agent.lane.with_card(reader_url(agent, params), float(params["wait_s"]), identify, talk)


def till_audit(agent: Agent, params: Params, talk: Talk) -> Any:
    return {"entries": agent.journal.staff.log(params.get("receipt_no"), params["limit"])}


def _name(text: str) -> str:
    try:
        return plain_text(text, LONGEST_NAME)
    except TextInvalid as error:
        raise AgentError(ErrorCode.INVALID_INPUT, f"the name {error}", hint="As in: Nasrin") from error


def _pin(text: str) -> str:
    pin = fold_digits(text).strip()
    if not PIN_FORM.fullmatch(pin):
        raise AgentError(ErrorCode.INVALID_INPUT, "a PIN is 4 to 12 digits", hint="Choose another one")
    return pin


def _cashier(agent: Agent, name: str) -> Cashier:
    found = agent.journal.staff.cashier(name)
    if found is None:
        hint = "See them: terminal-agent till cashier list"
        raise AgentError(ErrorCode.NOT_FOUND, "there is no cashier of that name", hint=hint)
    return found


def _keep_an_administrator(agent: Agent, going: Cashier, by: str | None) -> None:
    """Raises Refused where the page would lose the last one who can put things right there."""
    administrators = [one for one in agent.journal.staff.cashiers() if one.role == Role.ADMINISTRATOR]
    if by is not None and [one.name for one in administrators] == [going.name]:
        raise Refused(Refusal.LAST_ADMINISTRATOR)


OPERATIONS = {
    "till.cashier.add": cashier_add,
    "till.cashier.change": cashier_change,
    "till.cashier.list": cashier_list,
    "till.cashier.remove": cashier_remove,
    "till.cashier.card": cashier_card,
    "till.card_on_reader": card_on_reader,
    "till.audit": till_audit,
}
