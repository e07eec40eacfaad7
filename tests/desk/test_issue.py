"""Issuing: every card ends up whole, with one number, one enrolment and one event, however often it was torn away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from drivers.base import ClassicConnection
from drivers.errors import CardRemoved, ReaderLost
from drivers.mifare_classic import (
    TRANSPORT_KEY,
    TRANSPORT_TRAILER,
    AccessBits,
    KeyType,
    SectorTrailer,
    is_trailer,
    trailer_of,
)
from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.card.layout import HOMES, CardState
from terminal_agent.contract import EventType
from terminal_agent.desk import inspect
from terminal_agent.desk.issue import IssueRequest, issue, issue_order
from terminal_agent.desk.rekey import rekey
from terminal_agent.errors import AgentError, ErrorCode
from tests.card.independent_reader import read_card
from tests.till.support import tap_elsewhere
from tests.workbench import (
    MASTER_KEY,
    UID,
    UID_7,
    RecordingConnection,
    Workbench,
    blank,
    block_of,
    copy_of,
    flip,
    lay,
    operations_of,
)

PHONE = "09125554433"


def every_fault(operations: list[tuple[str, int]]) -> Iterator[tuple[Fault, int]]:
    """The card leaves at each operation; a write is cut short in each of three ways. With the block it concerns."""
    for number, (action, block) in enumerate(operations, 1):
        for outcome in Torn if action == "write" else [Torn.OLD]:
            yield Fault(number, outcome), block


def uid_of_try(number: int) -> bytes:
    return b"\x10\x20" + number.to_bytes(2, "big")


def verify(bench: Workbench, card: MemoryImage) -> dict[str, Any]:
    with lay(card) as connection:
        return inspect.verify(bench.terminal, connection)


def issue_operations(bench: Workbench) -> list[tuple[str, int]]:
    request = IssueRequest("09000000000")
    return operations_of(lambda c: issue(bench.terminal, c, request), blank(b"\x7f\x01\x02\x03"))


def events_of(bench: Workbench, card_no: str) -> list[str]:
    return [e["type"] for e in bench.events() if e["subject"] == f"cards/{card_no}"]


@pytest.mark.parametrize("uid", [UID, UID_7])
def test_an_issued_card_verifies_and_carries_what_was_answered(bench: Workbench, uid: bytes) -> None:
    card = blank(uid)
    answer = bench.encode(card, phone=PHONE, name="Sara", tier="gold")
    assert verify(bench, card)["findings"] == []
    read = read_card(bytes(card.content), MASTER_KEY)
    assert read.identity == {"key_set_version": 1, "programme": 0, "card_no": answer["card_no"]}
    assert answer["uid"] == uid.hex()
    assert (answer["points"], answer["sequence"], answer["key_set_version"]) == (0, 1, 1)
    assert bench.slots(card) == [CardState(0, 0), CardState(1, 0)]
    assert [(e["sequence"], e["kind"]) for e in read.history] == [(1, 0)]
    assert block_of(card, 0) == block_of(blank(uid), 0)


def test_no_sector_keeps_a_key_anybody_knows(bench: Workbench) -> None:
    card = bench.issue()
    for sector in range(16):
        trailer = block_of(card, trailer_of(sector))
        assert TRANSPORT_KEY not in (trailer[:6], trailer[10:])


def test_a_member_is_enrolled_once_and_every_card_of_theirs_is_issued(bench: Workbench) -> None:
    first = bench.encode(blank(), phone=PHONE, name="Sara")
    second = bench.encode(blank(UID_7), phone="+98 912 555 4433")
    assert first["member_id"] == second["member_id"]
    assert first["card_no"] != second["card_no"]
    assert [e["type"] for e in bench.events()] == ["member.enrolled", "card.issued", "card.issued"]


def test_the_live_sector_is_encoded_last(bench: Workbench) -> None:
    written = [block for action, block in issue_operations(bench) if action == "write" and is_trailer(block)]
    assert written == [trailer_of(sector) for sector in issue_order(HOMES[0])]
    assert tuple(issue_order(home)[-1] for home in HOMES) == (1, 7)


def test_an_issue_cut_short_anywhere_is_finished_by_running_it_again(bench: Workbench) -> None:
    operations = issue_operations(bench)
    live_trailer = operations.index(("write", trailer_of(1)))
    assert len(operations) > 100
    for number, (fault, block) in enumerate(every_fault(operations)):
        uid, phone = uid_of_try(number), f"0912{number:07d}"
        if is_trailer(block) and fault.outcome is Torn.GARBAGE:
            continue
        card = blank(uid)
        with pytest.raises(CardRemoved):
            bench.encode(card, fault, phone=phone)
        bench.clock.advance(hours=1)
        taken = fault.call > live_trailer + 1 or (fault.call == live_trailer + 1 and fault.outcome is Torn.NEW)
        assert counts_as_blank(bench, card) != taken, fault
        answer = bench.encode(card, phone=phone)
        assert verify(bench, card)["findings"] == [], fault
        assert events_of(bench, answer["card_no"]) == ["card.issued"], fault
        enrolled = [e for e in bench.events(EventType.MEMBER_ENROLLED) if e["data"]["member"]["phone"] == phone]
        assert len(enrolled) == 1, fault
        assert [r["card_no"] for r in bench.rows("SELECT * FROM cards WHERE uid = ?", uid.hex())] == [answer["card_no"]]
    assert bench.rows("SELECT * FROM intents WHERE state = 'open'") == []
    assert bench.journal.events.broken_link() is None


def test_an_issue_under_a_set_that_lives_in_the_other_home_is_finished_too(bench: Workbench) -> None:
    bench.keys.add(bytes(range(16)), 2, activate=True)
    homes = {home.sector for home in HOMES}
    tried = 0
    for number, (fault, block) in enumerate(every_fault(issue_operations(bench))):
        if block // 4 not in homes or (is_trailer(block) and fault.outcome is Torn.GARBAGE):
            continue
        card, phone = blank(uid_of_try(number)), f"0912{number:07d}"
        with pytest.raises(CardRemoved):
            bench.encode(card, fault, phone=phone)
        answer = bench.encode(card, phone=phone)
        assert (verify(bench, card)["findings"], bench.home(card)) == ([], HOMES[1]), fault
        assert events_of(bench, answer["card_no"]) == ["card.issued"], fault
        tried += 1
    assert tried > 25


def counts_as_blank(bench: Workbench, card: MemoryImage) -> bool:
    with lay(card) as connection:
        try:
            inspect.show(bench.terminal, connection)
        except AgentError as error:
            return error.code is ErrorCode.BLANK_CARD
    return False


class Glitch(RecordingConnection):
    """Refuses the right key the first few times, as a card that lies badly may."""

    def __init__(self, inner: ClassicConnection, times: int) -> None:
        super().__init__(inner)
        self._left = times

    def authenticate(self, block: int, key_type: KeyType, key: bytes) -> None:
        if self._left:
            self._left -= 1
            key = bytes(6)
        super().authenticate(block, key_type, key)


@pytest.mark.parametrize("refusals", [1, 2, 3, 4])
def test_a_card_tapped_elsewhere_before_its_issue_is_finished_keeps_its_points_however_it_answers(
    bench: Workbench, tmp_path: Path, refusals: int
) -> None:
    """Looked at with a refusal it seems blank; what it holds must not be taken for a run that was cut short."""
    operations = issue_operations(bench)
    card = blank()
    with pytest.raises(CardRemoved):
        bench.encode(card, Fault(operations.index(("write", trailer_of(1))) + 1, Torn.NEW), phone=PHONE)
    tap_elsewhere(bench, card, tmp_path, 500_000)
    with suppress(AgentError, CardRemoved), Glitch(lay(card), refusals) as connection:
        issue(bench.terminal, connection, IssueRequest(PHONE))
    assert bench.state(card) == CardState(2, 50)
    assert bench.encode(card, phone=PHONE)["points"] == 50
    assert verify(bench, card)["findings"] == []


def test_a_trailer_torn_into_garbage_names_its_sector(bench: Workbench) -> None:
    torn = [(f, block) for f, block in every_fault(issue_operations(bench)) if is_trailer(block)]
    ruined = [(f, block // 4) for f, block in torn if f.outcome is Torn.GARBAGE]
    assert len(ruined) == 16
    for number, (fault, sector) in enumerate(ruined):
        card = blank(uid_of_try(number))
        with pytest.raises(CardRemoved):
            bench.encode(card, fault, phone=PHONE)
        for _ in range(2):
            with pytest.raises(AgentError, match=rf"sector {sector} ") as caught:
                bench.encode(card, phone=PHONE)
            assert caught.value.code is ErrorCode.DATA_CORRUPT
    assert [e for e in bench.events() if e["subject"].startswith("cards/") and e["data"].get("uid") != "7f010203"] == []


@pytest.mark.parametrize("outcome", Torn)
def test_the_process_may_die_between_two_tries(bench: Workbench, outcome: Torn) -> None:
    card = blank()
    with pytest.raises(CardRemoved):
        bench.encode(card, Fault(issue_operations(bench).index(("write", 5)) + 1, outcome), phone=PHONE)
    (begun,) = bench.rows("SELECT card_no FROM intents WHERE uid = ?", UID.hex())
    bench.restart()
    assert bench.encode(card, phone=PHONE)["card_no"] == begun["card_no"]


def test_a_new_active_key_set_does_not_split_a_card_half_done(bench: Workbench) -> None:
    card = blank()
    with pytest.raises(CardRemoved):
        bench.encode(card, Fault(60, Torn.NEW), phone=PHONE)
    bench.keys.add(bytes(range(16)), 2, activate=True)
    assert bench.encode(card, phone=PHONE)["key_set_version"] == 1
    assert verify(bench, card)["ok"]


def test_a_card_finished_on_the_card_but_not_on_disk_is_settled_by_its_first_tap(bench: Workbench) -> None:
    card = blank()
    last = len(issue_operations(bench))
    with pytest.raises(CardRemoved):
        bench.encode(card, Fault(last), phone=PHONE)
    answer = bench.purchase(card, "R-1", 50_000)
    assert answer["points_after"] == 5
    assert events_of(bench, answer["card_no"]) == ["card.issued", "purchase.recorded"]
    with pytest.raises(AgentError) as caught:
        bench.encode(card, phone=PHONE)
    assert caught.value.code is ErrorCode.ALREADY_ISSUED


def test_a_torn_card_taken_for_another_person_carries_only_the_other_s_name(bench: Workbench) -> None:
    card = blank()
    with pytest.raises(CardRemoved):
        bench.encode(card, Fault(40, Torn.NEW), phone=PHONE)
    answer = bench.encode(card, phone="09120000001")
    (enrolled,) = bench.events(EventType.MEMBER_ENROLLED)
    (issued,) = bench.events(EventType.CARD_ISSUED)
    assert enrolled["data"]["member"]["phone"] == "09120000001"
    assert issued["data"]["member_id"] == answer["member_id"] == enrolled["data"]["member"]["member_id"]
    assert verify(bench, card)["ok"]
    assert bench.rows("SELECT * FROM intents WHERE state = 'open'") == []


def test_a_card_encoded_to_the_end_is_not_given_to_another_person(bench: Workbench) -> None:
    card = blank()
    with pytest.raises(CardRemoved):
        bench.encode(card, Fault(len(issue_operations(bench))), phone=PHONE)
    with pytest.raises(AgentError) as caught:
        bench.encode(card, phone="09120000001")
    assert caught.value.code is ErrorCode.ALREADY_ISSUED


def test_an_issued_card_is_not_issued_again(bench: Workbench) -> None:
    card = bench.issue(points=7)
    before = bytes(copy_of(card).content)
    with pytest.raises(AgentError) as caught:
        bench.encode(card, phone=PHONE)
    assert caught.value.code is ErrorCode.ALREADY_ISSUED
    assert caught.value.details["card_no"] in caught.value.message
    assert bytes(card.content) == before
    assert bench.rows("SELECT * FROM intents WHERE state = 'open'") == []


def test_a_card_of_somebody_else_is_not_touched(bench: Workbench) -> None:
    card = blank()
    for sector in range(16):
        flip(card, trailer_of(sector))
    before = bytes(copy_of(card).content)
    with pytest.raises(AgentError) as caught:
        bench.encode(card)
    assert caught.value.code is ErrorCode.NOT_OUR_CARD
    assert bytes(card.content) == before


class Forgetful(RecordingConnection):
    """A card that says yes to a write of one block and keeps nothing."""

    def __init__(self, card: MemoryImage, block: int) -> None:
        super().__init__(lay(card))
        self._block = block

    def write_block(self, block: int, data: bytes) -> None:
        if block != self._block:
            super().write_block(block, data)


@pytest.mark.parametrize("block", [4, 5, 6, 9, 3, 7, 63])
def test_a_block_that_keeps_nothing_is_found_while_issuing(bench: Workbench, block: int) -> None:
    with pytest.raises(AgentError) as caught:
        issue(bench.terminal, Forgetful(blank(), block), IssueRequest())
    assert caught.value.code is ErrorCode.DATA_CORRUPT
    assert bench.events() == []


def test_a_reader_lost_while_issuing_is_not_held_against_the_card(bench: Workbench) -> None:
    for number in range(1, len(issue_operations(bench)) + 1, 7):
        connection = RecordingConnection(lay(blank(number.to_bytes(4, "big"))), number, ReaderLost("unplugged"))
        with pytest.raises(ReaderLost):
            issue(bench.terminal, connection, IssueRequest())


def test_leftover_data_on_a_blank_card_is_overwritten(bench: Workbench) -> None:
    card = blank()
    card.write(4, bytes(range(16)))
    card.write(61, bytes(range(16)))
    bench.encode(card)
    assert verify(bench, card)["ok"]


@pytest.mark.parametrize("who", [{"phone": "not a phone"}, {"name": ""}, {"name": "x" * 101}, {"tier": " "}])
def test_a_request_that_makes_no_sense_is_refused_before_the_card_is_touched(who: dict[str, str]) -> None:
    with pytest.raises(AgentError) as caught:
        IssueRequest(**who)
    assert caught.value.code is ErrorCode.INVALID_INPUT


def test_a_blank_card_is_in_the_maker_s_state() -> None:
    assert block_of(blank(), 7) == TRANSPORT_TRAILER.encode()


def test_a_card_settled_by_its_first_tap_keeps_its_member(bench: Workbench) -> None:
    card = blank()
    with pytest.raises(CardRemoved):
        bench.encode(card, Fault(len(issue_operations(bench))), phone=PHONE)
    card_no = bench.purchase(card, "R-1", 50_000)["card_no"]
    (member,) = bench.rows("SELECT * FROM members WHERE phone = ?", PHONE)
    (known,) = bench.rows("SELECT * FROM cards WHERE card_no = ?", card_no)
    assert known["member_id"] == member["member_id"]
    enrolled = len(bench.events(EventType.MEMBER_ENROLLED))
    bench.encode(blank(UID_7), phone=PHONE)
    assert len(bench.events(EventType.MEMBER_ENROLLED)) == enrolled


def test_finishing_an_issue_takes_no_points_off_a_card_that_was_tapped_elsewhere(
    bench: Workbench, tmp_path: Path
) -> None:
    card = blank()
    with pytest.raises(CardRemoved):
        bench.encode(card, Fault(len(issue_operations(bench))), phone=PHONE)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shop = Workbench(folder, terminal_id="shop-2")
    shop.purchase(card, "S-1", 50_000)
    shop.close()
    answer = bench.encode(card, phone=PHONE)
    assert (answer["points"], answer["sequence"]) == (5, 2)
    assert bench.state(card).balance == 5


@pytest.mark.parametrize("sector", [0, 1, 9, 15])
@pytest.mark.parametrize("plant", ["keys", "access bits"])
def test_a_card_with_a_sector_of_somebody_else_is_left_as_it_was(bench: Workbench, sector: int, plant: str) -> None:
    card = blank()
    foreign = (
        SectorTrailer(b"\xa0" * 6, AccessBits((0, 0, 0, 0b001)), b"\xb0" * 6)
        if plant == "keys"
        else SectorTrailer(TRANSPORT_KEY, AccessBits((0b111, 0, 0, 0b011)), TRANSPORT_KEY)
    )
    card.write(trailer_of(sector), foreign.encode())
    before = bytes(card.content)
    with pytest.raises(AgentError) as caught:
        bench.encode(card)
    assert caught.value.code is ErrorCode.NOT_OUR_CARD
    assert bytes(card.content) == before
    assert bench.rows("SELECT * FROM intents") == []


@pytest.mark.parametrize("text", ["\udcd8", "a\nb", "\x1b[31m", "\u202ereversed"])
@pytest.mark.parametrize("field", ["name", "tier"])
def test_text_nobody_can_read_is_refused_before_the_card_is_touched(bench: Workbench, field: str, text: str) -> None:
    card = blank()
    with pytest.raises(AgentError) as caught:
        bench.encode(card, None, **{field: text})
    assert caught.value.code is ErrorCode.INVALID_INPUT
    assert bytes(card.content) == bytes(blank().content)


def test_finishing_an_issue_never_encodes_a_card_that_was_re_keyed_elsewhere(bench: Workbench, tmp_path: Path) -> None:
    card = blank()
    with pytest.raises(CardRemoved):
        bench.encode(card, Fault(len(issue_operations(bench))), phone=PHONE)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shop = Workbench(folder, terminal_id="shop-2")
    shop.purchase(card, "S-1", 50_000)
    shop.keys.add(bytes(range(16)), 2, activate=True)
    with lay(card) as connection:
        rekey(shop.terminal, connection)
    shop.close()
    before = bytes(card.content)
    with pytest.raises(AgentError):
        bench.encode(card, phone=PHONE)
    assert bytes(card.content) == before, "a card under keys that are not here"
    bench.keys.add(bytes(range(16)), 2, activate=True)
    answer = bench.encode(card, phone=PHONE)
    assert (answer["points"], answer["sequence"]) == (5, 2)
    assert bytes(card.content) == before


def test_a_card_is_not_blank_because_its_empty_home_was_unlocked(bench: Workbench) -> None:
    card = bench.issue(points=5)
    bench.keys.add(bytes(range(16)), 2, activate=True)
    for sector in (7, 0):
        card.write(trailer_of(sector), TRANSPORT_TRAILER.encode())
    before = bytes(card.content)
    with pytest.raises(AgentError) as caught:
        bench.encode(card, phone=PHONE)
    assert caught.value.code is ErrorCode.ALREADY_ISSUED
    assert bytes(card.content) == before
