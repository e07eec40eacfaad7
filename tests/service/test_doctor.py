"""Each check of ``doctor`` sees what it is there for, says what to do, and stops no other."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pytest_httpserver import HTTPServer

from drivers import ReaderInfo
from drivers.simulator import Fault, Torn
from drivers.usb_devices import held_by_kernel
from terminal_agent.desk.issue import IssueRequest, issue
from terminal_agent.errors import AgentError
from terminal_agent.journal.events import OutboxState
from terminal_agent.journal.journal import CLOCK_SKEW
from terminal_agent.service import operations
from terminal_agent.service.agent import Agent
from terminal_agent.service.doctor import checks as doctor
from terminal_agent.service.doctor.checks import CHECKS, examine
from terminal_agent.service.doctor.diagnosis import diagnose
from terminal_agent.service.doctor.surroundings import CHECKS as AROUND
from terminal_agent.service.initialise import initialise
from terminal_agent.service.keys.credentials import store_credentials
from terminal_agent.service.settings import load_settings
from terminal_agent.sync.client import Credentials
from terminal_agent.till.checkout import PurchaseRequest, purchase
from tests.journal.support import START, event, event_id, spoil_index
from tests.small_disk import fill
from tests.sync.support import SECRET, TOKEN, no_feed, page, problem
from tests.workbench import NOW, CountingIds, FixedClock, blank, lay, offline

OPERATIONS_BEFORE_THE_WRITE = 4


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    values = {"data_dir": str(tmp_path / "data"), "terminal_id": "till-1", "reader": f"sim:{tmp_path}/card.mfd"}
    initialise(path, values, force=False)
    return path


@pytest.fixture
def open_agent(config: Path, clock: FixedClock) -> Iterator[Callable[[], Agent]]:
    opened: list[Agent] = []

    def opener() -> Agent:
        opened.append(Agent(load_settings(config), config, clock, CountingIds()))
        return opened[-1]

    yield opener
    for agent in opened:
        agent.close()


@pytest.fixture
def agent(open_agent: Callable[[], Agent]) -> Agent:
    return open_agent()


def found(agent: Agent, name: str) -> dict[str, Any]:
    (check,) = [check for check in examine(agent, {})["checks"] if check["id"] == name]
    assert (check["fix"] is None) == (check["status"] == "ok"), "whatever is not well has a remedy"
    return check


def status(agent: Agent, name: str) -> str:
    return str(found(agent, name)["status"])


def test_a_new_terminal_has_no_failure(agent: Agent) -> None:
    checks = examine(agent, {})["checks"]
    assert [check["id"] for check in checks] == [name for name, _ in CHECKS]
    assert {check["id"]: check["status"] for check in checks if check["status"] != "ok"}.keys() <= {
        "backups",  # none was made yet
        "crm",  # none was joined yet
        "disk_sync",  # the tests may run in memory
    }
    assert "fail" not in {check["status"] for check in checks}


def test_files_that_others_may_read_are_named(agent: Agent) -> None:
    key = agent.settings.data_dir / "keys" / "v1.key"
    key.chmod(0o644)
    check = found(agent, "data_dir")
    assert check["status"] == "warn"
    assert check["fix"] == f"sudo chmod go= {key}"


def test_a_terminal_without_keys_fails(agent: Agent) -> None:
    for path in (agent.settings.data_dir / "keys").iterdir():
        path.unlink()
    agent.keys = type(agent.keys)(agent.settings.data_dir / "keys")
    assert status(agent, "keys") == "fail"


def test_keys_are_shown_by_check_value_alone(agent: Agent) -> None:
    key = (agent.settings.data_dir / "keys" / "v1.key").read_text().strip()
    assert agent.keys.list()[0].kcv in found(agent, "keys")["detail"]
    assert key.lower() not in str(examine(agent, {})).lower()


def record(agent: Agent, *numbers: int) -> None:
    with agent.journal.transaction():
        for number in numbers:
            agent.journal.events.append(event(number))


def edit(agent: Agent, sql: str) -> None:
    with agent.journal.transaction():
        agent.journal._database.execute(sql)


def test_an_index_that_disagrees_with_its_table_is_found(agent: Agent) -> None:
    """quick_check, at a start after a clean end, does not look for it."""
    record(agent, 1, 2, 3)
    assert status(agent, "journal") == "ok"
    spoil_index(agent.journal._database._connection)
    assert agent.journal._database.query("PRAGMA quick_check")[0][0] == "ok"
    check = found(agent, "journal")
    assert check["status"] == "fail"
    assert "outbox_waiting" in check["detail"]


def test_a_broken_chain_fails(agent: Agent) -> None:
    record(agent, 1, 2, 3)
    assert status(agent, "hash_chain") == "ok"
    edit(agent, "UPDATE events SET body = 'x' WHERE sequence = 2")
    check = found(agent, "hash_chain")
    assert check["status"] == "fail"
    assert "event 2 " in check["detail"]


@pytest.mark.parametrize("pragma", ["synchronous=NORMAL", "journal_mode=DELETE"])
def test_settings_that_lose_sales_at_a_power_cut_fail(agent: Agent, pragma: str) -> None:
    assert status(agent, "durability") == "ok"
    agent.journal._database.query(f"PRAGMA {pragma}")
    assert status(agent, "durability") == "fail"


def test_a_full_disk_fails(small_disk: Path, clock: FixedClock) -> None:
    config = small_disk / "config.toml"
    initialise(config, {"data_dir": str(small_disk / "data"), "terminal_id": "till-1"}, force=False)
    agent = Agent(load_settings(config), config, clock, CountingIds())
    assert status(agent, "disk_space") == "ok"
    fill(small_disk)
    assert status(agent, "disk_space") == "fail"
    assert status(agent, "disk_sync") in ("ok", "warn", "fail"), "no check stops another"
    assert status(agent, "alarms") == "fail"
    agent.close()


def test_a_disk_that_answers_too_fast_is_told(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_sync_times", lambda _probe: [2e-3, 1e-3])
    assert found(agent, "disk_sync")["detail"] == "data is safe after 1.00 ms"
    monkeypatch.setattr(doctor, "_sync_times", lambda _probe: [2e-3, 12e-6])
    assert status(agent, "disk_sync") == "warn"


def test_measuring_the_disk_leaves_nothing_behind(agent: Agent) -> None:
    before = sorted(agent.settings.data_dir.iterdir())
    assert min(doctor._sync_times(agent.settings.data_dir / ".fsync-probe")) > 0
    assert sorted(agent.settings.data_dir.iterdir()) == before


def test_an_impossible_date_fails_and_one_far_from_the_crms_warns(agent: Agent, clock: FixedClock) -> None:
    assert status(agent, "clock") == "ok"
    with agent.journal.transaction():
        agent.journal.set_meta(CLOCK_SKEW, "-900")
    assert status(agent, "clock") == "warn"
    clock.moment = datetime(1970, 1, 2, tzinfo=UTC)
    assert status(agent, "clock") == "fail"


def test_a_clock_behind_the_newest_sale_warns(agent: Agent, clock: FixedClock) -> None:
    record(agent, 1)
    clock.moment = START
    assert status(agent, "clock") == "ok"
    clock.advance(days=-1)
    assert "a sale is of" in found(agent, "clock")["detail"]


def test_at_1970_sales_go_on_marked_as_unsure_and_status_says_so(agent: Agent, clock: FixedClock) -> None:
    card = blank()
    with lay(card) as connection:
        issue(agent.terminal, connection, IssueRequest())
    assert operations.status(agent, {}, str)["problems"] == []
    clock.moment = datetime(1970, 1, 2, tzinfo=UTC)
    with lay(card) as connection:
        sold = purchase(agent.terminal, connection, PurchaseRequest("R-1", 50_000), offline)
    assert sold["state"] == "done"
    (event,) = [e for e in agent.journal.events.next_batch(10, 10**6) if e.type == "purchase.recorded"]
    assert json.loads(event.body)["data"]["clock"] == "unsynced"
    (problem,) = operations.status(agent, {}, str)["problems"]
    assert (problem["id"], "1970-01-02" in problem["detail"]) == ("clock", True)


def test_the_age_of_the_last_copy_is_watched(agent: Agent, clock: FixedClock, tmp_path: Path) -> None:
    assert status(agent, "backups") == "warn"
    agent.journal.back_up(tmp_path / "copy")
    assert status(agent, "backups") == "ok"
    clock.moment += timedelta(days=3)
    assert status(agent, "backups") == "warn"


def test_a_reader_that_does_not_answer_fails_and_none_at_all_warns(agent: Agent) -> None:
    assert status(agent, "reader") == "ok"
    agent.settings = agent.settings.model_copy(update={"reader": "sim:/no/such/folder/card.mfd"})
    assert status(agent, "reader") == "fail"
    agent.settings = agent.settings.model_copy(update={"reader": None})
    assert status(agent, "reader") == "warn"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (no_feed, "ok"),
        (problem(401, "unauthorized"), "fail"),
        (problem(404, "not_found"), "fail"),
        (page(200), "warn"),  # a portal's page is no answer
        (page(503), "warn"),
    ],
    ids=["well", "unauthorized", "no CRM", "portal", "down"],
)
def test_the_crm_is_asked(
    open_agent: Callable[[], Agent], config: Path, httpserver: Any, answer: Any, expected: str
) -> None:
    httpserver.expect_request("/v1/feed").respond_with_handler(answer)
    url = httpserver.url_for("").rstrip("/")
    store_credentials(load_settings(config).data_dir, Credentials(url, "till-1", "p", TOKEN, SECRET))
    check = found(open_agent(), "crm")
    assert check["status"] == expected
    assert TOKEN not in str(check)


def test_what_stands_between_is_named_by_what_broke(
    open_agent: Callable[[], Agent], config: Path, untrusted_server: str
) -> None:
    for url, remedy in (("https://no-such-name.invalid", "resolvectl"), (untrusted_server, "ca-certificates")):
        store_credentials(load_settings(config).data_dir, Credentials(url, "till-1", "p", TOKEN, SECRET))
        agent = open_agent()
        assert remedy in found(agent, "crm")["fix"]
        agent.close()


@pytest.fixture
def untrusted_server(tmp_path: Path) -> Iterator[str]:
    """One whose certificate nobody has signed but itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW - timedelta(days=1), NOW + timedelta(days=3650))
    pem = tmp_path / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with HTTPServer(host="localhost", ssl_context=context) as server:
        yield server.url_for("").rstrip("/")


