"""The queue carried in a file, by the commands as people run them, with the daemon and without."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.cli.shop import CrmProcess, Shop


@pytest.mark.parametrize("daemon", [False, True], ids=["without the daemon", "with the daemon"])
def test_a_queue_is_carried_there_and_its_receipt_back(
    shop: Shop, crm: CrmProcess, tmp_path: Path, daemon: bool
) -> None:
    shop.join(crm)
    crm.down()
    card_no = shop.done("card", "issue")["card_no"]
    shop.done("purchase", "250000", "--receipt", "1")
    if daemon:
        shop.start_daemon()
    export, receipt = tmp_path / "till-1.queue", tmp_path / "till-1.receipt"
    made = shop.done("queue", "export", str(export))
    assert (made["file"], made["left"]) == (str(export), 0)
    waiting = shop.done("queue", "list")["pending"]
    assert made["events"] == waiting > 0
    assert stat.S_IMODE(export.stat().st_mode) == 0o600
    place = ("--data-dir", str(crm.data_dir))
    booked = shop.done("crm", "import", str(export), "--receipt", str(receipt), *place)
    assert (booked["accepted"], booked["receipt"]) == (waiting, str(receipt))
    assert stat.S_IMODE(receipt.stat().st_mode) == 0o600
    assert shop.done("queue", "acknowledge", str(receipt))["acknowledged"] == waiting
    assert shop.done("queue", "list")["pending"] == 0
    assert shop.crm_card(crm, card_no)["balance"] == 25


def test_files_that_cannot_be_used_are_refused_with_what_to_do(shop: Shop, crm: CrmProcess, tmp_path: Path) -> None:
    export = tmp_path / "till-1.queue"
    assert shop.ta("queue", "export", str(export)).code == "not_enrolled"
    shop.join(crm)
    shop.done("queue", "export", str(export))
    again = shop.ta("queue", "export", str(export))
    assert (again.exit_code, again.code) == (2, "invalid_input"), "a file that is there is never replaced"
    export.write_bytes(export.read_bytes()[:-9])
    place = ("--data-dir", str(crm.data_dir))
    for arguments in (("crm", "import", str(export), *place), ("queue", "acknowledge", str(export))):
        answer = shop.ta(*arguments)
        assert (answer.exit_code, answer.code) == (1, "file_invalid")
        assert answer.json["error"]["hint"]
    missing = shop.ta("queue", "acknowledge", str(tmp_path / "missing"))
    assert missing.code == "invalid_input"
    assert shop.ta("queue", "acknowledge", str(tmp_path)).exit_code == 2
