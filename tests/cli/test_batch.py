"""``desk batch`` from outside, on a feeder: killed, stopped and run again, with the daemon and without."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from drivers.mifare_classic import blank_card
from drivers.simulator import MemoryImage, SimulatedReader
from terminal_agent.desk.batch import Why
from tests.books import Books
from tests.cli.shop import Answer, Shop, wait_until
from tests.cli.test_progress import on_a_terminal
from tests.pcsc.virtual_reader import VirtualCard, VirtualReader

ROWS = 16


@pytest.fixture
def pile(bare_shop: Shop) -> Shop:
    """A shop whose reader is a feeder, and a file of people."""
    cards = bare_shop.folder / "cards"
    cards.mkdir()
    bare_shop.init(f"sim:{cards}/")
    people = "".join(f"0912000{number:04d}\n" for number in range(ROWS))
    (bare_shop.folder / "in.csv").write_text("phone\n" + people)
    return bare_shop


def command(shop: Shop, *options: str) -> tuple[str, ...]:
    files = ("--input", str(shop.folder / "in.csv"), "--output", str(shop.folder / "out.csv"))
    return ("desk", "batch", *files, *options)


def lines(answer: Answer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.out.splitlines()]


def report(shop: Shop) -> list[dict[str, str]]:
    with (shop.folder / "out.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def read_lines(process: subprocess.Popen[str], count: int) -> list[dict[str, Any]]:
    """The first lines a batch says, as they come."""
    assert process.stdout is not None
    return [json.loads(process.stdout.readline()) for _ in range(count)]


def is_said(talk: Path, text: str) -> bool:
    return text in talk.read_text()


def check_every_row_has_one_card(shop: Shop) -> None:
    """By the journal, by the report, and by the cards themselves."""
    books = Books(shop.data_dir)
    issued = [body["data"] for body in books.bodies if body["type"] == "card.issued"]
    enrolled = [body["data"]["member"] for body in books.bodies if body["type"] == "member.enrolled"]
    assert sorted(member["phone"] for member in enrolled) == [f"0912000{number:04d}" for number in range(ROWS)]
    assert sorted(data["member_id"] for data in issued) == sorted(member["member_id"] for member in enrolled)
    assert [(row["row"], row["status"]) for row in report(shop)] == [(str(n), "issued") for n in range(1, ROWS + 1)]
    assert {row["card_no"] for row in report(shop)} == {data["card"]["card_no"] for data in issued}
    usable = 0
    for file in sorted((shop.folder / "cards").glob("*.mfd")):
        shown = shop.ta("card", "show", "--reader", f"sim:{file}")
        usable += shown.exit_code == 0 and shown.json["status"] == "active"
    assert usable == ROWS


@pytest.mark.parametrize("daemon", [False, True], ids=["without the daemon", "with the daemon"])
def test_a_batch_that_is_killed_again_and_again_gives_each_row_one_card(pile: Shop, daemon: bool) -> None:
    running = pile.start_daemon() if daemon else None
    for after in (2, 1, 3):
        process = pile.start("--json", *command(pile))
        told = read_lines(process, after + 1)
        if running is not None and after == 3:
            pile.end(running, signal.SIGKILL)
        pile.end(process, signal.SIGKILL)
        with suppress(FileNotFoundError):
            assert all(row["status"] for row in report(pile)), "half a line"
        assert all(line["error"] is None for line in told)
    last = pile.ta(*command(pile))
    assert last.exit_code == 0, last.out
    summary = lines(last)[-1]
    assert summary["issued"] + summary["skipped"] == ROWS
    assert summary["left"] == summary["rejected"] == 0
    assert summary["skipped"] >= 3
    check_every_row_has_one_card(pile)


def test_a_stop_finishes_the_card_in_hand_and_says_how_far_it_is(pile: Shop) -> None:
    process = pile.start("--json", *command(pile))
    read_lines(process, 2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGINT
    assert "Traceback" not in err
    summary = json.loads(out.splitlines()[-1])
    assert 2 <= summary["issued"] < ROWS
    assert summary["issued"] + summary["left"] == ROWS
    assert [row["status"] for row in report(pile)].count("issued") == summary["issued"]
    assert lines(pile.ta(*command(pile)))[-1]["skipped"] == summary["issued"]
    check_every_row_has_one_card(pile)


@pytest.mark.parametrize("daemon", [False, True], ids=["without the daemon", "with the daemon"])
def test_a_batch_says_the_same_with_and_without_the_daemon(pile: Shop, daemon: bool) -> None:
    if daemon:
        pile.start_daemon()
    (pile.folder / "in.csv").write_text("phone;name\n09120000001;سارا\n0912;\n09120000003;\n09120000004;\n")
    foreign = pile.folder / "cards" / "0002.mfd"
    foreign.write_bytes(b"\x01\x02\x03\x04\x04" + bytes(1019))  # a card no key of ours opens
    answer = pile.ta(*command(pile, "--limit", "2"))
    assert answer.exit_code == 7
    *told, summary = lines(answer)
    assert [(line["row"], line["status"]) for line in told] == [
        (2, "rejected"),
        (1, "issued"),
        (3, "card_rejected"),
        (3, "issued"),
    ]
    assert [line["error"] and line["error"]["code"] for line in told] == ["invalid_input", None, "not_our_card", None]
    assert all(set(line) == {"row", "status", "uid", "card_no", "error"} for line in told)
    pace = summary.pop("cards_per_minute")
    assert summary == {"issued": 2, "skipped": 0, "rejected": 1, "left": 1, "cards_rejected": 1}
    assert pace > 0
    human = pile.ta(*command(pile), human=True)
    assert human.exit_code == 7
    assert human.out.startswith("1 issued, 2 had a card, 1 rejected, 0 left; ")
    assert "Row 2: rejected: line 3: a telephone number has 7 to 15 digits" in human.err


def test_a_file_that_cannot_be_used_touches_no_card(pile: Shop) -> None:
    (pile.folder / "in.csv").write_bytes("phone,name\n09120000001,سارا\n".encode("cp1256"))
    answer = pile.ta(*command(pile))
    assert (answer.exit_code, answer.code) == (2, "invalid_input")
    assert not list((pile.folder / "cards").iterdir())


def test_nobody_lays_a_card_down(pile: Shop) -> None:
    answer = pile.ta(*command(pile, "--reader", f"sim:{pile.card}", "--wait-s", "0.1"))
    assert answer.exit_code == 4
    *told, summary = lines(answer)
    assert [line["status"] for line in told] == ["issued"]
    assert (summary["error"]["code"], summary["issued"], summary["left"]) == ("no_card_timeout", 1, ROWS - 1)


def test_a_person_sees_a_bar_and_the_answer_stays_on_stdout(pile: Shop) -> None:
    seen, answer = on_a_terminal(pile, "--json", *command(pile, "--limit", "3"))
    assert "cards a minute" in seen
    assert [json.loads(line).get("status") for line in answer.splitlines()] == ["issued"] * 3 + [None]


def test_ten_thousand_rows_are_checked_and_told(pile: Shop) -> None:
    people = [f"0912{number:07d},n{number}\n" for number in range(10_000)]
    (pile.folder / "in.csv").write_text("".join(["phone,name\n", *people, *people[:10]]))
    answer = pile.ta(*command(pile, "--limit", "1"))
    assert answer.exit_code == 7
    summary = lines(answer)[-1]
    assert (summary["issued"], summary["rejected"], summary["left"]) == (1, 10, 9_999)
    assert len(report(pile)) == 10_010


def test_the_pile_goes_on_where_a_killed_process_left_it(tmp_path: Path) -> None:
    (tmp_path / ".last-fed").write_text("7")
    with SimulatedReader(f"{tmp_path}/").connect() as card:
        assert card.uid
    assert (tmp_path / "0008.mfd").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".last-fed", "0008.mfd"]


def test_behind_pcscd_each_card_is_asked_for_and_asked_to_be_taken_away(
    bare_shop: Shop, virtual_reader: VirtualReader
) -> None:
    bare_shop.init("pcsc:")
    (bare_shop.folder / "in.csv").write_text("phone\n09120000001\n09120000002\n")
    said = bare_shop.folder / "said"
    process = bare_shop.start("--json", *command(bare_shop, "--wait-s", "20"), stderr=said)
    cards = [MemoryImage(bytes(blank_card(bytes([1, 2, 3, number])))) for number in (1, 2)]
    for number, image in enumerate(cards, 1):
        wait_until(partial(is_said, said, f"Row {number} of 2: {Why.NO_CARD}"))
        virtual_reader.insert(VirtualCard(image))
        (line,) = read_lines(process, 1)
        assert (line["row"], line["status"], line["uid"]) == (number, "issued", f"0102030{number}")
        if number < len(cards):
            wait_until(partial(is_said, said, Why.SAME_CARD))
        virtual_reader.remove()
    assert not is_said(said, Why.TORN), "a card that leaves when it may is not torn away"
    (summary,) = read_lines(process, 1)
    assert (summary["issued"], summary["left"], process.wait(20)) == (2, 0, 0)
