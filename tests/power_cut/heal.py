"""After the cut: the program starts on what is left, cards are laid down, the cashier tries again; the books agree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from terminal_agent import taps
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service.agent import Agent
from terminal_agent.service.initialise import initialise
from terminal_agent.service.operations import OPERATIONS
from terminal_agent.service.settings import Settings
from tests.books import Books, CardReader, disagreement, uid_of
from tests.power_cut.campaign import Violation
from tests.power_cut.promises import CARDS, DATA
from tests.power_cut.told import Request, Told

HEAL = "went on"
REPEATED = ("purchase", "reverse", "card.issue")
REFUSALS = {
    ErrorCode.ALREADY_ISSUED,
    ErrorCode.OFFLINE_LIMIT,
    ErrorCode.INSUFFICIENT_POINTS,
    ErrorCode.REVERSAL_REFUSED,
}


def heal(root: Path, told: Told, cards: CardReader) -> Iterator[Violation]:
    """Go on where the power went; every violation found on the way. ``root`` is used up."""
    config = root / "etc" / "config.toml"
    values = {"data_dir": str(root / DATA), "terminal_id": "till-1"}
    try:
        if "init" not in told.set_up:
            initialise(config, values, force=True)  # whoever saw no answer runs it again
        with closing(Agent(Settings.model_validate(values), config)) as agent:
            yield from _go_on(agent, root, told)
    except AgentError as error:
        yield Violation(HEAL, f"the program cannot go on: {error.code}: {error.message}")
        return
    yield from _false_alarms(root)
    books = Books(root / DATA)
    for path in sorted((root / CARDS).glob("*.mfd")):
        image = path.read_bytes()
        problem = disagreement(books, image, cards) if uid_of(image) in books.cards else None
        if problem is not None:
            yield Violation(HEAL, problem)
    if books.unsettled:
        yield Violation(HEAL, f"{len(books.unsettled)} intents are still open after their cards were laid down")
    for checkout_id, row in books.checkouts.items():
        if books.queued(checkout_id) != 1:
            yield Violation(HEAL, f"receipt {row['receipt_no']} stands {books.queued(checkout_id)} times in the outbox")


def _go_on(agent: Agent, root: Path, told: Told) -> Iterator[Violation]:
    for alarm in agent.journal.standing_alarms():  # a cut alone is no damage, and no copy that was put back
        yield Violation(HEAL, f"a false alarm: {alarm.detail}")
    terminal = agent.terminal
    for number, path in enumerate(sorted((root / CARDS).glob("*.mfd"))):
        if agent.journal.knowledge.card_by_uid(uid_of(path.read_bytes())) is not None:
            url = f"sim:{path}"
            agent.lane.with_card(url, 0, lambda card: taps.settle(terminal, taps.present(terminal, card)))
            _call(agent, ("purchase", {"reader": url, "wait_s": 0, "receipt_no": f"new-{number}", "amount": 10_000}))
    for request in _again(told):
        answer = _call(agent, _here(request, root))
        if answer.get("state", "done") not in ("done", "closed"):
            yield Violation(HEAL, f"{request} cannot be finished: {answer}")
    if agent.journal.events.broken_link() is not None:
        yield Violation("chain", f"the program finds event {agent.journal.events.broken_link()} unchained")


def _false_alarms(root: Path) -> Iterator[Violation]:
    """A power cut is no damage and no copy put back: the same journal goes on under the same install epoch."""
    aside = list((root / DATA).glob("damaged-*"))
    epochs = {event.install_epoch for event in Books(root / DATA).events}
    if aside or len(epochs) > 1:
        yield Violation("alarm", f"{len(epochs)} install epochs, {len(aside)} journals moved aside")


def _again(told: Told) -> list[Request]:
    """What a cashier tries again: every sale in doubt, and what had no answer yet."""
    under_way = told.under_way
    return [*told.in_doubt, *([under_way] if under_way is not None and under_way[0] in REPEATED else [])]


def _here(request: Request, root: Path) -> Request:
    """The same request with the card where it lies now."""
    operation, params = request
    card = root / CARDS / Path(params["reader"]).name
    return operation, {**params, "reader": f"sim:{card}"}


def _call(agent: Agent, request: Request) -> dict[str, Any]:
    operation, params = request
    try:
        answer: dict[str, Any] = OPERATIONS[operation](agent, params, lambda _text: None)
        return answer
    except AgentError as error:
        if error.code in REFUSALS:
            return {}  # said in the open, as it may be; nothing is half done
        raise
