"""A member's rights, at two tills and a real CRM: consent, everything held of them, and erasing it from every file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from drivers.errors import CardRemoved
from drivers.mifare_classic import blank_card
from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.crm import admin, admin_club, allowance
from terminal_agent.desk import inspect
from terminal_agent.desk.issue import IssueRequest, issue
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.till import TillRequest
from terminal_agent.service import members
from terminal_agent.service.agent import Agent
from terminal_agent.service.operations import OPERATIONS
from terminal_agent.sync.adapters.base import CrmRefused, CrmUnreachable
from terminal_agent.sync.adapters.native import NativeCrm
from tests.service.tills import Till
from tests.workbench import UID, UID_7, blank, lay

PHONE, NAME = "09125554433", "Canary Shirazi"
CANARIES = (b"9125554433", b"Canary")


def quiet(_text: str) -> None:
    pass


def ask(till: Till, operation: str, **params: Any) -> Any:
    return OPERATIONS[operation](till.agent, params, quiet)


def issue_to_canary(till: Till, uid: bytes = UID_7) -> MemoryImage:
    image = blank(uid)
    with lay(image) as connection:
        issue(till.agent.terminal, connection, IssueRequest(PHONE, NAME))
    return image


def member_of(till: Till) -> str:
    found = till.agent.journal.knowledge.member_by_phone(PHONE)
    assert found is not None
    return found.member_id


def card_no_of(till: Till, image: MemoryImage) -> str:
    with lay(image) as connection:
        shown = inspect.show(till.agent.terminal, connection)
    return str(shown["card_no"])


def salts_of(*agents: Agent) -> tuple[bytes, ...]:
    """Of every enrolment that was minted."""
    asked = "SELECT body FROM events WHERE type = 'member.enrolled'"
    bodies = [row["body"] for agent in agents for row in agent.journal._database.query(asked)]
    return tuple(json.loads(body)["data"]["member"]["salt"].encode() for body in bodies)


def files_with_canaries(*folders: Path, canaries: tuple[bytes, ...] = CANARIES) -> Iterator[str]:
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and any(canary in path.read_bytes() for canary in canaries):
                yield path.name


def answer_to_pos(till: Till, card: MemoryImage) -> None:
    """What POS software was told of the sale is kept, so that it can be told again."""
    member = {"first_name": NAME, "tier": "gold"}
    told = {"card_no": card_no_of(till, card), "member": member, "state": "done"}
    with till.agent.journal.transaction():
        request = TillRequest("pos", "key-1", "f", "checkout-1", {"state": "waiting_for_card"}, told, {}, True, "2027")
        till.agent.journal.till.add_request(request)


@pytest.fixture
def folders(tmp_path: Path, crm_dir: Path) -> list[Path]:
    return [crm_dir, tmp_path / "till-1", tmp_path / "till-2"]


@pytest.fixture
def club(tills: list[Till]) -> MemoryImage:
    """Canary's card, with points, heard of by both tills and the CRM."""
    card = issue_to_canary(tills[0])
    tills[0].buy(card, "R-1", 1_000_000)
    for till in tills:
        till.sync()
    return card


def test_what_a_member_agrees_to_is_kept_with_the_line_down_and_told_later(
    tills: list[Till], club: MemoryImage
) -> None:
    till = tills[0]
    said = ask(till, "member.consent", phone=PHONE, purpose="marketing", given=True, text_version="v2")
    ask(till, "member.consent", phone=PHONE, purpose="sms", given=True)
    ask(till, "member.consent", phone="+98 912 555 4433", purpose="sms", given=False)
    assert (said["member_id"], said["given"], said["text_version"]) == (member_of(till), True, "v2")
    till.sync()
    crm = ask(till, "member.export", phone=PHONE)["crm"]
    told = [(row["purpose"], row["given"], row["text_version"], row["terminal_id"]) for row in crm["consents"]]
    assert told == [("marketing", True, "v2", "till-1"), ("sms", True, None, "till-1"), ("sms", False, None, "till-1")]


def test_a_purpose_the_crm_could_not_take_is_refused_before_it_is_recorded(
    tills: list[Till], club: MemoryImage
) -> None:
    with pytest.raises(AgentError) as refused:
        ask(tills[0], "member.consent", phone=PHONE, purpose="بازاریابی", given=True)
    assert refused.value.code is ErrorCode.INVALID_INPUT


