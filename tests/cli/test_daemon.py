"""The daemon: commands go through it, its signals, its end, and what it does by itself."""

from __future__ import annotations

import re
import signal
import socket
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.service.keys.credentials import store_credentials
from terminal_agent.sync.client import Credentials
from tests.cli.shop import CrmProcess, Shop, wait_until
from tests.pcsc.virtual_reader import VirtualCard, VirtualReader

SLOW_WRITE_S = 2.0  # far longer than everything else takes that the daemon does as it ends
OPERATIONS_BEFORE_THE_WRITE = 4  # one authentication, three reads


def torn_purchase(shop: Shop, reader: VirtualReader, image: MemoryImage, outcome: Torn) -> Any:
    """A purchase whose card is pulled away while its state is written."""
    reader.swap(VirtualCard(image, fault=Fault(OPERATIONS_BEFORE_THE_WRITE + 1, outcome)))
    answer = shop.ta("purchase", "250000", "--receipt", "7", "--wait-s", "0.5")
    assert answer.exit_code == 4
    assert answer.json["state"] == "in_doubt"
    assert answer.code == "card_removed_early"
    return answer.json


@pytest.mark.pcsc
@pytest.mark.parametrize("outcome", list(Torn))
def test_a_torn_sale_is_settled_when_the_same_card_comes_back(
    pcsc_shop: Shop, virtual_reader: VirtualReader, image: MemoryImage, outcome: Torn
) -> None:
    torn_purchase(pcsc_shop, virtual_reader, image, outcome)
    assert pcsc_shop.done("queue", "list")["in_doubt"] == 1
    listed = pcsc_shop.done("queue", "list", "--state", "in_doubt")
    assert listed["events"] == []
    assert [row["receipt_no"] for row in listed["checkouts_in_doubt"]] == ["7"]
    virtual_reader.insert(VirtualCard(image))
    settled = pcsc_shop.done("purchase", "250000", "--receipt", "7")
    assert (settled["points_after"], settled["state"]) == (25, "done")
    shown = pcsc_shop.done("card", "show")
    assert (shown["points"], shown["sequence"], shown["problem"]) == (25, settled["sequence"], None)
    queue = pcsc_shop.done("queue", "list")
    assert queue["in_doubt"] == 0
    assert [event["type"] for event in queue["events"]].count("purchase.recorded") == 1


@pytest.mark.pcsc
def test_the_daemon_settles_a_torn_sale_when_the_card_is_laid_down(
    pcsc_shop: Shop, virtual_reader: VirtualReader, image: MemoryImage
) -> None:
    pcsc_shop.start_daemon()
    torn_purchase(pcsc_shop, virtual_reader, image, Torn.GARBAGE)
    virtual_reader.remove()
    virtual_reader.insert(VirtualCard(image))
    wait_until(lambda: pcsc_shop.done("queue", "list")["in_doubt"] == 0)
    replay = pcsc_shop.done("purchase", "250000", "--receipt", "7")
    assert (replay["state"], replay["replayed"]) == ("done", True)
    assert pcsc_shop.done("card", "show")["points"] == 25


@pytest.mark.pcsc
def test_a_card_back_in_time_finishes_the_same_command(
    pcsc_shop: Shop, virtual_reader: VirtualReader, image: MemoryImage
) -> None:
    virtual_reader.swap(VirtualCard(image, fault=Fault(OPERATIONS_BEFORE_THE_WRITE + 1, Torn.OLD)))
    back = threading.Timer(1.0, lambda: virtual_reader.insert(VirtualCard(image)))
    back.start()
    answer = pcsc_shop.ta("purchase", "250000", "--receipt", "7", "--wait-s", "10")
    back.join()
    assert (answer.exit_code, answer.json["points_after"]) == (0, 25)
    assert "SAME card" in answer.err


@pytest.mark.pcsc
def test_a_sale_closed_without_its_card_is_credited_and_reaches_the_card_once(
    pcsc_shop: Shop, virtual_reader: VirtualReader, image: MemoryImage
) -> None:
    crm = CrmProcess(pcsc_shop)
    crm.up()
    pcsc_shop.join(crm)
    pcsc_shop.done("sync")
    doubt = torn_purchase(pcsc_shop, virtual_reader, image, Torn.OLD)
    closed = pcsc_shop.done("queue", "close", doubt["checkout_id"])
    assert (closed["state"], closed["points_earned"]) == ("closed", 25)
    again = pcsc_shop.ta("purchase", "250000", "--receipt", "7")
    assert (again.exit_code, again.json["state"], again.json["replayed"]) == (7, "closed", True)
    pcsc_shop.done("sync")
    assert pcsc_shop.crm_card(crm, doubt["card_no"])["balance"] == 25

    virtual_reader.insert(VirtualCard(image))
    assert pcsc_shop.done("purchase", "10000", "--receipt", "8")["points_after"] == 1
    pcsc_shop.done("sync")
    assert pcsc_shop.done("purchase", "10000", "--receipt", "9")["points_after"] == 2 + 25
    pcsc_shop.done("sync")
    assert pcsc_shop.crm_card(crm, doubt["card_no"])["balance"] == 27


