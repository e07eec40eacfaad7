"""A queue carried to the CRM in a file counts as one sent over the line does: exactly once, and only for our CRM."""

from __future__ import annotations

import base64
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.simulator import MemoryImage
from terminal_agent import sealed
from terminal_agent.crm import admin
from terminal_agent.crm.courier import TakenIn
from terminal_agent.crm.schema import terminals
from terminal_agent.crm.store import open_store
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.events import OutboxState
from terminal_agent.ports import SystemClock, SystemIds
from terminal_agent.sealed import Format, header_line, seal
from terminal_agent.sync import courier
from terminal_agent.sync.upload import ACKED_THROUGH
from tests.service.tills import Till

FUZZ = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def export(till: Till, after: int = 0) -> courier.Export:
    assert till.agent.credentials is not None
    return courier.export_queue(till.agent.journal, till.agent.credentials, till.agent.clock, till.agent.ids, after)


def acknowledge(till: Till, receipt: bytes) -> dict[str, int]:
    assert till.agent.credentials is not None
    return courier.acknowledge(till.agent.journal, till.agent.credentials, receipt)


def secret_of(till: Till) -> bytes:
    assert till.agent.credentials is not None
    return till.agent.credentials.secret


def waiting(till: Till) -> int:
    return till.agent.journal.events.count_waiting(0)


def balance(crm_dir: Path, card_no: str) -> int:
    assert admin.show_ledger(crm_dir)["sum"] == 0
    return int(admin.show_card(crm_dir, card_no)["balance"])


def refused(code: ErrorCode, action: Any, *given: Any) -> str:
    with pytest.raises(AgentError) as caught:
        action(*given)
    assert caught.value.code is code
    return caught.value.message


@pytest.fixture
def sold(tills: list[Till], card: MemoryImage) -> tuple[Till, str]:
    """A till with five sales that the CRM has not heard of, and the card's number: it holds 1 050 points then."""
    for number in range(1, 6):
        card_no = tills[0].buy(card, f"R-{number}", 100_000)["card_no"]
    return tills[0], card_no


def test_what_was_carried_is_booked_acknowledged_and_not_sent_again(sold: tuple[Till, str], crm_dir: Path) -> None:
    till, card_no = sold
    made = export(till)
    assert (made.events, made.left, waiting(till)) == (5, 0, 5), "an export changes nothing in the queue"
    taken = admin.import_events(crm_dir, made.content)
    assert (taken.to_json()["accepted"], balance(crm_dir, card_no)) == (5, 1_050)
    assert waiting(till) == 5, "nothing is acknowledged before the receipt came back"
    assert acknowledge(till, taken.receipt) == {"acknowledged": 5, "quarantined": 0, "unchanged": 0}
    report = till.agent.sync.exchange_now()
    assert report is not None
    assert (report.sent, waiting(till), balance(crm_dir, card_no)) == (0, 0, 1_050)


def test_on_foot_and_over_the_line_in_any_order_each_event_counts_once(sold: tuple[Till, str], crm_dir: Path) -> None:
    till, card_no = sold
    made = export(till)
    till.sync()
    first, again = admin.import_events(crm_dir, made.content), admin.import_events(crm_dir, made.content)
    assert [taken.to_json()["duplicate"] for taken in (first, again)] == [5, 5]
    assert balance(crm_dir, card_no) == 1_050
    assert acknowledge(till, first.receipt) == {"acknowledged": 0, "quarantined": 0, "unchanged": 5}


def test_what_was_sold_after_the_export_waits_on(tills: list[Till], sold: tuple[Till, str], crm_dir: Path) -> None:
    till, _card_no = sold
    made = export(till)
    till.issue()
    added = waiting(till) - 5
    assert added > 0
    receipt = admin.import_events(crm_dir, made.content).receipt
    for _ in range(2):
        acknowledge(till, receipt)
        assert waiting(till) == added


def test_events_of_every_install_epoch_and_those_in_quarantine_go_along(
    sold: tuple[Till, str], card: MemoryImage, crm_dir: Path
) -> None:
    till, card_no = sold
    journal = till.agent.journal
    first = journal.events.entries(None, 1)[0]
    with journal.transaction():
        journal.events.settle(first.event_id, OutboxState.QUARANTINED, "a gateway said no")
    journal.start_epoch("till-1")
    till.buy(card, "R-6", 100_000)
    made = export(till)
    assert made.events == 6
    acknowledge(till, admin.import_events(crm_dir, made.content).receipt)
    assert (waiting(till), balance(crm_dir, card_no)) == (0, 1_060)