def test_an_export_holds_everything_of_the_member_and_nothing_of_others(tills: list[Till], club: MemoryImage) -> None:
    other = tills[0].issue()
    tills[0].buy(other, "R-2", 500_000)
    card_no = card_no_of(tills[0], club)
    document = ask(tills[0], "member.export", phone=PHONE)
    crm, [held] = document["crm"], document["terminal"]
    assert document["member_id"] == crm["member_id"] == member_of(tills[0])
    assert (crm["profile"]["name"], crm["profile"]["phone"]) == (NAME, PHONE)
    assert [card["card_no"] for card in crm["cards"]] == [card_no]
    assert [line["what"] for line in crm["cards"][0]["history"]] == ["issued"]
    assert [event["type"] for event in crm["events"]] == ["member.enrolled", "card.issued", "purchase.recorded"]
    assert [(line["kind"], line["points"]) for line in crm["ledger"]] == [("purchase.recorded", 100)]
    assert held["member"]["name"] == NAME
    assert [event["type"] for event in held["events"]] == ["member.enrolled", "card.issued", "purchase.recorded"]
    assert [checkout["receipt_no"] for checkout in held["checkouts"]] == ["R-1"]
    assert card_no_of(tills[0], other) not in json.dumps(document)


def test_nobody_is_exported_or_erased_for_a_phone_nobody_has(tills: list[Till]) -> None:
    for operation in ("member.export", "member.erase"):
        with pytest.raises(AgentError) as refused:
            ask(tills[0], operation, phone="09120000000")
        assert refused.value.code is ErrorCode.NOT_FOUND


def test_an_erased_member_is_in_no_file_of_the_crm_and_the_tills(
    tills: list[Till], club: MemoryImage, folders: list[Path], crm_dir: Path
) -> None:
    with lay(blank(), Fault(40, Torn.OLD)) as connection, suppress(AgentError, CardRemoved):  # an issue left open
        issue(tills[1].agent.terminal, connection, IssueRequest(PHONE, NAME))
    answer_to_pos(tills[0], club)
    tills[0].agent.journal._database.shrink_log()
    tills[0].agent.journal.keep_house()  # a daily copy
    salts = salts_of(*(till.agent for till in tills))
    found = set(files_with_canaries(*folders))
    assert found >= {"crm.sqlite3", "journal.sqlite3", "journal.sqlite3-wal"}
    assert any(name.startswith("journal-") for name in found)
    answer = ask(tills[0], "member.erase", phone=PHONE)
    assert answer["card_nos"] == [card_no_of(tills[0], club)]
    for till in tills:
        till.sync()
        assert till.agent.journal.events.broken_link() is None
        assert till.agent.journal.integrity_problems() == []
    assert list(files_with_canaries(*folders)) == []
    assert salts, "without them nobody tells a phone by what is left of an event"
    assert list(files_with_canaries(*folders, canaries=salts)) == []
    kept = tills[0].agent.journal.till.request("pos", "key-1")
    assert kept is not None
    assert (kept.document["member"], kept.document["state"]) == (None, "done")
    ledger = admin.show_ledger(crm_dir)
    assert ledger["sum"] == 0
    assert {row["account"]: row["balance"] for row in ledger["accounts"]} == {
        f"card:{answer['card_nos'][0]}": 100,
        "programme:issued": -100,
    }


def test_an_erasure_of_what_is_not_told_yet_counts_the_enrolment_once(tills: list[Till], crm_dir: Path) -> None:
    """The acknowledgement was lost, the member is erased, and the enrolment is sent again without the person."""
    till = tills[0]
    card = issue_to_canary(till)
    till.sync()
    member_id = member_of(till)
    with till.agent.journal.transaction():  # as when the answer never came
        till.agent.journal.events._database.execute("UPDATE outbox SET state = 'pending'")
    till.agent.journal.erase_member(member_id, {card_no_of(till, card)})
    report = till.agent.sync.exchange_now()
    assert report is not None
    assert (report.duplicate, report.accepted, report.forked, report.rejected) == (2, 0, 0, 0)


def test_an_enrolment_that_was_never_told_goes_up_without_the_person(tills: list[Till], crm_dir: Path) -> None:
    till = tills[0]
    card = issue_to_canary(till)
    till.agent.journal.erase_member(member_of(till), {card_no_of(till, card)})
    report = till.agent.sync.exchange_now()
    assert report is not None
    assert (report.accepted, report.rejected) == (2, 0)
    assert list(files_with_canaries(crm_dir)) == []


def test_who_tells_again_who_an_erased_member_was_is_not_believed(tills: list[Till], crm_dir: Path) -> None:
    """A till put back to an older disk sends the enrolment as it was: known, and kept without the person."""
    first, second = tills
    issue_to_canary(first)
    first.sync()
    bodies = [entry.body for entry in first.agent.journal.events.next_batch(9, 10**6)]
    assert bodies == []
    told = [json.dumps(event) for event in ask(first, "member.export", phone=PHONE)["crm"]["events"]]
    ask(second, "member.erase", phone=PHONE)
    client = first.agent.open_crm()
    assert client is not None
    assert [result["status"] for result in client.post_events(told)["results"]] == ["duplicate", "duplicate"]
    assert list(files_with_canaries(crm_dir)) == []


