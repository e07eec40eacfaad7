"""``scripts/fleet``: bring a chain back at once after a day offline, and check every point."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fleet.comeback import Comeback, CountedCrm, Traffic
from fleet.picture import draw
from fleet.shops import CLOCK, IDS, Chain, Shop, open_shops, told_by
from terminal_agent.crm import admin, enrolment
from terminal_agent.crm.place import DatabaseUrl
from terminal_agent.crm.store import open_store
from terminal_agent.sync import client
from tests.crm.postgres import PostgresServer, find_programs
from tests.ports import free_ports

FILES_EACH = 8
LISTENING = "listening on "


def main() -> int:
    options = _options()
    console = Console(stderr=True)
    programs = find_programs()
    if programs is None:
        console.print("PostgreSQL is missing: apt-get install postgresql")
        return 1
    _allow_files(options.terminals)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleet-")))
        server = PostgresServer(programs)
        stack.callback(server.remove)
        server.up()
        report = _bring_back(stack, folder, server, options, console)
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return 0 if not report["problems"] else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fleet", description=__doc__)
    parser.add_argument("--terminals", type=int, default=2000, help="how many [%(default)s]")
    parser.add_argument("--sales", type=int, default=50, help="of each while it was offline [%(default)s]")
    parser.add_argument("--workers", type=int, default=2, help="server processes of the CRM [%(default)s]")
    parser.add_argument("--threads", type=int, default=64, help="terminals that may speak at once [%(default)s]")
    parser.add_argument("--limit-s", type=float, default=1200, help="give up after so many seconds [%(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="of the day's sales [%(default)s]")
    parser.add_argument("--lose-one", action="store_true", help="lose an event on purpose, to see the check fail")
    parser.add_argument("--plot", type=Path, default=Path("fleet.png"), help="where the picture goes [%(default)s]")
    return parser.parse_args()


def _allow_files(terminals: int) -> None:
    """A journal, its log and index, a lock and a connection for each."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = terminals * FILES_EACH + 1000
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard) if hard > 0 else wanted, hard))


def _bring_back(
    stack: ExitStack, folder: Path, server: PostgresServer, options: argparse.Namespace, console: Console
) -> dict[str, Any]:
    place = server.create("fleet")
    url = f"http://127.0.0.1:{free_ports()}"
    credentials = _enrol(place, url, options.terminals)
    chain = Chain(Random(options.seed), cards=options.terminals * 5)
    shops: list[Shop] = []
    CountedCrm.traffic = Traffic()
    with _bar(console, "a day offline", options.terminals) as day:
        for shop in open_shops(stack, folder, credentials):
            shop.crm = CountedCrm(shop.credentials, IDS)
            shop.live_a_day_offline(chain, options.sales)
            shops.append(shop)
            day(len(shops))
    if options.lose_one:
        chain.forget_one()
    process = stack.enter_context(_serving(place, url, options.workers))
    comeback = Comeback(shops, options.threads, lambda: [process.pid])
    with _bar(console, "the line is back", chain.events) as bar:
        took_s = comeback.run(options.limit_s, lambda left: bar(chain.events - left))
    draw(options.plot, comeback.moments, CountedCrm.traffic.by_second)
    return _report(options, chain, place, server, comeback, took_s)


def _enrol(place: DatabaseUrl, url: str, terminals: int) -> list[client.Credentials]:
    """Terminals that have joined long ago."""
    store = open_store(place, CLOCK, IDS)
    try:
        with store.writing() as connection:
            given = []
            for number in range(terminals):
                code = enrolment.new_code(connection, CLOCK.now(), 3600)
                given.append(enrolment.enrol(connection, code, f"till-{number}", None, CLOCK.now()))
    finally:
        store.close()
    return [client.Credentials(url, one.terminal_id, "fleet", one.token, one.secret) for one in given]


@contextmanager
def _serving(place: DatabaseUrl, url: str, workers: int) -> Iterator[subprocess.Popen[str]]:
    listen = url.removeprefix("http://")
    words = ["crm", "serve", "--database-url", place.text, "--listen", listen, "--workers", str(workers)]
    command = [sys.executable, "-m", "terminal_agent", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = process.stderr.readline() if process.stderr else ""
            if LISTENING not in said:
                raise SystemExit(f"the CRM did not start: {said}")
            yield process
        finally:
            process.terminate()


@contextmanager
def _bar(console: Console, title: str, total: int) -> Iterator[Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)


def _report(
    options: argparse.Namespace,
    chain: Chain,
    place: DatabaseUrl,
    server: PostgresServer,
    comeback: Comeback,
    took_s: float,
) -> dict[str, Any]:
    ledger = admin.show_ledger(place)
    [[rows, ids]] = server.execute("SELECT count(*), count(DISTINCT id) FROM events", "fleet")
    held = told_by(ledger["accounts"])
    wrong = sum(held.get(card_no, 0) != points for card_no, points in chain.balances.items())
    checks = {
        f"{rows} events are booked, not {chain.events}": rows != chain.events,
        f"{rows - ids} events are there twice": rows != ids,
        f"the ledger sums to {ledger['sum']}": ledger["sum"] != 0,
        f"{wrong} cards hold what they should not": wrong > 0,
    }
    traffic = CountedCrm.traffic
    memory = [moment.crm_mb for moment in comeback.moments]
    return {
        "terminals": options.terminals,
        "events": chain.events,
        "cards": len(chain.balances),
        "crm_workers": options.workers,
        "took_s": round(took_s, 1),
        "events_per_s": round(chain.events / took_s),
        "requests": traffic.requests,
        "requests_failed": traffic.failed,
        "peak_requests_per_s": max(traffic.by_second.values()),
        "most_requests_at_once": traffic.most_at_once,
        "crm_memory_mb": {"first": round(memory[0]), "most": round(max(memory)), "last": round(memory[-1])},
        "own_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "problems": [problem for problem, holds in checks.items() if holds],
    }


if __name__ == "__main__":
    sys.exit(main())
