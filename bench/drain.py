"""What a long queue costs: an event of 200 000 beside one of 1 000, and a feed for 10 000 cards; time and memory.

The CRM is a server in a process of its own that only signs yes: what is measured is the terminal. The yardstick is a
loop without a journal that posts the same bytes to it.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import requests

from bench.measure import Figure, Samples
from bench.rig import Rig
from terminal_agent.contract import EventType, sign, subject_of
from terminal_agent.journal import Journal
from terminal_agent.journal.events import NewEvent
from terminal_agent.ports import SystemClock, SystemIds
from terminal_agent.sync.adapters.native import NativeCrm
from terminal_agent.sync.client import Credentials
from terminal_agent.sync.exchange import exchange
from terminal_agent.sync.upload import BATCH_EVENTS, SyncReport

SHORT, LONG = 1_000, 200_000
SHORT_RUNS = 5
CARDS = 10_000
PAGE = 200
SECRET = bytes(range(32))
_SPAWN = multiprocessing.get_context("spawn")


class _YesCrm(BaseHTTPRequestHandler):
    """Answers at once, signed."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        events = json.loads(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
        results = [{"id": event["id"], "status": "accepted"} for event in events]
        self._answer({"results": results, "acked_through": int(events[-1]["sequence"])})

    def do_GET(self) -> None:
        cursor = self.path.partition("cursor=")[2]
        start = int(cursor or 0)
        cards = range(start, min(start + PAGE // 2, CARDS)) if cursor else range(0)  # who begins has read it all
        items: list[dict[str, Any]] = []
        for number in cards:
            card_no, member = f"{10**15 + number}", f"m{number}"
            items.append({"kind": "member", "member_id": member, "phone": f"0912{number:07d}", "name": "Sara Ahmadi"})
            items.append({"kind": "adjustment", "card_no": card_no, "number": 1, "points": 5, "reason": "gift"})
        end = cards.stop if cards else start
        self._answer({"items": items, "next_cursor": str(end), "has_more": bool(cards) and end < CARDS})

    def _answer(self, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Terminal-Signature", sign(SECRET, self.headers.get("Request-Id", ""), body))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Nobody reads it."""


def _serve(pipe: Connection) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _YesCrm)
    pipe.send(server.server_address[1])
    server.serve_forever()


@contextmanager
def _crm() -> Iterator[str]:
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _journal(folder: Path, events: int) -> Journal:
    """A journal in which so many sales of 10 000 cards wait."""
    journal = Journal(folder, "till-1", "IRR", SystemClock(), SystemIds())
    ids = SystemIds()
    for start in range(0, events, 1_000):
        with journal.transaction():
            for number in range(start, min(start + 1_000, events)):
                journal.events.append(_sale(ids.uuid(), number))
    return journal


def _sale(event_id: str, number: int) -> NewEvent:
    card_no = f"{10**15 + number % CARDS}"
    card = {"card_no": card_no, "sequence": number, "balance_before": 0, "balance_after": 25, "adjustments_through": 0}
    data = {
        "card": card,
        "purchase": {"amount": 250_000, "currency": "IRR", "receipt_no": f"R-{number}", "lines": []},
        "points": {"earned": 25, "redeemed": 0, "offers": []},
        "policy_version": "default",
        "online": False,
        "clock": "synced",
    }
    time_ = "2026-11-22T09:30:00.000Z"
    return NewEvent(event_id, EventType.PURCHASE_RECORDED, subject_of(card_no), card_no, time_, data)


def _peak_mb() -> float:
    """The most memory this process had since the mark was last reset."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _reset_peak() -> float:
    """Begin a new mark; the memory now, in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak_mb()


def _in_child(job: Callable[..., Any], *arguments: Any) -> Any:
    """What ``job`` gives, in a process of its own, so that memory is its alone."""
    with _SPAWN.Pool(1) as pool:
        return pool.apply(job, arguments)


def _exchange(url: str, journal: Journal) -> tuple[float, float, SyncReport]:
    """One exchange: seconds, MB that it took at most, and what it did."""
    with closing(NativeCrm(Credentials(url, "till-1", "p", "token", SECRET), SystemIds())) as crm:
        before = _reset_peak()
        started = time.perf_counter()
        report = exchange(journal, crm, SystemClock())
        return time.perf_counter() - started, _peak_mb() - before, report


def drain(url: str, events: int) -> tuple[float, float]:
    """Microseconds for each event of a queue of so many, and MB that the exchange took at most."""
    with tempfile.TemporaryDirectory() as folder, closing(_journal(Path(folder), events)) as journal:
        elapsed, mb, report = _exchange(url, journal)
    if report.accepted != events:
        raise RuntimeError(f"not everything was sent: {report}")
    return elapsed / events * 1e6, mb


def bare(url: str, events: int) -> float:
    """Microseconds for each of the same events, posted by a loop that keeps nothing."""
    with tempfile.TemporaryDirectory() as folder, closing(_journal(Path(folder), events)) as journal:
        bodies = [entry.body for entry in journal.events.entries(None, events)]
    with requests.Session() as session:
        started = time.perf_counter()
        for start in range(0, events, BATCH_EVENTS):
            payload = gzip.compress(("[" + ",".join(bodies[start : start + BATCH_EVENTS]) + "]").encode(), mtime=0)
            headers = {"Content-Encoding": "gzip", "Request-Id": "r"}
            session.post(f"{url}/v1/events", data=payload, headers=headers, timeout=30).json()
        return (time.perf_counter() - started) / events * 1e6


def feed(url: str) -> tuple[float, float]:
    """Seconds for a feed of 10 000 members and as many adjustments, and MB that it took at most."""
    with tempfile.TemporaryDirectory() as folder, closing(_journal(Path(folder), 0)) as journal:
        with journal.transaction():
            journal.set_meta("feed_cursor", "0")
        elapsed, mb, report = _exchange(url, journal)
    if report.feed_items != 2 * CARDS:
        raise RuntimeError(f"not everything was read: {report}")
    return elapsed, mb


def run(_rig: Rig) -> Iterator[Figure]:
    with _crm() as url:
        short, loops = [], []
        for _ in range(SHORT_RUNS):  # in turns
            short.append(_in_child(drain, url, SHORT))
            loops.append(_in_child(bare, url, SHORT))
        long_us, long_mb = _in_child(drain, url, LONG)
        seconds, mb = _in_child(feed, url)
    short_us = Samples.of([each[0] for each in short])
    is_loop = "a loop that posts the same bytes and keeps nothing"
    yield Figure("drain", f"an event of {SHORT:,}", "µs", short_us, Samples.of(loops), is_loop)
    yield Figure("drain", f"an event of {LONG:,}", "µs", Samples.one(long_us), short_us, f"one of {SHORT:,}", 1.2, True)
    yield Figure("drain", f"memory for {LONG:,} events", "MB", Samples.one(long_mb))
    yield Figure("drain", f"feed for {CARDS:,} cards", "s", Samples.one(seconds), details={"memory_mb": round(mb, 1)})
