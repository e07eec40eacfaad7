"""The till's API for a program: requests a second beside a bare route, and what 10 000 checkouts leave in memory."""

from __future__ import annotations

import json
import multiprocessing
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import requests

from bench.daemon import resident_mb
from bench.measure import Figure, Samples, in_turns
from bench.rig import Rig, Shop

ROUNDS, BATCH = 20, 50
CHECKOUTS, WARM_UP = 10_000, 1_000
GROWTH_TARGET_MB = 5.0
LAST_TEN = "/v1/checkouts?limit=10"


@contextmanager
def paired(shop: Shop) -> Iterator[tuple[requests.Session, str]]:
    """A program on one connection, with its token, and where the till is."""
    code = shop.done("till", "code")
    with requests.Session() as session:
        answer = session.post(f"{code['till_url']}/v1/pair", json={"code": code["code"]}, timeout=10)
        session.headers["Authorization"] = f"Bearer {answer.json()['token']}"
        yield session, code["till_url"]


def _serve_bare(pipe: Connection, document: dict[str, Any]) -> None:
    """The same JSON from one route of FastAPI on uvicorn as they come: no token, no guard, no journal."""
    import uvicorn
    from fastapi import FastAPI

    class Told(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            pipe.send(self.servers[0].sockets[0].getsockname()[1])

    app = FastAPI()
    app.add_api_route("/v1/checkouts", lambda: document)
    Told(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", access_log=False)).run()


@contextmanager
def _bare_route(document: dict[str, Any]) -> Iterator[str]:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve_bare, args=(theirs, document), daemon=True)
    process.start()
    theirs.close()  # so that a process that died is not waited for
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.kill()
        process.join()


def request_rate(shop: Shop) -> Figure:
    """One program on one connection, one request after the other; the two servers are asked in turns."""
    with paired(shop) as (session, url):
        document = _asked(session, url)
        with _bare_route(document) as bare, requests.Session() as other:
            _asked(other, bare)
            ours, yardstick = in_turns(ROUNDS, lambda: _batch(session, url), lambda: _batch(other, bare))
    what, yardstick_is = "the last ten sales, asked for by one program", "a bare route of FastAPI with the same JSON"
    return Figure("till", what, "requests/s", _per_second(ours), _per_second(yardstick), yardstick_is)


def _asked(session: requests.Session, url: str) -> dict[str, Any]:
    answer = session.get(url + LAST_TEN, timeout=10)
    answer.raise_for_status()
    document: dict[str, Any] = json.loads(answer.content)
    return document


def _batch(session: requests.Session, url: str) -> None:
    for _ in range(BATCH):
        _asked(session, url)


def _per_second(batches_ms: Samples) -> Samples:
    return Samples(BATCH * 1000 / batches_ms.median, BATCH * 1000 / batches_ms.p95, batches_ms.count * BATCH)


def run(rig: Rig) -> Iterator[Figure]:
    """A card that lies on the simulator pays ten thousand times."""
    shop = rig.simulated("checkouts")
    with shop.daemon() as pid, paired(shop) as (session, url):
        for number in range(WARM_UP):
            _sell(session, url, number)
        before, began = resident_mb(pid), time.perf_counter()
        for number in range(WARM_UP, CHECKOUTS):
            _sell(session, url, number)
        rate = (CHECKOUTS - WARM_UP) / (time.perf_counter() - began)
        grown = resident_mb(pid) - before
    details = {"checkouts": CHECKOUTS, "before, MB": round(before, 1)}
    what = f"memory more after {CHECKOUTS} checkouts than after {WARM_UP}"
    yield Figure("checkouts", what, "MB", Samples.one(grown), target=GROWTH_TARGET_MB, details=details)
    yield Figure("checkouts", "whole checkouts by one program", "checkouts/s", Samples.one(rate))


def _sell(session: requests.Session, url: str, number: int) -> None:
    body = {"amount": 10_000, "currency": "IRR", "receipt_no": f"B-{number}"}
    opened = session.post(f"{url}/v1/checkouts", json=body, headers={"Idempotency-Key": f"b-{number}"}, timeout=10)
    opened.raise_for_status()
    checkout = opened.json()
    while checkout["state"] != "done":
        checkout = session.get(f"{url}/v1/checkouts/{checkout['id']}", timeout=10).json()
