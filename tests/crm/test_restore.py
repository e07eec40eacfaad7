"""A CRM put back from a backup finds out, says so, and takes in again what it forgot, once."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from fastapi import FastAPI

from terminal_agent.crm import admin, mark, restore, sqlite
from terminal_agent.crm.mark import Mark
from terminal_agent.crm.store import Store, open_store
from terminal_agent.ports import SystemClock, SystemIds
from tests.crm.test_server import served
from tests.crm.world import CARD, Crm, Terminal


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """These tests are about the file."""
    return tmp_path / "crm"


def reopen(data_dir: Path) -> Store:
    return open_store(data_dir, SystemClock(), SystemIds())


@contextmanager
def opened(data_dir: Path) -> Iterator[Store]:
    store = reopen(data_dir)
    try:
        yield store
    finally:
        store.close()


def was_restored(data_dir: Path) -> bool:
    """Whether the CRM, opened now, knows that it was put back."""
    with opened(data_dir) as store, store.reading() as connection:
        return restore.happened(connection)


def commit(data_dir: Path, times: int = 1) -> None:
    for _ in range(times):
        admin.make_code(data_dir)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A CRM that nobody serves."""
    commit(tmp_path / "crm", 3)
    return tmp_path / "crm"


# How it finds out.


def test_opening_a_crm_again_and_again_is_no_restore(data_dir: Path) -> None:
    for _ in range(3):
        assert not was_restored(data_dir)
        commit(data_dir)


def test_an_earlier_copy_of_the_file_is_noticed_once(data_dir: Path) -> None:
    file = sqlite.database_file(data_dir)
    backup = file.read_bytes()
    commit(data_dir)
    file.write_bytes(backup)
    with opened(data_dir) as store:
        assert store.was_restored
    assert was_restored(data_dir)
    with opened(data_dir) as store:
        assert not store.was_restored
    commit(data_dir)
    file.write_bytes(backup)
    with opened(data_dir) as store:
        assert store.was_restored


def test_a_later_backup_after_an_earlier_one_is_noticed_too(data_dir: Path) -> None:
    file = sqlite.database_file(data_dir)
    backups = []
    for _ in range(2):
        backups.append(file.read_bytes())
        commit(data_dir, 5)
    for backup in backups:
        file.write_bytes(backup)
        with opened(data_dir) as store:
            assert store.was_restored


def test_a_crm_that_died_before_its_first_mark_is_no_restore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mark, "write", lambda _mark, _commits: None)
    commit(tmp_path / "crm")
    monkeypatch.undo()
    assert not was_restored(tmp_path / "crm")


def test_a_backup_made_while_the_crm_is_open_is_noticed_as_well(data_dir: Path, tmp_path: Path) -> None:
    with opened(data_dir) as store:
        with (
            closing(sqlite3.connect(sqlite.database_file(data_dir))) as live,
            closing(sqlite3.connect(tmp_path / "backup")) as copy,
        ):
            live.backup(copy)
        with store.writing():
            pass
    shutil.copyfile(tmp_path / "backup", sqlite.database_file(data_dir))
    assert was_restored(data_dir)


@pytest.mark.parametrize("content", [None, b"", b"what"])
def test_a_crm_without_a_mark_it_can_read_was_put_back(content: bytes | None, data_dir: Path) -> None:
    file = data_dir / mark.FILE_NAME
    file.unlink() if content is None else file.write_bytes(content)
    assert was_restored(data_dir)
    with opened(data_dir) as store:
        assert not store.was_restored


def test_a_mark_that_lags_behind_is_no_restore(data_dir: Path) -> None:
    file = data_dir / mark.FILE_NAME
    before = file.read_bytes()
    commit(data_dir, 2)
    file.write_bytes(before)
    assert not was_restored(data_dir)


def test_the_mark_is_private_and_a_commit_does_not_fail_with_it(data_dir: Path) -> None:
    file = data_dir / mark.FILE_NAME
    assert file.stat().st_mode & 0o777 == 0o600
    counted = int(file.read_bytes())
    with opened(data_dir) as store:
        file.unlink()
        file.mkdir()
        with store.writing():
            pass
        file.rmdir()
        with store.writing():
            pass
    assert Mark(data_dir).read() == counted + 2


