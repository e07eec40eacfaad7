"""Through the daemon's socket a command sees and says what it would have seen and said by itself."""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from terminal_agent.errors import AgentError, ErrorCode, ExitCode
from terminal_agent.service import control
from terminal_agent.service.control import SOCKET_FILE, ControlServer, Talk

Serve = Callable[[Callable[[str, dict[str, Any], Talk], Any]], None]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    servers: list[ControlServer] = []

    def start(execute: Callable[[str, dict[str, Any], Talk], Any]) -> None:
        servers.append(ControlServer(tmp_path, execute))
        servers[-1].start()

    yield start
    for server in servers:
        server.stop()


def ask(folder: Path, operation: str = "echo", params: dict[str, Any] | None = None, talk: Talk = print) -> Any:
    connection = control.connect(folder)
    assert connection is not None
    return control.call(connection, operation, params or {}, talk)


def echo(operation: str, params: dict[str, Any], _talk: Talk) -> Any:
    return {"operation": operation, "params": params}


def test_a_request_is_carried_out_and_answered(tmp_path: Path, serve: Serve) -> None:
    serve(echo)
    assert ask(tmp_path, "card.show", {"name": "علی"}) == {"operation": "card.show", "params": {"name": "علی"}}


def test_no_answer_is_an_answer_too(tmp_path: Path, serve: Serve) -> None:
    serve(lambda *_: None)
    assert ask(tmp_path) is None


def test_without_a_daemon_there_is_no_connection(tmp_path: Path) -> None:
    assert control.connect(tmp_path) is None
    assert control.connect(tmp_path / "none") is None
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET_FILE))
    assert control.connect(tmp_path) is None, "the socket of a daemon that was killed"


def test_a_socket_left_by_a_daemon_that_was_killed_is_replaced(tmp_path: Path, serve: Serve) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET_FILE))
    serve(echo)
    assert ask(tmp_path, "status")["operation"] == "status"


def test_the_socket_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path, serve: Serve) -> None:
    old_mask = os.umask(0)
    try:
        serve(echo)
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE((tmp_path / SOCKET_FILE).stat().st_mode) == 0o600


def test_a_data_directory_may_lie_deeper_than_a_socket_address_is_long(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    server = ControlServer(deep, echo)
    server.start()
    try:
        assert ask(deep, "status")["operation"] == "status"
    finally:
        server.stop()
    assert list(deep.iterdir()) == []


def test_what_the_daemon_says_on_the_way_arrives_before_the_answer(tmp_path: Path, serve: Serve) -> None:
    heard: list[str] = []
    asked_again = threading.Event()

    def execute(_operation: str, _params: dict[str, Any], talk: Talk) -> Any:
        talk("Put the card on the reader.")
        assert asked_again.wait(5), "the line must arrive while the work goes on"
        talk("Thank you.")
        return 1

    def listen(text: str) -> None:
        heard.append(text)
        asked_again.set()

    serve(execute)
    assert ask(tmp_path, talk=listen) == 1
    assert heard == ["Put the card on the reader.", "Thank you."]


def test_an_error_travels_whole(tmp_path: Path, serve: Serve) -> None:
    sent = AgentError(
        ErrorCode.CARD_REMOVED_EARLY,
        "the card left",
        hint="Put it back",
        details={"state": "in_doubt", "checkout_id": "c1"},
    )

    def execute(*_: Any) -> Any:
        raise sent

    serve(execute)
    with pytest.raises(AgentError) as got:
        ask(tmp_path)
    assert got.value.to_json() == sent.to_json()
    assert got.value.exit_code is ExitCode.CARD_PROBLEM
    assert got.value.retryable


@pytest.mark.parametrize(
    "problem",
    [KeyError("x"), RuntimeError("secret"), OSError("disk"), AttributeError(), AssertionError(), TimeoutError()],
)
def test_the_unforeseen_is_told_as_such_and_the_daemon_goes_on(
    tmp_path: Path, serve: Serve, problem: Exception
) -> None:
    def execute(operation: str, params: dict[str, Any], talk: Talk) -> Any:
        if operation == "fail":
            raise problem
        return echo(operation, params, talk)

    serve(execute)
    with pytest.raises(AgentError, match=type(problem).__name__) as told:
        ask(tmp_path, "fail")
    assert told.value.code is ErrorCode.INTERNAL
    assert "secret" not in told.value.message
    assert ask(tmp_path, "status")["operation"] == "status"


@pytest.mark.parametrize(
    "garbage",
    [b"\n", b"hello\n", b"[]\n", b"5\n", b"{}\n", b'{"operation": "x"}\n', b"\xff\xfe\n", b"[" * 100_000 + b"\n", b"x"],
)
def test_garbage_is_answered_or_dropped_and_the_daemon_goes_on(tmp_path: Path, serve: Serve, garbage: bytes) -> None:
    serve(echo)
    connection = control.connect(tmp_path)
    assert connection is not None
    with connection, connection.makefile("rb") as stream:
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        answers = [json.loads(line) for line in stream]
    assert [answer["error"]["error"]["code"] for answer in answers] == ["internal"]
    assert ask(tmp_path, "status")["operation"] == "status"


def test_a_caller_who_hangs_up_harms_nobody(tmp_path: Path, serve: Serve) -> None:
    hung_up, ended = threading.Event(), threading.Event()

    def execute(operation: str, params: dict[str, Any], talk: Talk) -> Any:
        if operation == "slow":
            hung_up.wait(5)
            try:
                for _ in range(10):
                    talk("anybody there?")
            finally:
                ended.set()
        return echo(operation, params, talk)

    serve(execute)
    connection = control.connect(tmp_path)
    assert connection is not None
    connection.sendall(b'{"operation": "slow", "params": {}}\n')
    connection.close()
    hung_up.set()
    assert ended.wait(5)
    assert ask(tmp_path, "status")["operation"] == "status"


def test_callers_are_served_side_by_side(tmp_path: Path, serve: Serve) -> None:
    barrier = threading.Barrier(4)

    def execute(*_: Any) -> Any:
        barrier.wait(5)
        return 1

    serve(execute)
    answers: list[Any] = []
    callers = [threading.Thread(target=lambda: answers.append(ask(tmp_path))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert answers == [1, 1, 1, 1]


@pytest.mark.parametrize("last_words", [b"", b'{"talk": "one moment"}\n', b'{"answer": {"half'])
@pytest.mark.parametrize("reset", [False, True])
def test_a_daemon_that_dies_before_it_answered_is_told(last_words: bytes, reset: bool) -> None:
    ours, theirs = socket.socketpair()
    if not reset:
        theirs.sendall(last_words)
        theirs.recv(0)
        theirs.shutdown(socket.SHUT_WR)
    else:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.sendall(last_words)
        theirs.close()
    with pytest.raises(AgentError, match="stopped before it answered") as told:
        control.call(ours, "status", {}, lambda _text: None)
    assert told.value.code is ErrorCode.BUSY
    theirs.close()
