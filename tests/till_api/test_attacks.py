"""What other pages, programs and impatient clients try on the till's API."""

from __future__ import annotations

import socket
import stat
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.till_api import guard, server
from terminal_agent.till_api.access import TRIES
from tests.till_api.hand_reader import HandReader
from tests.till_api.pos import POS_ORIGIN, Pos, Shop, a_key
from tests.till_api.test_events import stream

PATHS = ["/", "/healthz", "/readyz", "/openapi.json", "/v1/status", "/v1/events", "/v1/card", "/no-such-path"]
SALE = {"amount": 1, "currency": "IRR", "receipt_no": "R-1"}


def code_of(answer: requests.Response) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert {"type", "title", "status", "detail", "retryable", "hint", "upos_code"} <= set(problem)
    assert set(problem["message"]) == {"fa", "en"}
    return answer.status_code, problem["code"]


def test_a_name_bound_anew_to_this_machine_is_turned_away(pos: Pos) -> None:
    port = urlsplit(pos.url).port
    for host in ("evil.test", f"evil.test:{port}", "127.0.0.1", "127.0.0.1:1", f"127.0.0.1:{port}.evil.test"):
        for path in PATHS:
            assert code_of(pos.call("GET", path, headers={"Host": host})) == (421, "wrong_host"), (host, path)


def test_a_page_of_another_site_is_turned_away_even_with_a_token(pos: Pos) -> None:
    for origin in ("https://evil.test", "null", "http://127.0.0.1:1", f"{POS_ORIGIN}.evil.test"):
        for path in PATHS:
            answer = pos.call("GET", path, headers={"Origin": origin})
            assert code_of(answer) == (403, "foreign_origin"), (origin, path)
            assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_page_that_the_shop_allows_may_read_answers(pos: Pos) -> None:
    answer = pos.call("GET", "/v1/status", headers={"Origin": POS_ORIGIN})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, POS_ORIGIN)
    asked = {"Origin": POS_ORIGIN, "Access-Control-Request-Method": "POST"}
    preflight = requests.options(f"{pos.url}/v1/checkouts", headers=asked, timeout=10)
    assert preflight.status_code == 204
    for header in ("Idempotency-Key", "Cashier-Session", "Cashier-Approval"):
        assert header in preflight.headers["Access-Control-Allow-Headers"]


def test_our_own_page_may_call(pos: Pos) -> None:
    assert pos.call("GET", "/v1/status", headers={"Origin": pos.url}).status_code == 200


def test_without_a_token_nothing_is_told(shop: Shop) -> None:
    for path in (
        "/readyz",
        "/openapi.json",
        "/v1/status",
        "/v1/events",
        "/v1/card",
        "/v1/checkouts",
        "/v1/checkouts/x",
        "/v1/shop",
    ):
        for value in ("", "Bearer x", "Basic x"):
            answer = requests.get(shop.till.url + path, headers={"Authorization": value}, timeout=10)
            assert code_of(answer) == (401, "unauthorized"), (path, value)


def test_without_a_token_nothing_is_done(shop: Shop) -> None:
    for path in ("/v1/checkouts", "/v1/reversals", "/v1/checkouts/x/cancel", "/v1/checkouts/x/leave", "/v1/sessions"):
        answer = requests.post(shop.till.url + path, json=SALE, headers={"Idempotency-Key": "k"}, timeout=10)
        assert code_of(answer) == (401, "unauthorized"), path


def test_health_and_the_page_need_no_token_and_hold_no_data(shop: Shop) -> None:
    assert requests.get(f"{shop.till.url}/healthz", timeout=10).json() == {"status": "ok"}
    page = requests.get(shop.till.url, timeout=10)
    assert page.status_code == 200
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]


def test_a_form_is_no_request(pos: Pos) -> None:
    for media_type in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"):
        headers = {"Content-Type": media_type}
        answer = pos.call("POST", "/v1/checkouts", key=a_key(), data='{"amount": 1}', headers=headers)
        assert code_of(answer) == (415, "not_json"), media_type


def test_a_revoked_token_no_longer_works(shop: Shop, pos: Pos) -> None:
    [token] = shop.agent.journal.till.tokens()
    with shop.agent.journal.transaction():
        assert shop.agent.journal.till.revoke(token.token_id)
    assert code_of(pos.call("GET", "/v1/status")) == (401, "unauthorized")


def test_a_token_does_only_what_its_scopes_say(shop: Shop) -> None:
    code = shop.till.code(("read",))["code"]
    token = requests.post(f"{shop.till.url}/v1/pair", json={"code": code}, timeout=10).json()["token"]
    reads = Pos(shop.till.url, token)
    assert reads.call("GET", "/v1/status").status_code == 200
    assert code_of(reads.call("POST", "/v1/checkouts", key=a_key(), json=SALE)) == (403, "forbidden")
    assert code_of(reads.call("POST", "/v1/reversals", key=a_key(), json={"receipt_no": "R-1"})) == (403, "forbidden")


def test_a_code_pairs_once(shop: Shop) -> None:
    code = shop.till.code()["code"]
    url = f"{shop.till.url}/v1/pair"
    assert requests.post(url, json={"code": code}, timeout=10).status_code == 200
    assert code_of(requests.post(url, json={"code": code}, timeout=10)) == (403, "pairing_refused")