def test_what_was_not_committed_is_not_counted(data_dir: Path) -> None:
    counted = Mark(data_dir).read()
    with opened(data_dir) as store, pytest.raises(RuntimeError), store.writing():
        raise RuntimeError("nothing is kept")
    assert Mark(data_dir).read() == counted


def test_many_processes_at_once_are_no_restore(data_dir: Path) -> None:
    stores = [reopen(data_dir) for _ in range(3)]

    def write(store: Store) -> None:
        for _ in range(20):
            with store.writing():
                pass

    def look() -> list[bool]:
        return [was_restored(data_dir) for _ in range(20)]

    with ThreadPoolExecutor(4) as pool:
        looked = pool.submit(look)
        list(pool.map(write, stores))
        assert not any(looked.result())
    for store in stores:
        store.close()


def test_a_server_that_was_killed_was_not_put_back_and_one_that_was_says_so(tmp_path: Path) -> None:
    data_dir = tmp_path / "crm"
    with served(data_dir) as (crm, process):
        terminal = crm.enrol()
        terminal.post(terminal.purchase(1, earned=10))
        backup = sqlite.database_file(data_dir).read_bytes()
        terminal.post(terminal.purchase(2, earned=10, before=10))
        process.send_signal(signal.SIGKILL)
        process.wait()
    terminal.session.close()
    assert not was_restored(data_dir)
    sqlite.database_file(data_dir).write_bytes(backup)
    with served(data_dir) as (_crm, process):
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        assert "put back from a backup" in process.stderr.read()


def test_codes_are_void_after_a_restore(crm: Crm, data_dir: Path) -> None:
    code = admin.make_code(crm.place)["code"]
    (crm.place / mark.FILE_NAME).unlink()
    admin.show_ledger(crm.place)
    body = {"code": code, "terminal_id": "shop-1"}
    answer = requests.post(crm.url + "/v1/terminals/enroll", json=body, headers={"Request-Id": "r"}, timeout=10)
    assert (answer.status_code, answer.json()["code"]) == (403, "code_invalid")


# What the terminals see. The server of these tests goes on, its database is put back behind it.


class Backup:
    """The served CRM's file as it was, and how it is put back."""

    def __init__(self, app: FastAPI, crm: Crm) -> None:
        self.app = app
        self.crm = crm
        self.bytes = sqlite.database_file(crm.place).read_bytes()
        self.mark = (crm.place / mark.FILE_NAME).read_bytes()

    def put_back(self, *, with_mark: bool = False) -> None:
        """``with_mark``: the whole directory, so that nothing there tells."""
        self.app.state.service.store.close()
        sqlite.database_file(self.crm.place).write_bytes(self.bytes)
        if with_mark:
            (self.crm.place / mark.FILE_NAME).write_bytes(self.mark)
        self.app.state.service.store = reopen(self.crm.place)


@pytest.fixture
def make_backup(app_and_url: tuple[FastAPI, str], crm: Crm) -> Iterator[Any]:
    yield lambda: Backup(app_and_url[0], crm)
    app_and_url[0].state.service.store.close()


def issue(terminal: Terminal) -> dict[str, Any]:
    card = {"card_no": CARD, "sequence": 1, "balance_before": 0, "balance_after": 0, "adjustments_through": 0}
    return terminal.event("card.issued", {"card": card, "uid": "04a1b2c3", "member_id": "m-1"})


def tap(
    terminal: Terminal, counter: int, earned: int, before: int, *, adjusted: int = 0, through: int = 0
) -> dict[str, Any]:
    """A purchase that also applied adjustments worth ``adjusted``, up to number ``through``."""
    event = terminal.purchase(counter, earned=earned, before=before)
    event["data"]["card"] |= {"balance_after": before + adjusted + earned, "adjustments_through": through}
    return event


def adjustments(terminal: Terminal) -> list[tuple[int, int, str]]:
    items = terminal.get("/v1/feed", limit=500)["items"]
    return [(item["number"], item["points"], item["reason"]) for item in items if item["kind"] == "adjustment"]


