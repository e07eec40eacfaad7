"""What the agent does when asked: one function per command, JSON in and out, the same in the CLI and the daemon."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

from drivers.base import ClassicConnection
from terminal_agent import taps
from terminal_agent.card.problems import card_erased
from terminal_agent.desk import inspect
from terminal_agent.desk.dump import DumpFile, dump, format_for_output
from terminal_agent.desk.issue import IssueRequest, issue
from terminal_agent.desk.rekey import rekey
from terminal_agent.desk.restore import RestoreRequest, restore
from terminal_agent.desk.typed import card_number_of
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.events import OutboxState
from terminal_agent.journal.intents import CheckoutState
from terminal_agent.ports import rfc3339
from terminal_agent.service import batch, enrolment, lookup, members, pairing, queue_files, staff
from terminal_agent.service.agent import Agent
from terminal_agent.service.card_lane import Afterwards
from terminal_agent.service.counts import counts, crm_seen
from terminal_agent.service.doctor.crm_problem import crm_problem
from terminal_agent.service.doctor.redaction import redacted
from terminal_agent.service.keys import operations as key_operations
from terminal_agent.service.phone_sales import purchase_by_phone, reverse_without_card
from terminal_agent.service.progress import told
from terminal_agent.service.readers import look_at_reader, reader_url
from terminal_agent.service.receipts import print_again
from terminal_agent.service.rekeying import renew_keys
from terminal_agent.sync import client
from terminal_agent.sync.adapters import base as crm
from terminal_agent.sync.upload import SyncReport
from terminal_agent.taps import PresentedCard, Terminal
from terminal_agent.till import decided, reversal
from terminal_agent.till.checkout import Line, PurchaseRequest, checkout_of, purchase, recorded

log = logging.getLogger(__name__)

Params = dict[str, Any]
Talk = Callable[[str], None]
Operation = Callable[[Agent, Params, Talk], Any]

MAX_QUEUE_ROWS = 1000
NEW_CODE = "A code works once and not for long; get a new one: terminal-agent crm code --data-dir DIR"


def _with_card(
    agent: Agent,
    params: Params,
    talk: Talk,
    job: Callable[[ClassicConnection], Any],
    afterwards: Afterwards[Any] = lambda _card, _answer: None,
) -> Any:
    def blanking_erased(connection: ClassicConnection) -> Any:
        try:
            return job(connection)
        except AgentError as problem:
            if problem.code is ErrorCode.CARD_ERASED or inspect.is_half_blanked(agent.terminal, connection, problem):
                inspect.wipe(agent.terminal, connection)
                raise card_erased() from problem
            raise

    return agent.lane.with_card(reader_url(agent, params), float(params["wait_s"]), blanking_erased, talk, afterwards)


def _one_sale(agent: Agent, params: Params, talk: Talk, sale: Callable[[Terminal, ClassicConnection], Any]) -> Any:
    """One checkout with the card in the field; once that is over, the card gets new keys where they are due."""
    served: list[PresentedCard] = []
    terminal = replace(agent.terminal, served=served.append)

    def afterwards(connection: ClassicConnection, _answer: Any) -> None:
        for card in served:
            renew_keys(agent.settings.keys, terminal, connection, card, talk)

    answer = _with_card(agent, params, talk, lambda connection: sale(terminal, connection), afterwards)
    agent.sync.wake()
    return answer


def card_issue(agent: Agent, params: Params, talk: Talk) -> Any:
    referrer = members.somebody(agent, params["referrer"]) if params.get("referrer") else None
    who = (params.get("phone"), params.get("name"), params.get("tier"))
    request = IssueRequest(*who, bool(params.get("mad")), referrer_member_id=referrer)
    terminal = agent.terminal
    answer = _with_card(agent, params, talk, lambda connection: issue(terminal, connection, request))
    agent.sync.wake()
    return answer


def card_replace(agent: Agent, params: Params, talk: Talk) -> Any:
    old = card_number_of(params["old"])
    request = IssueRequest(replaces=old, member_id=members.owner_of(agent, old))
    terminal = agent.terminal
    answer = _with_card(agent, params, talk, lambda connection: issue(terminal, connection, request))
    agent.sync.wake()
    return {**answer, "replaces": old}


def card_show(agent: Agent, params: Params, talk: Talk) -> Any:
    terminal = agent.terminal
    return _with_card(agent, params, talk, lambda connection: inspect.show(terminal, connection))


def card_verify(agent: Agent, params: Params, talk: Talk) -> Any:
    terminal = agent.terminal
    return _with_card(agent, params, talk, lambda connection: inspect.verify(terminal, connection))


def card_rekey(agent: Agent, params: Params, talk: Talk) -> Any:
    terminal = agent.terminal
    return _with_card(agent, params, talk, lambda connection: rekey(terminal, connection))


def card_wipe(agent: Agent, params: Params, talk: Talk) -> Any:
    terminal = agent.terminal
    return _with_card(agent, params, talk, lambda connection: inspect.wipe(terminal, connection))


def card_dump(agent: Agent, params: Params, talk: Talk) -> Any:
    kind, keys = format_for_output(params["output"]), params.get("keys_from")
    keys_from, terminal = DumpFile.of(keys).dump if keys else None, agent.terminal
    return _with_card(agent, params, talk, lambda connection: dump(terminal, connection, kind, keys_from))


def card_restore(agent: Agent, params: Params, talk: Talk) -> Any:
    request, terminal = RestoreRequest.of(params), agent.terminal
    return _with_card(agent, params, talk, lambda connection: restore(terminal, connection, request))


def reader_test(agent: Agent, params: Params, talk: Talk) -> Any:
    from terminal_agent.service.reader_test import Trial, run_test

    url, options = reader_url(agent, params), {name: params[name] for name in ("wait_s", "rounds", "sector", "lift")}
    return run_test(agent.lane, agent.keys, agent.clock, Trial(url, **options), talk)


def purchase_of(agent: Agent, params: Params, talk: Talk) -> Any:
    """By tap, or with a ``phone`` at once."""
    return purchase_by_phone(agent, params) if params.get("phone") else purchase_by_tap(agent, params, talk)


def purchase_by_tap(agent: Agent, params: Params, talk: Talk) -> Any:
    lines = tuple(Line(**line) for line in params.get("lines", ()))
    redeem, coupon = params.get("redeem", 0), params.get("coupon")
    request = PurchaseRequest(params["receipt_no"], params["amount"], redeem, lines, coupon=coupon)
    terminal = agent.terminal

    def sale(terminal: Terminal, card: ClassicConnection) -> Any:
        with agent.redemptions.for_a_tap() as reserve:
            return purchase(terminal, card, request, reserve)

    with decided.doubt_told(lambda: checkout_of(terminal, request)):
        answer = recorded(terminal, request)
        if answer is None:
            answer = _one_sale(agent, params, talk, sale)
    return answer


def reverse_by_tap(agent: Agent, params: Params, talk: Talk) -> Any:
    request = reversal.ReversalRequest(params["receipt_no"], params.get("amount"), params.get("reference"))
    terminal = agent.terminal
    with decided.doubt_told(lambda: reversal.checkout_of(terminal, request)):
        answer = reversal.recorded_reversal(terminal, request) or reverse_without_card(agent, request)
        if answer is None:
            answer = _one_sale(agent, params, talk, lambda t, card: reversal.reverse_by_tap(t, card, request))
    return answer


def queue_list(agent: Agent, params: Params, talk: Talk) -> Any:
    wanted = params.get("state")
    state = OutboxState(wanted) if wanted and wanted != CheckoutState.IN_DOUBT else None
    # A sale in doubt has no event yet: it is listed by its checkout.
    events = [] if wanted == CheckoutState.IN_DOUBT else agent.journal.events.entries(state, MAX_QUEUE_ROWS)
    in_doubt = [
        {"checkout_id": c.checkout_id, "receipt_no": c.receipt_no, "card_no": c.card_no, "since": c.created_at}
        for c in agent.journal.checkouts.in_doubt()
    ]
    return {**counts(agent), "events": [entry.to_json() for entry in events], "checkouts_in_doubt": in_doubt}


def queue_retry(agent: Agent, params: Params, talk: Talk) -> Any:
    with agent.journal.transaction():
        found = agent.journal.events.retry(params["id"])
        if found:
            agent.journal.audit("queue.retry", event_id=params["id"])
    if not found:
        raise AgentError(
            ErrorCode.NOT_FOUND,
            f"no quarantined event has the id {params['id']}",
            hint="See them: terminal-agent queue list --state quarantined",
        )
    agent.sync.wake()
    return {"id": params["id"], "state": OutboxState.PENDING.value}


def queue_close(agent: Agent, params: Params, talk: Talk) -> Any:
    checkout_id = params["checkout_id"]
    result = taps.close(agent.terminal, checkout_id)
    if result is not None:
        agent.sync.wake()
        return result
    checkout = agent.journal.checkouts.by_id(checkout_id)
    if checkout is None:
        raise AgentError(
            ErrorCode.NOT_FOUND, f"there is no checkout {checkout_id}", hint="See them: terminal-agent queue list"
        )
    return {**checkout.result, "state": checkout.state.value, "replayed": True}


def sync_now(agent: Agent, params: Params, talk: Talk) -> Any:
    def progress(report: SyncReport) -> None:
        talk(told(report.sent, report.pending))

    try:
        report = agent.sync.exchange_now(progress)
    except crm.CrmError as error:
        raise crm_problem(error, agent.crm_url) from error
    if report is None:
        raise agent.credentials_problem or AgentError(
            ErrorCode.NOT_ENROLLED,
            "this terminal has not joined a CRM",
            hint="Join it: terminal-agent enroll --crm-url URL --code-file FILE",
        )
    return report.to_json()


def _enrolment_refused(error: crm.CrmRefused) -> AgentError:
    if error.status == HTTPStatus.NOT_FOUND:
        return AgentError(
            ErrorCode.CRM_UNREACHABLE,
            f"there is no CRM at this address: {error}",
            hint="Check --crm-url: it is the CRM's address without /v1",
        )
    return AgentError(ErrorCode.CRM_UNAUTHORIZED, f"the CRM does not take this code: {error}", hint=NEW_CODE)


def enroll(agent: Agent, params: Params, talk: Talk) -> Any:
    url = client.checked_url(params["crm_url"])
    try:
        credentials, _server_time = client.enroll(url, params["code"], agent.terminal_id, agent.ids)
    except crm.CrmUnauthorized as error:
        raise AgentError(
            ErrorCode.CRM_UNAUTHORIZED,
            f"the CRM does not take this code: {error}",
            hint=NEW_CODE,
        ) from error
    except crm.CrmRefused as error:
        raise _enrolment_refused(error) from error
    except crm.CrmError as error:
        hint = f"The code is still good. Check the line to {url}, then run the command again"
        raise AgentError(ErrorCode.CRM_UNREACHABLE, f"the CRM cannot be reached: {error}", hint=hint) from error
    agent.join(credentials)
    with agent.journal.transaction():
        agent.journal.audit("crm.joined", crm_url=url, terminal_id=credentials.terminal_id)
    agent.sync.wake()
    return {"terminal_id": credentials.terminal_id, "crm_url": url, "programme_id": credentials.programme_id}


def status(agent: Agent, params: Params, talk: Talk) -> Any:
    from terminal_agent.service.doctor.checks import quick_problems

    return {
        "state": params.get("state", "stopped"),
        "terminal_id": agent.terminal_id,
        "data_dir": str(agent.settings.data_dir),
        "config": str(agent.config),
        "till_url": params.get("till_url"),
        "till_problem": params.get("till_problem"),
        "reader": params.get("reader_seen") or look_at_reader(agent.settings.reader),
        "crm": crm_seen(agent),
        "journal": agent.journal.health(),
        **counts(agent),
        "offline_points_today": agent.journal.checkouts.redeemed_offline_today(),
        "version": agent.version,
        "problems": quick_problems(agent),
    }


def doctor(agent: Agent, params: Params, talk: Talk) -> Any:
    from terminal_agent.service.doctor.checks import examine

    return examine(agent, params)


def support(agent: Agent, params: Params, talk: Talk) -> Any:
    return redacted(agent, queue_list(agent, {}, talk), params)


def backup(agent: Agent, params: Params, talk: Talk) -> Any:
    return agent.journal.back_up(Path(params["output"])).to_json()


OPERATIONS: dict[str, Operation] = {
    "reader.test": reader_test,
    "card.issue": card_issue,
    "card.replace": card_replace,
    "card.block": members.block_card,
    "card.show": card_show,
    "card.verify": card_verify,
    "card.rekey": card_rekey,
    "card.wipe": card_wipe,
    "card.dump": card_dump,
    "card.restore": card_restore,
    "purchase": purchase_of,
    "reverse": reverse_by_tap,
    "receipt": print_again,
    "queue.list": queue_list,
    "queue.retry": queue_retry,
    "queue.close": queue_close,
    "member.show": lookup.show,
    "member.enroll": enrolment.enroll,
    "member.export": members.export,
    "member.erase": members.erase,
    "member.consent": members.consent,
    "sync": sync_now,
    "enroll": enroll,
    "status": status,
    **batch.OPERATIONS,
    **key_operations.OPERATIONS,
    **pairing.OPERATIONS,
    **staff.OPERATIONS,
    **queue_files.OPERATIONS,
    "doctor": doctor,
    "backup": backup,
    "support": support,
}


def close_overdue(agent: Agent) -> int:
    """Close the sales in doubt whose card has not come back in the time policy gives; how many."""
    wait = timedelta(seconds=agent.journal.knowledge.policy().in_doubt.close_after_s)
    now = agent.clock.now()
    # One dated far ahead was begun before the clock was set back, perhaps by years: its time cannot be waited for.
    overdue = agent.journal.intents.open_checkouts_outside(rfc3339(now - wait), rfc3339(now + wait))
    return sum(_close_one(agent, checkout_id) for checkout_id in overdue)


def _close_one(agent: Agent, checkout_id: str) -> bool:
    try:
        return taps.close(agent.terminal, checkout_id) is not None
    except AgentError as error:  # one that cannot be closed keeps no other open
        log.error("checkout=not_closed id=%s %s", checkout_id, error)
        return False
