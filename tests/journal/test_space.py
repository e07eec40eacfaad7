"""A disk that runs full: redemptions stop first, sales go on from a reserve, nothing recorded is lost or halved.

Once with SQLite's own page limit, once on a file system that really is full.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers.simulator import MemoryImage
from terminal_agent.errors import AgentError, ErrorCode, ExitCode
from terminal_agent.journal import Journal
from terminal_agent.journal.events import OutboxState
from terminal_agent.journal.space import RESERVE_FILE, Space
from terminal_agent.till.checkout import Line, PurchaseRequest, purchase
from tests.small_disk import fill
from tests.workbench import RecordingConnection, Workbench, lay, offline

MEGABYTE = 1 << 20


class Shop(Workbench):
    """A bench whose journal watches its disk."""

    def _open_journal(self) -> Journal:
        return Journal(self.data_dir, "shop-1", "IRR", self.clock, self.ids, Space(self.data_dir))

    @property
    def reserve(self) -> Path:
        return self.data_dir / RESERVE_FILE

    def sell_until_refused(self, card: MemoryImage, series: str = "R") -> tuple[int, AgentError]:
        """How many sales went through, and what stopped them."""
        for number in range(100_000):
            try:
                self.purchase(card, f"{series}-{number}", 50_000)
            except AgentError as refused:
                return number, refused
        raise AssertionError("nothing stopped it")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.close()


@pytest.fixture
def small_shop(small_disk: Path) -> Iterator[Shop]:
    shop = Shop(small_disk)
    yield shop
    shop.close()


def limit_pages(journal: Journal, more: int = 0) -> None:
    """SQLite says that the disk is full as soon as it needs another page."""
    pages = journal._database.query("PRAGMA page_count")[0][0]
    journal._database.query(f"PRAGMA max_page_count={pages + more}")


def lift_limit(journal: Journal) -> None:
    journal._database.query("PRAGMA max_page_count=1000000")


def long_bill(receipt_no: str) -> PurchaseRequest:
    """One that needs pages of its own wherever it is recorded."""
    lines = tuple(Line(f"sku-{number}-{'x' * 40}", 1, 100) for number in range(300))
    return PurchaseRequest(receipt_no, 60_000, 0, lines)


class AtTheWrite(RecordingConnection):
    """Something happens while the card is written: between the intent and the outcome."""

    happening: Callable[[], None]

    def write_block(self, block: int, data: bytes) -> None:
        super().write_block(block, data)
        self.happening()


def buy(shop: Shop, card: MemoryImage, request: PurchaseRequest, happening: Callable[[], None] | None = None) -> object:
    with lay(card) as inner:
        connection = AtTheWrite(inner)
        connection.happening = happening or (lambda: None)
        return purchase(shop.terminal, connection, request, offline)


def test_a_sale_that_finds_the_disk_full_is_refused_before_the_card_is_touched(shop: Shop) -> None:
    card = shop.issue(points=50)
    before = bytes(card.content)
    limit_pages(shop.journal)
    with pytest.raises(AgentError) as told:
        buy(shop, card, long_bill("R-1"))
    assert (told.value.code, told.value.exit_code, told.value.retryable) == (
        ErrorCode.DISK_FULL,
        ExitCode.FAILURE,
        False,
    )
    assert "state" not in told.value.details
    assert bytes(card.content) == before
    assert shop.rows("SELECT * FROM intents WHERE state = 'open'") == []
    lift_limit(shop.journal)
    buy(shop, card, long_bill("R-1"))
    shop.check_books(card)


def test_a_landed_write_whose_outcome_finds_the_disk_full_stays_in_doubt_and_is_settled_later(shop: Shop) -> None:
    card = shop.issue(points=50)
    before = shop.state(card)
    for _ in range(2):  # the second tap finds that it landed, and the disk as full as before
        with pytest.raises(AgentError) as told:
            buy(shop, card, long_bill("R-1"), lambda: limit_pages(shop.journal))
        assert told.value.code is ErrorCode.DISK_FULL
        assert told.value.exit_code is ExitCode.CARD_PROBLEM
        assert told.value.details["state"] == "in_doubt"
        assert shop.state(card).sequence == before.sequence + 1
        assert shop.journal.intents.count_open() == 1
    lift_limit(shop.journal)
    answer = shop.purchase(card, "R-1", 60_000)
    assert (answer["points_earned"], answer["state"], answer["replayed"]) == (6, "done", True)
    shop.check_books(card)


@pytest.mark.parametrize("at_the_write", [False, True], ids=["intent", "outcome"])
def test_giving_the_reserve_away_lets_the_sale_through(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, at_the_write: bool
) -> None:
    """The unit of work runs twice and is recorded once."""
    card = shop.issue(points=50)
    release = Space.release

    def lifting(space: Space) -> bool:
        lift_limit(shop.journal)
        return release(space)

    monkeypatch.setattr(Space, "release", lifting)
    if not at_the_write:
        limit_pages(shop.journal)
    buy(shop, card, long_bill("R-1"), lambda: limit_pages(shop.journal) if at_the_write else None)
    assert shop.journal.short_of_space
    assert shop.reserve.stat().st_size == 0
    shop.check_books(card)


def test_work_that_fails_for_another_reason_is_not_repeated(shop: Shop) -> None:
    runs = []

    def unit() -> None:
        runs.append(1)
        shop.journal._database.execute("INSERT INTO no_such_table VALUES (1)")

    with pytest.raises(AgentError, match="no such table"):
        shop.journal.write(unit)
    assert len(runs) == 1
    assert not shop.journal.short_of_space


def test_work_inside_another_transaction_is_never_repeated_alone(shop: Shop) -> None:
    """Half of a rolled-back transaction must not be recorded by itself."""
    limit_pages(shop.journal)
    runs = []

    def unit() -> None:
        runs.append(1)
        # By query, which tells what went wrong in its own words already.
        shop.journal._database.query("INSERT INTO audit (time, action, detail) VALUES ('', 'inner', ?)", "x" * 20_000)

    with pytest.raises(AgentError), shop.journal.transaction():  # noqa: PT012
        shop.journal.audit("outer")
        shop.journal.write(unit)
    assert len(runs) == 1
    assert shop.rows("SELECT * FROM audit WHERE action IN ('inner', 'outer')") == []


def test_the_reserve_is_a_private_file_of_a_size_that_the_disk_can_bear(small_shop: Shop) -> None:
    size = small_shop.reserve.stat().st_size
    assert size == 12 * MEGABYTE // 8
    assert small_shop.reserve.stat().st_mode & 0o077 == 0
    health = small_shop.journal.health()
    assert (health["state"], health["reserve_bytes"]) == ("ok", size)
    assert 0 < health["free_bytes"] < 12 * MEGABYTE - size


def test_on_a_full_disk_redemptions_stop_first_and_sales_go_on_from_the_reserve(small_shop: Shop) -> None:
    shop = small_shop
    card = shop.issue(points=100)
    film = fill(shop.data_dir)
    with pytest.raises(AgentError) as told:
        shop.purchase(card, "X-1", 50_000, redeem=10)
    assert told.value.code is ErrorCode.DISK_FULL
    assert "--redeem" in told.value.hint
    assert shop.journal.health()["state"] == "short_of_space"
    sold, refused = shop.sell_until_refused(card)
    assert sold > 100, "an eighth of 12 MB is enough for this many"
    assert refused.code is ErrorCode.DISK_FULL
    assert shop.reserve.stat().st_size == 0
    film.unlink()
    shop.journal.keep_house()
    assert shop.journal.health()["state"] == "ok"
    assert shop.reserve.stat().st_size == 12 * MEGABYTE // 8
    shop.purchase(card, f"R-{sold}", 50_000)
    shop.purchase(card, "X-2", 50_000, redeem=10)
    shop.check_books(card)
    assert shop.journal.events.count(OutboxState.PENDING) == len(shop.events())


def test_a_journal_can_be_opened_on_a_disk_that_is_full(small_shop: Shop) -> None:
    shop = small_shop
    card = shop.issue(points=100)
    shop.journal.close()
    fill(shop.data_dir)
    shop.restart()
    assert shop.journal.short_of_space
    shop.purchase(card, "R-1", 50_000)
    shop.check_books(card)


def test_the_reserve_does_not_come_and_go_while_the_disk_is_nearly_full(small_shop: Shop) -> None:
    shop = small_shop
    fill(shop.data_dir)
    shop.restart()
    assert shop.journal.short_of_space
    os.truncate(shop.data_dir / "film.mp4", (shop.data_dir / "film.mp4").stat().st_size - 2 * MEGABYTE)
    for _ in range(3):
        shop.journal.keep_house()
        shop.restart()
        assert shop.journal.short_of_space, "two megabytes are no plenty"


def test_when_the_reserve_is_used_up_the_journal_still_opens_and_says_so(small_shop: Shop) -> None:
    shop = small_shop
    card = shop.issue(points=10)
    film = fill(shop.data_dir)
    sold, _ = shop.sell_until_refused(card)
    shop.restart()
    with pytest.raises(AgentError) as told:
        shop.purchase(card, f"R-{sold}", 50_000)
    assert told.value.code is ErrorCode.DISK_FULL
    assert shop.journal.health()["state"] == "short_of_space"
    film.unlink()
    shop.restart()
    assert shop.journal.standing_alarms() == []
    shop.purchase(card, f"R-{sold}", 50_000)
    shop.check_books(card)


def test_where_not_even_opening_finds_room_it_is_said_and_nothing_is_moved(small_shop: Shop) -> None:
    shop = small_shop
    shop.issue()
    fill(shop.data_dir)
    shop.restart()
    shop.journal.close()
    film = fill(shop.data_dir)
    with pytest.raises(AgentError) as told:
        shop._open_journal()
    assert "df -h" in told.value.hint
    assert list(shop.data_dir.glob("damaged-*")) == []
    film.unlink()
    shop.restart()
    assert shop.journal.standing_alarms() == []


def test_a_disk_that_is_read_only_is_not_damaged(small_shop: Shop) -> None:
    shop = small_shop
    shop.issue()
    shop.journal.close()
    how = "mount -o remount,{} {}"
    subprocess.run(how.format("ro", shop.data_dir).split(), check=True)
    try:
        with pytest.raises(AgentError) as told:
            shop._open_journal()
    finally:
        subprocess.run(how.format("rw", shop.data_dir).split(), check=True)
    assert told.value.code is ErrorCode.JOURNAL_FAILED
    assert list(shop.data_dir.glob("damaged-*")) == []
    shop.restart()
    assert shop.journal.standing_alarms() == []
