"""The counter: one checkout at a time waits for its card, is carried out, and is told about at each step."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, Protocol, TypeVar

from drivers.base import ClassicConnection
from terminal_agent import taps
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.intents import Checkout, CheckoutState
from terminal_agent.journal.till import TillRequest
from terminal_agent.ports import rfc3339
from terminal_agent.taps import PresentedCard, Reserve, Terminal
from terminal_agent.till import decided, reversal
from terminal_agent.till_api import shown
from terminal_agent.till_api.asked import Asked, Asker, Attempt, keep_opened, staff_of
from terminal_agent.till_api.hub import EventName, Hub
from terminal_agent.till_api.problems import Refusal, Refused, as_shown, busy
from terminal_agent.till_api.shown import State

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")
LOOK_S = 1.0
"""How often a waiting checkout looks whether it was cancelled or is over; a card is seen at once."""
PEACE_S = 0.5
"""How long a card, or a reader, that just failed is left alone; longer than pcscd takes to notice a change (0.4 s)."""
_ENDS = {
    ErrorCode.INSUFFICIENT_POINTS,
    ErrorCode.OFFLINE_LIMIT,
    ErrorCode.RECEIPT_CONFLICT,
    ErrorCode.REVERSAL_REFUSED,
    ErrorCode.INVALID_INPUT,
    ErrorCode.DISK_FULL,
    ErrorCode.JOURNAL_FAILED,
    ErrorCode.CONFIG_INVALID,
    ErrorCode.NOT_FOUND,
}
"""What another card, or the same one again, would not mend: the checkout fails. All else is shown, and it waits on."""


_SETTLED = {State.DONE, State.CLOSED}


class HeldReader(Protocol):
    """The reader, kept for one checkout. All raise AgentError when it is gone."""

    def wait_for_card(self, timeout_s: float) -> bool: ...
    def wait_until_removed(self, timeout_s: float) -> bool: ...
    def with_card(
        self, job: Callable[[ClassicConnection], Answer], afterwards: Callable[[ClassicConnection, Answer], None]
    ) -> Answer: ...


@dataclass(frozen=True)
class Shop:
    """What a checkout needs of the agent. ``after_a_sale`` has the card that was served, once the cashier was told."""

    terminal: Callable[[], Terminal]
    for_a_tap: Callable[[], AbstractContextManager[Reserve]]
    wake_sync: Callable[[], None]
    hold_reader: Callable[[], AbstractContextManager[HeldReader]]
    after_a_sale: Callable[[Terminal, ClassicConnection, PresentedCard], None]


class _Open:
    """The checkout that waits or is at work. Its document is replaced, never changed."""

    def __init__(self, asked: Asked, document: dict[str, Any], deadline: float) -> None:
        self.asked = asked
        self.document = document
        self.deadline = deadline
        self.reader_problem: dict[str, Any] | None = None
        self.error_before: Any = None
        """What was wrong with the card before the reader had a problem."""
        self.told_of_card: dict[str, Any] | None = None
        """What was told last of the card that still lies there: told again only when it differs."""

    @property
    def checkout_id(self) -> str:
        return str(self.document["id"])


class Counter:
    """Opens, shows and cancels checkouts from any thread; :meth:`run` carries them out on its own."""

    def __init__(self, shop: Shop, hub: Hub) -> None:
        self._shop = shop
        self._hub = hub
        self._changed = threading.Condition()
        self._open: _Open | None = None
        self._ending: dict[str, Any] | None = None  # told to be over, and not yet on disk
        self._stopping = False

    def refuse_if_busy(self) -> None:
        """Raises AgentError ``busy`` while a checkout is open."""
        if self._open is not None:
            raise busy()

    def open(self, asker: Asker, key: str, fingerprint: str, asked: Asked, body: dict[str, Any]) -> dict[str, Any]:
        """A new checkout, or the same answer as before to the same key. Raises AgentError, Refused."""
        terminal = self._shop.terminal()
        with self._changed:
            before = self.answered(asker.token_id, key, fingerprint)
            if before is not None:
                return before
            recorded = asked.recorded(terminal)
            if recorded is None and self._open is not None:
                raise busy()
            opened = self._new_document(terminal, asker, asked)

            def accept() -> TillRequest:
                result = recorded or asked.at_once(terminal, opened["id"])
                document = opened if result is None else shown.with_result(terminal, opened, result)
                name, ended = (asker.token_id, key, fingerprint, document["id"]), result is not None
                request = TillRequest(*name, document, document, body, ended, document["expires_at"])
                keep_opened(terminal.journal, request, asker, is_new=recorded is None)
                return request

            request = terminal.journal.write(accept)
            if not request.ended:
                self._take_up(_Open(asked, request.document, terminal.clock.monotonic() + asked.expires_in_s))
            self._publish(request.document)
        if recorded is None and request.ended:
            self._shop.wake_sync()
        return request.document

    def answered(self, token_id: str, key: str, fingerprint: str) -> dict[str, Any] | None:
        """The answer that this key got before. Raises Refused ``key_reused`` for another body."""
        before = self._shop.terminal().journal.till.request(token_id, key)
        if before is not None and before.fingerprint != fingerprint:
            raise Refused(Refusal.KEY_REUSED)
        return before.answer if before else None

    def _new_document(self, terminal: Terminal, asker: Asker, asked: Asked) -> dict[str, Any]:
        begun = asked.begun(terminal)
        staff = staff_of(terminal, begun) if begun else {"cashier": asker.cashier, "approved_by": asker.permit()}
        expires_at = rfc3339(terminal.clock.now() + timedelta(seconds=asked.expires_in_s))
        checkout_id = begun.checkout_id if begun else terminal.ids.uuid()
        return shown.opened(checkout_id, asked.kind, asked.shown(terminal), terminal.currency, expires_at) | staff

    def _take_up(self, opened: _Open) -> None:
        self._open = opened
        self._changed.notify_all()

    def resume(self, asked_of: Callable[[dict[str, Any]], Asked]) -> None:
        """After a start: the checkout that waited when the agent ended waits on, until its time is over. What became of
        it is told: who followed it through the end of the last run heard nothing more."""
        terminal = self._shop.terminal()
        for request in terminal.journal.till.open_requests():
            asked = asked_of(request.request)
            remaining = shown.seconds_until(request.expires_at, terminal.clock.now())
            document = self._settled_view(terminal, request.document)
            is_settled = document["state"] in _SETTLED
            if is_settled or remaining <= 0 or self._open is not None:
                ended = document if is_settled else shown.expired(document)
                self._keep_ended(ended)
                self._publish(ended)
            else:
                in_doubt = document["state"] == State.IN_DOUBT
                waits = document if in_doubt else {**document, "state": State.WAITING.value}
                with self._changed:
                    self._take_up(_Open(asked, waits, terminal.clock.monotonic() + remaining))
                self._publish(waits)

    def show(self, checkout_id: str) -> dict[str, Any] | None:
        """A checkout as it stands now, or None."""
        with self._changed:
            if self._open is not None and self._open.checkout_id == checkout_id:
                return self._open.document
            ending = self._ending
        terminal = self._shop.terminal()
        if ending is not None and ending["id"] == checkout_id:
            return self._settled_view(terminal, ending)
        kept = terminal.journal.till.request_of(checkout_id)
        return self._settled_view(terminal, kept.document) if kept else None

    def newest(self, count: int) -> dict[str, Any]:
        """``open``: the checkout that waits or is at work, or None; ``checkouts``: the last ones recorded."""
        terminal = self._shop.terminal()
        opened = self._open
        recorded = [shown.recorded(terminal, each) for each in terminal.journal.checkouts.newest(count)]
        return {"open": opened.document if opened else None, "checkouts": recorded}

    def returned_with(self, request: reversal.ReversalRequest) -> int:
        """What was given back of a purchase when this return is done, returns in doubt included."""
        checkouts = self._shop.terminal().journal.checkouts
        if request.amount is not None:
            return checkouts.amount_of(taps.REVERSAL, request.receipt_no) + request.amount
        return checkouts.amount_of(taps.PURCHASE, request.receipt_no)

    def member_of(self, card_no: str) -> dict[str, Any] | None:
        """Who holds the card, as far as a screen may say."""
        return shown.member_of(self._shop.terminal(), card_no)

    def _settled_view(self, terminal: Terminal, document: dict[str, Any]) -> dict[str, Any]:
        """The journal's word goes before: a sale in doubt may have been settled or closed since."""
        begun = terminal.journal.checkouts.by_id(document["id"])
        if begun is None:
            return document
        if begun.state is CheckoutState.IN_DOUBT:
            return {**document, "state": State.IN_DOUBT.value}
        return shown.with_result(terminal, document, {**begun.result, "state": begun.state.value})

    def cancel(self, checkout_id: str) -> dict[str, Any] | None:
        """The cancelled checkout, or None when there is none. Raises Refused once its card is served; one that is just
        being read, as a wrong card is twice a second, is waited for."""
        with self._changed:
            opened = self._open
            if opened is not None and opened.checkout_id == checkout_id:
                self._changed.wait_for(lambda: opened.document["state"] != State.READING, LOOK_S)
                if opened.document["state"] == State.WAITING:
                    return self._end(opened, {**opened.document, "state": State.CANCELLED.value, "error": None})
        document = self.show(checkout_id)
        if document is None or document["state"] == State.CANCELLED:
            return document
        raise Refused(Refusal.TOO_LATE)

    def leave(self, checkout_id: str) -> dict[str, Any] | None:
        """Wait no longer for the card of a sale in doubt: its next tap settles it, or policy closes it. The checkout,
        or None when there is none. Raises Refused when it is not in doubt."""
        with self._changed:
            opened = self._open
            if opened is not None and opened.checkout_id == checkout_id:
                if opened.document["state"] != State.IN_DOUBT:
                    raise Refused(Refusal.TOO_LATE)
                return self._end(opened, opened.document)
        document = self.show(checkout_id)
        if document is None or document["state"] == State.IN_DOUBT:
            return document
        raise Refused(Refusal.TOO_LATE)

    def run(self) -> None:
        """Carry out what is opened, until :meth:`stop`."""
        while (opened := self._next()) is not None:
            self._serve(opened)

    def stop(self) -> None:
        """A card in hand is finished; a checkout that waits is taken up again after the next start."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def _next(self) -> _Open | None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._open is not None)
            return None if self._stopping else self._open

    def _serve(self, opened: _Open) -> None:
        while self._open is opened and not self._stopping:
            try:
                with self._shop.hold_reader() as reader:
                    self._wait_and_work(opened, reader)
            except AgentError as error:  # the reader is gone or in use; it may come back in time
                if self._is_over(opened):
                    return
                self._show_reader_problem(opened, error)
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping or self._open is not opened, PEACE_S)

    def _wait_and_work(self, opened: _Open, reader: HeldReader) -> None:
        while self._open is opened and not self._stopping:
            if self._is_over(opened):
                return
            self._end_reader_problem(opened, reader)
            remaining = max(0.0, opened.deadline - self._shop.terminal().clock.monotonic())
            if reader.wait_for_card(min(LOOK_S, remaining)) and self._begin_reading(opened):
                if not self._attempt(opened, reader):
                    return
                if reader.wait_until_removed(PEACE_S):  # and once more: a card may be swapped between two looks
                    opened.told_of_card = None

    def _is_over(self, opened: _Open) -> bool:
        """Ends what has waited long enough, and a sale in doubt that a command or policy has closed meanwhile."""
        terminal, document = self._shop.terminal(), opened.document
        if document["state"] == State.IN_DOUBT:
            document = self._settled_view(terminal, document)
        if document["state"] not in _SETTLED:
            if opened.deadline > terminal.clock.monotonic():
                return False
            document = shown.expired(document)
        self._end(opened, document)
        return True

    def _begin_reading(self, opened: _Open) -> bool:
        """False when it was cancelled in the same moment."""
        with self._changed:
            if self._open is not opened:
                return False
            opened.document = {**opened.document, "state": State.READING.value}
            if opened.told_of_card is None:
                self._publish(opened.document)
        return True

    def _attempt(self, opened: _Open, reader: HeldReader) -> bool:
        """One try with the card in the field. True when the checkout waits on."""
        terminal = self._shop.terminal()
        served: list[PresentedCard] = []

        def write(document: dict[str, Any]) -> None:
            opened.document = {**document, "state": State.WRITING.value}
            self._publish(opened.document)

        def told(begun: Checkout) -> None:
            write(shown.with_result(terminal, opened.document, begun.result))

        def job(card: ClassicConnection) -> dict[str, Any]:
            telling = replace(terminal, told=told, served=served.append)
            with self._shop.for_a_tap() as reserve:
                writing = partial(write, opened.document)
                return opened.asked.carry_out(Attempt(telling, card, reserve, opened.checkout_id, writing))

        def afterwards(card: ClassicConnection, result: dict[str, Any]) -> None:
            self._end(opened, shown.with_result(terminal, opened.document, result))
            self._shop.wake_sync()
            for each in served:
                self._shop.after_a_sale(terminal, card, each)

        try:
            with decided.doubt_told(lambda: opened.asked.begun(terminal)):
                reader.with_card(job, afterwards)
        except AgentError as error:
            return self._note(opened, error)
        return False

    def _show_reader_problem(self, opened: _Open, error: AgentError) -> None:
        problem = as_shown(error)
        with self._changed:
            if self._open is not opened or opened.document["error"] == problem:
                return
            if opened.reader_problem is None:
                opened.error_before = opened.document["error"]
            opened.reader_problem = problem
            opened.document = {**opened.document, "error": problem}
            self._publish(opened.document)

    def _end_reader_problem(self, opened: _Open, reader: HeldReader) -> None:
        """A reader that answers again is no problem any more; what its card left in doubt still is."""
        if opened.reader_problem is None:
            return
        reader.wait_for_card(0)
        with self._changed:
            problem, opened.reader_problem = opened.reader_problem, None
            if self._open is not opened or opened.document["error"] != problem:
                return
            opened.document = {**opened.document, "error": opened.error_before}
            self._publish(opened.document)

    def _note(self, opened: _Open, error: AgentError) -> bool:
        """Show what is wrong. True when the checkout waits on."""
        in_doubt = error.details.get("state") == State.IN_DOUBT.value
        state = State.IN_DOUBT if in_doubt else State.FAILED if error.code in _ENDS else State.WAITING
        document = {**opened.document, "state": state.value, "error": as_shown(error)}
        if state is State.FAILED:
            self._end(opened, document)
            return False
        with self._changed:
            if self._open is not opened:
                return False
            opened.document = document
            self._changed.notify_all()
            if opened.told_of_card != document:
                opened.told_of_card = document
                problem = {"checkout_id": opened.checkout_id, "error": document["error"]}
                self._hub.publish(EventName.CARD_PROBLEM, problem)
                self._publish(document)
        return True

    def _end(self, opened: _Open, document: dict[str, Any]) -> dict[str, Any]:
        """The checkout is over. It is told first: what counts is in the journal already."""
        with self._changed:
            if self._open is not opened:
                return document
            opened.document = self._ending = document
            self._open = None
            self._changed.notify_all()
            self._publish(document)
        self._keep_ended(document)
        with self._changed:
            if self._ending is document:
                self._ending = None
        return document

    def _keep_ended(self, document: dict[str, Any]) -> None:
        journal = self._shop.terminal().journal
        journal.write(lambda: journal.till.update(document["id"], document, ended=True))

    def _publish(self, document: dict[str, Any]) -> None:
        """In the same hold of the lock as the change: what is told last is what is so."""
        self._hub.publish(EventName.CHECKOUT_CHANGED, document)
