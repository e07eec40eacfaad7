"""Nothing but a signed answer to this very request is believed, and no secret gets out."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from terminal_agent.contract import sign
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.sync import client as module
from terminal_agent.sync.adapters.base import CrmError, CrmRefused, CrmUnauthorized, CrmUnreachable
from terminal_agent.sync.adapters.native import NativeCrm
from terminal_agent.sync.client import Credentials, checked_url, enroll
from tests.journal.support import CountedIds
from tests.sync.support import (
    SECRET,
    TOKEN,
    Answer,
    ScriptedCrm,
    client_of,
    credentials,
    no_feed,
    page,
    problem,
    raw_server,
    signed,
)

FEED = {"items": [], "next_cursor": "end", "has_more": False}


def unsigned(_request: Request) -> Response:
    return Response(json.dumps(FEED), content_type="application/json")


def signed_for_another_request(request: Request) -> Response:
    return signed(request, FEED, request_id="another request")


def signed_by_another(request: Request) -> Response:
    return signed(request, FEED, secret=b"x" * 32)


def signed_and_then_changed(request: Request) -> Response:
    answer = signed(request, FEED)
    answer.set_data(answer.get_data().replace(b"end", b"End"))
    return answer


@pytest.mark.parametrize(
    "answer",
    [
        page(200),
        page(204),
        unsigned,
        signed_for_another_request,
        signed_by_another,
        signed_and_then_changed,
        page(301, Location="http://portal.example/"),
        page(302, Location="/v1/feed"),
        page(404),
        problem(408),
        problem(429),
        problem(500),
        page(502),
        problem(503),
        page(511),
        lambda request: signed(request, b"no json"),
        lambda request: signed(request, b"[1]"),
        lambda _request: Response("[" * 200_000, 500, content_type="application/problem+json"),
    ],
)
def test_what_is_no_signed_answer_is_no_answer(crm: ScriptedCrm, client: NativeCrm, answer: Answer) -> None:
    crm.usual_feed = answer
    with pytest.raises(CrmUnreachable):
        client.get_feed(None, 10)
    assert len(crm.feeds) == 1, "repeating at once would only add load"


def test_an_answer_recorded_before_is_not_believed_again(crm: ScriptedCrm, client: NativeCrm) -> None:
    recorded: list[Response] = []

    def record(request: Request) -> Response:
        recorded.append(signed(request, FEED))
        return recorded[0]

    crm.feed_script = [record, lambda _request: recorded[0]]
    assert client.get_feed(None, 10) == FEED
    with pytest.raises(CrmUnreachable, match="not signed"):
        client.get_feed(None, 10)


def test_a_redirect_is_not_followed_and_the_token_stays_here(client: NativeCrm, crm: ScriptedCrm) -> None:
    with raw_server(lambda _connection, _request: None) as (portal, requests):
        crm.usual_feed = page(307, Location=portal + "/login")
        with pytest.raises(CrmUnreachable, match="307"):
            client.get_feed(None, 10)
    assert requests == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_not_accepted_is_told_apart(crm: ScriptedCrm, client: NativeCrm, status: int) -> None:
    crm.usual_feed = problem(status)
    with pytest.raises(CrmUnauthorized, match="the detail"):
        client.get_feed(None, 10)


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_refusal_counts_only_as_a_problem_document(crm: ScriptedCrm, client: NativeCrm, status: int) -> None:
    crm.usual_feed = problem(status, code="event_bad")
    with pytest.raises(CrmRefused) as refused:
        client.get_feed(None, 10)
    assert (refused.value.status, refused.value.code, str(refused.value)) == (status, "event_bad", "the detail")
    crm.usual_feed = page(status)
    with pytest.raises(CrmUnreachable):
        client.get_feed(None, 10)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("120", 120.0), ("0", 0.0), ("", None), ("-5", None), ("Fri, 31 Dec 2027 23:59:59 GMT", None), ("9" * 12, None)],
)
def test_a_pause_the_crm_asks_for_is_passed_on(
    crm: ScriptedCrm, client: NativeCrm, value: str, seconds: float | None
) -> None:
    crm.usual_feed = problem(429, **{"Retry-After": value})
    with pytest.raises(CrmUnreachable) as asked:
        client.get_feed(None, 10)
    assert asked.value.retry_after_s == seconds


def test_a_large_batch_is_compressed_and_a_small_one_is_not(crm: ScriptedCrm, client: NativeCrm) -> None:
    small, large = '{"id":"1"}', json.dumps({"id": "2", "note": "x" * 5_000})
    client.post_events([small])
    client.post_events([small, large])
    assert [post.headers.get("Content-Encoding") for post in crm.posts] == [None, "gzip"]
    assert crm.posts[0].get_data() == f"[{small}]".encode()
    assert gzip.decompress(crm.posts[1].get_data()) == f"[{small},{large}]".encode()
    assert {post.content_type for post in crm.posts} == {"application/cloudevents-batch+json"}


def test_a_compressed_answer_is_checked_as_it_was_before_compression(crm: ScriptedCrm, client: NativeCrm) -> None:
    def compressed(request: Request) -> Response:
        answer = signed(request, FEED)
        answer.set_data(gzip.compress(answer.get_data()))
        answer.headers["Content-Encoding"] = "gzip"
        return answer

    crm.usual_feed = compressed
    assert client.get_feed(None, 10) == FEED


def test_a_cursor_and_a_card_number_are_passed_on_whatever_they_hold(httpserver: HTTPServer, client: NativeCrm) -> None:
    httpserver.expect_request("/v1/cards/a/b?c").respond_with_handler(lambda request: signed(request, {"balance": 1}))
    assert client.get_card("a/b?c", 1.0) == {"balance": 1}


def reset_half_way(connection: socket.socket, _request: bytes) -> None:
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"items"')
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def close_half_way(connection: socket.socket, _request: bytes) -> None:
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"items"')


def close_at_once(_connection: socket.socket, _request: bytes) -> None:
    return


def babble(connection: socket.socket, _request: bytes) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")


@pytest.mark.parametrize("talk", [reset_half_way, close_half_way, close_at_once, babble])
def test_a_connection_that_breaks_is_tried_again_with_the_same_bytes_and_a_fresh_id(
    ids: CountedIds, talk: Callable[[socket.socket, bytes], None]
) -> None:
    with raw_server(talk) as (url, requests):
        client = client_of(url, ids)
        with pytest.raises(CrmUnreachable):
            client.post_events(['{"id":"1","note":"یک"}'])
        client.close()
    assert len(requests) == 3
    assert {request.split(b"\r\n\r\n")[1] for request in requests} == {'[{"id":"1","note":"یک"}]'.encode()}
    assert len({line for request in requests for line in request.split(b"\r\n") if b"Request-Id" in line}) == 3


def test_a_crm_that_comes_back_during_the_tries_has_the_last_word(ids: CountedIds) -> None:
    answers = [close_at_once, reset_half_way]

    def talk(connection: socket.socket, request: bytes) -> None:
        if answers:
            return answers.pop(0)(connection, request)
        body = json.dumps(FEED).encode()
        request_id = next(line for line in request.split(b"\r\n") if line.startswith(b"Request-Id: "))[12:].decode()
        signature = sign(SECRET, request_id, body).encode()
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nTerminal-Signature: %s\r\n\r\n%s" % (len(body), signature, body)
        )
        return None

    with raw_server(talk) as (url, requests):
        client = client_of(url, ids)
        assert client.get_feed(None, 10) == FEED
        client.close()
    assert len(requests) == 3


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"])
def test_a_crm_that_stalls_is_given_up_in_time(ids: CountedIds, begun: bytes) -> None:
    def stall(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(begun)
        connection.recv(1)  # until the other side gives up

    with raw_server(stall) as (url, _requests):
        client = client_of(url, ids)
        started = time.monotonic()
        with pytest.raises(CrmUnreachable):
            client.get_card("1", 0.1)
        assert time.monotonic() - started < 10, "the other side waits for ever"
        client.close()


def test_a_card_is_asked_for_once_because_a_customer_waits(ids: CountedIds) -> None:
    with raw_server(close_at_once) as (url, requests):
        client = client_of(url, ids)
        with pytest.raises(CrmUnreachable):
            client.get_card("1", 1.0)
        client.close()
    assert len(requests) == 1


def test_an_endless_answer_is_given_up(crm: ScriptedCrm, client: NativeCrm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 100_000)
    crm.usual_feed = lambda request: signed(request, b'{"items":"' + b"x" * 200_000 + b'"}')
    with pytest.raises(CrmUnreachable, match="longer"):
        client.get_feed(None, 10)


def test_settings_of_the_machine_neither_replace_the_token_nor_send_it_through_a_proxy(
    crm: ScriptedCrm, client: NativeCrm, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with raw_server(close_at_once) as (proxy, through_proxy):
        monkeypatch.setenv("http_proxy", proxy)
        client.get_feed(None, 10)
    assert through_proxy == []
    assert crm.feeds[0].headers["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    "url",
    [
        "https://crm.example",
        "https://crm.example:8443/club",
        "http://127.0.0.1:8000",
        "http://[::1]:1",
        "http://localhost:1/",
    ],
)
def test_https_anywhere_and_http_on_this_machine_can_be_used(url: str) -> None:
    assert checked_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "http://crm.example",
        "http://192.168.1.5:8000",
        "http://127.0.0.1.example",
        "http://localhost.example",
        "http://127.0.0.1@crm.example",
        "https://till:canary@crm.example",
        "https://canary@crm.example/club",
        "https://till:canary@[::1",
        "http://0.0.0.0:8000",
        "ftp://crm.example",
        "crm.example",
        "https://",
        "https://[::1",
        "",
    ],
)
def test_any_other_address_is_refused(url: str) -> None:
    with pytest.raises(AgentError) as refused:
        checked_url(url)
    assert refused.value.code is ErrorCode.CONFIG_INVALID
    assert "canary" not in refused.value.message + refused.value.hint


def enrolment(server: HTTPServer, **changed: Any) -> str:
    answer = {
        "terminal_id": "till-7",
        "token": TOKEN,
        "secret": "Y2FuYXJ5LXNlY3JldC1vZi10aGlydHktdHdvLWJ5dGU=",
        "programme_id": "p",
        "server_time": "2026-11-22T09:30:00Z",
        **changed,
    }
    server.expect_request("/v1/terminals/enroll", method="POST").respond_with_handler(
        lambda request: signed(request, answer)
    )
    return server.url_for("").rstrip("/")


def test_an_enrolment_gives_what_its_own_secret_signed(httpserver: HTTPServer, ids: CountedIds) -> None:
    url = enrolment(httpserver)
    got, server_time = enroll(url, "code-1", "till-7", ids)
    assert got == Credentials(url, "till-7", "p", TOKEN, SECRET)
    assert server_time == "2026-11-22T09:30:00Z"
    assert httpserver.log[0][0].get_json() == {"code": "code-1", "terminal_id": "till-7"}


@pytest.mark.parametrize("secret", ["no base64!", "AAAA", 5, None])
def test_an_enrolment_signed_with_another_secret_is_refused(
    httpserver: HTTPServer, ids: CountedIds, secret: Any
) -> None:
    url = enrolment(httpserver, secret=secret)
    with pytest.raises(CrmUnreachable) as refused:
        enroll(url, "code-1", "till-7", ids)
    assert TOKEN not in str(refused.value)


def failures(crm: ScriptedCrm) -> list[Answer]:
    def echo(request: Request) -> Response:
        return Response(str(request.headers), 200)

    return [echo, page(200), problem(401), problem(503), problem(422), page(302, Location="/"), unsigned]


def test_no_secret_appears_in_a_repr_an_error_or_the_log(
    crm: ScriptedCrm, client: NativeCrm, ids: CountedIds, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    told = [repr(credentials(crm.url)), str(credentials(crm.url)), repr(client)]
    crm.feed_script = failures(crm)
    for _ in range(len(crm.feed_script)):
        with pytest.raises(CrmError) as problem_told:
            client.get_feed(None, 10)
        error: BaseException | None = problem_told.value
        while error is not None:
            told += [str(error), repr(error)]
            error = error.__cause__ or error.__context__
    with raw_server(babble) as (url, _requests):
        broken = client_of(url, ids)
        with pytest.raises(CrmUnreachable) as broke:
            broken.get_feed(None, 10)
        told.append(repr(broke.value.__cause__))
        broken.close()
    everything = "\n".join([*told, caplog.text, *(str(record.__dict__) for record in caplog.records)])
    for canary in (TOKEN, SECRET.decode(), SECRET.hex()):
        assert canary not in everything


def test_the_feed_is_asked_for_with_the_cursor_as_it_was_given(crm: ScriptedCrm, client: NativeCrm) -> None:
    crm.usual_feed = no_feed
    client.get_feed("a+b/c==&limit=9", 7)
    assert dict(crm.feeds[0].args) == {"limit": "7", "cursor": "a+b/c==&limit=9"}
