"""What is booked many at a time stands in the tables as if it had been booked one by one."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from terminal_agent.contract import source_of
from terminal_agent.crm import bulk, inbox
from terminal_agent.crm.place import DatabaseUrl, Place
from terminal_agent.crm.schema import metadata
from terminal_agent.crm.store import Store, open_store
from terminal_agent.ports import SystemClock, SystemIds
from tests.crm.test_intents import resolved
from tests.crm.world import EPOCH, Terminal

NOW = "2026-11-22T09:30:00.000Z"
CARDS = ["1000000000000009", "2000000000000008", "3000000000000007"]
# Not of this test's making: each has its own programme, and its own time and code.
NOT_BOOKED = {"meta", "policies", "feed", "terminals", "enrolment_codes"}


class Shop:
    """A till whose events are mostly plain sales, and sometimes anything else that may happen to one."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.terminal = Terminal("", "shop-1", "", b"")
        self.counters = dict.fromkeys(CARDS, 0)
        self.told: list[dict[str, Any]] = []

    def events(self, count: int) -> list[dict[str, Any]]:
        deeds = [self.sale] * 12 + [self.again, self.other_under_the_same_id, self.other_at_the_same_place]
        deeds += [self.copy_of_a_card, self.in_doubt, self.settled, self.taken_back, self.with_hold, self.malformed]
        deeds += [self.adjusted_ahead, self.rolled_back, self.taken_back_before, self.replaced]
        for _ in range(count):
            self.told.append(self.chance.choice(deeds)())
        return self.told

    def sale(self, **changes: Any) -> dict[str, Any]:
        card_no = self.chance.choice(CARDS)
        self.counters[card_no] += 1
        earned, redeemed = self.chance.choice([(10, 0), (0, 0), (7, 3), (0, 4)])
        sale = self.terminal.purchase(self.counters[card_no], earned, redeemed, card_no=card_no)
        sale["data"]["purchase"] = {"amount": 1000, "currency": "IRR", "receipt_no": str(len(self.told))}
        return sale | changes

    def earlier(self) -> dict[str, Any]:
        return copy.deepcopy(self.chance.choice(self.told)) if self.told else self.sale()

    def again(self) -> dict[str, Any]:
        return self.earlier()

    def other_under_the_same_id(self) -> dict[str, Any]:
        return self.sale(id=self.earlier()["id"])

    def other_at_the_same_place(self) -> dict[str, Any]:
        return self.sale(sequence=self.earlier()["sequence"])

    def copy_of_a_card(self) -> dict[str, Any]:
        card_no = self.chance.choice(CARDS)
        return self.terminal.purchase(max(self.counters[card_no], 1), 5, card_no=card_no)

    def in_doubt(self) -> dict[str, Any]:
        sale = self.sale()
        state = sale["data"].pop("card")
        before = {"sequence_before": state["sequence"] - 1, "balance_before": state["balance_before"]}
        after = {"sequence_after": state["sequence"], "balance_after": state["balance_after"]}
        tried = {"intent_id": f"i-{self.chance.randrange(4)}", "card_no": state["card_no"], **before, **after}
        sale["data"] |= {"card": None, "intent": tried}
        return sale

    def settled(self) -> dict[str, Any]:
        found = resolved(self.terminal, landed=self.chance.random() < 0.5)
        card_no = self.chance.choice(CARDS)
        found["data"] |= {"card_no": card_no, "intent_id": f"i-{self.chance.randrange(4)}"}
        return found | {"subject": f"cards/{card_no}"}

    def taken_back(self) -> dict[str, Any]:
        bought = self.earlier()
        reversal = {"reversed_event_id": bought["id"], "amount": 400, "currency": "IRR"}
        data = {"card": None, "reversal": reversal, "points": {"earned": -2, "redeemed": 0}}
        return self.terminal.event("purchase.reversed", data, subject=bought["subject"])

    def taken_back_before(self) -> dict[str, Any]:
        bought = self.sale()
        self.told.append(self.taken_back() | {"subject": bought["subject"]})
        self.told[-1]["data"]["reversal"]["reversed_event_id"] = bought["id"]
        return bought

    def with_hold(self) -> dict[str, Any]:
        sale = self.sale()
        sale["data"]["hold_id"] = "h-1"
        return sale

    def malformed(self) -> dict[str, Any]:
        return self.sale(source=source_of("shop-2", EPOCH) if self.chance.random() < 0.5 else 7)

    def adjusted_ahead(self) -> dict[str, Any]:
        sale = self.sale()
        sale["data"]["card"]["adjustments_through"] = 1
        return sale

    def rolled_back(self) -> dict[str, Any]:
        card_no = self.chance.choice(CARDS)
        data = {"card_no": card_no, "kind": "rolled_back"}
        return self.terminal.event("card.anomaly", data, card_no)

    def replaced(self) -> dict[str, Any]:
        """Once: what is told of the old card from then on goes to the new one."""
        if any(event["type"] == "card.replaced" for event in self.told):
            return self.sale()
        new, old = self.chance.sample(CARDS, 2)
        return self.terminal.event("card.replaced", {"card": None, "card_no": new, "old_card_no": old}, new)


