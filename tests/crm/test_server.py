"""The server as a process: it tells when it is ready, ends in order, and survives being killed."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from terminal_agent.crm import admin
from terminal_agent.crm.place import Place
from terminal_agent.crm.server import listen, url_of
from terminal_agent.errors import AgentError, ErrorCode
from tests.crm.world import CARD, Crm

SERVE = [sys.executable, "-m", "terminal_agent", "crm", "serve", "--listen", "127.0.0.1:0"]
READY = "listening on "


@contextmanager
def served(place: Place, *options: str) -> Iterator[tuple[Crm, subprocess.Popen[str]]]:
    where = ["--data-dir", str(place)] if isinstance(place, Path) else ["--database-url", place.text]
    command = [*SERVE, *where, *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line.startswith(READY), line
            yield Crm(line.removeprefix(READY).strip(), place), process
        finally:
            process.kill()


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    with served(tmp_path / "crm") as (crm, process):
        terminal = crm.enrol()
        events = [terminal.purchase(counter, earned=counter) for counter in range(1, 31)]
        assert terminal.verdicts(*events[:20]) == ["accepted"] * 20
        process.send_signal(signal.SIGKILL)
        process.wait()
    with served(tmp_path / "crm") as (crm, _process):
        terminal.url = crm.url
        terminal.session.close()
        got = terminal.post(*events)
        assert [result["status"] for result in got["results"]] == ["duplicate"] * 20 + ["accepted"] * 10
        assert got["acked_through"] == 30
        assert crm.ledger()[f"card:{CARD}"] == 31 * 15
    terminal.session.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_with_0_and_nothing_secret_was_logged(number: signal.Signals, tmp_path: Path) -> None:
    with served(tmp_path / "crm") as (crm, process):
        code = admin.make_code(crm.place)["code"]
        terminal = crm.enrol(code=code)
        terminal.post(terminal.purchase(1, earned=1))
        terminal.call("GET", "/v1/members?phone=09125554433")
        process.send_signal(number)
        out, log = process.communicate(timeout=60)
        assert process.returncode == 0
    for secret in (code, terminal.token, terminal.secret.hex(), CARD, "09125554433"):
        assert secret not in out + log
    terminal.session.close()


def test_a_client_that_leaves_in_the_middle_of_its_request_is_no_error(tmp_path: Path) -> None:
    half = b'POST /v1/terminals/enroll HTTP/1.1\r\nHost: x\r\nRequest-Id: 1\r\nContent-Length: 50\r\n\r\n{"code": '
    with served(tmp_path / "crm") as (crm, process):
        at = urlsplit(crm.url)
        with socket.create_connection((str(at.hostname), int(at.port or 0))) as client:
            client.sendall(half)
        crm.enrol().session.close()  # answered after the other one was dropped
        process.send_signal(signal.SIGTERM)
        _out, log = process.communicate(timeout=60)
    assert "Traceback" not in log


def test_a_port_in_use_is_said_clearly(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(AgentError, match="Cannot listen") as refused:
        listen("127.0.0.1", taken.getsockname()[1])
    assert refused.value.code is ErrorCode.BUSY
    assert "--listen" in refused.value.hint


def test_an_address_of_another_machine_is_a_configuration_error() -> None:
    with pytest.raises(AgentError) as refused:
        listen("192.0.2.1", 0)
    assert refused.value.code is ErrorCode.CONFIG_INVALID


def test_an_ipv6_address_is_told_in_brackets() -> None:
    assert url_of(("::1", 7412, 0, 0)) == "http://[::1]:7412"
    assert url_of(("127.0.0.1", 7412)) == "http://127.0.0.1:7412"


def test_no_answer_waits_for_the_callers_delayed_acknowledgement() -> None:
    with (
        listen("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
