"""A chain of shops: several servers on one PostgreSQL, killed while they are busy, and nothing lost or doubled."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from terminal_agent.crm import admin
from terminal_agent.crm.place import DatabaseUrl
from tests.crm.postgres import PostgresServer
from tests.crm.test_server import served
from tests.crm.world import Crm, Terminal
from tests.processes import wait_for

pytestmark = pytest.mark.postgres

SHOPS, EVENTS, CARDS = 4, 60, 5
PATIENCE_S = 90.0
DATABASE = "chain"


@pytest.fixture
def own_postgres(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A server that may be killed without harm to other tests."""
    server = PostgresServer(postgres.programs)
    try:
        server.up()
        yield server
    finally:
        server.remove()


@pytest.fixture
def own_database(own_postgres: PostgresServer) -> DatabaseUrl:
    url = own_postgres.create(DATABASE)
    admin.make_code(url)
    return url


class Chain:
    """Shops that send all they have twice, in any order, to whichever server answers."""

    def __init__(self, crm: Crm, urls: list[str]) -> None:
        self.urls = urls
        self.acknowledged: set[str] = set()
        self.shops = [crm.enrol(f"shop-{number}") for number in range(SHOPS)]
        self.sold = [self._sales(place, shop) for place, shop in enumerate(self.shops)]

    def _sales(self, place: int, shop: Terminal) -> list[dict[str, Any]]:
        """Earnings on cards that all shops see; no two shops write the same counter."""
        return [
            shop.purchase(1000 * place + number + 1, earned=place + number, card_no=str(1000 + number % CARDS))
            for number in range(EVENTS)
        ]

    def send(self, place: int, seed: int) -> Counter[str]:
        """All events of one shop, once; gives the verdicts. A shop runs this twice at the same time."""
        chance = random.Random(seed)
        shop = replace(self.shops[place], session=requests.Session())
        waiting = chance.sample(self.sold[place], EVENTS)
        verdicts: Counter[str] = Counter()
        with shop.session:
            while waiting:
                batch = waiting[: chance.randint(1, 9)]
                for result in self._told(shop, batch, chance):
                    verdicts[result["status"]] += 1
                    self.acknowledged.add(result["id"])
                del waiting[: len(batch)]
        return verdicts

    def _told(self, shop: Terminal, batch: list[dict[str, Any]], chance: random.Random) -> list[dict[str, Any]]:
        """As a terminal does: the same bytes again until an answer comes that is signed."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            shop.url = chance.choice(self.urls)
            try:
                answer = shop.call("POST", "/v1/events", json=batch)
            except requests.ConnectionError:
                time.sleep(0.05)
                continue
            if answer.ok:
                results: list[dict[str, Any]] = answer.json()["results"]
                assert {result["status"] for result in results} <= {"accepted", "duplicate"}, results
                return results
            assert answer.json()["retryable"], answer.text
            time.sleep(0.05)
        raise AssertionError("nobody answered")

    def expected(self) -> dict[str, int]:
        """What every card must hold."""
        balances: Counter[str] = Counter()
        for place in range(SHOPS):
            for number in range(EVENTS):
                balances[f"card:{1000 + number % CARDS}"] += place + number
        return dict(balances)


def kept(postgres: PostgresServer) -> list[str]:
    """The ids of every event in the database, read past the CRM."""
    return [row[0] for row in postgres.execute("SELECT id FROM events", DATABASE)]


def test_events_sent_twice_by_many_through_killed_servers_count_once_each(
    own_database: DatabaseUrl, own_postgres: PostgresServer
) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(served(own_database)) for _ in range(3)]
        chain = Chain(servers[0][0], [crm.url for crm, _ in servers])
        with ThreadPoolExecutor(2 * SHOPS) as pool:
            sending = [pool.submit(chain.send, seed % SHOPS, seed) for seed in range(2 * SHOPS)]
            wait_for(lambda: len(chain.acknowledged) > SHOPS * EVENTS // 5, "no shop was answered")
            servers[2][1].send_signal(signal.SIGKILL)
            wait_for(lambda: len(chain.acknowledged) > SHOPS * EVENTS // 2, "two servers did not go on")
            told = set(chain.acknowledged)
            own_postgres.kill()
            own_postgres.up()
            assert told <= set(kept(own_postgres)), "what was acknowledged is gone"
            verdicts = sum((task.result(PATIENCE_S) for task in sending), Counter[str]())
        ids = kept(own_postgres)
        ledger = servers[0][0].ledger()
    assert sorted(ids) == sorted(event["id"] for sold in chain.sold for event in sold), "each exactly once"
    assert verdicts["accepted"] <= SHOPS * EVENTS
    assert verdicts.total() == 2 * SHOPS * EVENTS
    assert ledger == chain.expected() | {"programme:issued": -sum(chain.expected().values())}


def workers_of(pid: int) -> set[int]:
    """The processes that a server started, without Python's helper for shared resources."""
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return {child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()}


def test_workers_share_one_port_and_one_that_dies_is_replaced(own_database: DatabaseUrl) -> None:
    with served(own_database, "--workers", "2") as (crm, process):
        terminal = crm.enrol()
        assert terminal.verdicts(terminal.purchase(1, earned=5)) == ["accepted"]
        first = workers_of(process.pid)
        assert len(first) == 2
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: len(workers_of(process.pid) - first) == 2, "the workers were not replaced")
        terminal.session.close()
        assert terminal.verdicts(terminal.purchase(2, earned=5)) == ["accepted"]
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
        assert process.returncode == 0
        assert log.count("starting another") == 2
        terminal.session.close()


def test_workers_end_with_a_server_that_was_killed(own_database: DatabaseUrl) -> None:
    with served(own_database, "--workers", "2") as (crm, process):
        assert requests.get(crm.url + "/healthz", timeout=30).ok
        workers = workers_of(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "a worker stayed")