def batches(seed: int) -> list[list[dict[str, Any]]]:
    told = Shop(seed).events(120)
    chance = random.Random(seed)
    cuts = sorted(chance.sample(range(1, len(told)), 4))
    return [told[start:end] for start, end in zip([0, *cuts], [*cuts, None], strict=True)]


def book(place: Place, told: list[list[dict[str, Any]]]) -> tuple[list[Any], dict[str, list[Any]]]:
    """The verdicts, and what then stands in the tables."""
    store = open_store(place, SystemClock(), SystemIds())
    answers = []
    for batch in told:
        with store.writing() as connection:
            answers.append(inbox.receive(connection, "shop-1", batch, NOW))
    found = tables(store)
    store.close()
    return answers, found


def tables(store: Store) -> dict[str, list[Any]]:
    with store.reading() as connection:
        rows = {table.name: connection.execute(select(table)).all() for table in metadata.sorted_tables}
        feed = connection.execute(select(metadata.tables["feed"].c.document)).scalars().all()[1:]
    kept = {name: sorted(map(repr, found)) for name, found in rows.items() if name not in NOT_BOOKED}
    return kept | {"items": list(feed)}


@pytest.mark.parametrize("seed", range(12))
def test_together_or_one_by_one_comes_to_the_same(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = batches(seed)
    together = book(tmp_path / "together", told)
    monkeypatch.setattr(bulk, "run_from", lambda _batch, _place: [])
    assert book(tmp_path / "one-by-one", told) == together


@pytest.mark.postgres
def test_both_databases_come_to_the_same(database: DatabaseUrl, tmp_path: Path) -> None:
    told = batches(77)
    assert book(tmp_path / "crm", told) == book(database, told)


def sales_of(terminal: Terminal, count: int, cards: int) -> list[dict[str, Any]]:
    first = terminal.sequence + 1
    return [terminal.purchase(first + n, 10, card_no=str(1000 + n % cards)) for n in range(count)]


@pytest.mark.parametrize(("count", "at_most"), [(1, 22), (500, 35)])
def test_sales_take_few_statements(count: int, at_most: int, store: Store) -> None:
    statements = []
    with store.writing() as connection:
        event.listen(connection, "before_cursor_execute", lambda *heard: statements.append(heard[2]))
        sales = sales_of(Terminal("", "shop-1", "", b""), count, 20)
        results, _ = inbox.receive(connection, "shop-1", sales, NOW)
    assert {result.status for result in results} == {"accepted"}
    assert len(statements) <= at_most, "two runs of 250 at the most, whatever their cards"


def test_four_times_the_sales_are_some_four_times_the_work(tmp_path: Path) -> None:
    """Counted in steps of SQLite's machine: looking for each of one list with each of another is the square of it."""
    steps = {count: steps_of(tmp_path / str(count), count) for count in (60, 240)}
    assert steps[240] < 6 * steps[60]


def steps_of(data_dir: Path, count: int) -> int:
    """Hundreds of steps that a sale on each of so many cards takes, which had one before."""
    store, terminal, steps = open_store(data_dir, SystemClock(), SystemIds()), Terminal("", "shop-1", "", b""), []
    with store.writing() as connection:
        inbox.receive(connection, "shop-1", sales_of(terminal, count, count), NOW)
    with store.writing() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.set_progress_handler(lambda: steps.append(1), 100)
        inbox.receive(connection, "shop-1", sales_of(terminal, count, count), NOW)
        driver.set_progress_handler(None, 0)
    store.close()
    return len(steps)
