"""One try to make a batch row's card, and which rows have theirs. The batch asks again and again, and keeps nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drivers.base import ClassicConnection
from terminal_agent.desk.batch import RowStatus, Tried, Why
from terminal_agent.desk.issue import IssueRequest, issue
from terminal_agent.desk.one_card import refuse_used_number
from terminal_agent.errors import AgentError, ErrorCode, ExitCode
from terminal_agent.service.agent import Agent
from terminal_agent.service.card_lane import HeldReader
from terminal_agent.service.readers import reader_url
from terminal_agent.taps import Terminal

Params = dict[str, Any]
Talk = Callable[[str], None]
_WAIT = {
    ErrorCode.CARD_REMOVED_EARLY: Why.TORN,
    ErrorCode.MULTIPLE_CARDS: Why.SEVERAL,
    ErrorCode.BUSY: Why.BUSY,
}
"""Problems that pass when the person at the reader does something."""


def batch_rows(agent: Agent, params: Params, talk: Talk) -> Any:
    """For each of ``rows`` what is known of it already: a :class:`Tried` as JSON, null for one whose card is due."""
    found = (done_before(agent, _request(row)) for row in params["rows"])
    return [tried.to_json() if tried else None for tried in found]


def batch_row(agent: Agent, params: Params, talk: Talk) -> Any:
    """One try, as JSON of :class:`Tried`. ``lies`` names the card that lay there at the last try. Raises AgentError."""
    request = _request(params["row"])
    lies, wait_s = params.get("lies"), float(params["wait_s"])
    try:
        with agent.lane.hold(reader_url(agent, params)) as reader:
            # Looked up with the lane in hand: two batches must not both find that a card is due.
            tried = done_before(agent, request) or _Try(agent.terminal, request, reader, lies, wait_s).run()
    except AgentError as problem:
        if problem.code is not ErrorCode.BUSY:
            raise
        tried = Tried(RowStatus.WAITING, lies=lies, why=Why.BUSY)
    if tried.status is RowStatus.ISSUED:
        agent.sync.wake()
    return tried.to_json()


def done_before(agent: Agent, request: IssueRequest) -> Tried | None:
    """Whether the person has a card, or the number they are to get is taken; None when a card is due."""
    knowledge = agent.journal.knowledge
    member = knowledge.member_by_phone(request.phone) if request.phone else None
    held = knowledge.card_held_by(member.member_id) if member else None
    if held is None:
        try:
            if request.card_no:
                refuse_used_number(agent.terminal, request.card_no)
        except AgentError as problem:
            return Tried(RowStatus.REJECTED, error=problem.to_json()["error"])
        return None
    card_no, uid = held
    if request.card_no in (None, card_no):
        return Tried(RowStatus.SKIPPED, uid, card_no)
    other = AgentError(
        ErrorCode.ALREADY_ISSUED,
        f"this person has another card, {card_no}",
        hint="Take the row out; for a lost card: terminal-agent card replace --old CARD_NO",
    )
    return Tried(RowStatus.REJECTED, uid, card_no, other.to_json()["error"])


def _request(row: Params) -> IssueRequest:
    return IssueRequest(row["phone"], row["name"], row["tier"], card_no=row["card_no"], only_card=True)


@dataclass
class _Try:
    terminal: Terminal
    request: IssueRequest
    reader: HeldReader
    lies: str | None
    wait_s: float
    uid: str | None = None

    def run(self) -> Tried:
        if not self.reader.wait_for_card(self.wait_s):
            return Tried(RowStatus.WAITING, why=Why.NO_CARD)
        try:
            tried = self.reader.with_card(self._issue)
        except AgentError as problem:
            tried = self._refused(problem)
        # No second look before something has changed: a reader that is polled would be kept from seeing the change.
        if tried.status is RowStatus.WAITING and self.reader.wait_until_removed(self.wait_s):
            return Tried(RowStatus.WAITING, why=tried.why)
        return tried

    def _issue(self, connection: ClassicConnection) -> Tried:
        self.uid = connection.uid.hex()
        answer = issue(self.terminal, connection, self.request)
        return Tried(RowStatus.ISSUED, self.uid, answer["card_no"], lies=self.uid)

    def _refused(self, problem: AgentError) -> Tried:
        """What a problem means for the row: wait, ask for another card, or give the row up. Raises what ends it all."""
        if problem.code is ErrorCode.CARD_REMOVED_EARLY and self.uid in (None, self.lies):
            return Tried(RowStatus.WAITING, why=Why.NO_CARD)  # it was on its way out, and nothing was begun
        if problem.code in _WAIT:
            return Tried(RowStatus.WAITING, why=_WAIT[problem.code])
        if problem.exit_code is not ExitCode.CARD_PROBLEM:
            raise problem
        lies = self.uid or problem.code.value  # a card that cannot be opened has no UID to be known by
        if lies == self.lies:
            return Tried(RowStatus.WAITING, lies=lies, why=Why.SAME_CARD)
        error, number_taken = problem.to_json()["error"], "number_taken" in problem.details
        status = RowStatus.REJECTED if number_taken else RowStatus.CARD_REJECTED
        return Tried(status, self.uid, problem.details.get("card_no"), error, lies=None if number_taken else lies)


OPERATIONS = {"batch.rows": batch_rows, "batch.row": batch_row}