def test_an_erased_members_card_is_blanked_at_its_next_tap_anywhere(
    tills: list[Till], club: MemoryImage, tmp_path: Path
) -> None:
    ask(tills[0], "member.erase", phone=PHONE)
    tills[1].sync()
    card = tmp_path / "card.mfd"
    card.write_bytes(club.content)
    reader = {"reader": f"sim:{card}", "wait_s": 0}
    assert ask(tills[1], "card.show", **reader)["problem"] == "card_erased"
    with pytest.raises(AgentError) as refused:
        ask(tills[1], "purchase", receipt_no="R-9", amount=1_000_000, **reader)
    assert refused.value.code is ErrorCode.CARD_ERASED
    with pytest.raises(AgentError) as refused:
        ask(tills[1], "purchase", receipt_no="R-9", amount=1_000_000, **reader)
    assert refused.value.code is ErrorCode.BLANK_CARD
    assert ask(tills[1], "card.issue", **reader)["points"] == 0


def test_an_erasure_is_written_down_at_the_crm_without_the_person(
    tills: list[Till], club: MemoryImage, crm_dir: Path
) -> None:
    member_id = member_of(tills[0])
    ask(tills[0], "member.erase", phone=PHONE)
    card_no = card_no_of(tills[0], club)
    shown = admin.show_card(crm_dir, card_no)
    assert shown["status"] == "retired"
    assert [line["what"] for line in shown["history"]] == ["issued", "erased"]
    [line] = [
        line for line in admin_club.show_audit(crm_dir, member_id, 10)["entries"] if line["action"] == "member.erased"
    ]
    assert (line["who"], line["subject"]) == ("terminal:till-1", member_id)


def test_a_till_without_a_crm_exports_and_erases_what_it_holds_itself(tmp_path: Path) -> None:
    from terminal_agent.service.agent import Agent
    from terminal_agent.service.initialise import initialise
    from terminal_agent.service.settings import load_settings

    config = tmp_path / "alone.toml"
    initialise(config, {"data_dir": str(tmp_path / "alone"), "terminal_id": "alone"}, force=False)
    agent = Agent(load_settings(config), config)
    with lay(blank()) as connection:
        issue(agent.terminal, connection, IssueRequest(PHONE, NAME))
    assert members.export(agent, {"phone": PHONE}, quiet)["crm"] is None
    assert len(members.erase(agent, {"phone": PHONE}, quiet)["card_nos"]) == 1
    assert list(files_with_canaries(tmp_path)) == []
    agent.close()


def test_a_card_taken_away_while_it_was_blanked_is_finished_at_the_next_tap(
    tills: list[Till], club: MemoryImage, tmp_path: Path
) -> None:
    till = tills[0]
    ask(till, "member.erase", phone=PHONE)
    with lay(club, Fault(12, Torn.OLD)) as connection, suppress(CardRemoved):
        inspect.wipe(till.agent.terminal, connection)
    card = tmp_path / "card.mfd"
    card.write_bytes(club.content)
    with pytest.raises(AgentError) as refused:
        ask(till, "purchase", receipt_no="R-9", amount=1_000_000, reader=f"sim:{card}", wait_s=0)
    assert refused.value.code is ErrorCode.CARD_ERASED
    assert card.read_bytes() == bytes(blank_card(UID_7))


def test_a_card_issued_before_the_erasure_and_told_after_it_is_retired_too(
    tills: list[Till], club: MemoryImage, crm_dir: Path
) -> None:
    late = issue_to_canary(tills[1], UID)  # till-2 knows the member: no new enrolment
    card_no = card_no_of(tills[1], late)
    ask(tills[0], "member.erase", phone=PHONE)
    tills[1].sync()
    assert admin.show_card(crm_dir, card_no)["status"] == "retired"
    tills[0].sync()
    assert tills[0].agent.journal.knowledge.is_erased(card_no)


def read_on(client: NativeCrm) -> None:
    """Lookups come back while the others are answered, but not that fast."""
    for _ in range(2 * allowance.AT_ONCE):
        client.get_member(PHONE)


def test_a_till_that_reads_the_whole_club_is_told_to_wait(tills: list[Till], club: MemoryImage) -> None:
    client = tills[0].agent.open_crm()
    assert client is not None
    with pytest.raises(CrmUnreachable) as refused:
        read_on(client)
    assert refused.value.retry_after_s == pytest.approx(1 / allowance.PER_SECOND, abs=1)
    other = tills[1].agent.open_crm()
    assert other is not None
    assert other.get_member(PHONE)["name"] == NAME


def test_a_member_is_erased_at_the_crm_whatever_an_old_answer_says_of_their_phone(
    tills: list[Till], crm_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refusals are not signed: a cache on the way may tell "nobody has this phone" again."""

    def nobody(*_: Any) -> Any:
        raise CrmRefused(404, "not_found", "nobody", {}, signed=False)

    issue_to_canary(tills[0])
    monkeypatch.setattr(NativeCrm, "get_member", nobody)
    ask(tills[0], "member.erase", phone=PHONE)
    assert list(files_with_canaries(crm_dir)) == []
