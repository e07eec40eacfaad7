"""The package on a shop's PC: installed without a network, at work under systemd, hung, crashed, upgraded, removed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.shop import wait_until
from tests.service_container import bad_input
from tests.service_container.bad_input import Story
from tests.service_container.machine import CRM_PORT, ROOT, Machine, installed

pytestmark = [pytest.mark.container, pytest.mark.slow]

WITHOUT_TRIXIE = "TERMINAL_AGENT_WITHOUT_TRIXIE"
PYTHON_OF = {"bookworm": "3.11", "trixie": "3.13"}
ON_ONE_IS_ENOUGH = pytest.mark.parametrize("machine", ["bookworm"], indirect=True)
CRM_URL = f"http://127.0.0.1:{CRM_PORT}"
KEY = "00112233445566778899aabbccddeeff"
HANG = """
import os, time
import uvicorn
came_round = uvicorn.Server.on_tick
async def on_tick(self, counter):
    while os.path.exists("/run/terminal-agent/hang"):
        time.sleep(0.1)
    return await came_round(self, counter)
uvicorn.Server.on_tick = on_tick
"""


def python(version: str) -> str | None:
    """One of this machine, with venv; pyenv keeps its own out of the way."""
    kept = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python3"))
    named = [f"/usr/bin/python{version}", shutil.which(f"python{version}"), *map(str, kept)]
    return next((name for name in named if name and _works(name)), None)


def _works(name: str) -> bool:
    check = [name, "-c", "import venv, ensurepip"]
    return os.path.exists(name) and subprocess.run(check, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def package(systemd: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .deb: the one that is named, or made of this checkout for each Debian's Python that is here."""
    named = os.environ.get("TERMINAL_AGENT_PACKAGE")
    if named:
        return Path(named)
    checkout = tmp_path_factory.mktemp("package") / "checkout"
    names = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], check=True, capture_output=True).stdout
    for name in names.decode().rstrip("\0").split("\0"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    pythons = [found for version in PYTHON_OF.values() if (found := python(version))]
    built = subprocess.run([checkout / "scripts" / "package", *pythons], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return checkout / built.stdout.strip()


@pytest.fixture(scope="module", params=list(PYTHON_OF))
def machine(
    request: pytest.FixtureRequest, package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    if python(PYTHON_OF[request.param]) is None:
        problem = f"no Python {PYTHON_OF[request.param]} is here to make {request.param}'s wheels with"
        if os.environ.get(WITHOUT_TRIXIE) == "1":
            pytest.skip(f"{WITHOUT_TRIXIE}=1: {problem}")
        pytest.fail(f"{problem}; put one on PATH, or set {WITHOUT_TRIXIE}=1")
    with installed(request.param, tmp_path_factory.mktemp(request.param), package) as machine:
        machine.wait_for("ActiveState", "active")
        yield machine


@pytest.fixture(scope="module")
def shop(machine: Machine) -> Machine:
    """The same machine with the club's key set."""
    machine.ta("keys", "import", "--file", "-", "--activate", text=KEY + "\n")
    return machine


def test_the_service_is_ready_without_a_card_a_key_or_a_network_and_says_so(machine: Machine) -> None:
    status = machine.ta("status")
    assert (status["state"], status["crm"]["state"]) == ("ready", "not_enrolled")
    assert re.fullmatch(r"till-[0-9a-f]{8}", status["terminal_id"])
    assert status["reader"]["state"] == "ready", "pcscd serves a user without a log-in session"
    wait_until(lambda: machine.property("StatusText").startswith("ready; reader ready"))
    keys = next(check for check in machine.ta("doctor")["checks"] if check["id"] == "keys")
    assert (keys["status"], "keys import" in keys["fix"]) == ("fail", True)


def test_the_first_tap_on_the_packaged_machine(shop: Machine, tmp_path: Path) -> None:
    crm_dir = tmp_path / "crm"
    crm = shop.beside("terminal_agent", "crm", "serve", "--data-dir", str(crm_dir), "--listen", f"127.0.0.1:{CRM_PORT}")
    make_code = ["python", "-m", "terminal_agent", "--json", "crm", "code", "--data-dir", str(crm_dir)]
    wait_until((crm_dir / "crm.sqlite3").exists)
    code = re.findall(r'"code": "(.+?)"', subprocess.run(make_code, capture_output=True, text=True, check=True).stdout)[
        0
    ]
    assert shop.ta("enroll", "--crm-url", CRM_URL, "--code-file", "-", text=code + "\n")["crm_url"] == CRM_URL

    card = shop.lay_card(tmp_path / "card.mfd")
    issued = shop.ta("card", "issue", "--phone", "+98 912 555 4433", "--name", "سارا")
    assert (issued["points"], shop.ta("card", "verify")["ok"]) == (0, True)
    shop.ta("sync")
    shop.take(crm)
    first = shop.ta("purchase", "1250000", "--receipt", "1001")
    second = shop.ta("purchase", "480000", "--receipt", "1002", "--redeem", "50")
    assert (first["points_after"], second["points_after"]) == (125, 123)
    assert shop.ta("queue", "list")["pending"] == 2
    taps = shop.run("journalctl", "-u", "terminal-agent", "TERMINAL_AGENT_TAP=done", "-o", "cat").splitlines()
    assert len(taps) == 4, "one line for each: issue, verify, two purchases"
    shop.run("systemctl", "restart", "terminal-agent")
    assert shop.ta("purchase", "480000", "--receipt", "1002", "--redeem", "50") == {**second, "replayed": True}
    shop.take(card)

    crm = shop.beside("terminal_agent", "crm", "serve", "--data-dir", str(crm_dir), "--listen", f"127.0.0.1:{CRM_PORT}")
    wait_until(lambda: shop.ta("sync").get("pending") == 0)
    shop.take(crm)
    assert shop.ta("queue", "list")["pending"] == 0


def test_members_of_the_group_use_it_and_others_are_refused(shop: Machine) -> None:
    for user, groups in (("cashier", ["-G", "terminal-agent"]), ("visitor", [])):
        shop.run("useradd", user, *groups)
    ask = ("terminal-agent", "--json", "status")
    assert '"state": "ready"' in shop.run("runuser", "-u", "cashier", "--", *ask)
    refused = shop.try_to("runuser", "-u", "visitor", "--", *ask)
    assert (refused.returncode, "sudo adduser" in refused.stdout) == (1, True)
    till = "import socket; socket.socket(socket.AF_UNIX).connect('/run/terminal-agent/till.sock')"
    shop.run("runuser", "-u", "cashier", "--", "python3", "-c", till)
    assert shop.try_to("runuser", "-u", "visitor", "--", "python3", "-c", till).returncode == 1
    for secret in ("/var/lib/terminal-agent/keys/v1.key", "/var/lib/terminal-agent/journal.sqlite3"):
        assert shop.try_to("runuser", "-u", "cashier", "--", "cat", secret).returncode == 1


@ON_ONE_IS_ENOUGH
def test_what_root_does_while_the_daemon_is_stopped_does_not_stop_the_daemon(shop: Machine) -> None:
    shop.run("systemctl", "stop", "terminal-agent")
    assert shop.property("Result") == "success"
    assert shop.ta("status")["state"] == "stopped"
    assert shop.ta("keys", "generate")["active"] is False
    refused = shop.try_to("runuser", "-u", "cashier", "--", "terminal-agent", "--json", "status")
    assert "sudo systemctl start terminal-agent" in refused.stdout
    owners = shop.run("find", "/var/lib/terminal-agent", "!", "-user", "terminal-agent")
    assert owners == ""
    shop.run("systemctl", "start", "terminal-agent")
    assert shop.ta("status")["state"] == "ready"


@ON_ONE_IS_ENOUGH
def test_a_crash_is_over_in_seconds(shop: Machine) -> None:
    before = int(shop.property("NRestarts"))
    shop.run("systemctl", "kill", "--signal=KILL", "--kill-who=main", "terminal-agent")
    wait_until(lambda: int(shop.property("NRestarts")) > before and shop.property("ActiveState") == "active")
    assert shop.ta("status")["state"] == "ready"


@ON_ONE_IS_ENOUGH
def test_a_hung_event_loop_is_ended_by_the_watchdog_and_the_stacks_are_in_the_journal(shop: Machine) -> None:
    shop.write("/opt/hang/sitecustomize.py", HANG)
    drop_in = "/etc/systemd/system/terminal-agent.service.d/hang.conf"
    shop.write(drop_in, "[Service]\nWatchdogSec=2\nEnvironment=PYTHONPATH=/opt/hang\n")
    shop.run("systemctl", "daemon-reload")
    shop.run("systemctl", "restart", "terminal-agent")
    before = int(shop.property("NRestarts"))
    shop.run("touch", "/run/terminal-agent/hang")
    wait_until(lambda: int(shop.property("NRestarts")) > before and shop.property("ActiveState") == "active", 60)
    told = shop.journal()
    assert "unwell till=silent" in told
    assert "in on_tick" in told, "where it hung"
    (shop.root / drop_in.lstrip("/")).unlink()
    shop.run("systemctl", "daemon-reload")
    shop.run("systemctl", "restart", "terminal-agent")
    assert shop.ta("status")["state"] == "ready"


def test_sealed_keys_are_the_services_alone_and_one_that_is_missing_is_named(shop: Machine) -> None:
    before = shop.ta("keys", "list")
    shop.run("terminal-agent-seal")
    assert shop.ta("keys", "list") == before
    assert shop.run("find", "/var/lib/terminal-agent/keys", "-name", "v*") == ""
    assert "sealed" in next(check for check in shop.ta("doctor")["checks"] if check["id"] == "keys")["detail"]
    for sealed in (shop.root / "etc" / "credstore.encrypted").iterdir():
        assert KEY not in sealed.read_text(errors="replace")
    (shop.root / "etc" / "credstore.encrypted" / "terminal-agent.key-v1").rename(shop.root / "opt" / "key")
    shop.run("systemctl", "restart", "terminal-agent")
    keys = next(check for check in shop.ta("doctor")["checks"] if check["id"] == "keys")
    assert keys["status"] == "fail"
    assert "terminal-agent.key-v1" in keys["fix"]
    (shop.root / "opt" / "key").rename(shop.root / "etc" / "credstore.encrypted" / "terminal-agent.key-v1")
    shop.run("systemctl", "restart", "terminal-agent")
    assert shop.ta("keys", "list") == before


@ON_ONE_IS_ENOUGH
@pytest.mark.parametrize("chapter", bad_input.CHAPTERS, ids=lambda chapter: chapter.__name__)
def test_what_is_wrong_around_it_is_named_and_mended_and_sales_go_on(
    shop: Machine, chapter: Callable[[Story], None], tmp_path: Path
) -> None:
    with Story(shop, tmp_path / "card.mfd") as story:
        chapter(story)


@ON_ONE_IS_ENOUGH
def test_a_machine_that_starts_without_a_reader_is_ready_and_says_so(shop: Machine) -> None:
    entry = shop.root / "etc" / "reader.conf.d" / "vpcd"
    entry.rename(shop.root / "opt" / "vpcd")
    shop.power_off()
    shop.boot()
    shop.wait_for("ActiveState", "active")
    wait_until(lambda: shop.ta("status")["reader"]["state"] == "lost")
    wait_until(lambda: "reader lost" in shop.property("StatusText"))
    (shop.root / "opt" / "vpcd").rename(entry)
    shop.run("systemctl", "restart", "pcscd")
    wait_until(lambda: shop.ta("status")["reader"]["state"] == "ready")


@ON_ONE_IS_ENOUGH
def test_an_upgrade_keeps_everything_one_that_fails_changes_nothing_an_older_one_is_refused_and_a_purge_keeps_the_data(
    shop: Machine, package: Path, tmp_path: Path
) -> None:
    def kept() -> tuple[str, list[str], dict[str, Any], list[str]]:
        versions = sorted(path.name for path in (shop.root / "opt" / "terminal-agent").iterdir())
        waiting = [event["id"] for event in shop.ta("queue", "list")["events"]]
        return shop.ta("status")["terminal_id"], waiting, shop.ta("keys", "list"), versions

    card = shop.lay_card(tmp_path / "card.mfd")
    shop.ta("card", "issue", "--wait-s", "20")
    shop.take(card)
    before = kept()
    assert before[1], "what was done waits for the CRM"
    assert len(before[3]) == 2, "one version and the link to it"
    repack(package, tmp_path / "broken", shop.root / "opt" / "broken.deb", 98, with_wheels=False)
    failed = shop.try_to("dpkg", "-i", "/opt/broken.deb")
    assert (failed.returncode, "Nothing was changed" in failed.stderr) == (1, True)
    assert kept() == before, "the version that was there runs on"

    repack(package, tmp_path / "newer", shop.root / "opt" / "newer.deb", 99, with_wheels=True)
    for _ in range(2):  # the second time there is nothing to do
        shop.run("/opt/scripts/install", "--package", "/opt/newer.deb")
    assert kept()[:3] == before[:3]
    assert len(kept()[3]) == 2
    refused = shop.try_to("dpkg", "-i", f"/opt/{package.name}")
    assert refused.returncode != 0
    assert "going back is refused" in refused.stderr
    assert shop.ta("status")["state"] == "ready"

    shop.run("dpkg", "--remove", "terminal-agent")
    assert shop.try_to("systemctl", "is-active", "terminal-agent").stdout.strip() == "inactive"
    shop.run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--purge", "terminal-agent")
    assert (shop.root / "var" / "lib" / "terminal-agent" / "journal.sqlite3").exists(), "nobody said that it may go"


@pytest.mark.parametrize("machine", ["trixie"], indirect=True)
def test_the_data_goes_with_a_purge_where_that_was_said(shop: Machine) -> None:
    shop.run("debconf-set-selections", text="terminal-agent terminal-agent/delete-data boolean true\n")
    shop.run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--purge", "terminal-agent")
    for gone in ("var/lib/terminal-agent", "etc/terminal-agent", "opt/terminal-agent"):
        assert not (shop.root / gone).exists()


def repack(package: Path, tree: Path, made: Path, patch: int, *, with_wheels: bool) -> None:
    """The same package as a later version; without its wheels it cannot be laid."""
    subprocess.run(["dpkg-deb", "-R", str(package), str(tree)], check=True)
    for name in ("control", "preinst"):
        file = tree / "DEBIAN" / name
        file.write_text(re.sub(r"\b0\.(\d+)\.\d+\b", rf"0.\1.{patch}", file.read_text()))
    if not with_wheels:
        shutil.rmtree(tree / "usr" / "share" / "terminal-agent" / "wheels")
    subprocess.run(["dpkg-deb", "-Znone", "-b", str(tree), str(made)], check=True, capture_output=True)
