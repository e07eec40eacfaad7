"""A call ends in its time, whatever the other side does: socket timeouts begin anew with every byte."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from terminal_agent.contract import sign
from terminal_agent.sync import client as module
from terminal_agent.sync.adapters.base import CrmUnreachable
from terminal_agent.sync.prompt import OutOfTime, Sockets, within
from tests.journal.support import CountedIds
from tests.sync.support import SECRET, client_of, raw_server

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nX-Slow: "
DRIPS = 200
"""At 50 ms each: longer than a test waits for a connection that is not cut off."""


@pytest.fixture
def enough() -> Iterator[threading.Event]:
    """Set when the test is over."""
    event = threading.Event()
    yield event
    event.set()


def drip(begun: bytes, enough: threading.Event, cut: threading.Event) -> Callable[[socket.socket, bytes], None]:
    """Says what is ``begun``, then a byte now and then; ``cut`` is set when nobody listens any more."""

    def talk(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(begun)
        connection.settimeout(0.05)
        for _ in range(DRIPS):
            if enough.is_set():
                return
            try:
                connection.sendall(b"x")
                gone = connection.recv(1) == b""
            except TimeoutError:
                gone = False
            except OSError:
                gone = True
            if gone:
                cut.set()
                return

    return talk


@pytest.mark.parametrize("begun", [HEAD, HEAD + b"\r\n\r\n"], ids=["in the headers", "in the body"])
def test_a_server_that_drips_a_byte_now_and_then_is_cut_off(
    ids: CountedIds, enough: threading.Event, begun: bytes
) -> None:
    cut = threading.Event()
    with raw_server(drip(begun, enough, cut)) as (url, _requests):
        with closing(client_of(url, ids)) as client, pytest.raises(CrmUnreachable, match=r"in 0\.3 s"):
            client.get_card("1", 0.3)
        assert cut.wait(3), "the connection is given up too: a thread for each such call would stay behind"


def test_a_batch_that_drips_is_given_up_too_and_tried_later_with_the_same_bytes(
    ids: CountedIds, enough: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("terminal_agent.sync.adapters.native.CALL_LIMIT_S", 0.3)
    with raw_server(drip(HEAD, enough, threading.Event())) as (url, requests):
        with closing(client_of(url, ids)) as client:
            for _ in range(2):
                with pytest.raises(CrmUnreachable, match=r"in 0\.3 s"):
                    client.post_events(['{"id":"1"}'])
        bodies = [request.partition(b"\r\n\r\n")[2] for request in requests]
    assert bodies == [b'[{"id":"1"}]'] * 2


def test_a_name_server_that_keeps_silent_holds_nobody(
    ids: CountedIds, enough: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_asked: object, **_more: object) -> list[object]:
        enough.wait(5)
        raise socket.gaierror("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    with closing(client_of("http://localhost:9", ids)) as client, pytest.raises(CrmUnreachable, match=r"in 0\.2 s"):
        client.get_card("1", 0.2)


@pytest.mark.parametrize("where", ["at the CRM", "at the name server"])
def test_a_client_that_is_closed_ends_its_call_at_once(
    ids: CountedIds, enough: threading.Event, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A shop's PC is shut down while its CRM keeps silent."""
    asked, ended = threading.Event(), threading.Event()

    def silent(*_asked: object, **_more: object) -> None:
        asked.set()
        enough.wait(60)

    def silent_names(*_asked: object, **_more: object) -> None:
        silent()
        raise socket.gaierror("no answer")

    with raw_server(silent) as (url, _requests):
        if where == "at the name server":
            monkeypatch.setattr(socket, "getaddrinfo", silent_names)
        client = client_of(url, ids)

        def call() -> None:
            with pytest.raises(CrmUnreachable, match="ended here"):
                client.get_feed(None, 10)
            with pytest.raises(CrmUnreachable, match="ended here"):
                client.get_card("1", 60)
            ended.set()

        threading.Thread(target=call, daemon=True).start()
        assert asked.wait(30)
        client.close()
        assert ended.wait(20), "the call goes on"
        enough.set()


def test_the_call_after_one_that_was_cut_off_has_a_connection_of_its_own(
    ids: CountedIds, enough: threading.Event
) -> None:
    slow = drip(HEAD, enough, threading.Event())
    answers = [slow]

    def talk(connection: socket.socket, request: bytes) -> None:
        if answers:
            return answers.pop()(connection, request)
        request_id = next(line for line in request.split(b"\r\n") if line.startswith(b"Request-Id: "))[12:].decode()
        body = json.dumps({"balance": 1}).encode()
        signature = sign(SECRET, request_id, body).encode()
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nTerminal-Signature: %s\r\n\r\n%s" % (len(body), signature, body)
        )
        return None

    with raw_server(talk) as (url, _requests), closing(client_of(url, ids)) as client:
        with pytest.raises(CrmUnreachable):
            client.get_card("1", 0.2)
        assert client.get_card("1", 5.0) == {"balance": 1}


def test_what_is_connected_after_the_cut_is_cut_as_well() -> None:
    sockets = Sockets()
    sockets.cut()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(5)
        sockets.add(ours)
        assert theirs.recv(1) == b""


def test_an_action_s_own_end_is_told_as_it_is() -> None:
    def late() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        within(5, late, Sockets())
    assert within(5, lambda: 7, Sockets()) == 7
    with pytest.raises(OutOfTime):
        within(0.01, lambda: threading.Event().wait(0.5), Sockets())


def test_a_machine_that_says_how_to_reach_the_crm_through_a_proxy_is_cut_off_there_too() -> None:
    sockets = Sockets()
    with closing(module.CuttableAdapter(sockets)) as adapter:
        manager = adapter.proxy_manager_for("http://proxy.example:3128")
        assert manager.pool_classes_by_scheme == adapter.poolmanager.pool_classes_by_scheme
