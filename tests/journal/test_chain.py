"""What was minted is what is sent: an event that was changed on the disk is told from its neighbours."""

from __future__ import annotations

from typing import Any

import pytest

from terminal_agent.contract import fingerprint
from terminal_agent.journal import Journal
from tests.journal.support import event

MANY_BYTES = 1 << 20


@pytest.fixture
def recorded(journal: Journal) -> Journal:
    """Four events."""
    with journal.transaction():
        for number in range(1, 5):
            journal.events.append(event(number))
    return journal


def edit(journal: Journal, sql: str, *values: Any) -> None:
    """What somebody with a SQLite shell does, or a disk."""
    with journal.transaction():
        journal._database.execute(sql, *values)


def unsound(journal: Journal) -> list[int]:
    return [entry.sequence for entry in journal.events.unsound(journal.events.next_batch(100, MANY_BYTES))]


def forge(journal: Journal, sequence: int) -> None:
    """Other points, and a fingerprint that fits them."""
    row = journal._database.query("SELECT body FROM events WHERE sequence = ?", sequence)[0]
    forged = row["body"].replace('"earned":5', '"earned":9')
    edit(
        journal,
        "UPDATE events SET body = ?, fingerprint = ? WHERE sequence = ?",
        forged,
        fingerprint(forged.encode()),
        sequence,
    )


def test_events_as_minted_are_sound(recorded: Journal) -> None:
    assert unsound(recorded) == []


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ("body = replace(body, '\"earned\":5', '\"earned\":9')", [2]),
        ("body = 'no json'", [2]),
        ("body = CAST(X'FF00FE' AS TEXT)", [2]),
        ("fingerprint = 'x'", [2]),
        ("previous_hash = 'x'", []),  # its bytes carry the true one, and so does the answer of its neighbour
    ],
)
def test_a_changed_event_is_told_and_its_neighbours_are_not(recorded: Journal, what: str, found: list[int]) -> None:
    edit(recorded, f"UPDATE events SET {what} WHERE sequence = 2")
    assert unsound(recorded) == found
    link = recorded.events.broken_link()
    assert link is not None
    assert link.sequence == 2, "the whole chain is judged more strictly than what may be sent"


@pytest.mark.parametrize("column", ["fingerprint", "previous_hash", "type", "card_no", "body"])
def test_a_text_that_is_none_any_more_stops_no_other_event(recorded: Journal, column: str) -> None:
    """A flipped bit makes bytes that are no UTF-8; SQLite does not mind, Python's module refuses such a row."""
    edit(recorded, f"UPDATE events SET {column} = CAST(X'41FF' AS TEXT) WHERE sequence = 2")
    batch = recorded.events.next_batch(100, MANY_BYTES)
    assert [entry.sequence for entry in batch] == [1, 2, 3, 4]
    assert {entry.sequence for entry in recorded.events.unsound(batch)} <= {2}


def test_a_forged_event_is_told_by_the_one_after_it(recorded: Journal) -> None:
    forge(recorded, 2)
    assert unsound(recorded) == [2]


def test_a_damaged_successor_takes_nobody_with_it(recorded: Journal) -> None:
    edit(recorded, "UPDATE events SET body = 'x', previous_hash = 'y' WHERE sequence = 3")
    assert unsound(recorded) == [3]


def test_an_event_whose_neighbours_are_gone_proves_itself(recorded: Journal) -> None:
    edit(recorded, "DELETE FROM outbox WHERE event_id IN (SELECT event_id FROM events WHERE sequence IN (1, 3))")
    edit(recorded, "DELETE FROM events WHERE sequence IN (1, 3)")
    assert unsound(recorded) == []


def test_every_install_epoch_in_the_file_is_walked(recorded: Journal) -> None:
    first = recorded.events.install_epoch
    recorded.begin_as_copy("a test")
    with recorded.transaction():
        recorded.events.append(event(5))
    assert recorded.events.broken_link() is None
    edit(recorded, "UPDATE events SET body = 'x' WHERE install_epoch = ? AND sequence = 4", first)
    link = recorded.events.broken_link()
    assert link == (first, 4)


def test_a_gap_is_a_break(recorded: Journal) -> None:
    edit(recorded, "DELETE FROM outbox WHERE event_id IN (SELECT event_id FROM events WHERE sequence = 1)")
    edit(recorded, "DELETE FROM events WHERE sequence = 1")
    link = recorded.events.broken_link()
    assert link is not None
    assert link.sequence == 2


def test_a_long_chain_is_walked_to_its_end(journal: Journal) -> None:
    with journal.transaction():
        for number in range(1, 1205):
            journal.events.append(event(number))
    assert journal.events.broken_link() is None
    edit(journal, "UPDATE events SET body = 'x' WHERE sequence = 1201")
    link = journal.events.broken_link()
    assert link is not None
    assert link.sequence == 1201


def test_asking_for_a_batch_looks_up_and_never_scans(recorded: Journal) -> None:
    from terminal_agent.journal.events import _ENTRY

    plan = recorded._database.query(
        f"EXPLAIN QUERY PLAN {_ENTRY} WHERE o.state = 'pending' AND o.state <> 'acknowledged'"
    )
    steps = [row["detail"] for row in plan]
    assert [step for step in steps if step.startswith("SCAN")] == ["SCAN o USING INDEX outbox_waiting"], steps
    assert sum(step.startswith("SEARCH") for step in steps) == 2
