"""A card's tells are noted once, in the log and the audit log, and decide nothing."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from drivers.base import ClassicConnection
from drivers.simulator import SimulatedChip, SimulatedConnection
from terminal_agent.desk import inspect
from terminal_agent.desk.issue import IssueRequest, issue
from tests.workbench import UID, RecordingConnection, Workbench, blank, lay, operations_of

OTHER_UID = bytes.fromhex("51617181")


class OtherUid(RecordingConnection):
    """A copy that answers with another UID than its block 0 has."""

    @property
    def uid(self) -> bytes:
        return OTHER_UID


def noted(bench: Workbench) -> list[dict[str, Any]]:
    rows = bench.rows("SELECT detail FROM audit WHERE action = 'card.tells' ORDER BY entry")
    return [json.loads(row["detail"]) for row in rows]


def verify(bench: Workbench, connection: ClassicConnection) -> dict[str, Any]:
    with connection:
        return inspect.verify(bench.terminal, connection)


def test_a_genuine_card_tells_nothing(bench: Workbench) -> None:
    assert verify(bench, lay(bench.issue()))["tells"] == []
    assert noted(bench) == []


def test_a_copy_is_issued_all_the_same_and_noted_once(bench: Workbench, caplog: pytest.LogCaptureFixture) -> None:
    card = blank()
    with caplog.at_level(logging.WARNING):
        issue(bench.terminal, OtherUid(lay(card)), IssueRequest())
        assert len(noted(bench)) == 1
        for _ in range(2):
            answer = verify(bench, OtherUid(lay(card)))
            assert (answer["ok"], answer["findings"], answer["tells"]) == (True, [], ["uid_not_in_block_0"])
    assert noted(bench) == [{"uid": OTHER_UID.hex(), "tells": ["uid_not_in_block_0"]}]
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"card=suspicious uid={OTHER_UID.hex()} tells=uid_not_in_block_0"


def test_another_set_of_tells_is_noted_again(bench: Workbench) -> None:
    card = bench.issue()
    for open_block_0 in (False, True, True):
        verify(bench, SimulatedConnection(SimulatedChip(card, open_block_0=open_block_0)))
    assert noted(bench) == [{"uid": UID.hex(), "tells": ["block_0_without_key"]}]
    card.content[4] ^= 1  # the check byte
    card.content[8:10] = b"\x04\x00"
    verify(bench, Faithful(lay(card)))
    assert noted(bench)[1:] == [{"uid": UID.hex(), "tells": ["wrong_check_byte"]}]


class Faithful(RecordingConnection):
    """The UID of a card whose check byte is wrong: a reader takes what it answers."""

    @property
    def uid(self) -> bytes:
        return UID


def test_only_verify_reads_before_it_authenticates_and_only_block_0(bench: Workbench) -> None:
    card = bench.issue(points=3)
    calls = operations_of(lambda connection: inspect.verify(bench.terminal, connection), card)
    assert calls[:2] == [("read", 0), ("authenticate", 4)]
    assert operations_of(lambda c: inspect.show(bench.terminal, c), card)[0] == ("authenticate", 4)
    assert operations_of(lambda c: issue(bench.terminal, c, IssueRequest()), blank(OTHER_UID))[0][0] == "authenticate"


def test_no_tell_is_found_by_writing(bench: Workbench) -> None:
    calls = operations_of(lambda connection: inspect.verify(bench.terminal, connection), bench.issue())
    assert "write" not in {action for action, _ in calls}