def test_an_event_that_the_crm_rejects_is_quarantined_by_the_receipt(sold: tuple[Till, str], crm_dir: Path) -> None:
    till, _card_no = sold
    made = export(till)
    lines = sealed.open_sealed(made.content, Format.EXPORT).lines(secret_of(till))
    spoiled = {**json.loads(lines[2]), "source": "/terminals/another/epoch"}
    header = header_line(Format.EXPORT, "till-1", made.export_id, "2026-11-22T09:30:00Z")
    content = seal(
        secret_of(till), Format.EXPORT, header, [*lines[:2], json.dumps(spoiled).encode(), b"no event", *lines[3:]]
    )
    taken = admin.import_events(crm_dir, content)
    assert (taken.to_json()["accepted"], taken.to_json()["rejected"]) == (4, 2)
    assert acknowledge(till, taken.receipt) == {"acknowledged": 4, "quarantined": 1, "unchanged": 1}


def test_an_event_that_is_not_what_was_minted_stays_out(sold: tuple[Till, str]) -> None:
    till, _card_no = sold
    connection = till.agent.journal._database._connection
    connection.execute(
        "UPDATE events SET body = replace(body, '100000', '900000') WHERE sequence = (SELECT max(sequence) FROM events)"
    )
    spoiled = connection.execute("SELECT changes()").fetchone()[0]
    assert spoiled == 1
    assert export(till).events == 4


