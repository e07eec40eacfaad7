"""Re-keying torn at every operation: the card is never lost, its points are exact, and running it again finishes it."""

from __future__ import annotations

import pytest

from drivers.errors import CardRemoved
from drivers.mifare_classic import MAD_KEY_A, KeyType, is_trailer, trailer_of
from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.card.layout import (
    HISTORY_BLOCKS,
    HOMES,
    home_of,
)
from terminal_agent.desk.issue import IssueRequest, issue
from terminal_agent.desk.rekey import MOST_REFUSALS, is_due, rekey
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.database import JournalFailed
from terminal_agent.taps import present
from tests.card.independent_reader import read_card
from tests.desk.rekeying import MASTERS, show, tap_rekey, use, verify
from tests.workbench import (
    UID_7,
    Workbench,
    blank,
    block_of,
    copy_of,
    flip,
    full_disk_once,
    lay,
    operations_of,
)

# --- one card, re-keyed in one go


@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 3), (1, 3), (3, 1)])
@pytest.mark.parametrize("uid", [None, UID_7])
def test_a_rekeyed_card_is_the_same_card_under_the_new_keys_alone(
    bench: Workbench, uid: bytes | None, old: int, new: int
) -> None:
    use(bench, old)
    card = bench.issue(*([uid] if uid else []), phone="09125554433", points=300)
    for number in range(5):
        bench.purchase(card, f"R-{number}", 20_000 * number + 1, redeem=number)
    before, slots = show(bench, card), bench.slots(card)
    use(bench, new)
    answer = tap_rekey(bench, card)
    assert answer == {
        "uid": before["uid"],
        "card_no": before["card_no"],
        "sequence": before["sequence"],
        "points": before["points"],
        "key_set_version": new,
        "previous_key_set_version": old,
        "rekeyed": True,
        "warnings": [],
    }
    assert show(bench, card) == {**before, "key_set_version": new}
    assert bench.slots(card) == slots
    assert verify(bench, card) == []
    only_new = read_card(bytes(card.content), MASTERS[new])
    assert (only_new.home, only_new.foreign_trailers, only_new.free_blocks_in_use) == (home_of(new).sector, [], [])
    assert [entry["sequence"] for entry in only_new.history] == [line["sequence"] for line in before["history"]]
    assert len(read_card(bytes(card.content), MASTERS[old]).foreign_trailers) == 16
    bench.purchase(card, "R-last", 50_000)
    bench.check_books(card)


@pytest.mark.parametrize(("old", "new"), [(1, 2), (1, 3)])
def test_after_re_keying_a_tap_costs_one_authentication_again(bench: Workbench, old: int, new: int) -> None:
    use(bench, old)
    card = bench.issue(points=3)
    use(bench, new)
    assert operations_of(lambda c: present(bench.terminal, c), card)[:2] == [
        ("authenticate", home_of(new).identity_block),
        ("authenticate", home_of(old).identity_block),
    ]
    tap_rekey(bench, card)
    home = home_of(new)
    assert operations_of(lambda c: present(bench.terminal, c), card) == [
        ("authenticate", home.identity_block),
        *(("read", block) for block in home.blocks),
    ]


def test_a_card_under_the_active_set_is_not_written(bench: Workbench, card: MemoryImage) -> None:
    before, audit = bytes(card.content), bench.rows("SELECT * FROM audit")
    calls = operations_of(lambda c: rekey(bench.terminal, c), card)
    assert "write" not in {action for action, _ in calls}
    assert bytes(card.content) == before
    assert bench.rows("SELECT * FROM audit") == audit


def test_the_trailer_of_the_home_the_card_lives_in_is_written_only_when_the_other_one_counts(
    bench: Workbench, card: MemoryImage
) -> None:
    use(bench, 2)
    written = [block for action, block in operations_of(lambda c: rekey(bench.terminal, c), card) if action == "write"]
    assert written.index(31) < written.index(4) < written.index(7)
    assert written.index(28) < written.index(31)
    assert sorted(block for block in written if is_trailer(block)) == [trailer_of(sector) for sector in range(16)]