def test_what_the_crm_forgot_is_seen_in_its_answers_and_books_once_when_it_comes_again(
    make_backup: Any, crm: Crm, terminal: Terminal
) -> None:
    events = [terminal.purchase(counter, earned=counter) for counter in range(1, 9)]
    assert terminal.post(*events[:3])["acked_through"] == 3
    backup = make_backup()
    assert terminal.post(*events[3:7])["acked_through"] == 7
    backup.put_back()
    assert terminal.get("/v1/feed")["acked_through"] == {terminal.epoch: 3}
    got = terminal.post(events[7])
    assert (got["results"][0]["status"], got["acked_through"]) == ("accepted", 3)
    got = terminal.post(*events)
    assert [result["status"] for result in got["results"]] == ["duplicate"] * 3 + ["accepted"] * 4 + ["duplicate"]
    assert got["acked_through"] == 8
    assert terminal.verdicts(*events) == ["duplicate"] * 8
    assert crm.ledger()[f"card:{CARD}"] == 36


def test_what_the_crm_forgot_may_come_again_from_many_shops_at_once(make_backup: Any, crm: Crm) -> None:
    shops = [crm.enrol(f"shop-{number}") for number in range(4)]
    for number, shop in enumerate(shops):
        shop.epoch = f"epoch-{number}"
    events = [[shop.purchase(4 * n + k, earned=1) for n in range(1, 11)] for k, shop in enumerate(shops)]
    for shop, own in zip(shops, events, strict=True):
        shop.post(*own[:5])
    backup = make_backup()
    for shop, own in zip(shops, events, strict=True):
        shop.post(*own[5:])
    backup.put_back()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda k: shops[k].post(*events[k]), range(4)))
    assert [answer["acked_through"] for answer in answers] == [10] * 4
    assert [shop.get("/v1/feed")["acked_through"] for shop in shops] == [{shop.epoch: 10} for shop in shops]
    assert crm.ledger()[f"card:{CARD}"] == 40
    for shop in shops:
        shop.session.close()


@pytest.mark.parametrize("with_mark", [False, True])
def test_a_cursor_of_what_the_crm_forgot_is_refused_however_much_it_published_since(
    with_mark: bool, make_backup: Any, crm: Crm, terminal: Terminal
) -> None:
    terminal.post(issue(terminal))
    early = terminal.get("/v1/feed")["next_cursor"]
    backup = make_backup()
    for _ in range(2):
        admin.adjust_card(crm.place, CARD, 5, "forgotten")
    late = terminal.get("/v1/feed")["next_cursor"]
    backup.put_back(with_mark=with_mark)
    for published in range(4):
        answer = terminal.call("GET", "/v1/feed", params={"cursor": late})
        assert (answer.status_code, answer.json()["code"]) == (400, "cursor_invalid")
        assert len(terminal.get("/v1/feed", cursor=early)["items"]) == published
        admin.adjust_card(crm.place, CARD, 6, "new")
    assert was_restored(crm.place)


def test_the_same_item_behind_another_is_not_the_same_feed(make_backup: Any, crm: Crm, terminal: Terminal) -> None:
    terminal.post(issue(terminal), terminal.purchase(1, earned=1, card_no="another"))
    backup = make_backup()
    admin.adjust_card(crm.place, CARD, 5, "forgotten")
    admin.block_card(crm.place, "another", "lost")
    late = terminal.get("/v1/feed")["next_cursor"]
    backup.put_back()
    admin.adjust_card(crm.place, CARD, 6, "new")
    admin.block_card(crm.place, "another", "lost")
    assert terminal.call("GET", "/v1/feed", params={"cursor": late}).json()["code"] == "cursor_invalid"


def test_a_cursor_that_is_none_tells_nothing_of_a_restore(crm: Crm, terminal: Terminal) -> None:
    for cursor in ("nonsense", "ZjI6MTp4"):
        assert terminal.call("GET", "/v1/feed", params={"cursor": cursor}).json()["code"] == "cursor_invalid"
    assert not was_restored(crm.place)