def test_guessing_ends_the_code(shop: Shop) -> None:
    code = shop.till.code()["code"]
    url = f"{shop.till.url}/v1/pair"
    wrong = str((int(code) + 1) % 10**6).zfill(6)
    for _ in range(TRIES):
        assert code_of(requests.post(url, json={"code": wrong}, timeout=10)) == (403, "pairing_refused")
    assert code_of(requests.post(url, json={"code": code}, timeout=10)) == (403, "pairing_refused")


def test_no_code_pairs_when_none_was_asked_for(shop: Shop) -> None:
    answer = requests.post(f"{shop.till.url}/v1/pair", json={"code": "000000"}, timeout=10)
    assert code_of(answer) == (403, "pairing_refused")


def test_tokens_and_codes_are_not_kept_as_they_are(shop: Shop, pos: Pos, tmp_path: Path) -> None:
    code = shop.till.code()["code"]
    kept = b"".join(path.read_bytes() for path in (tmp_path / "till").rglob("*") if path.is_file())
    assert pos.token.encode() not in kept
    assert code.encode() not in kept


BAD_SALES: list[object] = [
    {},
    SALE | {"amount": 0},
    SALE | {"amount": "1"},
    SALE | {"amount": 1.5},
    SALE | {"amount": True},
    SALE | {"amount": 10**30},
    SALE | {"currency": "USD"},
    SALE | {"currency": "irr"},
    SALE | {"receipt_no": ""},
    SALE | {"receipt_no": "a\u0000b"},
    SALE | {"redeem_points": -1},
    SALE | {"lines": [{"sku": "A"}]},
    SALE | {"expires_in_s": 10**9},
    SALE | {"unknown": 1},
    [],
    "x",
]


def test_a_bad_sale_is_refused_and_says_what_is_wrong(pos: Pos) -> None:
    for body in BAD_SALES:
        answer = pos.call("POST", "/v1/checkouts", key=a_key(), json=body)
        assert answer.status_code == 400, (body, answer.text)
        assert answer.json()["detail"]
        assert pos.call("GET", "/v1/card").json()["code"] == "no_card_timeout", f"a checkout was opened by {body}"


def test_a_request_that_changes_something_needs_a_key(pos: Pos) -> None:
    bodies = {"/v1/checkouts": SALE, "/v1/reversals": {"receipt_no": "R-1"}, "/v1/checkouts/x/cancel": None}
    for path, body in bodies.items():
        assert code_of(pos.call("POST", path, json=body)) == (400, "key_missing"), path


def test_a_huge_body_is_turned_away(pos: Pos) -> None:
    body = b'"' + b"x" * guard.MAX_BODY_BYTES + b'"'
    answer = pos.call("POST", "/v1/checkouts", key=a_key(), data=body, headers={"Content-Type": "application/json"})
    assert code_of(answer) == (413, "too_large")


def test_deeply_nested_json_is_turned_away(pos: Pos) -> None:
    body = b"[" * 100_000
    answer = pos.call("POST", "/v1/checkouts", key=a_key(), data=body, headers={"Content-Type": "application/json"})
    assert code_of(answer) == (400, "invalid")


def test_who_never_finishes_a_request_is_dropped(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_TIMEOUT_S", 0.2)
    for sent in (b"", b"GET /v1/st", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "):
        with _connect(shop) as client:
            client.sendall(sent)
            assert client.recv(1) == b"", f"the server waits after {sent!r}"


def test_who_is_slow_on_a_kept_connection_is_dropped_too(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_TIMEOUT_S", 0.2)
    host = shop.till.url.removeprefix("http://")
    with _connect(shop) as client:
        client.sendall(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answered = b""
        while b"ok" not in answered:
            answered += client.recv(10_000)
        client.sendall(b"GET /healthz HT")
        assert client.recv(1) == b""


def test_connections_that_say_nothing_keep_nobody_out(shop: Shop, pos: Pos, reader: HandReader) -> None:
    reader.lay(shop.issue())
    with ExitStack() as held, stream(pos) as events:
        for _ in range(server.MAX_CONNECTIONS + 50):
            held.enter_context(_connect(shop))
        assert pos.sell("R-1")["points_after"] == 25
        assert next(events)["event"], "who listens was not cut off"


def test_a_body_that_never_comes_is_given_up(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_TIMEOUT_S", 0.2)
    host = shop.till.url.removeprefix("http://")
    head = f"POST /v1/pair HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n"
    with _connect(shop) as client:
        client.sendall(head.encode() + b'{"code"')
        assert b" 408 " in client.recv(10_000)


def test_the_api_listens_on_this_machine_only(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "192.0.2.1", "[::]", "shop.example"):  # noqa: S104
        with pytest.raises(AgentError) as refused:
            server.TillServer(_nothing, f"{host}:0", tmp_path)
        assert refused.value.code is ErrorCode.CONFIG_INVALID


def test_a_port_in_use_is_said_clearly(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="cannot listen") as refused:
        server.TillServer(_nothing, shop.till.url.removeprefix("http://"), tmp_path)
    assert refused.value.code is ErrorCode.BUSY


def test_native_programs_call_by_a_socket_that_only_this_user_may_open(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "till" / server.SOCKET_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(path))
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        with client.makefile("rb") as answer:
            assert answer.read().endswith(b'{"status":"ok"}')


def _connect(shop: Shop) -> socket.socket:
    at = urlsplit(shop.till.url)
    client = socket.create_connection((str(at.hostname), int(at.port or 0)))
    client.settimeout(10)
    return client


def test_no_answer_waits_for_the_callers_delayed_acknowledgement() -> None:
    with (
        server._listener("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def _nothing(*_arguments: object) -> None:
    """An application that is never called."""