def test_a_re_key_is_in_the_audit_log_and_in_no_event(bench: Workbench, card: MemoryImage) -> None:
    use(bench, 2)
    events = bench.events()
    card_no = tap_rekey(bench, card)["card_no"]
    begun, done = bench.rows("SELECT action, detail FROM audit WHERE action LIKE 'card.rekey%' ORDER BY entry")
    assert (begun["action"], done["action"]) == ("card.rekey_begun", "card.rekeyed")
    assert f'"card_no": "{card_no}", "from_version": 1, "to_version": 2' in done["detail"]
    assert bench.events() == events
    assert bench.rows("SELECT key_set_version FROM cards") == [{"key_set_version": 2}]


def test_a_card_that_may_not_be_used_is_not_re_keyed(bench: Workbench, card: MemoryImage) -> None:
    old = copy_of(card)
    bench.purchase(card, "R-1", 10_000)
    use(bench, 2)
    for image, code in ((old, ErrorCode.CARD_ROLLED_BACK), (card, ErrorCode.CARD_BLOCKED)):
        if code is ErrorCode.CARD_BLOCKED:
            bench.block_card(show(bench, card)["card_no"], "lost")
        before = bytes(image.content)
        with pytest.raises(AgentError) as caught:
            tap_rekey(bench, image)
        assert caught.value.code is code
        assert bytes(image.content) == before


@pytest.mark.parametrize("outcome", Torn)
def test_a_sale_in_doubt_is_settled_first(bench: Workbench, card: MemoryImage, outcome: Torn) -> None:
    points = bench.state(card).balance
    with pytest.raises(AgentError):
        bench.purchase(card, "R-1", 50_000, fault=Fault(5, outcome))
    use(bench, 2)
    assert tap_rekey(bench, card)["points"] == points + 5
    assert bench.purchase(card, "R-1", 50_000)["replayed"] is True
    bench.check_books(card)


def test_a_slot_that_was_torn_stays_what_it_is(bench: Workbench, card: MemoryImage) -> None:
    flip(card, HOMES[0].state_blocks[1 - bench.state(card).slot])
    state = bench.state(card)
    use(bench, 2)
    tap_rekey(bench, card)
    assert sorted(map(repr, bench.slots(card))) == sorted(map(repr, [state, None]))
    assert show(bench, card)["problem"] == "torn_write"
    bench.purchase(card, "R-1", 50_000)
    assert None not in bench.slots(card)
    bench.check_books(card)


def test_a_directory_stays_a_directory(bench: Workbench) -> None:
    card = blank()
    with lay(card) as connection:
        issue(bench.terminal, connection, IssueRequest(mad=True))
    use(bench, 2)
    tap_rekey(bench, card)
    with lay(card) as anybody:
        anybody.authenticate(1, KeyType.A, MAD_KEY_A)
        assert anybody.read_block(3)[9] == 0xC1
    assert verify(bench, card) == []


# --- sectors that are dead


def contradict(image: MemoryImage, sector: int) -> None:
    """New keys, and access bits that contradict themselves: the keys open the sector, and nothing can be done in it."""
    flip(image, trailer_of(sector), 6 * 8)


def ruin(bench: Workbench, card: MemoryImage, sector: int, how: str) -> None:
    """A re-key cut short in this sector's trailer, and for ever."""
    operations = operations_of(lambda c: rekey(bench.terminal, c), copy_of(card))
    call = operations.index(("write", trailer_of(sector))) + 1
    with pytest.raises(CardRemoved):
        tap_rekey(bench, card, Fault(call, Torn.GARBAGE if how == "garbage" else Torn.NEW))
    if how != "garbage":
        contradict(card, sector)


@pytest.mark.parametrize("how", ["garbage", "contradiction"])
@pytest.mark.parametrize("sector", range(16))
def test_a_trailer_torn_into_garbage_costs_its_sector_and_not_the_card(
    bench: Workbench, card: MemoryImage, sector: int, how: str
) -> None:
    use(bench, 2)
    state = bench.state(card)
    ruin(bench, card, sector, how)
    assert bench.state(card) == state
    assert show(bench, card)["points"] == state.balance
    bench.purchase(card, "R-1", 50_000)
    answer = tap_rekey(bench, card)
    moved = sector != 7
    assert (answer["rekeyed"], answer["key_set_version"]) == (moved, 2 if moved else 1)
    assert [f"sector {sector} " in warning for warning in answer["warnings"]] == [True]
    assert {finding["sector"] for finding in verify(bench, card) if finding["severity"] == "error"} == {sector}
    for number in range(16):  # once round the ring, with its dead places
        bench.purchase(card, f"S-{number}", 10_000)
    lost = 3 if sector in range(2, 7) else 0
    assert len(show(bench, card)["history"]) == len(HISTORY_BLOCKS) - lost
    bench.check_books(card)
    for _ in range(MOST_REFUSALS - 1):
        assert is_due(bench.terminal, present(bench.terminal, lay(card)))
        assert len(tap_rekey(bench, card)["warnings"]) == 1
    assert not is_due(bench.terminal, present(bench.terminal, lay(card))), "it is not tried again at each tap for ever"