@pytest.mark.parametrize("with_mark", [False, True])
def test_a_number_the_card_has_passed_is_not_given_out_again(
    with_mark: bool, make_backup: Any, crm: Crm, terminal: Terminal
) -> None:
    terminal.post(issue(terminal))
    backup = make_backup()
    admin.adjust_card(crm.place, CARD, 5, "forgotten")
    backup.put_back(with_mark=with_mark)
    terminal.post(tap(terminal, 2, 10, 0, adjusted=5, through=1))
    assert adjustments(terminal) == [(2, -5, "reconciled")]
    assert admin.adjust_card(crm.place, CARD, 7, "a gift")["number"] == 3
    assert crm.ledger()[f"card:{CARD}"] == 17


def test_a_number_given_out_twice_is_made_good(make_backup: Any, crm: Crm, terminal: Terminal) -> None:
    terminal.post(issue(terminal))
    backup = make_backup()
    admin.adjust_card(crm.place, CARD, 5, "forgotten")
    backup.put_back()
    assert admin.adjust_card(crm.place, CARD, 7, "new")["number"] == 1
    terminal.post(tap(terminal, 2, 10, 0, adjusted=5, through=1))  # this shop still knew the old one
    assert adjustments(terminal) == [(1, 7, "new"), (2, 2, "reconciled")]
    terminal.post(tap(terminal, 3, 10, 15, adjusted=2, through=2))
    assert crm.ledger()[f"card:{CARD}"] == 27
    assert len(adjustments(terminal)) == 2


def test_nothing_is_made_good_before_the_whole_chain_is_here(make_backup: Any, crm: Crm, terminal: Terminal) -> None:
    events = [issue(terminal), tap(terminal, 2, 10, 0)]
    backup = make_backup()
    events.append(tap(terminal, 3, 10, 10, adjusted=5, through=1))
    events.append(tap(terminal, 4, 10, 25, through=1))
    backup.put_back()
    for place in (3, 0, 2):
        terminal.post(events[place])
        assert adjustments(terminal) == []
    terminal.post(events[1])
    assert adjustments(terminal) == [(2, -5, "reconciled")]


def test_nothing_is_made_good_on_a_blocked_card_or_during_a_doubt(
    make_backup: Any, crm: Crm, terminal: Terminal
) -> None:
    terminal.post(issue(terminal))
    make_backup().put_back()
    (crm.place / mark.FILE_NAME).unlink()
    admin.block_card(crm.place, CARD, "lost")
    terminal.post(tap(terminal, 2, 10, 0, adjusted=5, through=1))
    admin.unblock_card(crm.place, CARD, "found")
    terminal.post(terminal.purchase_in_doubt("i-1", counter=4, earned=10, before=25))
    terminal.post(tap(terminal, 3, 10, 15, through=1))
    assert adjustments(terminal) == []
    data = {"intent_id": "i-1", "card_no": CARD, "landed": False, "card": None}
    terminal.post(terminal.event("intent.resolved", data))
    assert adjustments(terminal) == [(2, 10, "in_doubt_settled"), (3, -5, "reconciled")]


def test_a_crm_that_forgot_nothing_makes_nothing_good(crm: Crm, terminal: Terminal) -> None:
    terminal.post(issue(terminal), terminal.purchase(2, earned=10, before=90))
    assert adjustments(terminal) == []


def test_points_that_no_tap_brought_to_the_card_are_on_their_way_to_it(crm: Crm, terminal: Terminal) -> None:
    terminal.post(terminal.event("activity.recorded", {"points": {"earned": 30}}))
    assert adjustments(terminal) == [(1, 30, "activity.recorded")]
    assert crm.ledger()[f"card:{CARD}"] == 30


def test_a_hold_the_crm_forgot_stops_no_sale(make_backup: Any, crm: Crm, terminal: Terminal) -> None:
    terminal.post(terminal.purchase(1, earned=100))
    backup = make_backup()
    placed = terminal.call("POST", "/v1/holds", json={"card_no": CARD, "points": 60}).json()
    backup.put_back()
    answer = terminal.call("POST", f"/v1/holds/{placed['hold_id']}/confirm")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    event = terminal.purchase(2, earned=0, redeemed=60, before=100)
    event["data"]["hold_id"] = placed["hold_id"]
    assert terminal.verdicts(event) == ["accepted"]
    assert crm.ledger()[f"card:{CARD}"] == 40
