"""Who may call the till and who may sign in outlives a damaged journal; where it cannot, pages are closed, not open."""

from __future__ import annotations

from pathlib import Path

from terminal_agent.journal import Journal
from terminal_agent.journal.staff import Cashier
from terminal_agent.journal.till import TillToken
from tests.journal.damage import OpenJournal, without_audit
from tests.journal.test_damage import without_header

HASHES = ["ab" * 32, "cd" * 32]
PIN_HASH = f"{'0a' * 16}${'0b' * 32}"
MADE = "2026-11-22T09:30:00Z"


def name(journal: Journal, *names: str) -> None:
    with journal.transaction():
        for each in names:
            journal.staff.put(Cashier(each, "supervisor", PIN_HASH, MADE, 3, "2026-11-22T09:31:00Z", f"card-{each}"))
    journal.staff.note_named()


def remove(journal: Journal, each: str) -> None:
    with journal.transaction():
        journal.staff.remove(each)
    journal.staff.note_named(removed=True)


def alarm_of(journal: Journal) -> str:
    (alarm,) = journal.alarms.standing()
    return alarm.detail


def test_tokens_and_cashiers_are_put_back_as_they_were(open_journal: OpenJournal, file: Path) -> None:
    journal = open_journal()
    name(journal, "nasrin", "sara")
    with journal.transaction():
        for number, token_hash in enumerate(HASHES):
            journal.till.add_token(token_hash, TillToken(f"token-{number}", "POS", ("read", "checkout"), MADE))
        journal.till.revoke("token-1")
        journal.audit("something")
    cashiers, tokens = journal.staff.cashiers(), journal.till.tokens()
    journal.close()
    without_audit(file)
    journal = open_journal()
    assert list(file.parent.glob("damaged-*"))
    assert journal.staff.cashiers() == cashiers, "wrong PINs still count"
    assert journal.till.tokens() == tokens
    assert journal.till.token(HASHES[0]) is not None
    assert journal.till.token(HASHES[1]) is None, "what was revoked stays revoked"
    assert "2 paired programs and 2 cashiers" in alarm_of(journal)


def test_where_the_cashiers_are_lost_pages_ask_for_them_until_somebody_is_named(
    open_journal: OpenJournal, file: Path
) -> None:
    journal = open_journal()
    name(journal, "nasrin")
    journal.close()
    without_header(file)
    journal = open_journal()
    assert (journal.staff.cashiers(), journal.staff.is_asked_for) == ([], True)
    assert "who may sign in is lost" in alarm_of(journal)
    journal.close()
    file.unlink()
    file.with_name(file.name + "-wal").unlink(missing_ok=True)
    for _ in range(2):  # gone altogether; and at the next start, which finds nothing wrong
        journal = open_journal()
        assert (journal.staff.cashiers(), journal.staff.is_asked_for) == ([], True)
        journal.close()
    journal = open_journal()
    name(journal, "sara")
    remove(journal, "sara")
    assert journal.staff.is_asked_for is False, "a person has decided that nobody is asked for"


def test_a_shop_that_named_nobody_sells_on_after_damage(open_journal: OpenJournal, file: Path) -> None:
    open_journal().close()
    without_header(file)
    journal = open_journal()
    assert journal.staff.is_asked_for is False
    assert "sign in" not in alarm_of(journal)


def test_that_cashiers_are_named_is_noted_again_at_each_start(open_journal: OpenJournal, file: Path) -> None:
    """A journal of an older version, one that was put back elsewhere, or a crash between its commit and the note."""
    journal = open_journal()
    with journal.transaction():
        journal.staff.put(Cashier("nasrin", "cashier", PIN_HASH, MADE))
    journal.close()
    open_journal().close()
    without_header(file)
    assert open_journal().staff.is_asked_for


def test_who_was_named_since_decides_and_what_is_no_cashier_is_left_out(open_journal: OpenJournal) -> None:
    journal = open_journal()
    sound = vars(Cashier("nasrin", "cashier", PIN_HASH, MADE))
    broken = [{**sound, "role": "owner"}, {**sound, "pin_hash": "x"}, {**sound, "name": ""}, {"name": "sara"}]
    broken += [{**sound, "name": "sara", "created_at": None}]
    with journal.transaction():
        journal.staff.readmit([*broken, sound])
        journal.till.readmit([{"token_hash": "short"}, {"token_hash": HASHES[0], "token_id": None}])
    assert [one.name for one in journal.staff.cashiers()] == ["nasrin"]
    assert journal.till.tokens() == []
    with journal.transaction():
        journal.staff.readmit([{**sound, "name": "dismissed"}])
    assert [one.name for one in journal.staff.cashiers()] == ["nasrin"]