def test_a_queue_that_is_larger_than_a_file_goes_in_several(
    sold: tuple[Till, str], crm_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    till, card_no = sold
    whole = len(export(till).content)
    monkeypatch.setattr(courier, "MAX_FILE_BYTES", whole // 2)
    after, files = 0, 0
    while True:
        made = export(till, after)
        assert len(made.content) <= whole // 2
        acknowledge(till, admin.import_events(crm_dir, made.content).receipt)
        after, files = made.through, files + 1
        if not made.left:
            break
    assert files > 1
    assert (waiting(till), balance(crm_dir, card_no)) == (0, 1_050)


def test_no_secret_is_in_the_files(sold: tuple[Till, str], crm_dir: Path) -> None:
    till, _card_no = sold
    credentials = till.agent.credentials
    assert credentials is not None
    made = export(till)
    taken: TakenIn = admin.import_events(crm_dir, made.content)
    for content in (made.content, taken.receipt, repr(made).encode(), repr(taken).encode()):
        for canary in (credentials.token.encode(), credentials.secret, base64.b64encode(credentials.secret)):
            assert canary not in content
        assert credentials.secret.hex().encode() not in content


def test_what_another_terminal_wrote_or_is_meant_for_is_refused(
    tills: list[Till], sold: tuple[Till, str], crm_dir: Path
) -> None:
    till, other = tills
    made = export(till)
    receipt = admin.import_events(crm_dir, made.content).receipt
    assert "for terminal till-1" in refused(ErrorCode.FILE_INVALID, acknowledge, other, receipt)
    header = header_line(Format.EXPORT, "till-1", "e", "t")
    forged = seal(secret_of(other), Format.EXPORT, header, [b"{}"])
    assert "seal" in refused(ErrorCode.FILE_INVALID, admin.import_events, crm_dir, forged)


def test_a_terminal_that_is_not_known_or_was_revoked_is_refused(sold: tuple[Till, str], crm_dir: Path) -> None:
    till, _card_no = sold
    content = export(till).content
    stranger = seal(secret_of(till), Format.EXPORT, header_line(Format.EXPORT, "till-9", "e", "t"), [])
    assert "till-9" in refused(ErrorCode.NOT_FOUND, admin.import_events, crm_dir, stranger)
    with closing(open_store(crm_dir, SystemClock(), SystemIds())) as store, store.writing() as connection:
        connection.execute(terminals.update().values(revoked_at="2026-01-01T00:00:00Z"))
    assert "revoked" in refused(ErrorCode.FILE_INVALID, admin.import_events, crm_dir, content)


def test_a_file_of_another_kind_or_version_or_size_is_told_so(sold: tuple[Till, str], crm_dir: Path) -> None:
    till, _card_no = sold
    made = export(till)
    receipt = admin.import_events(crm_dir, made.content).receipt
    assert Format.EXPORT in refused(ErrorCode.FILE_INVALID, admin.import_events, crm_dir, receipt)
    assert Format.RECEIPT in refused(ErrorCode.FILE_INVALID, acknowledge, till, made.content)
    newer = made.content.replace(b'"version":1', b'"version":2', 1)
    assert "version 2" in refused(ErrorCode.FILE_INVALID, admin.import_events, crm_dir, newer)
    huge = made.content + bytes(sealed.MAX_FILE_BYTES)
    assert "larger" in refused(ErrorCode.FILE_INVALID, admin.import_events, crm_dir, huge)


def test_a_seal_stands_for_no_other_kind_of_file(sold: tuple[Till, str]) -> None:
    """Else who can have the CRM seal a receipt could have made himself an export, and the other way round."""
    secret, header = secret_of(sold[0]), header_line(Format.EXPORT, "till-1", "e", "t")
    assert seal(secret, Format.EXPORT, header, []) != seal(secret, Format.RECEIPT, header, [])


@FUZZ
@given(data=st.data())
def test_whatever_is_changed_on_the_way_nothing_of_it_is_believed(
    data: st.DataObject, sold: tuple[Till, str], crm_dir: Path
) -> None:
    till, card_no = sold
    content = export(till).content
    at = data.draw(st.integers(0, len(content) - 1))
    changed = data.draw(
        st.sampled_from(
            [
                content[:at],
                content[at:],
                content[:at] + bytes([content[at] ^ data.draw(st.integers(1, 255))]) + content[at + 1 :],
                content[:at] + data.draw(st.binary(min_size=1, max_size=9)) + content[at:],
                content[:at] + content[min(len(content), at + 7) :],
                content + content[at:],
                b"\n".join(sorted(content.split(b"\n"))),
            ]
        )
    )
    if changed != content:
        with pytest.raises(AgentError) as caught:
            admin.import_events(crm_dir, changed)
        assert caught.value.code in (ErrorCode.FILE_INVALID, ErrorCode.NOT_FOUND)
    assert balance(crm_dir, card_no) == 1_000


@FUZZ
@given(data=st.data())
def test_no_changed_receipt_takes_anything_out_of_the_queue(
    data: st.DataObject, sold: tuple[Till, str], crm_dir: Path
) -> None:
    till, _card_no = sold
    header = header_line(Format.RECEIPT, "till-1", export(till).export_id, "t", acked_through={"e": 9})
    entries = till.agent.journal.events.entries(None, 9)
    lines = [json.dumps({"id": entry.event_id, "status": "accepted"}).encode() for entry in entries]
    receipt = seal(b"not this terminal's secret, 32 by", Format.RECEIPT, header, lines)
    at = data.draw(st.integers(0, len(receipt) - 1))
    mixed = data.draw(st.sampled_from([receipt, receipt[:at], receipt[at:], receipt[:at] + b"\n" + receipt[at:]]))
    refused(ErrorCode.FILE_INVALID, acknowledge, till, mixed)
    assert waiting(till) == 5


@given(st.binary(max_size=300))
def test_no_bytes_at_all_are_more_than_refused(content: bytes) -> None:
    with pytest.raises(AgentError) as caught:
        sealed.open_sealed(content, Format.EXPORT)
    assert caught.value.code is ErrorCode.FILE_INVALID


def test_a_crm_that_loses_what_was_carried_gets_it_over_the_line(sold: tuple[Till, str], crm_dir: Path) -> None:
    """It was put back between the receipt and the next exchange, and never told a higher number over the line."""
    till, _card_no = sold
    acknowledge(till, admin.import_events(crm_dir, export(till).content).receipt)
    journal = till.agent.journal
    told = int(journal.meta(ACKED_THROUGH + journal.events.install_epoch) or 0)
    assert told == journal.events.last_sequence()


def test_a_receipt_of_before_the_crm_was_put_back_acknowledges_nothing(
    sold: tuple[Till, str], card: MemoryImage, crm_dir: Path
) -> None:
    till, _card_no = sold
    receipt = admin.import_events(crm_dir, export(till).content).receipt
    journal = till.agent.journal
    with journal.transaction():  # as if the CRM had said more than it says now
        journal.set_meta(ACKED_THROUGH + journal.events.install_epoch, "999")
    till.sync()
    assert "before the CRM was put back" in refused(ErrorCode.FILE_INVALID, acknowledge, till, receipt)