def test_sigterm_ends_the_daemon_with_0(shop: Shop) -> None:
    daemon = shop.start_daemon()
    exit_code, err = shop.end(daemon)
    assert exit_code == 0, err
    assert not (shop.data_dir / "agent.sock").exists()
    assert shop.done("status")["state"] == "stopped"


@pytest.mark.pcsc
def test_the_card_in_hand_is_finished_before_the_daemon_stops(
    pcsc_shop: Shop, virtual_reader: VirtualReader, image: MemoryImage
) -> None:
    daemon = pcsc_shop.start_daemon()

    class Closing(MemoryImage):
        """The shop's PC is shut down while the card takes its new state."""

        def write(self, block: int, data: bytes) -> None:
            daemon.send_signal(signal.SIGTERM)
            time.sleep(SLOW_WRITE_S)
            super().write(block, data)

    virtual_reader.swap(VirtualCard(Closing(bytes(image.content))))
    bought = pcsc_shop.done("purchase", "250000", "--receipt", "7")
    assert (bought["state"], bought["points_after"]) == ("done", 25)
    exit_code, _ = pcsc_shop.end(daemon)
    assert exit_code == 0
    assert pcsc_shop.done("queue", "list")["in_doubt"] == 0


def test_a_crm_that_keeps_silent_does_not_hold_up_the_end(shop: Shop) -> None:
    """It takes the request and never answers, as half a line does: the PC is shut down all the same."""
    with socket.create_server(("127.0.0.1", 0)) as crm:
        url = f"http://127.0.0.1:{crm.getsockname()[1]}"
        store_credentials(shop.data_dir, Credentials(url, "till-1", "a programme", "a token", bytes(32)))
        shop.config.write_text(shop.config.read_text() + f'\n[crm]\nurl = "{url}"\n')
        daemon = shop.start_daemon()
        crm.settimeout(60)
        with crm.accept()[0] as call:
            assert call.recv(1)
            exit_code, err = shop.end(daemon)  # within 20 s; the call itself would wait for 30
    assert exit_code == 0, err
    assert shop.done("status")["crm"]["state"] == "unknown", "who ends a call learns nothing of the CRM"


def test_no_thread_of_the_daemon_takes_the_signal_from_the_one_that_waits_for_it(shop: Shop) -> None:
    daemon = shop.start_daemon()
    shop.done("status")  # every thread has been started
    others = [thread for thread in Path(f"/proc/{daemon.pid}/task").iterdir() if thread.name != str(daemon.pid)]
    masks: list[str] = []
    for thread in others:
        with suppress(FileNotFoundError, ProcessLookupError):  # it carried one request out, and has ended
            masks += re.findall(r"^SigBlk:\s*(\w+)", (thread / "status").read_text(), re.MULTILINE)
    assert len(masks) > 2
    assert all(int(mask, 16) >> signal.SIGTERM - 1 & 1 for mask in masks)


def test_a_killed_daemon_leaves_nothing_in_the_way(shop: Shop) -> None:
    daemon = shop.start_daemon()
    shop.done("card", "issue")
    shop.end(daemon, signal.SIGKILL)
    assert shop.done("purchase", "10000", "--receipt", "1")["points_after"] == 1
    shop.start_daemon()
    assert shop.done("purchase", "10000", "--receipt", "1")["replayed"] is True


def test_commands_answer_the_same_with_and_without_the_daemon(shop: Shop) -> None:
    shop.done("card", "issue")
    commands = (("card", "show"), ("card", "verify"), ("keys", "list"), ("reader", "list"))
    alone = [shop.ta(*command).json for command in commands]
    shop.start_daemon()
    assert [shop.ta(*command).json for command in commands] == alone
    assert shop.ta("card", "issue").code == "already_issued"
    assert shop.ta("purchase", "1", "--receipt", "1", "--redeem", "1").code == "insufficient_points"


def test_the_data_directory_is_private(shop: Shop) -> None:
    shop.start_daemon()
    for path in (shop.data_dir, *shop.data_dir.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_card_left_in_doubt_is_no_obstacle_to_another_card(shop: Shop) -> None:
    shop.start_daemon()
    shop.done("card", "issue")
    other = ("--reader", f"sim:{shop.folder}/other.mfd")
    shop.done("card", "issue", *other)
    shop.done("purchase", "10000", "--receipt", "1")
    assert shop.done("purchase", "10000", "--receipt", "2", *other)["points_after"] == 1
