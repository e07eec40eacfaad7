"""Who stands at the till: signing in, a supervisor's approval, and what an administrator does at the page."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from terminal_agent.journal.staff import Role
from terminal_agent.till.reversal import ReversalRequest
from terminal_agent.till_api import staff_wire, wire
from terminal_agent.till_api.approvals import LIFE_S
from terminal_agent.till_api.calls import CallerIn, CashierIn, SessionHeader, TillIn, allow, problems
from terminal_agent.till_api.cashiers import By
from terminal_agent.till_api.problems import Refusal, Refused

router = APIRouter(prefix="/v1")


def _administrator(session: CashierIn) -> str:
    """Who asks. Raises Refused for everybody who is no administrator signed in by PIN."""
    if session is None or session.by is not By.PIN or session.role is not Role.ADMINISTRATOR:
        raise Refused(Refusal.ADMINISTRATOR_NEEDED)
    return session.cashier


AdministratorIn = Annotated[str, Depends(_administrator)]


@router.post("/sessions", status_code=201, responses=problems(404, 409, 429))
def sign_in(till: TillIn, caller: CallerIn, asked: staff_wire.SessionIn) -> staff_wire.SessionOut:
    """A cashier signs in at a page, by PIN or with the staff card that lies on the reader. After two wrong PINs each
    one doubles the time until the next is looked at."""
    if asked.cashier is not None and asked.pin is not None:
        secret, session = till.sessions.sign_in(caller.token_id, asked.cashier, asked.pin)
    else:
        till.counter.refuse_if_busy()
        card_no = till.ask("till.card_on_reader", {"wait_s": 0})["card_no"]
        secret, session = till.sessions.sign_in_by_card(caller.token_id, card_no)
    return staff_wire.SessionOut(session=secret, cashier=session.cashier, role=session.role.value, by=session.by.value)


@router.post("/sessions/end", responses=problems())
def sign_out(till: TillIn, caller: CallerIn, secret: SessionHeader = None) -> wire.Health:
    """Whoever is signed in leaves."""
    if secret:
        till.sessions.end(secret)
    return wire.Health(status="ok")


@router.post("/approvals", status_code=201, responses=problems(429))
def approve(till: TillIn, caller: CallerIn, _: CashierIn, asked: staff_wire.ApprovalIn) -> staff_wire.ApprovalOut:
    """A supervisor allows one return at the till of a cashier, who stays signed in. Good once, for this receipt and
    amount, with this token. Wrong PINs count as those of signing in."""
    allow(caller, "reverse")
    request = ReversalRequest(asked.receipt_no, asked.amount)
    secret, given = till.approvals.give(caller.token_id, asked.cashier, asked.pin, request)
    return staff_wire.ApprovalOut(approval=secret, approved_by=given.approved_by, expires_in_s=LIFE_S)


@router.get("/cashiers", responses=problems())
def list_cashiers(till: TillIn, _: AdministratorIn) -> staff_wire.CashiersOut:
    """Who may sign in; for administrators."""
    return _cashiers(till.ask("till.cashier.list", {}))


@router.post("/cashiers", status_code=201, responses=problems(409))
def add_cashier(till: TillIn, administrator: AdministratorIn, asked: staff_wire.CashierIn) -> staff_wire.CashiersOut:
    """Name somebody who may sign in; gives everybody."""
    till.ask("till.cashier.add", {**asked.model_dump(), "by": administrator})
    return _cashiers(till.ask("till.cashier.list", {}))


@router.post("/cashiers/change", responses=problems(404, 409))
def change_cashier(
    till: TillIn, administrator: AdministratorIn, asked: staff_wire.CashierChangeIn
) -> staff_wire.CashiersOut:
    """Another role or PIN. What was signed in with the old PIN is signed out, the administrator's own page too."""
    till.ask("till.cashier.change", {**asked.model_dump(), "by": administrator})
    return _cashiers(till.ask("till.cashier.list", {}))


@router.post("/cashiers/remove", responses=problems(404, 409))
def remove_cashier(
    till: TillIn, administrator: AdministratorIn, asked: staff_wire.CashierNameIn
) -> staff_wire.CashiersOut:
    """Let somebody sign in no more, at once; never the last administrator."""
    till.ask("till.cashier.remove", {**asked.model_dump(), "by": administrator})
    return _cashiers(till.ask("till.cashier.list", {}))


@router.post("/cashiers/card", responses=problems(404, 409))
def bind_card(till: TillIn, administrator: AdministratorIn, asked: staff_wire.CashierCardIn) -> staff_wire.CashiersOut:
    """Make the issued card on the reader somebody's staff card, or take theirs away."""
    if not asked.remove:
        till.counter.refuse_if_busy()
    till.ask("till.cashier.card", {**asked.model_dump(), "wait_s": 0, "by": administrator})
    return _cashiers(till.ask("till.cashier.list", {}))


def _cashiers(answer: dict[str, Any]) -> staff_wire.CashiersOut:
    return staff_wire.CashiersOut.model_validate(answer)


@router.get("/tokens", responses=problems())
def list_tokens(till: TillIn, _: AdministratorIn) -> staff_wire.PairedListOut:
    """The programs and browsers that were paired with this till; for administrators."""
    return staff_wire.PairedListOut.model_validate(till.ask("till.tokens", {}))


@router.post("/tokens/revoke", responses=problems(404))
def revoke_token(till: TillIn, administrator: AdministratorIn, asked: staff_wire.TokenIdIn) -> staff_wire.PairedListOut:
    """Take a program's access away, at once; gives those that are left, and those that were."""
    till.ask("till.revoke", {**asked.model_dump(), "by": administrator})
    return staff_wire.PairedListOut.model_validate(till.ask("till.tokens", {}))