def test_a_reader_that_is_plugged_in_and_cannot_be_used_is_named(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    held = held_by_kernel("072f:2200", "pn533_usb")
    seen = [ReaderInfo.with_problem("pcsc:", "", held), ReaderInfo.with_problem("pcsc:", "ACR122U", held)]
    monkeypatch.setattr(doctor, "list_readers", lambda: seen)
    agent.settings = agent.settings.model_copy(update={"reader": "pcsc:no such reader"})
    check = found(agent, "reader")
    assert "ACR122U: the kernel's module pn533_usb holds" in check["detail"]
    assert "modprobe -r pn533_usb" in check["fix"]


def test_a_terminal_that_joined_no_crm_is_told_how(agent: Agent) -> None:
    assert "enroll" in found(agent, "crm")["fix"]


def test_what_waits_too_long_or_for_a_person_warns(agent: Agent, clock: FixedClock) -> None:
    record(agent, 1)
    assert status(agent, "queue") == "ok"
    clock.advance(days=2)
    assert status(agent, "queue") == "warn"
    with agent.journal.transaction():
        agent.journal.events.settle(event_id(1), OutboxState.ACKNOWLEDGED, None)
    assert status(agent, "queue") == "ok"


def test_a_quarantined_event_warns(agent: Agent) -> None:
    record(agent, 1)
    with agent.journal.transaction():
        agent.journal.events.settle(event_id(1), OutboxState.QUARANTINED, "no")
    assert "1 quarantined" in found(agent, "queue")["detail"]
    assert status(agent, "queue") == "warn"


def test_a_sale_in_doubt_warns(agent: Agent) -> None:
    card = blank()
    with lay(card) as connection:
        issue(agent.terminal, connection, IssueRequest())
    with lay(card, Fault(OPERATIONS_BEFORE_THE_WRITE + 1, Torn.OLD)) as connection, pytest.raises(AgentError):
        purchase(agent.terminal, connection, PurchaseRequest("R-1", 50_000), offline)
    assert "1 in doubt" in found(agent, "queue")["detail"]


def test_alarms_fail_until_they_are_acknowledged(agent: Agent) -> None:
    agent.journal.begin_as_copy("an older disk was put back")
    check = found(agent, "alarms")
    assert (check["status"], check["detail"]) == ("fail", "an older disk was put back")
    assert "doctor --acknowledge" in check["fix"]
    examine(agent, {"acknowledge": True})
    assert status(agent, "alarms") == "ok"


def test_a_check_that_cannot_be_made_has_failed_and_stops_no_other(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_reach(_probe: Path) -> list[float]:
        raise PermissionError(13, "Permission denied", "/data/.fsync-probe")

    monkeypatch.setattr(doctor, "_sync_times", out_of_reach)
    check = found(agent, "disk_sync")
    assert (check["status"], check["detail"]) == ("fail", "/data/.fsync-probe: Permission denied")
    assert status(agent, "alarms") == "ok"


def test_a_config_file_that_cannot_be_used_is_the_one_finding(config: Path) -> None:
    config.write_text("data_dir = 7\n")
    (check,) = diagnose(config, {})["checks"]
    assert (check["id"], check["status"]) == ("config", "fail")
    assert "data_dir" in check["detail"]


def test_a_key_file_that_others_may_read_stops_its_cards_and_not_the_terminal(
    open_agent: Callable[[], Agent], config: Path
) -> None:
    key = load_settings(config).data_dir / "keys" / "v1.key"
    key.chmod(0o644)
    another = key.with_name("v2.key")
    another.write_text("damaged")
    another.chmod(0o600)
    agent = open_agent()
    check = found(agent, "keys")
    assert (check["status"], check["fix"]) == ("fail", f"Close it: sudo chmod 600 {key}")
    assert [each["id"] for each in operations.status(agent, {}, print)["problems"]] == ["keys"]
    key.chmod(0o600)
    assert "v2.key is damaged" in found(agent, "keys")["detail"]
    another.unlink()
    assert status(agent, "keys") == "ok"


def test_a_terminal_that_cannot_start_says_why(config: Path) -> None:
    sound = config.read_text()
    config.write_text(f'{sound.partition("[keys]")[0]}\n[keys]\nprovider = "pkcs11"\n')
    checks = diagnose(config, {})["checks"]
    assert [check["id"] for check in checks] == ["config", *(check.name for check in AROUND), "start"]
    assert (checks[0]["status"], checks[-1]["status"]) == ("ok", "fail")
    assert "module =" in checks[-1]["fix"]
    config.write_text(sound)
    assert len(diagnose(config, {})["checks"]) == 1 + len(AROUND) + len(CHECKS)