def test_a_card_with_a_dead_home_stays_under_the_set_it_has(bench: Workbench, card: MemoryImage) -> None:
    use(bench, 2)
    ruin(bench, card, 1, "garbage")
    assert tap_rekey(bench, card)["rekeyed"] is True, "the card had moved before"
    use(bench, 3)
    for _ in range(2):
        answer = tap_rekey(bench, card)
        assert (answer["rekeyed"], answer["key_set_version"]) == (False, 2)
        assert [warning[:9] for warning in answer["warnings"]] == ["sector 1 "]
    bench.purchase(card, "R-1", 50_000)
    assert read_card(bytes(card.content), MASTERS[2]).state == bench.state(card).to_json()
    bench.check_books(card)


@pytest.mark.parametrize(("key_a", "key_b"), [(1, 2), (2, 1)])
@pytest.mark.parametrize("sector", [0, 3, 7, 9])
def test_a_trailer_that_got_one_of_its_keys_is_made_whole(
    bench: Workbench, card: MemoryImage, sector: int, key_a: int, key_b: int
) -> None:
    use(bench, 2)
    ruin(bench, card, sector, "new")
    flip(card, trailer_of(sector), 6 * 8)  # undo the contradiction
    a, b = (bench.keys.card_keys(v, bytes.fromhex("1a2b3c4d")) for v in (key_a, key_b))
    access = block_of(card, trailer_of(sector))[6:10]
    card.write(trailer_of(sector), a.sector_key(sector, KeyType.A) + access + b.sector_key(sector, KeyType.B))
    assert (tap_rekey(bench, card)["warnings"], verify(bench, card)) == ([], [])


# --- when a tap should do it


def test_a_card_under_an_older_set_is_due_until_it_is_re_keyed(bench: Workbench, card: MemoryImage) -> None:
    def due() -> bool:
        return is_due(bench.terminal, present(bench.terminal, lay(card)))

    assert not due()
    use(bench, 2)
    assert due()
    operations = operations_of(lambda c: rekey(bench.terminal, c), copy_of(card))
    with pytest.raises(CardRemoved):
        tap_rekey(bench, card, Fault(operations.index(("write", 63)) + 1, Torn.OLD))
    bench.restart()
    assert (bench.home(card), due()) == (HOMES[1], True), "the rest is still under the set before"
    tap_rekey(bench, card)
    assert not due()
    use(bench, 1)
    assert not due(), "a till that is behind does not undo the work of one that is ahead"


def test_a_till_that_is_behind_does_not_undo_a_re_key_that_was_cut_short(bench: Workbench, card: MemoryImage) -> None:
    use(bench, 2)
    operations = operations_of(lambda c: rekey(bench.terminal, c), copy_of(card))
    with pytest.raises(CardRemoved):
        tap_rekey(bench, card, Fault(operations.index(("write", 4)) + 1, Torn.NEW))
    assert is_due(bench.terminal, present(bench.terminal, lay(card)))
    use(bench, 1)
    assert not is_due(bench.terminal, present(bench.terminal, lay(card)))


def test_a_full_disk_is_not_held_against_the_card(
    bench: Workbench, card: MemoryImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told, and the card is re-keyed another time; before, it was noted for ever as one that refuses the new keys."""
    use(bench, 2)
    content = bytes(card.content)

    full_disk_once(bench.journal, monkeypatch)
    with pytest.raises(JournalFailed) as told:
        tap_rekey(bench, card)
    assert told.value.code is ErrorCode.DISK_FULL
    assert bytes(card.content) == content, "nothing is written that is not noted"
    assert tap_rekey(bench, card)["rekeyed"] is True
