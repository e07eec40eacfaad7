"""Indexes that no longer say what their tables do: found, made anew, or taken for damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from terminal_agent.errors import AgentError
from terminal_agent.journal import Journal
from terminal_agent.journal.alarms import AlarmCode
from terminal_agent.journal.events import OutboxState
from terminal_agent.journal.opening import SUSPECT_FILE
from tests.journal.damage import OpenJournal, used, wal_of
from tests.journal.support import event, event_id, flip_index_entry, spoil_index


def test_after_a_crash_indexes_are_compared_with_their_tables_too(open_journal: OpenJournal, file: Path) -> None:
    journal = open_journal()
    with journal.transaction():
        journal.events.append(event(1))
    spoil_index(journal._database._connection)
    log = wal_of(file).read_bytes()
    journal.close()
    open_journal().close()
    assert open_journal().standing_alarms() == [], "after a clean end the quick check is enough"
    wal_of(file).write_bytes(log)
    journal = open_journal()
    assert [alarm.code for alarm in journal.alarms.standing()] == [AlarmCode.INDEXES_REBUILT]


def settle_all(journal: Journal, numbers: range) -> None:
    with journal.transaction():
        for number in numbers:
            journal.events.settle(event_id(number), OutboxState.ACKNOWLEDGED, None)


def test_an_index_that_one_bit_was_flipped_in_is_made_anew_and_nothing_is_lost(
    open_journal: OpenJournal, file: Path
) -> None:
    """A quick check does not see it: else the daemon would meet it again after each start, for ever."""
    epoch = used(open_journal, events=10, acknowledged=0)
    flip_index_entry(file)
    journal = open_journal()
    assert journal.alarms.standing() == [], "not seen yet"
    met: list[AgentError] = []
    journal.when_damaged(met.append)
    with pytest.raises(AgentError, match="damaged"):
        settle_all(journal, range(1, 11))
    assert met
    journal.close()
    journal = open_journal()
    settle_all(journal, range(1, 11))
    assert journal.events.count(OutboxState.PENDING) == 0
    assert journal.events.install_epoch == epoch
    (alarm,) = journal.alarms.standing()
    assert alarm.code is AlarmCode.INDEXES_REBUILT
    assert "outbox_waiting" in alarm.detail
    assert journal.integrity_problems() == []
    assert list(file.parent.glob("damaged-*")) == []
    journal.acknowledge_alarms()
    journal.close()
    assert not file.with_name(SUSPECT_FILE).exists(), "one thorough look is enough"
    assert open_journal().standing_alarms() == []


def test_indexes_that_cannot_be_made_anew_are_damage(open_journal: OpenJournal, file: Path) -> None:
    """Two rows at one position: there is no index to make of them."""
    used(open_journal, events=10, acknowledged=0)
    third, second = (event_id(3).encode() + position + b"pending" for position in (b"\x03", b"\x02"))
    content = file.read_bytes()
    assert content.count(third) == 1
    file.write_bytes(content.replace(third, second))
    file.with_name(SUSPECT_FILE).touch()
    journal = open_journal()
    assert [alarm.code for alarm in journal.alarms.standing()] == [AlarmCode.STARTED_OVER]
    assert journal.events.count(OutboxState.PENDING) == 10


def test_what_doctor_finds_is_mended_at_the_next_start(open_journal: OpenJournal, file: Path) -> None:
    used(open_journal, events=10, acknowledged=0)
    flip_index_entry(file)
    journal = open_journal()
    assert journal.integrity_problems()
    journal.close()
    journal = open_journal()
    assert [alarm.code for alarm in journal.alarms.standing()] == [AlarmCode.INDEXES_REBUILT]
    assert journal.integrity_problems() == []
